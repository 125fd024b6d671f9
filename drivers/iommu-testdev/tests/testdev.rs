//! The driver against the model, behind a fake IOMMU and without one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mastiff_core::addr::PAGE;
use mastiff_core::driver::{DmaTest, Driver};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_iommu_testdev::IommuTestdev;
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::{BusError, DmaTranslator, Shared};
use mastiff_testkit::fake_iommu::FakeIommu;
use mastiff_testkit::inject::Step;
use mastiff_testkit::pci::{PciMachine, SimBus};
use mastiff_testkit::testdev::SimTestdev;

const NAME: &str = "/pcie@10000000/00:03.0";
const DRIVERS: [&'static dyn Driver<Sim>; 2] = [&Pcie, &IommuTestdev];

fn machine() -> (PciMachine, Shared<SimTestdev>) {
    let (device, function) = SimTestdev::function();
    let root = SimBus::new().with(3, 0, function);
    (PciMachine::on(Sim::new(), root), device)
}

fn test_of(engine: &Engine<Sim>) -> &dyn DmaTest {
    let device = engine.device(NAME).expect("it was found");
    let State::Bound = device.state else {
        panic!("it is {:?}", device.state);
    };
    device.bound().unwrap().dma_test().unwrap()
}

#[test]
fn what_it_writes_arrives_through_the_iommu_across_two_pages() {
    let (machine, device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    for _ in 0..3 {
        let proof = test_of(&engine).round_trip().unwrap();
        assert_eq!(proof.bytes, 2 * PAGE);
        assert_ne!(proof.iova.0, proof.pa.0);
        assert!(!proof.iova.0.is_multiple_of(PAGE), "it crosses a page");
    }
    assert_eq!(machine.iommu.counts().mappings, 0, "nothing stays mapped");
    assert_eq!(machine.iommu.aborted(), []);
    assert_eq!(device.lock().unwrap().results, [Ok(()); 6]);
    assert_eq!(machine.sim.memory().live(), 0);
    engine.unbind(NAME).unwrap();
    assert_eq!(machine.iommu.counts().attached, 0);
}

#[test]
fn without_an_iommu_it_reaches_memory_as_it_is() {
    let (mut machine, _device) = machine();
    machine.has_iommu = false;
    let engine = machine.boot(&DRIVERS);
    let proof = test_of(&engine).round_trip().unwrap();
    assert_eq!(proof.iova.0, proof.pa.0);
}

#[test]
fn without_coherency_lines_are_cleaned() {
    let (mut machine, _device) = machine();
    machine.sim.memory().set_coherent(false);
    machine.extra = |host| host.flag("dma-noncoherent");
    let engine = machine.boot(&DRIVERS);
    test_of(&engine).round_trip().unwrap();
}

#[test]
fn what_the_iommu_refuses_is_known_at_once() {
    let (machine, device) = machine();
    let engine = machine.boot(&DRIVERS);
    // Beside its two pages nothing is mapped.
    device.lock().unwrap().stray = 4 * PAGE;
    let refused = Fault::Device {
        during: "DMA write",
        status: "the write did not go through",
        code: 0xdead_0002,
    };
    assert_eq!(test_of(&engine).round_trip(), Err(refused));
    assert_eq!(device.lock().unwrap().results, [Err(BusError::Aborted)]);
    assert_eq!(machine.iommu.counts().mappings, 0);
    assert_eq!(machine.sim.memory().live(), 0);
    device.lock().unwrap().stray = 0;
    test_of(&engine).round_trip().unwrap();
}

/// An IOMMU that goes by its first answer for an address for ever.
struct Stale(Shared<FakeIommu>, HashMap<u64, u64>);

impl DmaTranslator for Stale {
    fn translate(&mut self, stream: u32, addr: u64, write: bool) -> Option<u64> {
        let known = self.1.get(&addr).copied();
        let pa = known.or_else(|| self.0.lock().unwrap().translate(stream, addr, write))?;
        Some(*self.1.entry(addr).or_insert(pa))
    }
}

#[test]
fn a_translation_that_outlives_its_mapping_is_found() {
    let (machine, _device) = machine();
    let stale = Stale(machine.iommu.translator(), HashMap::new());
    // Asked first: the machine's own comes when it boots.
    let stale = Arc::new(Mutex::new(stale));
    machine.sim.translate_by(0x18..=0x18, stale);
    let engine = machine.boot(&DRIVERS);
    let misled = Fault::Device {
        during: "DMA write",
        status: "the memory behind holds something else",
        code: 0xdead_0004,
    };
    assert_eq!(test_of(&engine).round_trip(), Err(misled));
    assert_eq!(machine.sim.memory().live(), 0);
}

#[test]
fn bytes_beside_their_place_and_wrong_ones_are_found() {
    let start = PAGE / 2 + 1;
    let broken = |change: fn(&mut SimTestdev)| {
        let (machine, device) = machine();
        let engine = machine.boot(&DRIVERS);
        change(&mut device.lock().unwrap());
        test_of(&engine).round_trip()
    };
    let first = |result| match result {
        Err(Fault::Mismatch { offset, .. }) => offset,
        other => panic!("{other:?}"),
    };
    assert_eq!(first(broken(|device| device.corrupt = true)), start);
    assert_eq!(first(broken(|device| device.stray = 4)), start);
    // Every byte of what it should have written is right.
    let longer = broken(|device| device.longer = 1);
    assert_eq!(first(longer), start + PAGE);
}

#[test]
fn a_transfer_that_never_ends_is_taken_back() {
    let (machine, device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    device.lock().unwrap().stuck = true;
    let result = test_of(&engine).round_trip();
    assert!(matches!(result, Err(Fault::Timeout { .. })), "{result:?}");
    // Nothing may be under way: the memory was freed.
    assert!(!device.lock().unwrap().is_armed());
    assert_eq!(machine.sim.memory().live(), 0);
    device.lock().unwrap().stuck = false;
    test_of(&engine).round_trip().unwrap();
    engine.unbind(NAME).unwrap();
    assert_eq!(machine.iommu.counts().attached, 0);
}

#[test]
fn it_comes_back_from_a_suspend() {
    let (machine, _device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    engine.suspend().unwrap();
    engine.resume().unwrap();
    test_of(&engine).round_trip().unwrap();
}

#[test]
fn a_failure_anywhere_leaves_nothing() {
    let steps = [Step::Pages, Step::Mmio, Step::Read];
    PciMachine::fail_at_every(
        &steps,
        || machine().0,
        &DRIVERS,
        |engine| {
            let device = engine.device(NAME);
            if device.is_some_and(|device| matches!(device.state, State::Bound)) {
                let _ = test_of(engine).round_trip();
            }
        },
    );
}

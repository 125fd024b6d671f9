//! The driver against the model, behind a fake IOMMU and without one.

use mastiff_core::addr::Iova;
use mastiff_core::driver::{DmaTest, Driver, Hostile, Way};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_edu::{Edu, EduWide};
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::{BusError, Shared};
use mastiff_testkit::edu::SimEdu;
use mastiff_testkit::inject::Step;
use mastiff_testkit::pci::{PciMachine, SimBus};
use mastiff_testkit::trace::Event;

const NAME: &str = "/pcie@10000000/00:02.0";
const DRIVERS: [&'static dyn Driver<Sim>; 2] = [&Pcie, &Edu];

fn machine_on(sim: Sim) -> (PciMachine, Shared<SimEdu>) {
    let (device, function) = SimEdu::function();
    let root = SimBus::new().with(2, 0, function);
    (PciMachine::on(sim, root), device)
}

fn machine() -> (PciMachine, Shared<SimEdu>) {
    machine_on(Sim::new())
}

fn test_of(engine: &Engine<Sim>) -> &dyn DmaTest {
    let device = engine.device(NAME).expect("it was found");
    let State::Bound = device.state else {
        panic!("it is {:?}", device.state);
    };
    device.bound().unwrap().dma_test().unwrap()
}

fn hostile_of(engine: &Engine<Sim>) -> &dyn Hostile {
    let bound = engine.device(NAME).and_then(|device| device.bound());
    bound
        .and_then(|bound| bound.hostile())
        .expect("it is bound")
}

fn fault(engine: &Engine<Sim>) -> Fault {
    match &engine.device(NAME).expect("it was found").state {
        State::Failed(fault) => fault.clone(),
        other => panic!("it is {other:?}"),
    }
}

#[test]
fn a_round_trip_goes_through_the_iommu() {
    let (machine, device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    let before = machine.iommu.counts().mappings;
    for _ in 0..3 {
        let proof = test_of(&engine).round_trip().unwrap();
        assert_eq!(proof.bytes, 8192);
        assert!(proof.iova.0 < 1 << 28 && proof.pa.0 >= 0x4000_0000);
    }
    assert_eq!(
        machine.iommu.counts().mappings,
        before,
        "nothing stays mapped"
    );
    assert_eq!(machine.iommu.aborted(), []);
    assert_eq!(device.lock().unwrap().results, [Ok(()); 6]);
    assert_eq!(machine.sim.memory().live(), 0);
    engine.unbind(NAME).unwrap();
    assert_eq!(machine.iommu.counts().attached, 0);
    assert_eq!(machine.msi.used().len(), 0);
}

#[test]
fn data_is_read_after_the_interrupt_that_announces_it() {
    let (machine, _device) = machine();
    let engine = machine.boot(&DRIVERS);
    machine.sim.trace().start();
    test_of(&engine).round_trip().unwrap();
    let mut ordered = false;
    let mut loads = 0;
    for event in machine.sim.trace().stop() {
        match event {
            Event::Read { .. } => ordered = false,
            Event::Barrier(Barrier::Acquire | Barrier::Full) => ordered = true,
            Event::Load { .. } => {
                loads += 1;
                assert!(ordered);
            }
            _ => {}
        }
    }
    assert!(loads > 0);
}

#[test]
fn it_works_by_pin_too() {
    let (mut machine, _device) = machine();
    machine.has_msi = false;
    let mut engine = machine.boot(&DRIVERS);
    test_of(&engine).round_trip().unwrap();
    test_of(&engine).round_trip().unwrap();
    let pulls = || {
        let mut pci = machine.pci.lock().unwrap();
        pci.function(0, 2, 0).unwrap().may_pull_pin()
    };
    assert!(pulls());
    engine.suspend().unwrap();
    engine.resume().unwrap();
    test_of(&engine).round_trip().unwrap();
    engine.unbind(NAME).unwrap();
    assert!(!pulls(), "nobody would serve it");
}

#[test]
fn a_pin_that_nobody_uses_is_left_alone() {
    let (machine, _device) = machine();
    let _engine = machine.boot(&DRIVERS);
    let mut pci = machine.pci.lock().unwrap();
    assert!(!pci.function(0, 2, 0).unwrap().may_pull_pin());
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
fn without_an_iommu_ram_is_out_of_reach() {
    let (mut machine, _device) = machine();
    machine.has_iommu = false;
    let engine = machine.boot(&DRIVERS);
    let limit = (1 << 28) - 1;
    assert!(matches!(fault(&engine), Fault::Unreachable { limit: seen, .. } if seen == limit));
    assert_eq!(machine.sim.windows(), 1, "the host's own");
}

#[test]
fn where_ram_is_low_it_goes_without() {
    let (mut machine, _device) = machine_on(Sim::with_ram(0x100_0000, 1 << 20));
    machine.has_iommu = false;
    let engine = machine.boot(&DRIVERS);
    let proof = test_of(&engine).round_trip().unwrap();
    assert_eq!(proof.iova.0, proof.pa.0);
}

#[test]
fn something_else_is_not_taken_for_an_edu() {
    let (machine, device) = machine();
    device.lock().unwrap().identification = 0x0200_00ed;
    let engine = machine.boot(&DRIVERS);
    let text = fault(&engine).to_string();
    assert_eq!(
        text,
        "register IDENTIFICATION: expected 0x10000ed, saw 0x20000ed"
    );
}

#[test]
fn a_wrong_byte_is_found() {
    let (machine, device) = machine();
    device.lock().unwrap().corrupt = Some(4095);
    let engine = machine.boot(&DRIVERS);
    let result = test_of(&engine).round_trip();
    assert!(
        matches!(result, Err(Fault::Mismatch { offset: 4095, .. })),
        "{result:?}"
    );
}

#[test]
fn a_transfer_that_never_ends_is_given_up() {
    let (machine, device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    device.lock().unwrap().stuck = true;
    let first = test_of(&engine).round_trip();
    assert!(
        matches!(
            first,
            Err(Fault::Timeout {
                awaited: "DMA interrupt",
                ..
            })
        ),
        "{first:?}"
    );
    let second = test_of(&engine).round_trip();
    assert!(matches!(second, Err(Fault::Timeout { .. })), "{second:?}");
    engine.unbind(NAME).unwrap();
    assert_eq!(machine.iommu.counts().attached, 0);
    assert_eq!(machine.sim.memory().live(), 0);
    assert_eq!(
        machine.sim.memory().quarantined(),
        1,
        "what it may still read"
    );
}

#[test]
fn memory_that_it_may_still_read_outlives_the_binding() {
    let (machine, device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    device.lock().unwrap().stuck = true;
    test_of(&engine).begin().unwrap();
    engine.unbind(NAME).unwrap();
    assert_eq!(machine.sim.memory().live(), 0);
    assert_eq!(machine.sim.memory().quarantined(), 1);
}

#[test]
fn memory_that_it_may_still_write_is_parked() {
    let (machine, device) = machine();
    let engine = machine.boot(&DRIVERS);
    device.lock().unwrap().stuck_to_memory = true;
    let result = test_of(&engine).round_trip();
    assert!(matches!(result, Err(Fault::Timeout { .. })), "{result:?}");
    assert_eq!(machine.sim.memory().quarantined(), 1);
}

#[test]
fn aimed_at_what_is_not_mapped_it_gets_nothing() {
    let (machine, device) = machine();
    let engine = machine.boot(&DRIVERS);
    let hostile = hostile_of(&engine);
    hostile.arm(&[0xa5; 64]).unwrap();
    let at = Iova(0x0123_4000);
    hostile.launch(Way::Read, at, 64).unwrap();
    assert!(!hostile.is_back());
    assert!(
        hostile.launch(Way::Read, at, 64).is_err(),
        "it is under way"
    );
    hostile.land().unwrap();
    assert!(hostile.is_back());
    assert_eq!(hostile.loot(64).unwrap(), [0xa5; 64]);
    assert_eq!(machine.iommu.aborted().len(), 1);
    let results = device.lock().unwrap().results.clone();
    assert_eq!(results, [Ok(()), Err(BusError::Aborted), Ok(())]);
    for len in [0, hostile.capacity() + 1, usize::MAX] {
        let launched = hostile.launch(Way::Write, at, len);
        assert!(matches!(launched, Err(Fault::Invalid { .. })));
        assert!(matches!(hostile.loot(len), Err(Fault::Invalid { .. })));
    }
    assert!(hostile.arm(&[0; 4097]).is_err() && hostile.lend(&[]).is_err());
    test_of(&engine).round_trip().unwrap();
}

#[test]
fn what_is_lent_to_it_is_in_its_reach_until_it_is_taken_back() {
    let (machine, device) = machine();
    let engine = machine.boot(&DRIVERS);
    let hostile = hostile_of(&engine);
    let lent = hostile.lend(&[0x5a; 4096]).unwrap();
    let read = || {
        hostile.arm(&[1; 16]).unwrap();
        hostile.launch(Way::Read, lent.iova, 16).unwrap();
        hostile.land().unwrap();
        hostile.loot(16).unwrap()
    };
    assert_eq!(read(), [0x5a; 16]);
    hostile.arm(&[2; 16]).unwrap();
    hostile.launch(Way::Write, lent.iova, 16).unwrap();
    hostile.land().unwrap();
    assert_eq!(read(), [2; 16]);
    hostile.take_back();
    assert_eq!(machine.sim.memory().live(), 0);
    assert_eq!(read(), [1; 16]);
    assert_eq!(
        device
            .lock()
            .unwrap()
            .results
            .iter()
            .filter(|result| result.is_err())
            .count(),
        1
    );
}

#[test]
fn one_that_was_sent_off_holds_nobody_up() {
    let (machine, device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    let lent = hostile_of(&engine).lend(&[7; 64]).unwrap();
    hostile_of(&engine)
        .launch(Way::Write, lent.iova, 64)
        .unwrap();
    engine.suspend().unwrap();
    assert_eq!(device.lock().unwrap().results, []);
    engine.resume().unwrap();
    hostile_of(&engine).land().unwrap();
    hostile_of(&engine)
        .launch(Way::Write, lent.iova, 64)
        .unwrap();
    let before = device.lock().unwrap().results.len();
    engine.unbind(NAME).unwrap();
    assert_eq!(device.lock().unwrap().results.len(), before);
    assert_eq!(machine.sim.memory().live(), 0);
    // It arrives where its stream aborts.
    machine.sim.advance_us(200_000);
    engine.bind(NAME).unwrap();
    hostile_of(&engine).land().unwrap();
    assert!(device.lock().unwrap().results.last().unwrap().is_err());
    test_of(&engine).round_trip().unwrap();
}

#[test]
fn one_with_all_address_bits_is_taken_at_its_word() {
    let (mut machine, device) = machine();
    machine.has_iommu = false;
    device.lock().unwrap().mask = u64::MAX;
    let engine = machine.boot(&[&Pcie, &EduWide]);
    let proof = test_of(&engine).round_trip().unwrap();
    assert_eq!(proof.iova.0, proof.pa.0);
    // Nothing stands between it and memory.
    let hostile = hostile_of(&engine);
    let pages = machine.sim.alloc_pages(PageRequest::new(4096)).unwrap();
    pages.fill(0, 4096, 0x77);
    machine.sim.barrier(Barrier::Publish);
    hostile.launch(Way::Read, Iova(pages.pa().0), 16).unwrap();
    hostile.land().unwrap();
    assert_eq!(hostile.loot(16).unwrap(), [0x77; 16]);
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

#[test]
fn a_round_trip_may_be_left_alone() {
    let (machine, _device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    let test = test_of(&engine);
    assert!(test.finish().is_err(), "none was begun");
    test.begin().unwrap();
    assert!(test.begin().is_err() && test.round_trip().is_err());
    machine.sim.advance_us(200_000);
    assert_eq!(test.finish().unwrap().bytes, 8192);
    test.round_trip().unwrap();
    // One that nobody finishes goes with the binding.
    test.begin().unwrap();
    engine.unbind(NAME).unwrap();
    let counts = machine.iommu.counts();
    assert_eq!((counts.attached, counts.mappings), (0, 0));
    assert_eq!(machine.sim.memory().live(), 0);
    assert_eq!(machine.sim.memory().quarantined(), 0);
}

#[test]
fn it_is_at_rest_when_it_is_suspended() {
    let (machine, device) = machine();
    let mut engine = machine.boot(&DRIVERS);
    test_of(&engine).begin().unwrap();
    engine.suspend().unwrap();
    assert_eq!(device.lock().unwrap().results, [Ok(())]);
    engine.resume().unwrap();
    test_of(&engine).finish().unwrap();
    test_of(&engine).round_trip().unwrap();
}

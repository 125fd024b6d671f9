//! The driver that manages its IOMMU by itself, against the model behind a fake IOMMU.

use mastiff_core::addr::Iova;
use mastiff_core::driver::{Bound, Driver, Seen, Spaces};
use mastiff_core::engine::{DmaSetup, Engine, State};
use mastiff_core::error::Fault;
use mastiff_edu::{Edu, EduManaged};
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::edu::SimEdu;
use mastiff_testkit::inject::Step;
use mastiff_testkit::pci::{PciMachine, SimBus};

const NAME: &str = "/pcie@10000000/00:02.0";
const DRIVERS: [&'static dyn Driver<Sim>; 2] = [&Pcie, &EduManaged];
const OWN: Iova = Iova(0x0300_0000);

fn machine() -> (PciMachine, Shared<SimEdu>) {
    let (device, function) = SimEdu::function();
    (PciMachine::new(SimBus::new().with(2, 0, function)), device)
}

fn bound(engine: &Engine<Sim>) -> &dyn Bound {
    let device = engine.device(NAME).expect("it was found");
    let State::Bound = device.state else {
        panic!("it is {:?}", device.state);
    };
    device.bound().unwrap()
}

fn spaces(engine: &Engine<Sim>) -> &dyn Spaces {
    bound(engine).spaces().unwrap()
}

/// Which space was read and which was written.
fn seen(result: Result<Seen, Fault>) -> (Option<usize>, Option<usize>) {
    let seen = result.unwrap();
    (seen.read, seen.written)
}

#[test]
fn it_is_bound_only_where_it_is_asked_for() {
    let (machine, _) = machine();
    let engine = machine.boot(&[&Pcie, &Edu, &EduManaged]);
    assert!(bound(&engine).spaces().is_none());
}

#[test]
fn s13_nothing_is_attached_until_it_is_told_to() {
    let (machine, device) = machine();
    let engine = machine.boot(&DRIVERS);
    let setup = || engine.device(NAME).unwrap().dma();
    assert!(matches!(setup(), DmaSetup::Managed { attached: false }));
    assert_eq!(machine.iommu.counts().attaches, 0);
    // What the device does on its own does not arrive.
    let spaces = spaces(&engine);
    assert_eq!(seen(spaces.transfer(OWN)), (None, None));
    assert!(device.lock().unwrap().results.iter().all(Result::is_err));
    spaces.attach(1).unwrap();
    assert!(matches!(setup(), DmaSetup::Managed { attached: true }));
    assert_eq!(machine.iommu.counts().attached, 1);
}

#[test]
fn what_is_mapped_is_seen_and_nothing_else() {
    let (machine, _) = machine();
    let mut engine = machine.boot(&DRIVERS);
    let spaces_of = |engine| spaces(engine);
    let spaces = spaces_of(&engine);
    spaces.attach(0).unwrap();
    assert_eq!(seen(spaces.transfer(OWN)), (None, Some(0)));
    spaces.map(OWN).unwrap();
    assert_eq!(seen(spaces.transfer(OWN)), (Some(0), Some(0)));
    spaces.attach(1).unwrap();
    assert_eq!(seen(spaces.transfer(OWN)), (Some(1), Some(1)));
    assert!(spaces.map(OWN).is_err(), "it is mapped already");
    spaces.unmap(OWN).unwrap();
    assert_eq!(spaces.unmap(OWN), Err(Fault::NotMapped { iova: OWN }));
    assert_eq!(seen(spaces.transfer(OWN)), (None, Some(1)));
    spaces.detach();
    assert_eq!(seen(spaces.transfer(OWN)), (None, None));
    for wrong in [Iova(0x1000_0000), Iova(0x0300_0001), Iova(u64::MAX)] {
        assert!(spaces.map(wrong).is_err());
        assert!(spaces.transfer(wrong).is_err());
    }
    engine.unbind(NAME).unwrap();
    let counts = machine.iommu.counts();
    assert_eq!(
        (counts.domains, counts.attached, counts.mappings),
        (0, 0, 0)
    );
    assert_eq!(machine.sim.memory().live(), 0);
}

#[test]
fn s14_it_is_sent_through_one_space_after_the_other_while_it_reads() {
    let (machine, _) = machine();
    let engine = machine.boot(&DRIVERS);
    let spaces = spaces(&engine);
    assert!(spaces.switch().is_err(), "nothing is attached");
    spaces.attach(0).unwrap();
    for _ in 0..4 {
        let seen = spaces.switch().unwrap();
        assert!(seen.switches > 10);
        assert!(seen.read.is_some() && seen.written == spaces.attached());
    }
    assert_eq!(machine.iommu.counts().blocks, 0, "nothing came in between");
    assert_eq!(machine.iommu.aborted(), []);
}

#[test]
fn nested_spaces_are_as_good_as_others() {
    let (machine, _) = machine();
    let engine = machine.boot(&DRIVERS);
    let spaces = spaces(&engine);
    assert_eq!(spaces.names(), ["a", "b", "nested-a", "nested-b"]);
    spaces.map(OWN).unwrap();
    for (space, other) in [(2, 3), (0, 1), (3, 2), (2, 3)] {
        spaces.attach(space).unwrap();
        assert_eq!(seen(spaces.transfer(OWN)), (Some(space), Some(space)));
        // Neighbours only: between others a transfer may be cut off.
        let seen = spaces.switch().unwrap();
        assert!([Some(space), Some(other)].contains(&seen.read));
        assert!(seen.switches > 10);
    }
    assert_eq!(machine.iommu.counts().blocks, 0);
    spaces.unmap(OWN).unwrap();
    assert_eq!(seen(spaces.transfer(OWN)).0, None);
}

#[test]
fn a_page_of_two_spaces_is_noticed() {
    let (machine, device) = machine();
    let engine = machine.boot(&DRIVERS);
    spaces(&engine).attach(0).unwrap();
    device.lock().unwrap().corrupt = Some(1023);
    let result = bound(&engine).spaces().unwrap().switch();
    assert!(matches!(result, Err(Fault::Mismatch { .. })), "{result:?}");
}

#[test]
fn its_round_trip_leaves_it_as_it_was() {
    let (machine, _) = machine();
    let engine = machine.boot(&DRIVERS);
    let test = bound(&engine).dma_test().unwrap();
    assert_eq!(test.round_trip().unwrap().bytes, 2048);
    assert_eq!(machine.iommu.counts().attached, 0);
    spaces(&engine).attach(1).unwrap();
    test.round_trip().unwrap();
    assert_eq!(spaces(&engine).attached(), Some(1));
}

#[test]
fn a_failure_anywhere_leaves_nothing() {
    let steps = [Step::Pages, Step::Mmio, Step::Read, Step::Domain, Step::Map];
    PciMachine::fail_at_every(&steps, || machine().0, &DRIVERS, |_| {});
}

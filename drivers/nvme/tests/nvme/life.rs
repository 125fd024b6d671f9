//! Coming and going: power that is lost, bindings that end and begin again.

use mastiff_core::engine::Engine;
use mastiff_core::error::Fault;
use mastiff_testkit::Sim;

use crate::bench::*;

#[test]
fn s27_it_reads_on_after_its_power_was_gone() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    let all = |engine: &Engine<Sim>| read(disk(engine), 0, 2048).unwrap().0;
    for _ in 0..3 {
        // Queues have turned around by an odd number of entries.
        assert!(all(&engine) == contents(1 << 20));
        read(disk(&engine), 7, 1).unwrap();
        let mapped = bench.machine.iommu.counts().mappings;
        engine.suspend().unwrap();
        assert!(!bench.device.lock().unwrap().is_enabled());
        engine.resume().unwrap();
        assert_eq!(bench.machine.iommu.counts().mappings, mapped);
    }
    assert!(all(&engine) == contents(1 << 20));
    engine.unbind(NAME).unwrap();
    bench.check_clean();
}

#[test]
fn another_controller_is_not_taken_for_the_one_before() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    engine.suspend().unwrap();
    bench.change(|device| device.capabilities ^= 1 << 40);
    assert!(matches!(
        engine.resume(),
        Err(Fault::Register { name: "CAP", .. })
    ));
    assert!(matches!(fault(&engine), Fault::Register { .. }));
    bench.check_clean();
}

#[test]
fn a_suspend_that_it_refuses_leaves_it_to_be_given_up() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    bench.change(|device| device.never_stops = true);
    assert!(matches!(engine.suspend(), Err(Fault::Timeout { .. })));
    assert!(!engine.is_suspended());
    bench.change(|device| device.never_stops = false);
    engine.unbind(NAME).unwrap();
    bench.check_clean();
}

#[test]
fn binding_again_and_again_leaves_nothing() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    for _ in 0..20 {
        let (data, _) = read(disk(&engine), 100, 300).unwrap();
        assert!(data == contents(1 << 20)[100 * 512..400 * 512]);
        engine.unbind(NAME).unwrap();
        bench.check_clean();
        engine.bind(NAME).unwrap();
    }
}

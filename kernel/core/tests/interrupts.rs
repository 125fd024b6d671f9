//! The two halves of an interrupt, and what its end leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mastiff_core::irq::{IrqSpec, MsiChip, Trigger};
use mastiff_core::platform::Platform;
use mastiff_testkit::Sim;

fn counter() -> (Arc<AtomicU32>, Arc<dyn mastiff_core::irq::IrqHandler>) {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let handler = move || {
        seen.fetch_add(1, Ordering::SeqCst);
    };
    (count, Arc::new(handler))
}

const LEVEL: IrqSpec = IrqSpec {
    intid: 40,
    trigger: Trigger::Level,
};

#[test]
fn nothing_is_handled_before_it_is_served_and_nothing_is_lost() {
    let sim = Sim::new();
    let (count, handler) = counter();
    let edge = IrqSpec {
        intid: 41,
        trigger: Trigger::Edge,
    };
    let hub = sim.irqs().clone();
    let chip = sim.chip().clone();
    let line = hub.connect(chip, edge, "/a", handler).unwrap();
    sim.raise(41);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert!(hub.is_pending());
    assert!(hub.service());
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(!hub.service());
    assert_eq!(hub.table()[0].count, 1);
    drop(line);
    sim.raise(41);
    hub.service();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_number_has_one_owner() {
    let sim = Sim::new();
    let hub = sim.irqs().clone();
    let first = hub.connect(sim.chip().clone(), LEVEL, "/a", counter().1);
    let second = hub.connect(sim.chip().clone(), LEVEL, "/b", counter().1);
    let text = second.err().expect("it is taken").to_string();
    assert!(text.contains("40") && text.contains("/a"), "{text}");
    drop(first);
    assert!(
        hub.connect(sim.chip().clone(), LEVEL, "/b", counter().1)
            .is_ok()
    );
}

#[test]
fn a_level_that_its_handler_lets_go_stays_masked() {
    let sim = Sim::new();
    let hub = sim.irqs().clone();
    let held = Arc::new(std::sync::Mutex::new(None));
    let mine = held.clone();
    let handler = move || drop(mine.lock().unwrap().take());
    let line = hub.connect(sim.chip().clone(), LEVEL, "/a", Arc::new(handler));
    *held.lock().unwrap() = Some(line.unwrap());
    sim.chip().set_level(40, true);
    hub.service();
    assert!(held.lock().unwrap().is_none());
    assert!(!sim.chip().enabled().contains(&40));
}

#[test]
fn a_message_starts_without_what_its_number_left() {
    let sim = Sim::new();
    let hub = sim.irqs().clone();
    let frame = sim.add_msi_frame(0x802_0000, 80, 1);
    let vector = frame.allocate(8).unwrap();
    // Left by an earlier owner of the number.
    hub.latch(vector.intid);
    let (count, handler) = counter();
    let line = hub.connect_msi(frame, vector, "/a", handler).unwrap();
    hub.service();
    assert_eq!(count.load(Ordering::SeqCst), 0);
    sim.raise(vector.intid);
    hub.service();
    assert_eq!(count.load(Ordering::SeqCst), 1);
    drop(line);
}

#[test]
fn whoever_may_wait_for_what_handlers_did_is_told() {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let sim = Sim::new();
    let hub = sim.irqs().clone();
    hub.on_served(|| {
        TOLD.fetch_add(1, Ordering::SeqCst);
    });
    let line = hub.connect(sim.chip().clone(), LEVEL, "/a", counter().1);
    hub.service();
    assert_eq!(TOLD.load(Ordering::SeqCst), 0, "nothing was served");
    sim.chip().set_level(40, true);
    hub.service();
    assert_eq!(TOLD.load(Ordering::SeqCst), 1);
    let line = line.unwrap();
    assert_eq!(line.steer(2), Ok(()));
    assert_eq!(sim.chip().target(40), 2);
}

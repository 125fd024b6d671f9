//! The driver, bound by the engine, with a user of its clock.

use std::sync::{Arc, Mutex};

use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::Engine;
use mastiff_core::policy::Policy;
use mastiff_dt::build::TreeBuilder;
use mastiff_fixed_clock::FixedClock;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};

/// Binds a clock with these properties, and a user that notes its rate.
fn start(clock: impl FnOnce(TreeBuilder) -> TreeBuilder) -> (Engine<Sim>, Option<u64>) {
    let tree = TreeBuilder::new()
        .node("user", |n| {
            n.compatible(&["test,user"])
                .strings("clock-names", &["core"])
                .cells("clocks", &[1])
        })
        .node("clock", |n| {
            clock(
                n.compatible(&["fixed-clock"])
                    .phandle(1)
                    .u32("#clock-cells", 0),
            )
        });
    let seen = Arc::new(Mutex::new(None));
    let note = seen.clone();
    let user = FakeDriver::new(
        "user",
        &[Match::compatible("test,user")],
        vec![Do::Call(Box::new(move |probe| {
            assert_eq!(probe.clock_rate(None), probe.clock_rate(Some("core")));
            assert_eq!(probe.clock_rate(Some("other")), None);
            *note.lock().unwrap() = probe.clock_rate(None);
            Ok(())
        }))],
        &Diary::default(),
    );
    let drivers: [&'static dyn Driver<Sim>; 2] = [user, &FixedClock];
    let tree = tree.tree().unwrap();
    let mut engine = Engine::new(Sim::new(), tree, Policy::default(), &drivers);
    engine.start();
    let rate = *seen.lock().unwrap();
    (engine, rate)
}

#[test]
fn its_users_wait_for_it_and_know_its_rate() {
    let (engine, rate) = start(|n| n.u32("clock-frequency", 24_000_000));
    assert_eq!(rate, Some(24_000_000));
    let user = engine.device("/user").unwrap();
    assert_eq!((user.attempts, user.probes), (2, 1));
    assert_eq!(user.held().collect::<Vec<_>>(), ["/clock"]);
}

#[test]
fn without_a_frequency_it_is_no_clock() {
    for wrong in [
        |n: TreeBuilder| n,
        |n: TreeBuilder| n.cells("clock-frequency", &[0, 24]),
    ] {
        let (engine, rate) = start(wrong);
        assert_eq!(rate, None);
        let causes = engine.why("/user").unwrap();
        let last = &causes.last().unwrap().reason;
        assert!(last.contains("clock-frequency"), "{last}");
    }
}

//! Every step of bringing it up fails in turn, and nothing is left behind.

use mastiff_core::error::Fault;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::inject::Step;

use crate::bench::{Bench, EDU, HOST, NAME, STREAM, Setup};
use crate::model::Layout;

fn drill(step: Step, layout: Layout) {
    for n in 0.. {
        assert!(n < 10_000, "it never comes up");
        let mut bench = Bench::set_up(Setup {
            layout,
            before: Box::new(move |sim| sim.inject().fail(step, n)),
            ..Setup::default()
        });
        let armed = bench.sim.inject().is_armed(step);
        bench.sim.inject().disarm(step);
        let bound = |bench: &Bench, name| {
            bench
                .engine
                .device(name)
                .is_some_and(|device| device.bound().is_some())
        };
        if !bound(&bench, HOST) {
            continue;
        }
        if bench.engine.device(NAME).is_some() && !bound(&bench, NAME) {
            assert_eq!(bench.sim.memory().live(), 0, "{step:?} {n}");
            // And the next attempt is as good as the first.
            let _ = bench.engine.bind(NAME);
        }
        if bound(&bench, NAME) {
            assert_eq!(bench.read(STREAM, 0x4000_0000), Err(BusError::Aborted));
            // A read that gives garbage may have hidden it, or where it is.
            let _ = bench.engine.bind(EDU);
            if bound(&bench, EDU) {
                match bench.edu().round_trip() {
                    Ok(_) => {}
                    // Garbage may be told of anything, other input addresses or that the
                    // device failed: to refuse is right then, as long as nothing stays.
                    Err(Fault::BadRange { .. } | Fault::Device { .. }) if step == Step::Read => {}
                    Err(fault) => panic!("{step:?} {n}: {fault}"),
                }
            }
        }
        // One that broke while it was in use keeps what it may still be using.
        let broke = bound(&bench, NAME) && bench.iommu().status().errors > 0;
        bench.engine.unbind(HOST).unwrap();
        if !broke {
            bench.check_clean();
        }
        if armed {
            return;
        }
    }
}

#[test]
fn memory_runs_out() {
    drill(Step::Pages, Layout::Messages);
}

#[test]
fn registers_cannot_be_mapped() {
    drill(Step::Mmio, Layout::Messages);
    drill(Step::Mmio, Layout::Apart);
}

#[test]
fn a_register_read_gives_garbage() {
    drill(Step::Read, Layout::Messages);
    drill(Step::Read, Layout::Pin);
}

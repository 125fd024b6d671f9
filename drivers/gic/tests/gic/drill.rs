//! The fault drill: each step of a bring-up fails in turn, and nothing is left.

use mastiff_testkit::inject::Step;

use crate::bench::Bench;

/// Boots with the n-th step of a kind failing, for every n.
fn drill(step: Step, make: fn() -> Bench, v3: bool) {
    for n in 0..2000 {
        let bench = make();
        bench.sim.inject().fail(step, n);
        let tree = if v3 { bench.v3_tree() } else { bench.v2_tree() };
        let mut engine = bench.start(tree);
        if bench.sim.inject().is_armed(step) {
            assert!(n > 2, "the drill was one");
            return;
        }
        // Whatever happened, a GIC that can be bound can be unbound.
        let _ = engine.unbind("/intc@8000000");
        bench.assert_clean();
        drop(engine);
        bench.assert_clean();
    }
    panic!("a drill without end");
}

#[test]
fn memory() {
    drill(Step::Pages, Bench::v3, true);
}

#[test]
fn windows() {
    drill(Step::Mmio, Bench::v3, true);
}

#[test]
fn register_reads_of_a_gicv3() {
    drill(Step::Read, Bench::v3, true);
}

#[test]
fn register_reads_of_a_gicv2() {
    drill(Step::Read, Bench::v2, false);
}

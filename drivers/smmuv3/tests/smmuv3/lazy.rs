//! Lazy unmapping: what the window is, what ends it, and what may not happen in it.

use std::collections::BTreeSet;
use std::sync::Barrier;

use mastiff_core::addr::PAGE;
use mastiff_core::dma::{Bidirectional, Dma, DmaLoan, FromDevice, ToDevice};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Pages, Platform, serve};
use mastiff_core::policy::Policy;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::smmu::Features;
use mastiff_testkit::{Sim, SimPages};
use proptest::prelude::*;

use crate::bench::{Bench, with_capability_by};

const STREAM: u32 = 8;
const MASTER: &str = "/master@0";
const ABORTED: Result<u8, BusError> = Err(BusError::Aborted);
/// What docs/performance.md says of the window.
const RANGES: usize = 256;
const PATIENCE_US: u64 = 10_000;

fn lazy() -> (Bench, Dma<Sim>) {
    lazy_with(Features::virt(), 1)
}

fn lazy_with(features: Features, cpus: usize) -> (Bench, Dma<Sim>) {
    let policy = Policy {
        lazy: true,
        ..Policy::default()
    };
    with_capability_by(features, policy, cpus)
}

fn lend(dma: &Dma<Sim>, pages: SimPages) -> DmaLoan<'_, Sim, ToDevice> {
    let lent = dma.lend(pages).map_err(|failure| failure.fault);
    lent.unwrap()
}

/// A page that a device has read, unmapped; where it was, and the page.
fn used(bench: &Bench, dma: &Dma<Sim>) -> (u64, SimPages) {
    let lent = lend(dma, dma.pages(PAGE).unwrap());
    let at = lent.iova().0;
    assert!(bench.read(STREAM, at).is_ok());
    (at, lent.unmap().unwrap())
}

#[test]
fn what_is_cached_is_reached_until_it_is_due_and_no_longer() {
    for features in [Features::virt(), Features::stage2_only()] {
        let (bench, dma) = lazy_with(features, 1);
        let before = bench.consumed();
        let (at, _pages) = used(&bench, &dma);
        let lent = lend(&dma, dma.pages(PAGE).unwrap());
        let unseen = lent.iova().0;
        let _others = lent.unmap().unwrap();
        assert_eq!(bench.read(STREAM, unseen), ABORTED, "out of the tables");
        bench.sim.advance_us(PATIENCE_US - 100);
        let due = serve(&bench.sim).expect("something to come");
        assert!(due > bench.sim.now());
        assert!(bench.read(STREAM, at).is_ok(), "or there is no window");
        assert_eq!(bench.consumed(), before);
        bench.sim.advance_us(100);
        assert_eq!(serve(&bench.sim), None);
        assert_eq!(bench.read(STREAM, at), ABORTED);
        let after = bench.consumed();
        assert_eq!((after.0 - before.0, after.1 - before.1), (2, 1));
    }
}

#[test]
fn many_ranges_end_with_one_invalidation_and_no_address_comes_back_before() {
    let (bench, dma) = lazy();
    let mut before = bench.consumed();
    for _ in 0..3 {
        let mut gone = BTreeSet::new();
        for count in 1..=RANGES {
            let (at, _pages) = used(&bench, &dma);
            assert!(gone.insert(at), "{at:#x} is handed out again");
            let after = bench.consumed();
            let ended = u64::from(count == RANGES);
            let more = (after.0 - before.0, after.1 - before.1);
            assert_eq!(more, (2 * ended, ended), "after {count}");
        }
        for &at in &gone {
            assert_eq!(bench.read(STREAM, at), ABORTED);
        }
        before = bench.consumed();
        let lent = lend(&dma, dma.pages(PAGE).unwrap());
        assert!(gone.contains(&lent.iova().0), "addresses come back");
        drop(lent);
        before = (before.0 + 2, before.1 + 1);
        assert_eq!(bench.consumed(), before);
    }
}

#[test]
fn whoever_unmaps_after_the_time_ends_it_for_all() {
    let (bench, dma) = lazy();
    let (at, _pages) = used(&bench, &dma);
    bench.sim.advance_us(PATIENCE_US);
    assert!(bench.read(STREAM, at).is_ok());
    // It looks at the clock now and then.
    let others: Vec<_> = (0..16).map(|_| used(&bench, &dma)).collect();
    assert_eq!(bench.read(STREAM, at), ABORTED);
    for (later, _) in others {
        assert_eq!(bench.read(STREAM, later), ABORTED);
    }
}

#[test]
fn a_list_waits_as_one() {
    let (bench, dma) = lazy();
    let pages: Vec<SimPages> = (0..32).map(|_| dma.pages(PAGE).unwrap()).collect();
    let before = bench.consumed();
    let list = dma.lend_list::<FromDevice>(pages).map_err(|why| why.fault);
    let list = list.unwrap();
    let at = list.iova(31).unwrap().0;
    bench.write(STREAM, at, 1).unwrap();
    let pages = list.unmap().unwrap();
    assert_eq!(bench.consumed(), before);
    assert!(bench.write(STREAM, at, 2).is_ok());
    bench.sim.advance_us(PATIENCE_US);
    serve(&bench.sim);
    assert!(bench.write(STREAM, at, 3).is_err());
    assert_eq!(pages[31].load32(0) & 0xff, 2);
}

#[test]
fn ranges_of_any_length_leave_the_tables_at_once() {
    let (bench, dma) = lazy();
    for len in [1, 3, 16, 17, 48, 511, 513].map(|pages| pages * PAGE) {
        let lent = lend(&dma, dma.pages(len).unwrap());
        let first = lent.iova().0;
        let _pages = lent.unmap().unwrap();
        // Nothing is cached of it, so the tables are all that counts.
        for at in (first..first + len).step_by(PAGE as usize) {
            assert_eq!(bench.read(STREAM, at), ABORTED, "{at:#x} of {len:#x}");
        }
    }
}

#[test]
fn what_is_freed_is_out_of_reach_first() {
    let (bench, dma) = lazy();
    let reach = |at: u64| bench.write(STREAM, at, 1);
    let buffer = dma.alloc::<Bidirectional>(PAGE).unwrap();
    let at = buffer.iova().0;
    reach(at).unwrap();
    // The model ends the test if a device reaches what nobody holds.
    drop(buffer);
    assert!(reach(at).is_err());
    let loan = dma.lend::<FromDevice>(dma.pages(PAGE).unwrap());
    let loan = loan.map_err(|failure| failure.fault).unwrap();
    let at = loan.iova().0;
    reach(at).unwrap();
    drop(loan);
    assert!(reach(at).is_err());
}

#[test]
fn a_device_that_goes_or_sleeps_leaves_nothing_behind() {
    type End = fn(&mut Bench);
    let unbind: End = |bench| bench.engine.unbind(MASTER).unwrap();
    let suspend: End = |bench| bench.engine.suspend().unwrap();
    for end in [unbind, suspend] {
        let (mut bench, dma) = lazy();
        let (_, pages) = used(&bench, &dma);
        let before = bench.consumed();
        end(&mut bench);
        assert_eq!(serve(&bench.sim), None, "nothing waits");
        assert!(bench.consumed().1 > before.1);
        drop((pages, dma));
    }
}

#[test]
fn a_flush_that_fails_keeps_addresses_and_pages_to_itself() {
    let (bench, dma) = lazy();
    let kept: Vec<_> = (1..RANGES).map(|_| used(&bench, &dma)).collect();
    let loans: Vec<_> = (0..3)
        .map(|_| lend(&dma, dma.pages(PAGE).unwrap()))
        .collect();
    bench.model().freeze(true);
    for loan in loans {
        assert!(matches!(loan.unmap(), Err(Fault::Timeout { .. })));
    }
    assert_eq!(bench.sim.memory().quarantined(), 3);
    let before: BTreeSet<u64> = kept.iter().map(|(at, _)| *at).collect();
    let others: Vec<_> = (0..RANGES)
        .map(|_| lend(&dma, dma.pages(PAGE).unwrap()))
        .collect();
    assert!(others.iter().all(|loan| !before.contains(&loan.iova().0)));
    bench.model().freeze(false);
    bench.sim.advance_us(PATIENCE_US);
    serve(&bench.sim);
    for (at, _) in &kept {
        assert_eq!(bench.read(STREAM, *at), ABORTED);
    }
    drop(others);
    let (_, _page) = used(&bench, &dma);
}

#[test]
fn a_small_address_space_is_searched_only_after_a_flush() {
    let (bench, dma) = lazy();
    dma.set_mask(16).unwrap();
    // 15 pages below 64 KiB, and page 0 is nobody's.
    let mut pages = dma.pages(PAGE).unwrap();
    for _ in 0..100 {
        let lent = lend(&dma, pages);
        assert!(lent.iova().0 < 1 << 16);
        bench.read(STREAM, lent.iova().0).unwrap();
        pages = lent.unmap().unwrap();
    }
}

#[test]
fn several_cpus_have_their_own_and_anyone_who_waits_ends_all() {
    const CPUS: usize = 4;
    let (bench, dma) = lazy_with(Features::virt(), CPUS);
    let start = Barrier::new(CPUS);
    let before = bench.consumed();
    let work = |_| {
        start.wait();
        // A queue of one CPU takes all of these, one of all CPUs would not.
        (0..RANGES - 1).map(|_| used(&bench, &dma)).collect()
    };
    let gone: Vec<(u64, SimPages)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CPUS)
            .map(|cpu| scope.spawn(move || work(cpu)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.flat_map(|gone: Vec<_>| gone).collect()
    });
    let distinct: BTreeSet<u64> = gone.iter().map(|(at, _)| *at).collect();
    assert_eq!(distinct.len(), gone.len(), "none came back");
    assert_eq!(bench.consumed(), before);
    bench.sim.advance_us(PATIENCE_US);
    assert_eq!(serve(&bench.sim), None);
    for at in distinct {
        assert_eq!(bench.read(STREAM, at), ABORTED);
    }
    assert_eq!(bench.consumed().1 - before.1, CPUS as u64);
}

#[derive(Copy, Clone, Debug)]
enum Step {
    Lend,
    Unmap(usize),
    Drop(usize),
    Wait(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// No address is handed out while what led from it may be cached, and nothing is
    /// reached longer than the window is.
    #[test]
    fn no_address_is_reused_before_the_sync_that_ends_it(
        steps in prop::collection::vec(
            prop_oneof![
                4 => Just(Step::Lend),
                4 => (0usize..64).prop_map(Step::Unmap),
                1 => (0usize..64).prop_map(Step::Drop),
                1 => (0u64..2 * PATIENCE_US).prop_map(Step::Wait),
            ],
            0..900,
        )
    ) {
        let (bench, dma) = lazy();
        let mut out = Vec::new();
        // Unmapped, with the time, since the last sync.
        let mut waiting: Vec<(u64, u64, SimPages)> = Vec::new();
        let mut syncs = bench.consumed().1;
        for step in steps {
            match step {
                Step::Lend => {
                    let lent = lend(&dma, dma.pages(PAGE).unwrap());
                    let at = lent.iova().0;
                    prop_assert!(waiting.iter().all(|(other, ..)| *other != at));
                    prop_assert!(bench.read(STREAM, at).is_ok());
                    out.push(lent);
                }
                Step::Unmap(index) if !out.is_empty() => {
                    let lent = out.swap_remove(index % out.len());
                    let at = lent.iova().0;
                    waiting.push((at, bench.sim.now().0, lent.unmap().unwrap()));
                }
                Step::Drop(index) if !out.is_empty() => {
                    let lent = out.swap_remove(index % out.len());
                    let at = lent.iova().0;
                    drop(lent);
                    prop_assert_eq!(bench.read(STREAM, at), ABORTED);
                    // A strict one ends only itself.
                    syncs += 1;
                }
                Step::Unmap(_) | Step::Drop(_) => {}
                Step::Wait(us) => {
                    bench.sim.advance_us(us);
                    serve(&bench.sim);
                }
            }
            let now = bench.consumed().1;
            if now != syncs {
                prop_assert_eq!(now, syncs + 1);
                syncs = now;
                for (at, ..) in waiting.drain(..) {
                    prop_assert_eq!(bench.read(STREAM, at), ABORTED);
                }
            }
            prop_assert!(waiting.len() < RANGES);
        }
    }
}

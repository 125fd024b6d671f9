//! Several CPUs map and unmap at once: each waits for its own sync, through the
//! same small queue.

use std::sync::atomic::{AtomicU64, Ordering};

use mastiff_core::addr::{Iova, PAGE, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Pages, Platform};
use mastiff_testkit::bus::BusError;
use mastiff_testkit::smmu::{Features, Trouble};

use crate::bench::{Bench, map_at};

#[test]
fn unmappings_at_once_are_all_complete() {
    for features in [
        Features::virt(),
        Features {
            command_bits: 1,
            ..Features::small()
        },
    ] {
        let bench = Bench::new(features);
        let domain = bench.attached(8);
        let pages = bench.pages(4, 0x10);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (bench, domain, pages) = (&bench, &domain, &pages);
                scope.spawn(move || {
                    let pa = pages.pa().0 + thread * PAGE;
                    for round in 0..50 {
                        let iova = (thread * 64 + round) * PAGE;
                        map_at(domain, iova, pa, PAGE).unwrap();
                        bench.sim.barrier(mastiff_core::platform::Barrier::Publish);
                        assert_eq!(bench.read(8, iova), Ok(0x10 + thread as u8));
                        domain.unmap(Iova(iova), PAGE).unwrap();
                        assert_eq!(bench.read(8, iova), Err(BusError::Aborted));
                    }
                });
            }
        });
    }
}

#[test]
fn who_comes_while_two_syncs_are_under_way_shares_the_next() {
    for messages in [false, true] {
        let bench = match messages {
            false => Bench::virt(),
            true => Bench::new(Features {
                messages: true,
                ..Features::virt()
            }),
        };
        let domain = bench.attached(8);
        for page in 0..6 {
            map_at(&domain, page * PAGE, 0x4000_0000, PAGE).unwrap();
        }
        let syncs = || bench.iommu().status().syncs;
        let before = syncs();
        bench.model().freeze(true);
        std::thread::scope(|scope| {
            let mut waiting = Vec::new();
            for page in 0..6 {
                let submitted = bench.model().submitted();
                let domain = domain.clone();
                waiting.push(scope.spawn(move || domain.unmap(Iova(page * PAGE), PAGE)));
                while bench.model().submitted() == submitted {
                    std::thread::yield_now();
                }
            }
            bench.model().freeze(false);
            for waiting in waiting {
                assert_eq!(waiting.join().unwrap(), Ok(()));
            }
        });
        assert_eq!(syncs() - before, 3, "messages: {messages}");
        for page in 0..6 {
            assert_eq!(bench.read(8, page * PAGE), Err(BusError::Aborted));
        }
    }
}

#[test]
fn s29_of_two_who_wait_only_the_one_whose_command_was_refused_is_told() {
    for refused_first in [false, true] {
        let bench = Bench::virt();
        let domain = bench.attached(8);
        for page in 0..2 {
            map_at(&domain, page * PAGE, 0x4000_0000, PAGE).unwrap();
        }
        bench.model().freeze(true);
        let done = std::thread::scope(|scope| {
            let unmap = |page: u64| {
                let domain = domain.clone();
                let before = bench.model().submitted();
                let waiting = scope.spawn(move || domain.unmap(Iova(page * PAGE), PAGE));
                while bench.model().submitted() == before {
                    std::thread::yield_now();
                }
                waiting
            };
            if refused_first {
                bench.model().make(Trouble::IllegalCommand);
            }
            let first = unmap(0);
            if !refused_first {
                bench.model().make(Trouble::IllegalCommand);
            }
            let second = unmap(1);
            bench.model().freeze(false);
            [first, second].map(|waiting| waiting.join().unwrap())
        });
        let [told, spared] = match (done, refused_first) {
            ([first, second], true) => [first, second],
            ([first, second], false) => [second, first],
        };
        let fault = told.unwrap_err().to_string();
        assert!(fault.contains("CMD_TLBI_NH_VA: CERROR_ILL"), "{fault}");
        assert_eq!(spared, Ok(()));
    }
}

/// Two unmap at once. Of the commands of the first so many are refused, all of them
/// before those of the second are looked at. Says how each fared.
fn refusing(bench: &Bench, refused: u32) -> [Result<(), Fault>; 2] {
    let domain = bench.attached(8);
    for page in 0..20 {
        map_at(&domain, page * PAGE, 0x4000_0000, PAGE).unwrap();
    }
    bench.model().freeze(true);
    std::thread::scope(|scope| {
        let unmap = |first: u64, count: u64| {
            let domain = domain.clone();
            let before = bench.model().submitted();
            let at = Iova(first * PAGE);
            let waiting = scope.spawn(move || domain.unmap(at, count * PAGE));
            while bench.model().submitted() == before {
                std::thread::yield_now();
            }
            waiting
        };
        for _ in 0..refused {
            bench.model().make(Trouble::IllegalCommand);
        }
        let first = unmap(0, 19);
        let second = unmap(19, 1);
        bench.model().freeze(false);
        [first, second].map(|waiting| waiting.join().unwrap())
    })
}

#[test]
fn s29_others_refusals_are_theirs_while_they_can_be_told_apart() {
    let bench = Bench::new(Features {
        ranges: false,
        ..Features::virt()
    });
    // However many were refused before.
    for _ in 0..2 {
        for refused in [1, 7, 8] {
            let [told, spared] = refusing(&bench, refused);
            assert_eq!(spared, Ok(()), "{refused}");
            assert!(told.is_err(), "{refused}");
        }
    }
    // So many that nobody remembers which: both have to take it for theirs.
    let [one, other] = refusing(&bench, 9);
    assert!(one.is_err() && other.is_err());
}

#[test]
fn a_storm_does_not_keep_the_cpu_and_ends_with_its_cause() {
    let bench = Bench::new(Features::small());
    let domain = bench.attached(8);
    domain.attach(StreamId(9)).unwrap();
    let storm = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while storm.load(Ordering::Relaxed) < 2_000 {
                bench.read(8, 0x1000).unwrap_err();
                storm.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Each turn ends, however fast the other faults.
        while storm.load(Ordering::Relaxed) < 2_000 {
            bench.sim.advance_us(1);
            bench.sim.irqs().service();
        }
    });
    bench.serve();
    let taken = bench.iommu().status().events;
    assert_eq!(bench.faults()[0].count, taken);
    let before = bench.faults().len();
    bench.read(9, 0x2000).unwrap_err();
    assert_eq!(bench.faults().len(), before + 1, "new events still arrive");
    assert_eq!(bench.iommu().status().events, taken + 1);
}

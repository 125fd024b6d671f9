//! Several CPUs on one table: ranges that only share tables must all get
//! through, and of those that collide exactly one.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::hardware::{Regime, translate};
use common::*;
use mastiff_pgtable::{Granule, MapError, PageTable};

const CPUS: u64 = 4;
const ROUNDS: u64 = 20;

/// Runs `work` on every CPU at once, `ROUNDS` times on a fresh table.
fn race(work: impl Fn(&PageTable<&TestMem>, u64) + Sync, check: impl Fn(&TestMem, Regime)) {
    for _ in 0..ROUNDS {
        let mem = TestMem::new(Granule::K4);
        let table = PageTable::new(&mem, k4(48)).unwrap();
        let start = Barrier::new(CPUS as usize);
        thread::scope(|scope| {
            for cpu in 0..CPUS {
                let (table, start, work) = (&table, &start, &work);
                scope.spawn(move || {
                    start.wait();
                    work(table, cpu);
                });
            }
        });
        let regime = Regime {
            granule: 12,
            t0sz: 16,
            output_bits: 44,
            ttb: table.root(),
        };
        check(&mem, regime);
        assert!(mem.all_published());
        drop(table);
        assert_eq!(mem.live(), 0);
    }
}

#[test]
fn neighbours_share_tables_without_losing_any_mapping() {
    // Interleaved pages in fresh tables: every table is fought for.
    let page = |cpu, n: u64| (n * CPUS + cpu) * PAGE + (n % 3) * GIB;
    race(
        |table, cpu| {
            for n in 0..64 {
                table.map(page(cpu, n), page(cpu, n), PAGE, DMA).unwrap();
            }
            for n in 0..32 {
                unmap(table, page(cpu, n), PAGE).unwrap();
            }
        },
        |mem, regime| {
            for (cpu, n) in (0..CPUS).flat_map(|cpu| (0..64).map(move |n| (cpu, n))) {
                let hit = translate(mem, regime, page(cpu, n));
                assert_eq!(
                    hit.map(|hit| hit.pa).ok(),
                    (n >= 32).then_some(page(cpu, n))
                );
            }
        },
    );
}

#[test]
fn of_those_who_map_the_same_page_exactly_one_wins() {
    let wins = AtomicUsize::new(0);
    race(
        |table, cpu| {
            for n in 0..64 {
                match table.map(n * PAGE, cpu * GIB, PAGE, DMA) {
                    Ok(()) => {
                        wins.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(table.translate(n * PAGE).unwrap().0, cpu * GIB);
                    }
                    Err(error) => assert_eq!(error, MapError::Occupied { va: n * PAGE }),
                }
            }
        },
        |_, _| assert_eq!(wins.swap(0, Ordering::Relaxed), 64),
    );
}

#[test]
fn a_mapping_is_visible_to_walkers_when_map_returns() {
    // All in one last-level table: whoever finds another's table entry must not
    // rely on that other's having published it.
    let seen = |table: &PageTable<&TestMem>, mem: &TestMem, va| {
        let regime = Regime {
            granule: 12,
            t0sz: 16,
            output_bits: 44,
            ttb: table.root(),
        };
        translate(mem, regime, va).unwrap().pa
    };
    for _ in 0..ROUNDS {
        let mem = TestMem::new(Granule::K4);
        let table = PageTable::new(&mem, k4(48)).unwrap();
        let start = Barrier::new(CPUS as usize);
        thread::scope(|scope| {
            for cpu in 0..CPUS {
                let (table, mem, start) = (&table, &mem, &start);
                scope.spawn(move || {
                    start.wait();
                    let va = cpu * PAGE;
                    table.map(va, va, PAGE, DMA).unwrap();
                    assert_eq!(seen(table, mem, va), va);
                });
            }
        });
    }
}

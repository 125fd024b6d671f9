//! Pools against the ranges of real hosts and against made-up ones.

use super::*;
use proptest::prelude::*;

const LOW: Range = Range {
    space: SPACE_MEMORY_32,
    child: 0x1000_0000,
    cpu: 0x1000_0000,
    size: 0x2eff_0000,
};
const HIGH: Range = Range {
    space: SPACE_MEMORY_64,
    child: 0x80_0000_0000,
    cpu: 0x80_0000_0000,
    size: 0x80_0000_0000,
};
const IO: Range = Range {
    space: 1 << 24,
    child: 0,
    cpu: 0x3eff_0000,
    size: 0x10000,
};

fn bar(size: u64, wide: bool, prefetch: bool) -> Bar {
    Bar {
        index: 0,
        size,
        wide,
        prefetch,
    }
}

fn cpu(placed: Option<(u64, PhysRange)>) -> u64 {
    placed.unwrap().1.start.0
}

#[test]
fn bars_go_where_they_may() {
    let mut pools = Pools::new(&[IO, LOW, HIGH]);
    assert_eq!(
        cpu(pools.place(&bar(0x1000, false, false), false)),
        0x1000_0000
    );
    assert_eq!(
        cpu(pools.place(&bar(0x10_0000, false, true), false)),
        0x1010_0000
    );
    assert_eq!(
        cpu(pools.place(&bar(0x4000, true, false), false)),
        0x1020_0000
    );
    assert_eq!(
        cpu(pools.place(&bar(0x4000, true, true), false)),
        0x80_0000_0000
    );
    // Too large for the low pool: fine on the root bus, not behind a bridge.
    assert_eq!(
        cpu(pools.place(&bar(1 << 30, true, false), false)),
        0x80_4000_0000
    );
    assert_eq!(pools.place(&bar(1 << 30, true, false), true), None);
    assert_eq!(pools.place(&bar(1 << 30, false, false), false), None);
}

#[test]
fn addresses_on_the_bus_are_not_the_cpus() {
    let shifted = Range {
        child: 0,
        cpu: 0x4000_0000,
        ..LOW
    };
    let mut pools = Pools::new(&[shifted]);
    let (address, range) = pools.place(&bar(0x1000, false, false), false).unwrap();
    assert_eq!(
        (address, range.start.0),
        (0x1000, 0x4000_1000),
        "never address 0"
    );
}

#[test]
fn a_full_pool_gives_nothing_and_loses_nothing() {
    let small = Range {
        size: 0x3000,
        ..LOW
    };
    let mut pools = Pools::new(&[small]);
    assert!(pools.place(&bar(0x4000, false, false), false).is_none());
    for _ in 0..3 {
        assert!(pools.place(&bar(0x1000, false, false), false).is_some());
    }
    assert!(pools.place(&bar(16, false, false), false).is_none());
}

#[test]
fn prefetchable_windows_are_for_prefetchable_bars() {
    let prefetchable = Range {
        space: SPACE_MEMORY_64 | PREFETCHABLE,
        ..HIGH
    };
    let mut pools = Pools::new(&[prefetchable]);
    assert_eq!(pools.place(&bar(0x1000, true, false), false), None);
    assert!(pools.place(&bar(0x1000, true, true), false).is_some());
}

#[test]
fn apertures_are_memory_only() {
    assert_eq!(
        apertures(&[IO, LOW, HIGH]),
        [(0x1000_0000, 0x3efe_ffff), (0x80_0000_0000, 0xff_ffff_ffff)]
    );
}

proptest! {
    #[test]
    fn places_are_aligned_apart_and_inside(
        start in 0u64..1 << 40,
        pages in 1u64..1 << 22,
        wants in prop::collection::vec((4u32..36, any::<bool>(), any::<bool>(), any::<bool>()), 1..40),
    ) {
        let range = Range {
            space: SPACE_MEMORY_32,
            child: start & !0xfff,
            cpu: 0x1000_0000,
            size: pages << 12,
        };
        let mut pools = Pools::new(&[range]);
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (log, wide, prefetch, behind) in wants {
            let bar = bar(1 << log, wide, prefetch);
            if let Some((address, place)) = pools.place(&bar, behind) {
                prop_assert!(address > 0 && address % bar.size == 0);
                prop_assert!(address >= range.child);
                prop_assert!(address + bar.size <= range.child + range.size);
                prop_assert_eq!(place.start.0, address - range.child + range.cpu);
                prop_assert!(taken.iter().all(|&(first, end)| address >= end || address + bar.size <= first));
                taken.push((address, address + bar.size));
            }
        }
    }
}

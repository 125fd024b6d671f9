//! Mapping and unmapping case by case: leaf sizes, refusals, undoing, and what
//! stays of a failed call.

mod common;

use common::hardware::{Fault, Regime, translate};
use common::*;
use mastiff_pgtable::{Geometry, Granule, Hint, Leaves, MapError, PageTable, TableMem};

fn regime(table: &PageTable<impl TableMem>) -> Regime {
    let geometry = table.geometry();
    Regime {
        granule: geometry.granule.bits(),
        t0sz: 64 - geometry.input_bits,
        output_bits: geometry.output_bits,
        ttb: table.root(),
    }
}

/// log2 of what a TLB may keep of the leaves at each of `vas`.
fn kept_bits(mem: &TestMem, table: &PageTable<&TestMem>, vas: &[u64]) -> Vec<u32> {
    vas.iter()
        .map(|&va| translate(mem, regime(table), va).unwrap().kept_bits)
        .collect()
}

/// log2 of the leaves that hardware finds at each of `vas`.
fn leaf_bits(mem: &TestMem, table: &PageTable<&TestMem>, vas: &[u64]) -> Vec<u32> {
    vas.iter()
        .map(|&va| translate(mem, regime(table), va).unwrap().size_bits)
        .collect()
}

#[test]
fn leaves_are_the_biggest_that_alignment_allows() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(48)).unwrap();
    // One page, one 2 MiB block, ... up to a gigabyte, and down again.
    let va = GIB - 2 * MIB - PAGE;
    let len = PAGE + 2 * MIB + GIB + 2 * MIB + PAGE;
    table.map(va, 8 * GIB + va, len, DMA).unwrap();
    let probes = [va, va + PAGE, GIB, 2 * GIB, 2 * GIB + 2 * MIB];
    assert_eq!(leaf_bits(&mem, &table, &probes), [12, 21, 30, 21, 12]);
    for va in probes {
        assert_eq!(
            translate(&mem, regime(&table), va).unwrap().pa,
            8 * GIB + va
        );
    }
    // The root, one table under it, and for each end one of each lower level.
    assert_eq!(mem.live(), 6);
}

#[test]
fn the_targets_alignment_counts_too() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    table.map(2 * MIB, 4 * MIB + PAGE, 2 * MIB, DMA).unwrap();
    table.map(GIB, 2 * GIB + 2 * MIB, GIB, DMA).unwrap();
    assert_eq!(leaf_bits(&mem, &table, &[2 * MIB, GIB]), [12, 21]);
}

#[test]
fn without_blocks_all_leaves_are_pages() {
    let mem = TestMem::new(Granule::K4);
    let shape = Geometry {
        blocks: false,
        ..k4(32)
    };
    let table = PageTable::new(&mem, shape).unwrap();
    table.map(2 * MIB, 2 * MIB, 4 * MIB, DMA).unwrap();
    assert_eq!(leaf_bits(&mem, &table, &[2 * MIB, 4 * MIB]), [12, 12]);
    assert_eq!(kept_bits(&mem, &table, &[2 * MIB, 4 * MIB]), [12, 12]);
}

#[test]
fn a_table_in_the_way_is_filled_rather_than_replaced() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    table.map(2 * MIB, 0, PAGE, DMA).unwrap();
    unmap(&table, 2 * MIB, PAGE).unwrap();
    table.map(2 * MIB, 0, 2 * MIB, DMA).unwrap();
    assert_eq!(leaf_bits(&mem, &table, &[2 * MIB]), [12]);
    assert_eq!(
        unmap(&table, 2 * MIB, 2 * MIB).unwrap(),
        [Leaves {
            va: 2 * MIB,
            len: 2 * MIB,
            size: PAGE,
            level: 3
        }]
    );
}

#[test]
fn the_whole_space_can_be_mapped_and_unmapped() {
    for bits in [25, 32, 39, 44] {
        let mem = TestMem::new(Granule::K4);
        let table = PageTable::new(&mem, k4(bits)).unwrap();
        let len = 1 << bits;
        table.map(0, 0, len, DMA).unwrap();
        let last = translate(&mem, regime(&table), len - 1).unwrap();
        assert_eq!(last.pa, len - 1);
        let gone = unmap(&table, 0, len).unwrap();
        assert_eq!(gone.iter().map(|leaves| leaves.len).sum::<u64>(), len);
        assert!(mem.all_published());
    }
}

#[test]
fn unmap_reports_runs_of_equal_leaves() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    // Two pages, two blocks, one page.
    let va = 2 * MIB - 2 * PAGE;
    let len = 4 * MIB + 3 * PAGE;
    table.map(va, GIB + va, len, DMA).unwrap();
    let run = |va, len, size, level| Leaves {
        va,
        len,
        size,
        level,
    };
    assert_eq!(
        unmap(&table, va, len).unwrap(),
        [
            run(va, 2 * PAGE, PAGE, 3),
            run(2 * MIB, 4 * MIB, 2 * MIB, 2),
            run(6 * MIB, PAGE, PAGE, 3),
        ]
    );
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    // With last-level tables at both ends, so that the short way is taken.
    let top = 1 << 39;
    table.map(9 * PAGE, 0, PAGE, DMA).unwrap();
    table.map(top - 9 * PAGE, 0, PAGE, DMA).unwrap();
    let live = mem.live();
    let misaligned = |value| MapError::Misaligned { value, page: PAGE };
    let input = |va, len| MapError::InputRange { va, len, bits: 39 };
    let output = |pa, len| MapError::OutputRange { pa, len, bits: 44 };
    for (va, pa, len, error) in [
        (0, 0, 0, MapError::Empty { va: 0 }),
        (1, 0, PAGE, misaligned(1)),
        (0, 8, PAGE, misaligned(8)),
        (0, 0, 100, misaligned(100)),
        (8, 8, PAGE, misaligned(8)),
        (top, 0, PAGE, input(top, PAGE)),
        (top, 1 << 44, PAGE, input(top, PAGE)),
        (top - PAGE, 0, 2 * PAGE, input(top - PAGE, 2 * PAGE)),
        (PAGE, 0, top, input(PAGE, top)),
        (
            u64::MAX - PAGE + 1,
            0,
            PAGE,
            input(u64::MAX - PAGE + 1, PAGE),
        ),
        (0, 1 << 44, PAGE, output(1 << 44, PAGE)),
        (
            0,
            (1 << 44) - PAGE,
            2 * PAGE,
            output((1 << 44) - PAGE, 2 * PAGE),
        ),
        (
            0,
            u64::MAX - PAGE + 1,
            PAGE,
            output(u64::MAX - PAGE + 1, PAGE),
        ),
    ] {
        assert_eq!(table.map(va, pa, len, DMA), Err(error));
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(unmap(&table, 0, 0), Err(MapError::Empty { va: 0 }));
    assert_eq!(unmap(&table, 0, 1), Err(misaligned(1)));
    assert_eq!(unmap(&table, top, PAGE), Err(input(top, PAGE)));
    assert_eq!(mem.live(), live);
}

#[test]
fn sizes_that_no_walker_takes_are_refused() {
    let mem = TestMem::new(Granule::K4);
    for (input_bits, output_bits) in [(24, 44), (49, 44), (39, 31), (39, 49), (0, 0)] {
        let shape = Geometry {
            input_bits,
            output_bits,
            ..k4(39)
        };
        let error = PageTable::new(&mem, shape).err();
        assert_eq!(error, Some(MapError::Unsupported(shape)));
    }
}

#[test]
fn mapping_over_a_mapping_names_the_first_address_and_changes_nothing() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    table.map(5 * PAGE, 0, PAGE, DMA).unwrap();
    table.map(GIB, 0, GIB, DMA).unwrap();
    for (va, len, occupied) in [
        (5 * PAGE, PAGE, 5 * PAGE),
        (0, 16 * PAGE, 5 * PAGE),
        (0, GIB, 5 * PAGE),
        (GIB - 2 * MIB, 4 * MIB, GIB),
        (GIB + 7 * PAGE, PAGE, GIB + 7 * PAGE),
    ] {
        let error = MapError::Occupied { va: occupied };
        assert_eq!(table.map(va, 4 * GIB, len, DMA), Err(error));
    }
    for hole in [0, 4 * PAGE, 6 * PAGE, GIB - PAGE, GIB - 2 * MIB] {
        assert_eq!(table.translate(hole), None);
    }
    assert_eq!(table.translate(5 * PAGE).unwrap().0, 0);
    assert_eq!(table.translate(GIB + 7).unwrap().0, 7);
}

#[test]
fn unmapping_a_hole_or_part_of_a_block_changes_nothing() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    let hole = |va| Err(MapError::NotMapped { va });
    assert_eq!(unmap(&table, PAGE, PAGE), hole(PAGE));
    table.map(0, 0, 2 * PAGE, DMA).unwrap();
    table.map(2 * MIB, 2 * MIB, 2 * MIB, DMA).unwrap();
    let part = Err(MapError::PartOfBlock {
        va: 2 * MIB,
        size: 2 * MIB,
    });
    assert_eq!(unmap(&table, 0, 3 * PAGE), hole(2 * PAGE));
    assert_eq!(unmap(&table, 2 * PAGE, PAGE), hole(2 * PAGE));
    assert_eq!(unmap(&table, 2 * MIB, PAGE), part);
    assert_eq!(unmap(&table, 2 * MIB + PAGE, PAGE), part);
    assert_eq!(unmap(&table, 2 * MIB, 2 * MIB + PAGE), hole(4 * MIB));
    for va in [0, PAGE, 2 * MIB, 4 * MIB - PAGE] {
        assert_eq!(table.translate(va).unwrap().0, va);
    }
}

#[test]
fn a_failing_allocation_maps_nothing_and_leaks_nothing() {
    // From just below 512 GiB to just above: two tables at each of levels 1 to 3.
    let va = 512 * GIB - 2 * PAGE;
    let needed = 6;
    for allowed in 0..=needed {
        let mem = TestMem::new(Granule::K4);
        let table = PageTable::new(&mem, k4(48)).unwrap();
        mem.allow(allowed);
        let result = table.map(va, 0, 4 * PAGE, DMA);
        assert_eq!(result.is_ok(), allowed == needed);
        if let Err(error) = result {
            assert!(matches!(error, MapError::OutOfTables { .. }));
            assert_eq!(table.translate(va), None);
            // With memory again, the same call succeeds.
            mem.allow(usize::MAX);
            table.map(va, 0, 4 * PAGE, DMA).unwrap();
        }
        assert_eq!(mem.live(), 1 + needed);
        assert!(mem.all_published());
        drop(table);
        assert_eq!(mem.live(), 0);
    }
}

#[test]
fn no_memory_for_the_root_is_an_error() {
    let mem = TestMem::new(Granule::K4);
    mem.allow(0);
    let error = PageTable::new(&mem, k4(39)).err();
    assert_eq!(error, Some(MapError::OutOfTables { va: 0 }));
}

#[test]
fn table_memory_beyond_the_walkers_reach_is_refused_and_given_back() {
    // Test memory starts at 256 GiB: 2^38.
    let mem = TestMem::new(Granule::K4);
    let shape = Geometry {
        output_bits: 36,
        ..k4(39)
    };
    let error = PageTable::new(&mem, shape).err();
    assert!(matches!(error, Some(MapError::BadTable { .. })));
    assert_eq!(mem.live(), 0);
}

#[test]
fn losing_a_race_for_a_table_uses_the_winners() {
    let mem = TestMem::new(Granule::K4);
    let winners = mem.alloc_table(PAGE).unwrap();
    mem.publish(winners, 0, 512);
    let rival = Rival::new(&mem);
    let table = PageTable::new(&rival, k4(30)).unwrap();
    rival.strike(1, winners | 0b11);
    table.map(PAGE, 0, PAGE, DMA).unwrap();
    // The loser's table went back, and the entry it did not write is published.
    assert_eq!(mem.live(), 2);
    assert_eq!(translate(&mem, regime(&table), PAGE).unwrap().pa, 0);
    drop(table);
    assert_eq!(mem.live(), 0);
}

#[test]
fn a_table_whose_entry_is_not_published_yet_is_published_by_its_first_user() {
    // Another CPU has put its table in place and not got further yet.
    let mem = TestMem::new(Granule::K4);
    let theirs = mem.alloc_table(PAGE).unwrap();
    mem.publish(theirs, 0, 512);
    let table = PageTable::new(&mem, k4(30)).unwrap();
    mem.store(table.root(), 0, theirs | 0b11);
    table.map(PAGE, GIB, PAGE, DMA).unwrap();
    assert_eq!(translate(&mem, regime(&table), PAGE).unwrap().pa, GIB);
}

#[test]
fn losing_a_race_for_the_first_of_a_run_changes_nothing() {
    let mem = TestMem::new(Granule::K4);
    let rival = Rival::new(&mem);
    let table = PageTable::new(&rival, k4(30)).unwrap();
    table.map(0, 0, PAGE, DMA).unwrap();
    rival.strike(1, table.walk(0).end().unwrap().raw);
    let result = table.map(PAGE, PAGE, 16 * PAGE, DMA);
    assert_eq!(result, Err(MapError::Occupied { va: PAGE }));
    for page in 1..17 {
        let expected = (page == 1).then_some(0);
        let found = table.translate(page * PAGE).map(|(pa, ..)| pa);
        assert_eq!(found, expected, "page {page}");
    }
}

#[test]
fn losing_a_race_for_a_leaf_undoes_the_others() {
    let mem = TestMem::new(Granule::K4);
    let rival = Rival::new(&mem);
    let table = PageTable::new(&rival, k4(30)).unwrap();
    table.map(0, 0, PAGE, DMA).unwrap();
    table.map(4 * MIB - PAGE, 0, PAGE, DMA).unwrap();
    let theirs = table.walk(0).end().unwrap().raw;
    // Sixteen pages of two tables, lost at the fifth.
    let first = 512 - 8;
    rival.strike(5, theirs);
    let result = table.map(first * PAGE, PAGE, 16 * PAGE, DMA);
    let lost = first + 4;
    assert_eq!(result, Err(MapError::Occupied { va: lost * PAGE }));
    for page in first..first + 16 {
        let expected = (page == lost).then_some(0);
        let found = table.translate(page * PAGE).map(|(pa, ..)| pa);
        assert_eq!(found, expected, "page {page}");
        if page != lost {
            let seen = translate(&mem, regime(&table), page * PAGE);
            assert_eq!(seen, Err(Fault::Translation(3)));
        }
    }
}

#[test]
fn neighbours_that_fit_are_contiguous() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    // A page before and after what is aligned; blocks likewise.
    table
        .map(15 * PAGE, 15 * PAGE, 64 * KIB + 2 * PAGE, DMA)
        .unwrap();
    let probes = [15 * PAGE, 16 * PAGE, 31 * PAGE, 32 * PAGE];
    assert_eq!(kept_bits(&mem, &table, &probes), [12, 16, 16, 12]);
    table.map(30 * MIB, GIB + 30 * MIB, 36 * MIB, DMA).unwrap();
    let probes = [30 * MIB, 32 * MIB, 62 * MIB, 64 * MIB];
    assert_eq!(kept_bits(&mem, &table, &probes), [21, 25, 25, 21]);
    // One page less, and a target that is off by a page.
    table.map(GIB, 0, 15 * PAGE, DMA).unwrap();
    table.map(2 * GIB, PAGE, 64 * KIB, DMA).unwrap();
    assert_eq!(kept_bits(&mem, &table, &[GIB, 2 * GIB]), [12, 12]);
    let walk = table.walk(16 * PAGE);
    let counts: Vec<usize> = walk
        .steps()
        .map(|step| step.contiguous(&table.geometry()))
        .collect();
    assert_eq!(counts, [1, 1, 16]);
    // Bit 52, and nothing else that a page without it has not.
    let alone = table.walk(15 * PAGE).end().unwrap().raw;
    let first = walk.end().unwrap().raw;
    assert_eq!(first, (alone + PAGE) | 1 << 52);
}

#[test]
fn contiguous_leaves_go_together() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    for (start, size) in [(64 * KIB, PAGE), (GIB, 2 * MIB)] {
        let group = 16 * size;
        table.map(start, start, group, DMA).unwrap();
        let part = Err(MapError::PartOfBlock {
            va: start,
            size: group,
        });
        for (first, count) in [(0, 1), (0, 15), (1, 15), (7, 2), (15, 1)] {
            let va = start + first * size;
            assert_eq!(unmap(&table, va, count * size), part, "{first}+{count}");
        }
        assert_eq!(table.map(start + size, 0, size, DMA).err(), {
            let va = start + size;
            Some(MapError::Occupied { va })
        });
        let run = unmap(&table, start, group).unwrap();
        assert_eq!(run.len(), 1);
        assert_eq!((run[0].va, run[0].len, run[0].size), (start, group, size));
        let gone = |n| translate(&mem, regime(&table), start + n * size).is_err();
        assert!((0..16).all(gone));
    }
}

#[test]
fn a_table_among_blocks_keeps_them_apart() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    table.map(36 * MIB, 0, PAGE, DMA).unwrap();
    unmap(&table, 36 * MIB, PAGE).unwrap();
    table.map(32 * MIB, 0, 64 * MIB, DMA).unwrap();
    let probes = [32, 34, 36, 38, 62, 64].map(|mib| mib * MIB);
    // Pages in the table that is there are contiguous among themselves.
    let expected = [21, 21, 16, 21, 21, 25];
    assert_eq!(kept_bits(&mem, &table, &probes), expected);
}

#[test]
fn a_table_that_comes_among_contiguous_blocks_undoes_them() {
    let mem = TestMem::new(Granule::K4);
    let theirs = mem.alloc_table(PAGE).unwrap();
    mem.publish(theirs, 0, 512);
    let rival = Rival::new(&mem);
    let table = PageTable::new(&rival, k4(30)).unwrap();
    rival.ahead.set(5);
    rival.strike(3, theirs | 0b11);
    let result = table.map(0, 0, 32 * MIB, DMA);
    assert_eq!(result, Err(MapError::Occupied { va: 14 * MIB }));
    for block in 0..16 {
        let seen = translate(&mem, regime(&table), block * 2 * MIB);
        assert!(matches!(seen, Err(Fault::Translation(_))), "block {block}");
    }
}

#[test]
fn who_has_a_hint_takes_no_walk() {
    for granule in [Granule::K4, Granule::K16, Granule::K64] {
        let mem = TestMem::new(granule);
        let page = granule.size();
        let shape = Geometry { granule, ..k4(48) };
        let table = PageTable::new(&mem, shape).unwrap();
        // Addresses and tables with all their bits.
        let va = (1 << 48) - 8 * page;
        let pa = (1 << 44) - 8 * page;
        let hint = table.map_near(Hint::NONE, va, pa, page, DMA).unwrap();
        let bits = table.leaf_bits(DMA);
        mem.loads();
        for n in 1..6 {
            let at = va + n * page;
            assert!(table.map_one(hint, at, pa + n * page, page, bits));
            assert!(!table.map_one(hint, at, pa, page, bits), "it is taken");
            assert_eq!(mem.loads(), 2, "a map looks at the page");
            assert_eq!(table.translate(at), Some((pa + n * page, DMA, page)));
            mem.loads();
            assert_eq!(table.unmap_one(hint, at, page), Some(0));
            assert_eq!(mem.loads(), 1, "an unmap looks at the page");
            assert_eq!(table.unmap_one(hint, at, page), None);
            mem.loads();
        }
        // What is not one page there is left to the others.
        for (at, to, len) in [
            (va + page, pa, 2 * page),
            (va + page + 1, pa, page),
            (va + page, pa + 1, page),
            (va + page, 1 << 44, page),
            (va - (1 << 42), pa, page),
        ] {
            assert!(!table.map_one(hint, at, to, len, bits));
            assert_eq!(table.unmap_one(hint, at, len), None);
        }
        assert_eq!(table.unmap_one(Hint::NONE, va, page), None);
        assert_eq!(table.unmap_one(hint, va, page), Some(0));
    }
}

#[test]
fn one_of_several_is_not_taken_for_one_that_stands_alone() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    let hint = table.map_near(Hint::NONE, 0, 0, 64 * KIB, DMA).unwrap();
    assert_eq!(kept_bits(&mem, &table, &[0]), [16]);
    assert_eq!(table.unmap_one(hint, 0, PAGE), None);
    assert_eq!(table.unmap_near(hint, 0, 32 * KIB), None);
    assert_eq!(table.unmap_near(hint, PAGE, 64 * KIB), None);
    assert!(table.unmap_near(hint, 0, 64 * KIB).is_some());
    // Again by the hint, and with a part that fits.
    assert_eq!(table.map_near(hint, 0, 0, 64 * KIB, DMA), Ok(hint));
    assert_eq!(kept_bits(&mem, &table, &[0]), [16]);
    assert!(table.map_near(hint, MIB, MIB, 68 * KIB, DMA).is_ok());
    assert_eq!(kept_bits(&mem, &table, &[MIB, MIB + 64 * KIB]), [16, 12]);
    let blocks = table.map_near(Hint::NONE, GIB, GIB, 2 * MIB, DMA).unwrap();
    let bits = table.leaf_bits(DMA);
    assert_eq!(table.unmap_one(blocks, GIB, 2 * MIB), Some(1));
    assert!(table.map_one(blocks, GIB, 2 * GIB, 2 * MIB, bits));
    assert_eq!(table.translate(GIB), Some((2 * GIB, DMA, 2 * MIB)));
}

#[test]
fn tables_that_a_walker_may_still_use_are_given_up() {
    let mem = TestMem::new(Granule::K4);
    let mut table = PageTable::new(&mem, k4(48)).unwrap();
    table.map(GIB - PAGE, 0, 2 * PAGE, DMA).unwrap();
    let live = mem.live();
    table.abandon();
    drop(table);
    assert_eq!((mem.live(), mem.quarantined()), (0, live));
}

#[test]
fn a_leaf_that_comes_before_its_turn_is_no_table() {
    let mem = TestMem::new(Granule::K4);
    let rival = Rival::new(&mem);
    let table = PageTable::new(&rival, k4(30)).unwrap();
    table.map(0, 0, PAGE, DMA).unwrap();
    let theirs = table.walk(0).end().unwrap().raw;
    rival.ahead.set(2);
    rival.strike(3, theirs);
    let result = table.map(PAGE, PAGE, 8 * PAGE, DMA);
    assert_eq!(result, Err(MapError::Occupied { va: 5 * PAGE }));
    let mapped = |page: u64| table.translate(page * PAGE).is_some();
    assert_eq!((1..9).filter(|&page| mapped(page)).collect::<Vec<_>>(), [5]);
}

#[test]
fn a_hint_leads_to_where_it_was_and_nowhere_else() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(48)).unwrap();
    let map = |hint, va, pa, len| table.map_near(hint, va, pa, len, DMA);
    let hint = map(Hint::NONE, GIB, MIB + PAGE, 16 * PAGE).unwrap();
    assert_ne!(hint, Hint::NONE);
    // Over the same again, over part of it, over what is next to it in the table.
    let taken = |va| Err(MapError::Occupied { va });
    assert_eq!(map(hint, GIB, 0, 16 * PAGE), taken(GIB));
    assert_eq!(map(hint, GIB - PAGE, 0, 2 * PAGE), taken(GIB));
    assert_eq!(
        map(hint, GIB + 15 * PAGE, 0, 2 * PAGE),
        taken(GIB + 15 * PAGE)
    );
    assert_eq!(map(hint, GIB + 16 * PAGE, 0, PAGE), Ok(hint));
    // Elsewhere it is worth nothing, and what comes back is about elsewhere.
    let other = map(hint, 5 * GIB, 7 * PAGE, PAGE).unwrap();
    assert_ne!(other, hint);
    assert_eq!(table.translate(5 * GIB).unwrap().0, 7 * PAGE);
    // Beyond the table that it knows.
    assert!(map(hint, GIB + MIB, MIB, 2 * MIB).is_ok());
    assert_eq!(
        map(hint, GIB + 17 * PAGE, 1 << 44, PAGE),
        Err(MapError::OutputRange {
            pa: 1 << 44,
            len: PAGE,
            bits: 44
        })
    );
    assert_eq!(table.unmap_near(hint, 5 * GIB, PAGE), None);
    assert_eq!(table.unmap_near(hint, GIB - PAGE, PAGE), None);
    assert_eq!(table.unmap_near(hint, GIB, 18 * PAGE), None);
    assert!(table.translate(GIB).is_some());
    let leaves = table.unmap_near(hint, GIB, 17 * PAGE).unwrap();
    assert_eq!((leaves.va, leaves.len, leaves.size), (GIB, 17 * PAGE, PAGE));
    assert_eq!(table.unmap_near(hint, GIB, PAGE), None);
    assert_eq!(table.translate(GIB), None);
}

#[test]
fn a_hint_to_blocks_does_for_smaller_ones_too() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(48)).unwrap();
    let blocks = table.map_near(Hint::NONE, 0, 0, 2 * MIB, DMA).unwrap();
    assert_eq!(table.walk(0).end().unwrap().level, 2);
    unmap(&table, 0, 2 * MIB).unwrap();
    // This one has to be made of pages, in a table where the block was.
    let pages = table.map_near(blocks, 0, PAGE, 2 * MIB, DMA).unwrap();
    assert_ne!(pages, blocks);
    assert_eq!(table.walk(MIB).end().unwrap().level, 3);
    assert_eq!(table.unmap_near(blocks, 0, 2 * MIB), None);
    let leaves = table.unmap_near(pages, 0, 2 * MIB).unwrap();
    assert_eq!((leaves.len / leaves.size, leaves.level), (512, 3));
}

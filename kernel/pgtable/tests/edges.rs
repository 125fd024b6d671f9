//! One step to either side: where a run, a group or a table ends, and what is left
//! undone where nothing is to be done.

mod common;

use common::hardware::{Regime, translate};
use common::*;
use mastiff_pgtable::{Geometry, Granule, Hint, Leaves, MapError, PageTable, Stage, TableMem};

fn kept_bits(mem: &TestMem, table: &PageTable<&TestMem>, va: u64) -> u32 {
    let geometry = table.geometry();
    let regime = Regime {
        granule: geometry.granule.bits(),
        t0sz: 64 - geometry.input_bits,
        output_bits: geometry.output_bits,
        ttb: table.root(),
    };
    translate(mem, regime, va).unwrap().kept_bits
}

/// Memory in which nobody is to store a descriptor.
struct Sealed<'a>(&'a TestMem);

impl TableMem for Sealed<'_> {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        self.0.alloc_table(bytes)
    }
    fn free_table(&self, pa: u64, bytes: u64) {
        self.0.free_table(pa, bytes);
    }
    fn quarantine_table(&self, pa: u64, bytes: u64) {
        self.0.quarantine_table(pa, bytes);
    }
    fn load(&self, pa: u64, index: usize) -> u64 {
        self.0.load(pa, index)
    }
    fn store(&self, _: u64, index: usize, _: u64) {
        panic!("a store to {index}");
    }
    fn compare_exchange(&self, _: u64, index: usize, _: u64, _: u64) -> Result<u64, u64> {
        panic!("an exchange at {index}");
    }
    fn publish(&self, pa: u64, index: usize, count: usize) {
        self.0.publish(pa, index, count);
    }
}

#[test]
fn a_run_that_is_seen_to_be_taken_is_not_begun() {
    let mem = TestMem::new(Granule::K4);
    let table = mem.alloc_table(PAGE).unwrap();
    mem.store(table, 7, 0x8000_0003);
    for (index, count) in [(0, 8), (6, 2), (7, 2), (1, 20)] {
        let put = Sealed(&mem).fill(table, index, count, 0x10_0003, PAGE);
        assert!(!put, "{index} {count}");
    }
}

#[test]
fn another_s_page_in_the_midst_of_two_tables_is_not_taken_for_a_table() {
    let mem = TestMem::new(Granule::K4);
    let rival = Rival::new(&mem);
    let table = PageTable::new(&rival, k4(39)).unwrap();
    let first = 2 * MIB - 4 * PAGE;
    // Both tables are there, and this is what a page looks like.
    table.map(first, GIB + first, 8 * PAGE, DMA).unwrap();
    let page = table.walk(first).end().unwrap().raw;
    unmap(&table, first, 8 * PAGE).unwrap();
    // It comes when the first of the range is put, and everything was seen to be free.
    rival.ahead.set(1);
    rival.strike(1, page);
    let result = table.map(first, GIB + first, 8 * PAGE, DMA);
    let va = first + PAGE;
    assert_eq!(result, Err(MapError::Occupied { va }));
    for page in 0..8 {
        let found = table.translate(first + page * PAGE).map(|(pa, ..)| pa);
        assert_eq!(found, (page == 1).then_some(GIB + first));
    }
}

#[test]
fn a_table_behind_a_group_is_filled() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    // Sixteen blocks go together; where the next would be there is a table.
    table.map(32 * MIB, 0, PAGE, DMA).unwrap();
    unmap(&table, 32 * MIB, PAGE).unwrap();
    table.map(0, GIB, 34 * MIB, DMA).unwrap();
    assert_eq!(kept_bits(&mem, &table, 0), 25);
    assert_eq!(kept_bits(&mem, &table, 32 * MIB - 1), 25);
    assert_eq!(kept_bits(&mem, &table, 32 * MIB), 16);
    assert_eq!(table.translate(34 * MIB - 1).unwrap().0, GIB + 34 * MIB - 1);
}

#[test]
fn a_hint_s_leaves_are_told_with_their_level() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    for (va, size, level) in [(0, PAGE, 3), (GIB, 2 * MIB, 2)] {
        let hint = table.map_near(Hint::NONE, va, va, size, DMA).unwrap();
        let leaves = Leaves {
            va,
            len: size,
            size,
            level,
        };
        assert_eq!(table.unmap_near(hint, va, size), Some(leaves));
    }
}

#[test]
fn unmapping_where_nothing_is_takes_no_memory() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(48)).unwrap();
    table.map(0, 0, PAGE, DMA).unwrap();
    let live = mem.live();
    for va in [PAGE, 2 * MIB, GIB, 600 * GIB] {
        let hole = MapError::NotMapped { va };
        assert_eq!(unmap(&table, va, PAGE), Err(hole));
    }
    assert_eq!(mem.live(), live);
}

#[test]
fn without_groups_no_leaf_says_that_it_is_of_one() {
    let mem = TestMem::new(Granule::K4);
    let shape = Geometry {
        blocks: false,
        ..k4(39)
    };
    let table = PageTable::new(&mem, shape).unwrap();
    for len in [PAGE, 16 * PAGE, 64 * PAGE] {
        table.map(0, 0, len, DMA).unwrap();
        assert_eq!(kept_bits(&mem, &table, 0), 12);
        unmap(&table, 0, len).unwrap();
    }
}

#[test]
fn a_walk_says_how_many_go_together() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    table.map(0, 0, 17 * PAGE, DMA).unwrap();
    table.map(GIB, GIB, 2 * MIB, DMA).unwrap();
    let geometry = table.geometry();
    let together = |va| table.walk(va).end().unwrap().contiguous(&geometry);
    let [of_a_group, alone, block, none] = [5 * PAGE, 16 * PAGE, GIB, 2 * GIB].map(together);
    assert_eq!([of_a_group, alone, block, none], [16, 1, 1, 1]);
    let above: Vec<_> = table
        .walk(0)
        .steps()
        .map(|s| s.contiguous(&geometry))
        .collect();
    assert_eq!(above, [1, 1, 16]);
}

#[test]
fn a_stage_2_reaches_no_further_than_one_table_where_it_starts() {
    let reach = |granule, output_bits| {
        let shape = Geometry {
            stage: Stage::Two,
            granule,
            output_bits,
            ..k4(39)
        };
        shape.most_input_bits()
    };
    // DDI 0487 §D8.2, VTCR_EL2.SL0.
    for (granule, most) in [
        (Granule::K4, [32, 39, 39, 39, 39, 44, 48]),
        (Granule::K16, [32, 36, 36, 42, 43, 44, 47]),
        (Granule::K64, [32, 40, 41, 42, 42, 44, 48]),
    ] {
        let sizes = [32, 40, 41, 42, 43, 44, 48];
        assert_eq!(sizes.map(|output| reach(granule, output)), most);
    }
}

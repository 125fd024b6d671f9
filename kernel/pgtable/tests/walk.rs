//! `walk`: each level's table, index and descriptor, decoded, as they are in
//! memory.

mod common;

use common::*;
use mastiff_pgtable::{Entry, Granule, PageTable, TableMem};

fn levels(table: &PageTable<&TestMem>, va: u64) -> Vec<u8> {
    table.walk(va).steps().map(|step| step.level).collect()
}

#[test]
fn every_level_is_there_as_in_memory() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(48)).unwrap();
    let va = 3 << 39 | 5 << 30 | 7 << 21 | 9 << 12;
    table.map(va, 0x1234_5000, PAGE, DMA).unwrap();
    let walk = table.walk(va | 0xabc);
    let steps: Vec<_> = walk.steps().collect();
    assert_eq!(levels(&table, va), [0, 1, 2, 3]);
    assert_eq!(steps[0].table, table.root());
    let mut expected = table.root();
    for (step, index) in steps.iter().zip([3, 5, 7, 9]) {
        assert_eq!((step.table, step.index), (expected, index));
        assert_eq!(step.raw, mem.load(step.table, step.index));
        if let Entry::Table { pa } = step.entry {
            expected = pa;
        }
    }
    let leaf = walk.end().unwrap();
    assert_eq!(leaf.raw, 0x0060_0000_1234_5f43);
    assert_eq!(
        leaf.entry,
        Entry::Page {
            pa: 0x1234_5000,
            attrs: Some(DMA)
        }
    );
}

#[test]
fn a_walk_ends_where_hardware_faults() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    table.map(2 * MIB, 2 * MIB, 2 * MIB, DMA).unwrap();
    table.map(4 * MIB, 0, PAGE, DMA).unwrap();
    assert_eq!(levels(&table, 0), [1, 2]);
    assert_eq!(levels(&table, GIB), [1]);
    assert_eq!(levels(&table, 4 * MIB + PAGE), [1, 2, 3]);
    assert_eq!(table.walk(GIB).end().unwrap().entry, Entry::Invalid);
    let block = table.walk(3 * MIB);
    assert_eq!(
        block.end().unwrap().entry,
        Entry::Block {
            pa: 2 * MIB,
            attrs: Some(DMA)
        }
    );
}

#[test]
fn beyond_the_input_space_there_is_nothing_to_walk() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    for va in [1 << 39, u64::MAX] {
        assert_eq!(table.walk(va).steps().count(), 0);
        assert!(table.walk(va).end().is_none());
        assert_eq!(table.translate(va), None);
    }
}

#[test]
fn reserved_encodings_are_invalid_and_foreign_attributes_unknown() {
    let shape = k4(48);
    // 0b01 is reserved at level 3, and with 4 KiB at level 0.
    assert_eq!(Entry::decode(&shape, 3, 0b01), Entry::Invalid);
    assert_eq!(Entry::decode(&shape, 0, 0b01), Entry::Invalid);
    assert_eq!(Entry::decode(&shape, 2, 0b10), Entry::Invalid);
    assert_eq!(
        Entry::decode(&shape, 2, 0x20_0000 | 0b01),
        Entry::Block {
            pa: 0x20_0000,
            attrs: None
        }
    );
    let k64 = mastiff_pgtable::Geometry {
        granule: Granule::K64,
        ..shape
    };
    assert_eq!(Entry::decode(&k64, 1, 0b01), Entry::Invalid);
    // One that we would not make is a block to hardware nevertheless.
    let pages = mastiff_pgtable::Geometry {
        blocks: false,
        ..shape
    };
    assert!(matches!(
        Entry::decode(&pages, 2, 0x20_0000 | 0b01),
        Entry::Block { pa: 0x20_0000, .. }
    ));
}

#[test]
fn translate_gives_the_bytes_address_and_its_leaf() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    table.map(GIB, 4 * GIB, GIB, DMA).unwrap();
    table.map(PAGE, 7 * PAGE, PAGE, DMA).unwrap();
    let far = GIB + 0x1234_5678;
    assert_eq!(
        table.translate(far),
        Some((4 * GIB + 0x1234_5678, DMA, GIB))
    );
    assert_eq!(table.translate(PAGE + 1), Some((7 * PAGE + 1, DMA, PAGE)));
}

#[test]
fn nothing_is_around_an_address_where_nothing_is() {
    let mem = TestMem::new(Granule::K4);
    let table = PageTable::new(&mem, k4(39)).unwrap();
    assert_eq!(table.around(0), [None, None]);
    let end = 1 << 39;
    table.map(end - PAGE, 0, PAGE, DMA).unwrap();
    let page = end - PAGE..end;
    assert_eq!(table.around(0), [None, Some(page.clone())]);
    assert_eq!(table.around(end - PAGE - 1), [None, Some(page.clone())]);
    for inside_or_beyond in [end - PAGE, end - 1, end, u64::MAX] {
        assert_eq!(table.around(inside_or_beyond), [Some(page.clone()), None]);
    }
}

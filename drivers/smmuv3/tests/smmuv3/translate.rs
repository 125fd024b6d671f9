//! Mapping, unmapping, and what a master reaches.

use std::collections::BTreeMap;

use mastiff_core::addr::{Iova, PAGE, PhysAddr, StreamId};
use mastiff_core::dma::ToDevice;
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Hint, Permission};
use mastiff_core::platform::{PageRequest, Pages, Platform};
use mastiff_testkit::bus::BusError;
use mastiff_testkit::smmu::Features;
use proptest::prelude::*;

use crate::bench::{Bench, map, map_at, with_capability};

const STREAM: u32 = 8;
const ABORTED: Result<u8, BusError> = Err(BusError::Aborted);

#[test]
fn a_master_reaches_what_is_mapped_and_nothing_else() {
    let bench = Bench::virt();
    let domain = bench.attached(STREAM);
    let pages = bench.pages(2, 0x40);
    map(&domain, 0x7000, &pages);
    assert_eq!(bench.read(STREAM, 0x7000), Ok(0x40));
    assert_eq!(bench.read(STREAM, 0x8fff), Ok(0x41));
    assert_eq!(bench.read(STREAM, 0x6fff), ABORTED);
    assert_eq!(bench.read(STREAM, 0x9000), ABORTED);
    assert_eq!(bench.read(STREAM, pages.pa().0), ABORTED);
    assert_eq!(bench.read(STREAM, 1 << 48 | 0x7000), ABORTED);
    bench.write(STREAM, 0x8000, 0x99).unwrap();
    assert_eq!(pages.load32(0x1000), 0x4141_4199);
    assert_eq!(bench.read(9, 0x7000), ABORTED, "another stream");
}

#[test]
fn after_an_unmap_it_reaches_it_no_more() {
    let bench = Bench::virt();
    let domain = bench.attached(STREAM);
    let pages = bench.pages(1, 1);
    map(&domain, 0x5000, &pages);
    assert_eq!(bench.read(STREAM, 0x5000), Ok(1));
    let before = bench.consumed();
    domain.unmap(Iova(0x5000), PAGE).unwrap();
    let after = bench.consumed();
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (2, 1),
        "one invalidation, one sync"
    );
    assert_eq!(bench.read(STREAM, 0x5000), ABORTED);
    // The address again, for other memory.
    let others = bench.pages(1, 2);
    map(&domain, 0x5000, &others);
    assert_eq!(bench.consumed(), after, "a mapping needs no command");
    assert_eq!(bench.read(STREAM, 0x5000), Ok(2));
}

#[test]
fn rights_are_kept() {
    let bench = Bench::virt();
    let domain = bench.attached(STREAM);
    let pages = bench.pages(1, 1);
    domain
        .map(Iova(0), pages.pa(), PAGE, Permission::Read)
        .unwrap();
    assert_eq!(bench.read(STREAM, 0), Ok(1));
    assert_eq!(bench.write(STREAM, 0, 2), Err(BusError::Aborted));
    domain
        .map(Iova(PAGE), pages.pa(), PAGE, Permission::Doorbell)
        .unwrap();
    bench.write(STREAM, PAGE, 2).unwrap();
    assert_eq!(bench.read(STREAM, 0), Ok(2));
    let walk = domain.walk(Iova(PAGE));
    let meanings: Vec<&str> = walk.iter().map(|step| &*step.meaning).collect();
    assert_eq!(walk.len(), 4);
    assert!(meanings[0].starts_with("table at"), "{meanings:?}");
    assert!(meanings[3].ends_with("ReadWrite, Device"), "{meanings:?}");
    let attributes = |level: usize| {
        let all = walk[level].attributes.iter();
        let all = all.map(|(name, value)| format!("{name} {value}"));
        all.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(attributes(0), "PXNTable 0, UXNTable 0, APTable 0");
    assert_eq!(
        attributes(3),
        "AttrIndx 2, AP 1, SH 3, AF 1, nG 1, Contiguous 0, PXN 1, UXN 1"
    );
    assert_eq!(
        &*domain.walk(Iova(1 << 40)).last().unwrap().meaning,
        "invalid: faults"
    );
}

#[test]
fn many_pages_go_with_few_commands() {
    let few = |features: Features, pages: u64| {
        let bench = Bench::new(features);
        let domain = bench.attached(STREAM);
        let memory = bench.pages(pages, 0);
        // Pages, not blocks: the address is off by one page.
        map(&domain, 0x1000, &memory);
        for page in 0..pages {
            assert_eq!(bench.read(STREAM, 0x1000 + page * PAGE), Ok(page as u8));
        }
        let before = bench.consumed();
        domain.unmap(Iova(0x1000), pages * PAGE).unwrap();
        let after = bench.consumed();
        for page in 0..pages {
            assert_eq!(
                bench.read(STREAM, 0x1000 + page * PAGE),
                ABORTED,
                "page {page}"
            );
        }
        (after.0 - before.0, after.1 - before.1)
    };
    let by_page = Features {
        ranges: false,
        ..Features::virt()
    };
    assert_eq!(few(Features::virt(), 700), (3, 1), "700 = 21 * 2^5 + 28");
    assert_eq!(few(by_page.clone(), 64), (65, 1));
    assert_eq!(few(by_page, 65), (2, 1), "all of the ASID");
    // A queue of 16 entries takes 40 commands as well.
    assert_eq!(
        few(
            Features {
                coherent: true,
                ..Features::small()
            },
            40
        ),
        (41, 1)
    );
}

#[test]
fn loans_of_pages_come_and_go_with_and_without_coherency() {
    for coherent in [true, false] {
        let (bench, dma) = with_capability(Features {
            coherent,
            ..Features::virt()
        });
        // More than the command queue has places, so that each is stored over.
        let mut pages = dma.pages(PAGE).unwrap();
        for _ in 0..600 {
            let lent = dma.lend::<ToDevice>(pages).map_err(|failure| failure.fault);
            let lent = lent.unwrap();
            let at = lent.iova().0;
            assert!(bench.read(STREAM, at).is_ok());
            pages = lent.unmap().unwrap();
            assert_eq!(bench.read(STREAM, at), ABORTED, "coherent: {coherent}");
        }
    }
}

#[test]
fn walks_say_what_each_descriptor_means() {
    let bench = Bench::virt();
    let domain = bench.attached(STREAM);
    for (page, access) in [
        (0, Permission::ReadWrite),
        (1, Permission::Read),
        (2, Permission::Doorbell),
    ] {
        let pa = PhysAddr(0x4000_0000 + page * PAGE);
        domain.map(Iova(page * PAGE), pa, PAGE, access).unwrap();
    }
    map_at(&domain, 0x1_0000, 0x4001_0000, 16 * PAGE).unwrap();
    map_at(&domain, 2 << 20, 0x4020_0000, 2 << 20).unwrap();
    let meaning = |iova| domain.walk(Iova(iova)).last().unwrap().meaning.clone();
    let said = [0, PAGE, 2 * PAGE, 3 * PAGE, 0x1_2000, 2 << 20].map(meaning);
    let expected = [
        "page at 0x40000000, ReadWrite, Normal",
        "page at 0x40001000, ReadOnly, Normal",
        "page at 0x40002000, ReadWrite, Device",
        "invalid: faults",
        "page at 0x40012000, ReadWrite, Normal, one of 16 contiguous",
        "block at 0x40200000, ReadWrite, Normal",
    ];
    assert_eq!(said.each_ref().map(|said| &**said), expected);
    let tables: Vec<_> = domain.walk(Iova(0)).iter().map(|step| step.table).collect();
    let above: Vec<_> = domain
        .walk(Iova(0))
        .iter()
        .map(|s| s.meaning.clone())
        .collect();
    for (meaning, next) in above.iter().zip(&tables[1..]) {
        assert_eq!(**meaning, format!("table at {next}"));
    }
}

#[test]
fn a_list_of_nothing_is_unmapped() {
    let bench = Bench::virt();
    let domain = bench.attached(STREAM);
    let before = bench.consumed();
    assert_eq!(domain.unmap_list(Hint::default(), Iova(0), 0, PAGE), Ok(()));
    assert_eq!(bench.consumed(), before);
}

#[test]
fn loans_of_any_length_are_taken_back_whole() {
    for ranges in [true, false] {
        let (bench, dma) = with_capability(Features {
            ranges,
            ..Features::virt()
        });
        for count in [1, 2, 31, 32, 33, 64, 65, 100] {
            // What is known of the address when it comes again is another way.
            let mut pages = dma.pages(count * PAGE).unwrap();
            for _ in 0..3 {
                let lent = dma.lend::<ToDevice>(pages).map_err(|failure| failure.fault);
                let lent = lent.unwrap();
                let at = lent.iova().0;
                for page in 0..count {
                    assert!(bench.read(STREAM, at + page * PAGE).is_ok());
                }
                pages = lent.unmap().unwrap();
                for page in 0..count {
                    assert_eq!(bench.read(STREAM, at + page * PAGE), ABORTED, "{count}");
                }
            }
        }
    }
}

#[test]
fn nor_does_a_run_behind_too_many_pages_make_them_more() {
    let bench = Bench::new(Features {
        ranges: false,
        ..Features::virt()
    });
    let domain = bench.attached(STREAM);
    let request = PageRequest::new(2 << 20).align(2 << 20);
    let block = bench.sim.alloc_pages(request).unwrap();
    map(&domain, 0x20_0000, &block);
    let pages = bench.pages(65, 0);
    let first = 0x20_0000 - 65 * PAGE;
    map(&domain, first, &pages);
    for at in [first, 0x1f_f000, 0x20_0000] {
        assert!(bench.read(STREAM, at).is_ok());
    }
    let before = bench.consumed();
    domain.unmap(Iova(first), 65 * PAGE + (2 << 20)).unwrap();
    let after = bench.consumed();
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 1));
    for at in [first, 0x1f_f000, 0x20_0000] {
        assert_eq!(bench.read(STREAM, at), ABORTED);
    }
}

#[test]
fn blocks_are_invalidated_at_their_level() {
    for ranges in [true, false] {
        let bench = Bench::new(Features {
            ranges,
            ..Features::virt()
        });
        let domain = bench.attached(STREAM);
        let request = PageRequest::new(6 << 20).align(2 << 20);
        let memory = bench.sim.alloc_pages(request).unwrap();
        // Three blocks and 16 pages.
        map(&domain, 0x20_0000, &memory);
        let extra = bench.pages(16, 3);
        map(&domain, 0x80_0000, &extra);
        for at in [0x20_0000, 0x3f_ffff, 0x40_0000, 0x7f_ffff, 0x80_f000] {
            bench.read(STREAM, at).unwrap();
        }
        assert_eq!(domain.walk(Iova(0x20_0000)).len(), 3, "a block");
        let part = domain.unmap(Iova(0x20_0000), PAGE);
        assert!(matches!(part, Err(Fault::BadRange { .. })), "{part:?}");
        let before = bench.consumed();
        domain
            .unmap(Iova(0x20_0000), (6 << 20) + 16 * PAGE)
            .unwrap();
        let commands = bench.consumed().0 - before.0;
        assert_eq!(commands, if ranges { 3 } else { 20 });
        for at in [0x20_0000, 0x3f_ffff, 0x40_0000, 0x7f_ffff, 0x80_f000] {
            assert_eq!(bench.read(STREAM, at), ABORTED, "{at:#x}");
        }
    }
}

#[test]
fn contiguous_pages_go_together_and_each_is_invalidated() {
    for (features, commands) in [
        (Features::virt(), 2),
        (Features::stage2_only(), 2),
        (
            Features {
                ranges: false,
                ..Features::virt()
            },
            17,
        ),
        (
            Features {
                coherent: false,
                ..Features::virt()
            },
            2,
        ),
    ] {
        let bench = Bench::new(features);
        let domain = bench.attached(STREAM);
        let (at, len) = (0x1_0000, 16 * PAGE);
        let request = PageRequest::new(len).align(len);
        let memory = bench.sim.alloc_pages(request).unwrap();
        memory.fill(0, memory.len(), 7);
        memory.clean(0, memory.len());
        bench.sim.barrier(mastiff_core::platform::Barrier::Publish);
        for round in 0..2 {
            map(&domain, at, &memory);
            let walk = domain.walk(Iova(at + 5 * PAGE));
            let meaning = &walk.last().unwrap().meaning;
            assert!(meaning.ends_with("one of 16 contiguous"), "{meaning}");
            for page in 0..16 {
                assert_eq!(bench.read(STREAM, at + page * PAGE), Ok(7));
            }
            let before = bench.consumed().0;
            for (first, count) in [(0, 1), (3, 1), (0, 15), (1, 15)] {
                let part = domain.unmap(Iova(at + first * PAGE), count * PAGE);
                assert!(matches!(part, Err(Fault::BadRange { .. })), "{part:?}");
            }
            assert_eq!(bench.read(STREAM, at + 3 * PAGE), Ok(7));
            domain.unmap(Iova(at), len).unwrap();
            assert_eq!(bench.consumed().0 - before, commands);
            for page in 0..16 {
                let gone = bench.read(STREAM, at + page * PAGE);
                assert_eq!(gone, ABORTED, "round {round}, page {page}");
            }
        }
    }
}

#[test]
fn refusals_say_where() {
    let bench = Bench::virt();
    let domain = bench.attached(STREAM);
    let pages = bench.pages(1, 1);
    map(&domain, 0x5000, &pages);
    let taken = map_at(&domain, 0x4000, 0x4000_0000, 2 * PAGE);
    assert_eq!(taken, Err(Fault::AlreadyMapped { iova: Iova(0x5000) }));
    assert_eq!(bench.read(STREAM, 0x4000), ABORTED, "half a mapping");
    let unknown = domain.unmap(Iova(0x5000), 2 * PAGE);
    assert_eq!(unknown, Err(Fault::NotMapped { iova: Iova(0x6000) }));
    assert_eq!(bench.read(STREAM, 0x5000), Ok(1), "half an unmapping");
    let bad = [
        map_at(&domain, 0x8000, 0x4000_0000, 0),
        map_at(&domain, 0x8001, 0x4000_0000, PAGE),
        map_at(&domain, 0x8000, 0x4000_0000, PAGE + 1),
        map_at(&domain, 1 << 48, 0x4000_0000, PAGE),
        map_at(&domain, u64::MAX - 4095, 0x4000_0000, PAGE),
        map_at(&domain, 0x8000, 1 << 44, PAGE),
        map_at(&domain, 0x8000, (1 << 44) - PAGE, 2 * PAGE),
    ];
    for result in bad {
        assert!(matches!(result, Err(Fault::BadRange { .. })), "{result:?}");
    }
}

#[test]
fn identity_passes_addresses_and_is_taken_back() {
    let bench = Bench::virt();
    let identity = bench.iommu().identity_domain().unwrap();
    let pages = bench.pages(1, 7);
    let pa = pages.pa();
    identity.attach(StreamId(STREAM)).unwrap();
    assert_eq!(bench.read(STREAM, pa.0), Ok(7));
    assert_eq!(identity.map(Iova(pa.0), pa, PAGE, Permission::Read), Ok(()));
    let other = identity.map(Iova(0), pa, PAGE, Permission::Read);
    assert!(matches!(other, Err(Fault::BadRange { .. })));
    assert_eq!(identity.unmap(Iova(pa.0), PAGE), Ok(()));
    assert_eq!((identity.tag(), identity.walk(Iova(pa.0)).len()), (None, 0));
    assert_eq!(
        bench.iommu().describe(StreamId(STREAM)).unwrap().config,
        "bypass"
    );
    bench.iommu().block(StreamId(STREAM)).unwrap();
    assert_eq!(bench.read(STREAM, pa.0), ABORTED);
}

#[test]
fn tables_run_out_without_a_trace() {
    let bench = Bench::virt();
    let domain = bench.attached(STREAM);
    let pages = bench.pages(1, 1);
    for n in 0..3 {
        bench
            .sim
            .inject()
            .fail(mastiff_testkit::inject::Step::Table, n);
        let iova = u64::from(n + 1) << 39;
        let fault = map_at(&domain, iova, pages.pa().0, PAGE).unwrap_err();
        assert!(
            matches!(fault, Fault::OutOfMemory { bytes: 4096, .. }),
            "{fault:?}"
        );
        assert_eq!(bench.read(STREAM, iova), ABORTED);
        map(&domain, iova, &pages);
        assert_eq!(bench.read(STREAM, iova), Ok(1));
    }
}

#[derive(Clone, Debug)]
enum Do {
    Map { slot: u8, len: u8, page: u8 },
    Unmap(u8),
    Touch(u8),
}

fn script() -> impl Strategy<Value = Vec<Do>> {
    let step = prop_oneof![
        (0..24u8, 1..6u8, 0..16u8).prop_map(|(slot, len, page)| Do::Map { slot, len, page }),
        (0..24u8).prop_map(Do::Unmap),
        (0..24u8).prop_map(Do::Touch),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is mapped, unmapped and touched in whatever order: each page of the
    /// address space leads where a plain map of pages says, and nowhere else.
    #[test]
    fn it_agrees_with_a_plain_map(
        script in script(),
        ranges: bool,
        coherent: bool,
        stage1: bool,
    ) {
        let bench = Bench::new(Features { ranges, coherent, stage1, ..Features::virt() });
        let domain = bench.attached(STREAM);
        let memory = bench.pages(24, 0);
        let mut mapped: BTreeMap<u8, u8> = BTreeMap::new();
        let mut runs: Vec<(u8, u8)> = Vec::new();
        // Around the end of a last-level table.
        let iova = |slot: u8| 0x1f_8000 + u64::from(slot) * PAGE;
        for step in script {
            match step {
                Do::Map { slot, len, page } => {
                    let pa = PhysAddr(memory.pa().0 + u64::from(page) * PAGE);
                    let size = u64::from(len) * PAGE;
                    let result = domain.map(Iova(iova(slot)), pa, size, Permission::ReadWrite);
                    let free = (slot..slot + len).all(|slot| !mapped.contains_key(&slot));
                    prop_assert_eq!(result.is_ok(), free);
                    if free {
                        mapped.extend((0..len).map(|i| (slot + i, page + i)));
                        runs.push((slot, len));
                    }
                }
                Do::Unmap(slot) => {
                    let Some(at) = runs.iter().position(|run| run.0 == slot) else {
                        prop_assert_eq!(domain.unmap(Iova(iova(slot)), PAGE).is_ok(), mapped.contains_key(&slot));
                        mapped.remove(&slot);
                        runs.retain(|&(first, len)| !(first..first + len).contains(&slot));
                        continue;
                    };
                    let (slot, len) = runs.remove(at);
                    let size = u64::from(len) * PAGE;
                    prop_assert_eq!(domain.unmap(Iova(iova(slot)), size), Ok(()));
                    mapped.retain(|key, _| !(slot..slot + len).contains(key));
                }
                Do::Touch(slot) => {
                    let expected = mapped.get(&slot).copied().ok_or(BusError::Aborted);
                    prop_assert_eq!(bench.read(STREAM, iova(slot)), expected);
                }
            }
        }
        for slot in 0..30 {
            let expected = mapped.get(&slot).copied().ok_or(BusError::Aborted);
            prop_assert_eq!(bench.read(STREAM, iova(slot)), expected, "slot {}", slot);
        }
    }
}

//! Domains, endpoints and mappings: what reaches memory and what does not.

use std::collections::BTreeMap;

use mastiff_core::addr::{Iova, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Permission, Tag};
use mastiff_testkit::bus::BusError;
use proptest::prelude::*;

use crate::bench::{Bench, STREAM};
use crate::model::Kind;

const OTHER: StreamId = StreamId(0x200);

fn flags(bench: &Bench) -> Vec<u32> {
    bench.tables(|tables| {
        let domain = &tables.domains[&tables.endpoints[&STREAM.0]];
        domain.mappings.values().map(|mapping| mapping.2).collect()
    })
}

#[test]
fn mapped_memory_is_reached_and_nothing_else() {
    let bench = Bench::new();
    let domain = bench.attached();
    bench.map(&domain, 0x5000);
    assert_eq!(bench.write(STREAM, 0x5ff8), Ok(()));
    assert_eq!(bench.read(STREAM, 0x5000), Ok(()));
    for beyond in [0x4ff8, 0x6000] {
        assert_eq!(bench.read(STREAM, beyond), Err(BusError::Aborted));
    }
    domain.unmap(Iova(0x5000), 0x1000).unwrap();
    assert_eq!(bench.read(STREAM, 0x5000), Err(BusError::Aborted));
    bench.check_all_served();
}

#[test]
fn permissions_become_flags() {
    let bench = Bench::new();
    let domain = bench.attached();
    let all = [
        Permission::Read,
        Permission::ReadWrite,
        Permission::Doorbell,
    ];
    for (iova, access) in (1..).zip(all) {
        let pa = bench.page();
        domain.map(Iova(iova << 12), pa, 0x1000, access).unwrap();
    }
    assert_eq!(flags(&bench), [1, 3, 7]);
    assert_eq!(bench.read(STREAM, 0x1000), Ok(()));
    assert_eq!(bench.write(STREAM, 0x1000), Err(BusError::Aborted));

    let bench = Bench::prepared(|model| model.offered &= !crate::model::MMIO);
    let domain = bench.attached();
    let frame = PhysAddr(0x802_0000);
    domain
        .map(Iova(0x1000), frame, 0x1000, Permission::Doorbell)
        .unwrap();
    assert_eq!(flags(&bench), [3], "the flag is not there");
}

#[test]
fn what_cannot_be_is_not_asked_for() {
    let bench = Bench::prepared(|model| model.input = (0x2000, 0xffff_ffff));
    let domain = bench.attached();
    bench.map(&domain, 0x8000);
    let pa = bench.page();
    let map = |iova, len| domain.map(Iova(iova), pa, len, Permission::Read);
    let taken = Err(Fault::AlreadyMapped { iova: Iova(0x8000) });
    assert_eq!(map(0x8000, 0x1000), taken);
    assert_eq!(map(0x7000, 0x4000), taken);
    for (iova, len) in [
        (0x1000, 0x1000),
        (0x1_0000_0000, 0x1000),
        (0xffff_f000, 0x2000),
        (0x9800, 0x1000),
        (0x9000, 0x800),
        (0x9000, 0),
        (u64::MAX - 0xfff, 0x2000),
    ] {
        let refused = map(iova, len);
        assert!(matches!(refused, Err(Fault::BadRange { .. })), "{iova:#x}");
    }
    let far = PhysAddr(u64::MAX - 0xfff);
    let refused = domain.map(Iova(0x9000), far, 0x2000, Permission::Read);
    assert!(matches!(refused, Err(Fault::BadRange { .. })));
    for (iova, len) in [
        (0x9000, 0x1000),
        (0x8000, 0x2000),
        (0x7000, 0x2000),
        (0x8000, 0),
    ] {
        let refused = domain.unmap(Iova(iova), len);
        assert_eq!(refused, Err(Fault::NotMapped { iova: Iova(iova) }));
    }
    assert_eq!(bench.read(STREAM, 0x8000), Ok(()));
    bench.check_all_served();
}

#[test]
fn a_domain_lives_on_the_device_from_its_first_endpoint_to_its_last() {
    let bench = Bench::new();
    let domain = bench.domain();
    let pages = 40;
    for page in 1..=pages {
        bench.map(&domain, page << 12);
    }
    let (maps, before) = (bench.count(Kind::Map), bench.look(|model| model.notified));
    domain.attach(STREAM).unwrap();
    assert_eq!(bench.count(Kind::Map) - maps, pages as usize);
    let notified = bench.look(|model| model.notified) - before;
    assert_eq!(
        notified,
        1 + 1 + 3,
        "PROBE, ATTACH, and 16 mappings at a time"
    );
    domain.attach(OTHER).unwrap();
    assert_eq!(
        bench.count(Kind::Map) - maps,
        pages as usize,
        "the device knows"
    );
    for stream in [STREAM, OTHER] {
        assert_eq!(bench.read(stream, pages << 12), Ok(()));
        bench.iommu().block(stream).unwrap();
        assert_eq!(bench.read(stream, pages << 12), Err(BusError::Aborted));
    }
    domain.unmap(Iova(0x1000), 0x1000).unwrap();
    assert_eq!(
        bench.count(Kind::Unmap),
        0,
        "the device has nothing to unmap"
    );
    domain.attach(STREAM).unwrap();
    assert_eq!(bench.read(STREAM, 0x2000), Ok(()));
    assert_eq!(bench.read(STREAM, 0x1000), Err(BusError::Aborted));
    bench.check_all_served();
}

#[test]
fn an_endpoint_moves() {
    let bench = Bench::new();
    let (first, second) = (bench.attached(), bench.domain());
    bench.map(&first, 0x1000);
    bench.map(&second, 0x2000);
    second.attach(STREAM).unwrap();
    assert_eq!(bench.read(STREAM, 0x1000), Err(BusError::Aborted));
    assert_eq!(bench.read(STREAM, 0x2000), Ok(()));
    first.attach(STREAM).unwrap();
    assert_eq!(bench.read(STREAM, 0x1000), Ok(()));
    let attaches = bench.count(Kind::Attach);
    first.attach(STREAM).unwrap();
    assert_eq!(bench.count(Kind::Attach), attaches, "it is there already");
    assert_eq!(bench.iommu().live_streams().len(), 2, "it and edu's");
    bench.check_all_served();
}

#[test]
fn an_identity_domain() {
    let bench = Bench::new();
    let domain = bench.iommu().identity_domain().unwrap();
    let pa = bench.page();
    domain.attach(STREAM).unwrap();
    assert_eq!(bench.write(STREAM, pa.0), Ok(()));
    assert_eq!(domain.map(Iova(pa.0), pa, 0x1000, Permission::Read), Ok(()));
    let elsewhere = domain.map(Iova(0x1000), pa, 0x1000, Permission::Read);
    assert!(matches!(elsewhere, Err(Fault::BadRange { .. })));
    assert_eq!(domain.unmap(Iova(pa.0), 0x1000), Ok(()));
    assert_eq!(bench.iommu().describe(STREAM).unwrap().config, "bypass");
    assert_eq!(bench.read(OTHER, pa.0), Err(BusError::Aborted));
    bench.iommu().block(STREAM).unwrap();
    assert_eq!(bench.read(STREAM, pa.0), Err(BusError::Aborted));
    bench.check_all_served();
}

#[test]
fn domain_ids_are_the_devices_and_come_back() {
    let bench = Bench::prepared(|model| model.domains = (5, 8));
    assert_eq!(bench.count(Kind::Attach), 1, "edu has one of the four");
    let mut domains: Vec<_> = (0..3).map(|_| bench.attached()).collect();
    let tags: Vec<_> = domains.iter().map(|domain| domain.tag()).collect();
    assert_eq!(tags, [6, 7, 8].map(Tag::Domain).map(Some));
    let none = bench.iommu().paging_domain().err();
    let (what, limit) = ("domain ID", 4);
    assert_eq!(none, Some(Fault::Exhausted { what, limit }));
    // The endpoint is in the last one; the others are in nobody's way.
    domains.remove(0);
    let again = bench.domain();
    assert_eq!(again.tag(), Some(Tag::Domain(6)));
    assert_eq!(bench.iommu().status().domains, 4);
    // A domain that an endpoint is still in keeps its ID.
    domains.pop();
    assert!(bench.iommu().paging_domain().is_err());
    bench.iommu().block(STREAM).unwrap();
    drop(again);
    assert_eq!(bench.domain().tag(), Some(Tag::Domain(6)));
    bench.check_all_served();
}

#[test]
fn answers_in_any_order() {
    let bench = Bench::prepared(|model| model.backwards = true);
    let domain = bench.domain();
    for page in 1..30 {
        bench.map(&domain, page << 12);
    }
    domain.attach(STREAM).unwrap();
    assert_eq!(bench.read(STREAM, 29 << 12), Ok(()));
    bench.check_all_served();
}

#[test]
fn a_walk_shows_what_was_mapped() {
    let bench = Bench::new();
    let domain = bench.attached();
    let pa = bench.map(&domain, 0x5000);
    let steps = domain.walk(Iova(0x5123));
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].descriptor, pa.0 + 0x123);
    assert!(
        steps[0].meaning.contains("read, write"),
        "{}",
        steps[0].meaning
    );
    assert!(steps[0].meaning.contains("shows no table"));
    let steps = domain.walk(Iova(0x6000));
    assert!(steps[0].meaning.contains("faults"), "{}", steps[0].meaning);
    let entry = bench.iommu().describe(STREAM).unwrap();
    assert_eq!(entry.config, "translate");
    assert!(entry.parts[0].fields.contains(&("mappings", 1)));
    assert_eq!(bench.iommu().describe(OTHER).unwrap().config, "abort");
}

#[derive(Clone, Debug)]
enum Op {
    Map { page: u64, pages: u64, write: bool },
    Unmap { page: u64, pages: u64 },
    Attach,
    Block,
}

fn op() -> impl Strategy<Value = Op> {
    let page = 1..12u64;
    let pages = 1..4u64;
    prop_oneof![
        4 => (page.clone(), pages.clone(), any::<bool>())
            .prop_map(|(page, pages, write)| Op::Map { page, pages, write }),
        3 => (page, pages).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        1 => Just(Op::Attach),
        1 => Just(Op::Block),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn like_a_plain_table(ops in proptest::collection::vec(op(), 1..40)) {
        let bench = Bench::new();
        let domain = bench.domain();
        let memory = bench.page();
        let mut table: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
        let mut attached = false;
        for op in ops {
            match op {
                Op::Map { page, pages, write } => {
                    let access = if write { Permission::ReadWrite } else { Permission::Read };
                    let free = (page..page + pages).all(|page| {
                        table.iter().all(|(&first, &(len, _))| page < first || page >= first + len)
                    });
                    let result = domain.map(Iova(page << 12), memory, pages << 12, access);
                    prop_assert_eq!(result.is_ok(), free);
                    if free {
                        table.insert(page, (pages, write));
                    }
                }
                Op::Unmap { page, pages } => {
                    let known = table.get(&page).is_some_and(|&(len, _)| len == pages);
                    let result = domain.unmap(Iova(page << 12), pages << 12);
                    prop_assert_eq!(result.is_ok(), known);
                    if known {
                        table.remove(&page);
                    }
                }
                Op::Attach => {
                    domain.attach(STREAM).unwrap();
                    attached = true;
                }
                Op::Block => {
                    bench.iommu().block(STREAM).unwrap();
                    attached = false;
                }
            }
            let seen = bench.tables(|tables| {
                let domain = tables.endpoints.get(&STREAM.0)?;
                let all = tables.domains[domain].mappings.iter();
                Some(all.map(|(&first, &(last, _, flags))| {
                    (first >> 12, ((last + 1 - first) >> 12, flags == 3))
                }).collect::<BTreeMap<_, _>>())
            });
            prop_assert_eq!(seen, attached.then(|| table.clone()));
        }
        bench.check_all_served();
    }
}

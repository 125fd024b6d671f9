//! Both stages at once: what one maps is an address of the other, and both have a say.

use std::sync::{Arc, Mutex};

use mastiff_core::addr::{Iova, PAGE, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Domain, ParentDomain, Permission};
use mastiff_core::platform::{PageRequest, Pages, Platform};
use mastiff_testkit::SimPages;
use mastiff_testkit::bus::{BusError, DmaPort, Shared, SimDevice};
use mastiff_testkit::inject::Step;
use mastiff_testkit::smmu::{Features, Smmu};

use crate::bench::{Bench, map};

const ABORTED: Result<u8, BusError> = Err(BusError::Aborted);
/// What masters use, and what that becomes for the parent.
const AT: u64 = 0x10_0000;
const IPA: u64 = 0x7_0000_0000;

fn parent(bench: &Bench) -> Arc<dyn ParentDomain> {
    bench.iommu().parent_domain().unwrap()
}

/// Stage 2: memory at an intermediate address.
fn map_below(parent: &Arc<dyn ParentDomain>, ipa: u64, pages: &SimPages) {
    let len = pages.len() as u64;
    let below = parent.map(Iova(ipa), pages.pa(), len, Permission::ReadWrite);
    below.unwrap();
}

/// Stage 1: one page at an intermediate address.
fn map_above(domain: &Arc<dyn Domain>, iova: u64, ipa: u64) {
    let above = domain.map(Iova(iova), PhysAddr(ipa), PAGE, Permission::ReadWrite);
    above.unwrap();
}

/// A nested domain with a page of this byte at `AT` by way of `ipa`.
fn nested(
    bench: &Bench,
    parent: &Arc<dyn ParentDomain>,
    ipa: u64,
    byte: u8,
) -> (Arc<dyn Domain>, SimPages) {
    let domain = parent.nested().unwrap();
    let pages = bench.pages(1, byte);
    map_below(parent, ipa, &pages);
    map_above(&domain, AT, ipa);
    (domain, pages)
}

#[test]
fn both_stages_have_a_say() {
    let bench = Bench::virt();
    let parent = parent(&bench);
    let (domain, _pages) = nested(&bench, &parent, IPA, 7);
    domain.attach(StreamId(8)).unwrap();
    assert_eq!(bench.read(8, AT), Ok(7));
    bench.write(8, AT + 1, 9).unwrap();
    assert_eq!(bench.read(8, AT + 1), Ok(9));
    // Neither an address that stage 1 does not have, nor one that only stage 2 has.
    assert_eq!(bench.read(8, AT + PAGE), ABORTED);
    assert_eq!(bench.read(8, IPA), ABORTED);
    // And none that stage 1 has and stage 2 has not.
    map_above(&domain, AT + 2 * PAGE, IPA + 5 * PAGE);
    assert_eq!(bench.read(8, AT + 2 * PAGE), ABORTED);
    let faults = bench.faults();
    let stages: Vec<_> = faults.iter().map(|fault| fault.report.stage).collect();
    assert_eq!(stages, [1, 1, 2]);
    let detail = &faults[2].report.detail;
    assert_eq!(faults[2].report.iova, Some(Iova(AT + 2 * PAGE)));
    let said = "class IN, IPA 0x700005000, its entry: stage 1 and 2, ASID 1, mapped: ";
    assert!(detail.starts_with(said), "{detail}");
    assert!(
        detail.contains(", in VMID 1, mapped: 0x700000000 to"),
        "{detail}"
    );
}

#[test]
fn the_rights_are_those_that_both_give() {
    let bench = Bench::virt();
    let parent = parent(&bench);
    let domain = parent.nested().unwrap();
    domain.attach(StreamId(8)).unwrap();
    let pages = bench.pages(2, 1);
    for (page, below, above) in [
        (0, Permission::Read, Permission::ReadWrite),
        (1, Permission::ReadWrite, Permission::Read),
    ] {
        let (pa, at) = (PhysAddr(pages.pa().0 + page * PAGE), page * PAGE);
        parent.map(Iova(IPA + at), pa, PAGE, below).unwrap();
        let ipa = PhysAddr(IPA + at);
        domain.map(Iova(AT + at), ipa, PAGE, above).unwrap();
        assert_eq!(bench.read(8, AT + at), Ok(1 + page as u8));
        assert_eq!(bench.write(8, AT + at, 5), Err(BusError::Aborted));
    }
    let faults = bench.faults();
    let stages = faults
        .iter()
        .map(|fault| (fault.report.event, fault.report.stage));
    let expected = [("F_PERMISSION", 2), ("F_PERMISSION", 1)];
    assert!(stages.eq(expected), "{faults:?}");
}

#[test]
fn entries_and_walks_say_all_that_there_is() {
    let bench = Bench::virt();
    let parent = parent(&bench);
    let (domain, pages) = nested(&bench, &parent, IPA, 7);
    domain.attach(StreamId(8)).unwrap();
    let dump = bench.iommu().describe(StreamId(8)).unwrap();
    assert_eq!(dump.config, "stage 1 and 2");
    let names: Vec<_> = dump.parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["L1STD", "STE", "CD"]);
    let field = |part: usize, name: &str| {
        let fields = &dump.parts[part].fields;
        fields.iter().find(|(known, _)| *known == name).unwrap().1
    };
    assert_eq!(field(1, "Config"), 0b111);
    assert_eq!(
        field(1, "S2VMID"),
        u64::from(parent.tag().unwrap().number())
    );
    assert_eq!(field(1, "S2TTB"), parent.walk(Iova(0))[0].table.0);
    assert_eq!(field(2, "ASID"), u64::from(domain.tag().unwrap().number()));
    assert_eq!(domain.parent_tag(), parent.tag());
    assert_eq!(parent.parent_tag(), None);
    let kinds = [domain.tag(), parent.tag()].map(|tag| tag.unwrap().kind());
    assert_eq!(kinds, ["ASID", "VMID"]);
    // Neither the CD nor its tables are known by where they are in memory.
    let lift = parent.aperture() + 1;
    assert_eq!(field(1, "S1ContextPtr"), dump.parts[2].pa.0 + lift);
    let walk = domain.walk(Iova(AT));
    let root = walk.iter().find(|step| step.stage == 1).unwrap().table.0;
    assert_eq!(field(2, "TTB0"), root + lift);
    // Each of the four tables of stage 1 costs a walk of stage 2, and so does the end.
    let stages: Vec<_> = walk.iter().map(|step| step.stage).collect();
    assert_eq!(stages, [[2, 2, 2, 2, 1].repeat(4), vec![2; 4]].concat());
    let meaning = &walk.last().unwrap().meaning;
    assert!(
        meaning.starts_with(&format!("page at {}", pages.pa())),
        "{meaning}"
    );
    let above = &walk[19].meaning;
    assert!(above.starts_with("page at 0x700000000"), "{above}");
}

#[test]
fn what_stage_1_unmaps_is_gone_for_its_domain_alone() {
    for ranges in [true, false] {
        let bench = Bench::new(Features {
            ranges,
            ..Features::virt()
        });
        let parents = [parent(&bench), parent(&bench)];
        let domains: Vec<_> = [(0, 1), (0, 2), (1, 3)]
            .map(|(of, byte)| nested(&bench, &parents[of], IPA + u64::from(byte) * PAGE, byte))
            .into();
        for ((domain, _), stream) in domains.iter().zip(1..) {
            domain.attach(StreamId(stream)).unwrap();
            assert_eq!(bench.read(stream, AT), Ok(stream as u8));
        }
        for gone in 1..=3 {
            domains[gone as usize - 1].0.unmap(Iova(AT), PAGE).unwrap();
            for stream in 1..=3 {
                let expected = if stream > gone {
                    Ok(stream as u8)
                } else {
                    ABORTED
                };
                assert_eq!(bench.read(stream, AT), expected, "{gone} {stream}");
            }
        }
    }
}

#[test]
fn a_large_unmapping_is_of_its_asid_in_its_vmid() {
    let bench = Bench::new(Features {
        ranges: false,
        ..Features::virt()
    });
    let _first = parent(&bench);
    let parent = parent(&bench);
    let domain = parent.nested().unwrap();
    domain.attach(StreamId(8)).unwrap();
    let pages = bench.pages(65, 0);
    map_below(&parent, IPA, &pages);
    let (len, access) = (pages.len() as u64, Permission::ReadWrite);
    domain.map(Iova(AT), PhysAddr(IPA), len, access).unwrap();
    let at = |page: u64| AT + page * PAGE;
    for page in 0..65 {
        assert_eq!(bench.read(8, at(page)), Ok(page as u8));
    }
    let before = bench.consumed();
    domain.unmap(Iova(AT), len).unwrap();
    assert_eq!(bench.consumed().0 - before.0, 2);
    for page in 0..65 {
        assert_eq!(bench.read(8, at(page)), ABORTED);
    }
}

#[test]
fn what_stage_2_unmaps_is_gone_for_all_that_is_nested_in_it() {
    let bench = Bench::virt();
    // Another VMID than the first.
    let _first = parent(&bench);
    let parent = parent(&bench);
    let (one, pages) = nested(&bench, &parent, IPA, 1);
    let two = parent.nested().unwrap();
    map_above(&two, AT, IPA);
    let (other, _kept) = nested(&bench, &parent, IPA + PAGE, 4);
    for (stream, domain) in [(1, &one), (2, &two), (3, &other)] {
        domain.attach(StreamId(stream)).unwrap();
        bench.read(stream, AT).unwrap();
    }
    let before = bench.consumed();
    parent.unmap(Iova(IPA), PAGE).unwrap();
    let after = bench.consumed();
    // By intermediate address, and what is left of both stages; each is complete.
    assert_eq!((after.0 - before.0, after.1 - before.1), (4, 2));
    assert_eq!((bench.read(1, AT), bench.read(2, AT)), (ABORTED, ABORTED));
    assert_eq!(bench.read(3, AT), Ok(4));
    // Others' memory is what is there next.
    drop(pages);
    let next = bench.pages(1, 9);
    map_below(&parent, IPA, &next);
    assert_eq!((bench.read(1, AT), bench.read(2, AT)), (Ok(9), Ok(9)));
}

#[test]
fn leaves_of_one_stage_are_smaller_than_those_of_the_other() {
    const BLOCK: u64 = 2 << 20;
    for ranges in [true, false] {
        let bench = Bench::new(Features {
            ranges,
            ..Features::virt()
        });
        let parent = parent(&bench);
        let domain = parent.nested().unwrap();
        domain.attach(StreamId(8)).unwrap();
        let memory = || {
            let request = PageRequest::new(BLOCK).align(BLOCK);
            bench.sim.alloc_pages(request).unwrap()
        };
        // A block above pages that are not side by side, and pages above a block.
        let pieces: Vec<_> = (0..BLOCK / PAGE).rev().map(|_| bench.pages(1, 5)).collect();
        for (page, piece) in pieces.iter().enumerate() {
            map_below(&parent, IPA + page as u64 * PAGE, piece);
        }
        let above = domain.map(Iova(0), PhysAddr(IPA), BLOCK, Permission::ReadWrite);
        above.unwrap();
        let whole = memory();
        map_below(&parent, IPA + BLOCK, &whole);
        map_above(&domain, BLOCK + PAGE, IPA + BLOCK + 7 * PAGE);
        let touched = [0, 3 * PAGE, BLOCK - 1, BLOCK + PAGE];
        for at in touched {
            bench.read(8, at).unwrap();
        }
        domain.unmap(Iova(0), BLOCK).unwrap();
        domain.unmap(Iova(BLOCK + PAGE), PAGE).unwrap();
        for at in touched {
            assert_eq!(bench.read(8, at), ABORTED);
        }
    }
}

/// A master that reads one word whenever software waits.
struct Reader {
    seen: Arc<Mutex<Vec<Result<u8, BusError>>>>,
}

impl SimDevice for Reader {
    fn read(&mut self, _: u64, _: usize) -> u64 {
        0
    }

    fn write(&mut self, _: u64, _: usize, _: u64) {}

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        let mut byte = [0];
        let read = port.read(8, AT, &mut byte).map(|()| byte[0]);
        self.seen.lock().unwrap().push(read);
    }
}

#[test]
fn s14_a_stream_at_work_changes_over_within_its_parent_without_a_gap() {
    let bench = Bench::slow(Features::virt(), 100);
    let parent = parent(&bench);
    let (one, _first) = nested(&bench, &parent, IPA, 1);
    let (two, _second) = nested(&bench, &parent, IPA + PAGE, 2);
    // The parent alone has something at the same address too.
    let third = bench.pages(1, 3);
    map_below(&parent, AT, &third);
    one.attach(StreamId(8)).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reader = Reader { seen: seen.clone() };
    bench.sim.add_device(0x3000_0000, 0x1000, reader);
    let syncs = |change: &dyn Fn()| {
        let before = bench.consumed().1;
        change();
        bench.consumed().1 - before
    };
    // Another CD; stage 2 alone, and back, for which there is nothing to prepare.
    assert_eq!(syncs(&|| two.attach(StreamId(8)).unwrap()), 1);
    assert_eq!(syncs(&|| one.attach(StreamId(8)).unwrap()), 1);
    assert_eq!(syncs(&|| parent.attach(StreamId(8)).unwrap()), 1);
    assert_eq!(syncs(&|| two.attach(StreamId(8)).unwrap()), 1);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.len() > 60, "it was at work meanwhile: {}", seen.len());
    seen.dedup();
    assert_eq!(seen, [1, 2, 1, 3, 2].map(Ok));
    bench.iommu().block(StreamId(8)).unwrap();
}

#[test]
fn a_stream_goes_from_any_kind_of_domain_to_any_other() {
    let bench = Bench::virt();
    let parents = [parent(&bench), parent(&bench)];
    let all: Vec<Arc<dyn Domain>> = vec![
        bench.domain(),
        bench.iommu().identity_domain().unwrap(),
        parents[0].nested().unwrap(),
        parents[0].nested().unwrap(),
        parents[1].nested().unwrap(),
        parents[0].clone(),
    ];
    let page = bench.pages(1, 6);
    let at = page.pa().0;
    map(&all[0], at, &page);
    for parent in &parents {
        map_below(parent, at, &page);
    }
    for nested in &all[2..5] {
        map_above(nested, at, at);
    }
    for from in &all {
        for to in &all {
            from.attach(StreamId(8)).unwrap();
            assert_eq!(bench.read(8, at), Ok(6));
            to.attach(StreamId(8)).unwrap();
            assert_eq!(bench.read(8, at), Ok(6));
        }
    }
}

#[test]
fn tags_that_come_back_bring_nothing_along() {
    let bench = Bench::virt();
    // The stream's level 2 table stays.
    drop(bench.attached(8));
    bench.iommu().block(StreamId(8)).unwrap();
    let frames = bench.frames();
    let mut tags = Vec::new();
    for turn in 0..3 {
        let parent = parent(&bench);
        let (domain, pages) = nested(&bench, &parent, IPA, turn);
        domain.attach(StreamId(8)).unwrap();
        assert_eq!(bench.read(8, AT), Ok(turn));
        tags.push((domain.tag(), domain.parent_tag()));
        bench.iommu().block(StreamId(8)).unwrap();
        drop(pages);
        // In either order: what is nested keeps its parent.
        if turn == 1 {
            drop(parent);
            drop(domain);
        } else {
            drop(domain);
            parent.unmap(Iova(IPA), PAGE).unwrap();
        }
    }
    assert_eq!(tags[0], tags[1]);
    assert_eq!(tags[1], tags[2]);
    assert_eq!(bench.frames(), frames);
    assert_eq!(bench.iommu().status().domains, 0);
}

#[test]
fn the_upper_half_is_the_drivers() {
    let bench = Bench::virt();
    let parent = parent(&bench);
    let domain = parent.nested().unwrap();
    let top = parent.aperture() + 1;
    assert_eq!(top, 1 << 43);
    for (at, len) in [(top, PAGE), (top - PAGE, 2 * PAGE), (!0xfff, PAGE)] {
        let below = parent.map(Iova(at), PhysAddr(0x5000), len, Permission::Read);
        assert!(matches!(below, Err(Fault::BadRange { .. })), "{below:?}");
        let above = domain.map(Iova(0), PhysAddr(at), len, Permission::Read);
        assert!(matches!(above, Err(Fault::BadRange { .. })), "{above:?}");
        let gone = parent.unmap(Iova(at), len);
        assert!(matches!(gone, Err(Fault::BadRange { .. })), "{gone:?}");
    }
    // Not even the parent's own streams write to what is there.
    parent.attach(StreamId(8)).unwrap();
    let step = domain
        .walk(Iova(0))
        .into_iter()
        .find(|step| step.stage == 1);
    let table = step.unwrap().table.0 + top;
    assert!(bench.read(8, table).is_ok());
    assert_eq!(bench.write(8, table, 1), Err(BusError::Aborted));
}

#[test]
fn it_takes_both_stages() {
    let one = Features {
        stage2: false,
        ..Features::virt()
    };
    for features in [one, Features::stage2_only()] {
        let bench = Bench::new(features);
        let Err(fault) = bench.iommu().parent_domain() else {
            panic!("there is one")
        };
        let said = fault.to_string();
        assert!(said.contains("both stages (IDR0.S1P, IDR0.S2P)"), "{said}");
    }
}

#[test]
fn any_granule_and_any_size() {
    for (bit, output_bits) in [
        (0, 48),
        (0, 40),
        (0, 36),
        (1, 44),
        (1, 40),
        (2, 48),
        (2, 42),
    ] {
        let mut granules = [false; 3];
        granules[bit] = true;
        let bench = Bench::new(Features {
            granules,
            output_bits,
            ..Features::virt()
        });
        let (parent, page) = (parent(&bench), bench.iommu().limits().page);
        let domain = parent.nested().unwrap();
        domain.attach(StreamId(8)).unwrap();
        let request = PageRequest::new(page).align(page);
        let memory = bench.sim.alloc_pages(request).unwrap();
        memory.fill(0, memory.len(), 5);
        let top = parent.aperture() + 1 - page;
        map_below(&parent, top, &memory);
        let at = bench.iommu().limits().aperture + 1 - page;
        let above = domain.map(Iova(at), PhysAddr(top), page, Permission::ReadWrite);
        above.unwrap();
        bench.sim.barrier(mastiff_core::platform::Barrier::Publish);
        assert_eq!(bench.read(8, at + page - 1), Ok(5));
        parent.unmap(Iova(top), page).unwrap();
        assert_eq!(bench.read(8, at + page - 1), ABORTED);
    }
}

#[test]
fn where_walks_do_not_snoop() {
    let features = Features {
        stage2: true,
        ..Features::small()
    };
    let bench = Bench::new(features);
    let parent = parent(&bench);
    for turn in 0..3 {
        let (domain, _pages) = nested(&bench, &parent, IPA, turn);
        domain.attach(StreamId(8)).unwrap();
        assert_eq!(bench.read(8, AT), Ok(turn));
        parent.unmap(Iova(IPA), PAGE).unwrap();
        bench.iommu().block(StreamId(8)).unwrap();
    }
}

#[test]
fn whatever_runs_out_leaves_nothing() {
    for step in [Step::Pages, Step::Table] {
        for n in 0.. {
            let bench = Bench::virt();
            bench.attached(8);
            bench.iommu().block(StreamId(8)).unwrap();
            let frames = bench.frames();
            let make = || {
                let parent = bench.iommu().parent_domain()?;
                let domain = parent.nested()?;
                parent.map(Iova(IPA), PhysAddr(0x5000), PAGE, Permission::Read)?;
                domain.map(Iova(AT), PhysAddr(IPA), PAGE, Permission::Read)?;
                domain.attach(StreamId(8))
            };
            bench.sim.inject().fail(step, n);
            let made = make();
            let failed = !bench.sim.inject().is_armed(step);
            bench.sim.inject().disarm(step);
            assert_eq!(made.is_err(), failed, "{step:?} {n}: {made:?}");
            bench.iommu().block(StreamId(8)).unwrap();
            assert_eq!(bench.frames(), frames, "{step:?} {n}");
            if !failed {
                assert!(n > 0);
                break;
            }
        }
    }
}

/// Stops the SMMU as soon as it has completed so many syncs.
struct Stop {
    smmu: Shared<Smmu>,
    at: u64,
}

impl SimDevice for Stop {
    fn read(&mut self, _: u64, _: usize) -> u64 {
        0
    }

    fn write(&mut self, _: u64, _: usize, _: u64) {}

    fn tick(&mut self, _: &mut DmaPort<'_>) {
        if let Ok(mut smmu) = self.smmu.try_lock() {
            let stop = smmu.consumed().1 >= self.at;
            smmu.freeze(stop);
        }
    }
}

#[test]
fn s29_what_may_still_be_walked_is_not_given_back() {
    // Dropping a nested domain takes a sync for its ASID, and then two for the CD and
    // for each table: by intermediate address, and what is left of both stages.
    for done in [0, 1, 2, 3, 6, 2 * 5] {
        let bench = Bench::virt();
        let parent = parent(&bench);
        let (domain, _pages) = nested(&bench, &parent, IPA, 1);
        domain.attach(StreamId(8)).unwrap();
        bench.read(8, AT).unwrap();
        bench.iommu().block(StreamId(8)).unwrap();
        let (smmu, at) = (bench.smmu.clone(), bench.consumed().1 + done);
        bench.sim.add_device(0x3000_0000, 0x1000, Stop { smmu, at });
        let frames = bench.frames();
        drop(domain);
        let memory = bench.sim.memory();
        let kept = memory.live() + memory.quarantined();
        let freed = done.saturating_sub(1) / 2;
        assert_eq!(kept as u64, frames as u64 - freed, "{done}");
        // A CD and four tables.
        assert_eq!(memory.quarantined() as u64, 5 - freed, "{done}");
        assert!(parent.unmap(Iova(IPA), PAGE).is_err());
    }
}

//! An SMMU that has stage 2 only: its tables and its tags are others, what masters
//! and the core see is the same.

use mastiff_core::addr::{Iova, PAGE, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::Permission;
use mastiff_core::platform::{PageRequest, Pages, Platform};
use mastiff_testkit::bus::BusError;
use mastiff_testkit::smmu::Features;

use crate::bench::{Bench, map, map_at};

const ABORTED: Result<u8, BusError> = Err(BusError::Aborted);

#[test]
fn entries_say_all_that_there_is() {
    let bench = Bench::new(Features::stage2_only());
    let domain = bench.attached(8);
    let dump = bench.iommu().describe(StreamId(8)).unwrap();
    assert_eq!(dump.config, "stage 2");
    let names: Vec<_> = dump.parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["L1STD", "STE"], "and no CD");
    let field = |name: &str| {
        let fields = &dump.parts[1].fields;
        fields.iter().find(|(known, _)| *known == name).unwrap().1
    };
    assert_eq!(field("S2VMID"), u64::from(domain.tag().unwrap().number()));
    assert_eq!(field("S2TTB"), domain.walk(Iova(0))[0].table.0);
    assert_eq!(field("S2T0SZ"), 64 - 44);
    assert_eq!(bench.iommu().limits().aperture, (1 << 44) - 1);
    let words = bench.iommu().status().features.join(", ");
    assert!(
        words.contains(", stage 2, ") && words.contains("16-bit VMIDs"),
        "{words}"
    );
}

#[test]
fn rights_and_types_are_kept() {
    let bench = Bench::new(Features::stage2_only());
    let domain = bench.attached(8);
    let pages = bench.pages(2, 1);
    domain
        .map(Iova(0), pages.pa(), PAGE, Permission::Read)
        .unwrap();
    domain
        .map(Iova(PAGE), pages.pa(), PAGE, Permission::Doorbell)
        .unwrap();
    assert_eq!(bench.read(8, 0), Ok(1));
    assert_eq!(bench.write(8, 0, 2), Err(BusError::Aborted));
    bench.write(8, PAGE, 2).unwrap();
    let ends = [0, PAGE].map(|at| domain.walk(Iova(at)).pop().unwrap());
    let attributes = |memory, access| {
        let (names, values) = (
            ["MemAttr", "S2AP", "SH", "AF", "Contiguous", "XN"],
            [memory, access, 0b11, 1, 0, 0b10],
        );
        names.into_iter().zip(values).collect::<Vec<_>>()
    };
    assert_eq!(ends[0].attributes, attributes(0b1111, 0b01));
    assert_eq!(ends[1].attributes, attributes(0b0001, 0b11));
    let meanings = ends.map(|end| end.meaning);
    assert!(meanings[0].ends_with("ReadOnly, Normal"), "{meanings:?}");
    assert!(meanings[1].ends_with("ReadWrite, Device"), "{meanings:?}");
    let faults = bench.faults();
    assert_eq!(
        (faults[0].report.event, faults[0].report.stage),
        ("F_PERMISSION", 2)
    );
    assert!(
        faults[0]
            .report
            .detail
            .contains("stage 2, VMID 1, mapped: 0x0 to 0xfff")
    );
}

#[test]
fn blocks_and_runs_go_with_few_commands() {
    for (ranges, few) in [(true, 3), (false, 20)] {
        let bench = Bench::new(Features {
            ranges,
            ..Features::stage2_only()
        });
        let domain = bench.attached(8);
        let request = PageRequest::new(6 << 20).align(2 << 20);
        let memory = bench.sim.alloc_pages(request).unwrap();
        map(&domain, 0x20_0000, &memory);
        let extra = bench.pages(16, 3);
        map(&domain, 0x80_0000, &extra);
        let touched = [0x20_0000, 0x5f_ffff, 0x80_f000];
        for at in touched {
            bench.read(8, at).unwrap();
        }
        let before = bench.consumed();
        domain
            .unmap(Iova(0x20_0000), (6 << 20) + 16 * PAGE)
            .unwrap();
        assert_eq!(bench.consumed().0 - before.0, few);
        for at in touched {
            assert_eq!(bench.read(8, at), ABORTED);
        }
        // So many that, one by one, everything of the VMID goes.
        let many = bench.pages(65, 0);
        map(&domain, 0x1000, &many);
        for page in 0..65 {
            assert_eq!(bench.read(8, 0x1000 + page * PAGE), Ok(page as u8));
        }
        let before = bench.consumed();
        domain.unmap(Iova(0x1000), 65 * PAGE).unwrap();
        assert_eq!(bench.consumed().0 - before.0, if ranges { 3 } else { 2 });
        for page in 0..65 {
            assert_eq!(bench.read(8, 0x1000 + page * PAGE), ABORTED);
        }
    }
}

#[test]
fn a_vmid_that_comes_back_brings_nothing_along() {
    let bench = Bench::new(Features::stage2_only());
    let pages = [bench.pages(1, 1), bench.pages(1, 2)];
    let one = bench.attached(8);
    let vmid = one.tag();
    map(&one, 0x3000, &pages[0]);
    assert_eq!(bench.read(8, 0x3000), Ok(1));
    bench.iommu().block(StreamId(8)).unwrap();
    drop(one);
    let two = bench.attached(8);
    assert_eq!(two.tag(), vmid, "or this test shows nothing");
    assert_eq!(bench.read(8, 0x3000), ABORTED);
    map(&two, 0x3000, &pages[1]);
    assert_eq!(bench.read(8, 0x3000), Ok(2));
}

#[test]
fn vmids_run_out_and_come_back() {
    let bench = Bench::new(Features {
        vmid16: false,
        ..Features::virt()
    });
    // A domain of stage 1 takes none.
    let _first = bench.domain();
    let iommu = bench.iommu();
    let mut parents: Vec<_> = (0..255).map(|_| iommu.parent_domain().unwrap()).collect();
    let tags = parents.iter().map(|parent| parent.tag().unwrap().number());
    assert!(tags.eq(1..=255));
    let frames = bench.frames();
    let expected = Fault::Exhausted {
        what: "VMID",
        limit: 255,
    };
    assert_eq!(iommu.parent_domain().err(), Some(expected));
    assert_eq!(bench.frames(), frames, "one that was not made");
    // The model knows no larger ones, and this one works.
    let page = bench.pages(1, 7);
    let last = &parents[254];
    let mapped = last.map(Iova(0x1000), page.pa(), PAGE, Permission::Read);
    mapped.and(last.attach(StreamId(8))).unwrap();
    assert_eq!(bench.read(8, 0x1000), Ok(7));
    let gone = parents.remove(77);
    let tag = gone.tag();
    drop(gone);
    assert_eq!(iommu.parent_domain().unwrap().tag(), tag);
}

#[test]
fn two_streams_share_a_domain_and_a_third_changes_over() {
    let bench = Bench::new(Features::stage2_only());
    let (one, two) = (bench.attached(8), bench.attached(9));
    one.attach(StreamId(10)).unwrap();
    let pages = [bench.pages(1, 1), bench.pages(1, 2)];
    map(&one, 0x1000, &pages[0]);
    map(&two, 0x1000, &pages[1]);
    let read = |stream| bench.read(stream, 0x1000).unwrap();
    assert_eq!([8, 9, 10].map(read), [1, 2, 1]);
    // The table and the VMID are in two words, so the stream aborts in between.
    let before = bench.consumed().1;
    two.attach(StreamId(10)).unwrap();
    assert_eq!(bench.consumed().1 - before, 3);
    assert_eq!([8, 9, 10].map(read), [1, 2, 2]);
    bench
        .iommu()
        .identity_domain()
        .unwrap()
        .attach(StreamId(9))
        .unwrap();
    assert_eq!(bench.read(9, pages[0].pa().0), Ok(1));
}

#[test]
fn addresses_end_where_the_walk_does() {
    for (output_bits, input_bits) in [(48, 48), (44, 44), (42, 39), (40, 39), (36, 36), (32, 32)] {
        let bench = Bench::new(Features {
            output_bits,
            ..Features::stage2_only()
        });
        let aperture = bench.iommu().limits().aperture;
        assert_eq!(aperture, (1 << input_bits) - 1);
        let domain = bench.attached(8);
        let pages = bench.pages(1, 1);
        map(&domain, aperture & !(PAGE - 1), &pages);
        assert_eq!(bench.read(8, aperture), Ok(1));
        assert_eq!(bench.read(8, aperture.wrapping_add(1)), ABORTED);
        let beyond = map_at(&domain, aperture + 1, pages.pa().0, PAGE);
        assert!(matches!(beyond, Err(Fault::BadRange { .. })), "{beyond:?}");
    }
}

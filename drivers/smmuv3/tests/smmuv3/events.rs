//! What masters did wrong, as the fault log has it.

use mastiff_core::addr::{Iova, PAGE, StreamId};
use mastiff_core::iommu::{Access, FaultReport, Permission};
use mastiff_core::platform::{Pages, Platform};
use mastiff_testkit::bus::BusError;
use mastiff_testkit::smmu::{self as model, Features, Trouble};

use crate::bench::{Bench, NAME, map};

#[test]
fn a_fault_is_told_in_full() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    bench.read(8, 0x1234_5678).unwrap_err();
    bench.serve();
    let pages = bench.pages(1, 1);
    domain
        .map(Iova(0x8000), pages.pa(), PAGE, Permission::Read)
        .unwrap();
    bench.write(8, 0x8000, 1).unwrap_err();
    bench.read(0x0700, 0).unwrap_err();
    let faults = bench.faults();
    let report = |event, stream, iova: Option<u64>, access, stage, detail: &str| FaultReport {
        event,
        stream: Some(StreamId(stream)),
        iova: iova.map(Iova),
        access,
        stage,
        detail: detail.into(),
    };
    let expected = [
        report(
            "F_TRANSLATION",
            8,
            Some(0x1234_5678),
            Access::Read,
            1,
            "class IN, its entry: stage 1, ASID 1, nothing is mapped",
        ),
        report(
            "F_PERMISSION",
            8,
            Some(0x8000),
            Access::Write,
            1,
            "class IN, its entry: stage 1, ASID 1, mapped: 0x8000 to 0x8fff, with it in it",
        ),
        report(
            "C_BAD_STREAMID",
            0x0700,
            None,
            Access::Unknown,
            0,
            "its entry: none",
        ),
    ];
    assert_eq!(faults.len(), expected.len());
    for (fault, expected) in faults.iter().zip(expected) {
        assert_eq!(format!("{:?}", fault.report), format!("{expected:?}"));
        assert_eq!((&*fault.iommu, fault.count), (NAME, 1));
    }
}

#[test]
fn s30_a_burst_is_taken_whole_and_what_was_lost_is_counted() {
    for features in [
        Features::virt(),
        Features {
            stream_bits: 16,
            two_level: true,
            ..Features::small()
        },
    ] {
        let capacity = 1u64 << features.event_bits.min(11);
        let bench = Bench::new(features);
        // So many that none of them is a storm by itself.
        let domain = bench.domain();
        for stream in 16..32 {
            domain.attach(StreamId(stream)).unwrap();
        }
        for round in 1..=3 {
            for at in 0..capacity + 5 {
                bench.read(16 + at as u32 % 16, 0).unwrap_err();
            }
            let counts = bench.faults().into_iter().map(|fault| fault.count);
            assert_eq!(counts.sum::<u64>(), round * capacity);
            let status = bench.iommu().status();
            assert_eq!(status.events, round * capacity);
            assert_eq!(status.errors, round, "one overflow each time");
        }
        let before = bench.faults().len();
        // And new ones still arrive.
        bench.read(16, 0x5000).unwrap_err();
        assert_eq!(bench.faults().len(), before + 1);
    }
}

#[test]
fn what_is_mapped_near_and_what_was_is_told() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(2, 1);
    map(&domain, 0x8000, &pages);
    map(&domain, 0x20_0000, &pages);
    map(&domain, 0x5000, &bench.pages(1, 1));
    domain.unmap(Iova(0x8000), 2 * PAGE).unwrap();
    domain.unmap(Iova(0x20_0000), 2 * PAGE).unwrap();
    map(&domain, 0x40_0000, &pages);
    let told = |iova: u64| {
        bench.read(8, iova).unwrap_err();
        bench.faults().last().unwrap().report.detail.clone()
    };
    let near = "mapped: 0x5000 to 0x5fff, 0x2011 below and 0x400000 to 0x400fff, 0x3f7ff0 above";
    assert_eq!(
        told(0x9010 - PAGE),
        format!("class IN, its entry: stage 1, ASID 1, {near}, unmapped, and 1 other since")
    );
    assert!(told(0x20_0000).ends_with("0x200000 above, unmapped last of all"));
    // Right behind what is mapped, and behind what was.
    assert!(told(0x6000).contains("mapped: 0x5000 to 0x5fff, 0x1 below and 0x400000"));
    assert!(told(0xa000).ends_with("0x3f6000 above"));
    assert!(told(0x20_2000).ends_with("0x1fe000 above"));
    assert!(told(0x50_0000).ends_with("mapped: 0x401000 to 0x401fff, 0xfe001 below"));
    assert!(told(1 << 50).ends_with("0x401000 to 0x401fff, 0x3ffffffbfe001 below"));
}

#[test]
fn what_a_master_wanted_is_told() {
    let bench = Bench::virt();
    let _domain = bench.attached(8);
    for (wanted, told) in [
        (model::Access::Read, Access::Read),
        (model::Access::Write, Access::Write),
        (model::Access::Execute, Access::Execute),
    ] {
        bench.model().translate(8, 0, wanted).unwrap_err();
        assert_eq!(bench.faults().last().unwrap().report.access, told);
    }
}

/// 1,024 reads of one word each, as a master does for 4 KiB.
fn storm(bench: &Bench, stream: u32, iova: u64) {
    for word in 0..1024 {
        bench.read(stream, iova + 4 * word).unwrap_err();
    }
}

#[test]
fn s30_a_storm_is_cut_off_and_nobody_else_notices() {
    let bench = Bench::virt();
    let domain = bench.domain();
    for stream in [8, 9, 10] {
        domain.attach(StreamId(stream)).unwrap();
    }
    let pages = bench.pages(1, 1);
    map(&domain, 0x8000, &pages);
    assert_eq!(bench.read(8, 0x8000), Ok(1));
    storm(&bench, 8, 0x1000);
    assert_eq!(bench.read(9, 0x8000), Ok(1));
    let faults = bench.faults();
    let events: Vec<_> = faults.iter().map(|fault| fault.report.event).collect();
    assert_eq!(events, ["F_TRANSLATION", "QUARANTINED"]);
    assert_eq!(faults[0].count, 1024, "every one is counted");
    let status = bench.iommu().status();
    assert_eq!(
        (status.events, status.errors, status.quarantined),
        (1024, 0, 1)
    );
    // From now on it reaches nothing and makes no noise.
    storm(&bench, 8, 0x1000);
    assert_eq!(bench.read(8, 0x8000), Err(BusError::Aborted));
    assert_eq!(bench.iommu().status().events, 1024);
    assert_eq!(bench.iommu().live_streams(), [StreamId(9), StreamId(10)]);
    // The others' faults are heard of, and their accesses pass.
    bench.read(10, 0x9000).unwrap_err();
    assert_eq!(bench.faults().len(), 3);
    assert_eq!(
        (bench.read(9, 0x8000), bench.read(10, 0x8000)),
        (Ok(1), Ok(1))
    );
    // Its mappings can be taken down, and it may come back.
    domain.attach(StreamId(8)).unwrap();
    assert_eq!(bench.read(8, 0x8000), Ok(1));
    assert_eq!(bench.iommu().status().quarantined, 0);
    storm(&bench, 8, 0x1000);
    assert_eq!(bench.iommu().status().quarantined, 1);
    bench.iommu().block(StreamId(8)).unwrap();
    assert_eq!(bench.iommu().status().quarantined, 0);
}

#[test]
fn s30_a_storm_of_a_stream_that_nobody_attached_ends_too() {
    let bench = Bench::virt();
    storm(&bench, 0x0700, 0);
    bench.serve();
    let status = bench.iommu().status();
    assert_eq!((status.events, status.quarantined), (1024, 1));
    storm(&bench, 0x0700, 0);
    assert_eq!(bench.iommu().status().events, 1024);
    assert!(bench.iommu().live_streams().is_empty());
}

#[test]
fn s30_a_queue_that_never_empties_is_served_by_turns() {
    let bench = Bench::new(Features {
        event_bits: 4,
        ..Features::virt()
    });
    let _domain = bench.attached(8);
    bench.model().storm(8, 200);
    bench.read(8, 0).unwrap_err();
    bench.sim.advance_us(10);
    let heard = || {
        let faults = bench.engine.context().faults.records();
        faults.iter().map(|fault| fault.count).sum::<u64>()
    };
    // The queue is full whenever it is looked at again, so no interrupt says so.
    let mut before = 0;
    while heard() < 201 {
        assert!(bench.sim.irqs().service(), "the rest was not called for");
        let turn = heard() - before;
        assert!(turn <= 4 * 16 + 8, "{turn} at once");
        assert!(turn >= 4 * 16 || heard() == 201, "{turn} only");
        before = heard();
    }
    assert_eq!(bench.iommu().status().events, 201);
}

#[test]
fn s30_a_storm_that_cannot_be_ended_is_told_and_borne() {
    let bench = Bench::virt();
    let _domain = bench.attached(8);
    storm(&bench, 8, 0);
    bench.model().freeze(true);
    bench.serve();
    bench.model().freeze(false);
    assert_eq!(bench.iommu().status().quarantined, 0);
    // It is metered anew and so will be the next time.
    storm(&bench, 8, 0);
    bench.serve();
    assert_eq!(bench.iommu().status().quarantined, 1);
}

#[test]
fn an_event_that_could_not_be_written_stops_nothing() {
    let bench = Bench::virt();
    let _domain = bench.attached(8);
    bench.model().make(Trouble::EventAbort);
    bench.read(8, 0x1000).unwrap_err();
    assert!(bench.faults().is_empty());
    assert_eq!(bench.iommu().status().errors, 1);
    bench.read(8, 0x2000).unwrap_err();
    assert_eq!(bench.faults()[0].report.iova, Some(Iova(0x2000)));
}

#[test]
fn a_blocked_stream_makes_no_noise() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    bench.iommu().block(StreamId(8)).unwrap();
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
    assert!(bench.faults().is_empty());
}

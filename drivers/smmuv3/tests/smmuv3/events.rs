//! What masters did wrong, as the fault log has it.

use mastiff_core::addr::{Iova, PAGE, StreamId};
use mastiff_core::iommu::{Access, FaultReport, Permission};
use mastiff_core::platform::Pages;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::smmu::{Features, Trouble};

use crate::bench::{Bench, NAME, map};

#[test]
fn a_fault_is_told_in_full() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    bench.read(8, 0x1234_5678).unwrap_err();
    let pages = bench.pages(1, 1);
    domain
        .map(Iova(0x8000), pages.pa(), PAGE, Permission::Read)
        .unwrap();
    bench.write(8, 0x8010, 1).unwrap_err();
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
            "class IN",
        ),
        report(
            "F_PERMISSION",
            8,
            Some(0x8010),
            Access::Write,
            1,
            "class IN",
        ),
        report("C_BAD_STREAMID", 0x0700, None, Access::Unknown, 0, ""),
    ];
    assert_eq!(faults.len(), expected.len());
    for (fault, expected) in faults.iter().zip(expected) {
        assert_eq!(format!("{:?}", fault.report), format!("{expected:?}"));
        assert_eq!((&*fault.iommu, fault.count), (NAME, 1));
    }
}

#[test]
fn a_burst_is_taken_whole_and_what_was_lost_is_counted() {
    for features in [
        Features::virt(),
        Features {
            stream_bits: 16,
            two_level: true,
            ..Features::small()
        },
    ] {
        let capacity = 1u64 << features.event_bits.min(10);
        let bench = Bench::new(features);
        let _domain = bench.attached(8);
        for round in 1..=3 {
            for at in 0..capacity + 5 {
                bench.read(8, at % PAGE).unwrap_err();
            }
            assert_eq!(bench.faults()[0].count, round * capacity);
            let status = bench.iommu().status();
            assert_eq!(status.events, round * capacity);
            assert_eq!(status.errors, round, "one overflow each time");
        }
        // And new ones still arrive.
        bench.read(8, 0x5000).unwrap_err();
        assert_eq!(bench.faults().len(), 2);
    }
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

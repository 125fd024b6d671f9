//! What the log makes of faults: named, folded by page, and bounded.

mod bench;

use bench::*;
use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::iommu::{Access, FaultReport};

fn report(stream: u32, page: u64) -> FaultReport {
    FaultReport {
        event: "F_TRANSLATION",
        stream: Some(StreamId(stream)),
        iova: Some(Iova(page << 12)),
        access: Access::Write,
        stage: 1,
        detail: String::new(),
    }
}

#[test]
fn faults_are_named_folded_by_page_and_counted_for_good() {
    let bench = Bench::new();
    let tree = master(iommu(base()), "a@1", &[1, 5]);
    let drivers = [
        bench.iommu_driver(vec![]) as &dyn mastiff_core::driver::Driver<_>,
        bench.master_driver(vec![]),
    ];
    let engine = bench.start(tree, &drivers);
    let context = engine.context();
    let node = context.tree.find(IOMMU_PATH).unwrap().id();
    for _ in 0..3 {
        context.faults.report(node, IOMMU_PATH, report(5, 7));
    }
    let records = context.faults.records();
    assert_eq!((records.len(), records[0].count), (1, 3));
    assert_eq!(records[0].device.as_deref(), Some("/a@1"));
    assert_eq!(records[0].driver, Some("test-master"));

    // A sweep keeps the latest, and counts all.
    for page in 0..10_000 {
        context.faults.report(node, IOMMU_PATH, report(5, page));
    }
    assert!(context.faults.records().len() <= 64);
    assert_eq!(context.faults.count(node, StreamId(5)), 10_003);
    assert_eq!(context.faults.count(node, StreamId(6)), 0);
    // Another IOMMU's stream of that number is another stream.
    let other = context.tree.find("/a@1").unwrap().id();
    assert_eq!(context.faults.count(other, StreamId(5)), 0);
}

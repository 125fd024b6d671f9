//! IOMMUs, streams, entries, domains, walks and faults.

use super::shows;
use crate::bench::*;

#[test]
fn iommu_streams_entries_and_domains() {
    assert_eq!(
        shows("iommu"),
        "\
/iommu@1000000 (iommu)
  features: fake
  2 streams attached, 2 domains, 2 commands (2 syncs), 0 events, 0 errors
"
    );
    assert_eq!(
        shows("streams"),
        "\
iommu           stream  goes     device          driver
/iommu@1000000  0x5     stage 1  /disk@1         disk
/iommu@1000000  0x6     stage 1  /engine@2       engine
/iommu@1000000  0x8     abort    /bus@3/00:01.0  -
"
    );
    assert_eq!(
        shows("ste iommu@1000000 6"),
        "/iommu@1000000, stream 0x6: stage 1\n"
    );
    assert_eq!(
        shows("ste iommu@1000000 7"),
        "/iommu@1000000, stream 0x7: abort\n"
    );
    assert_eq!(
        shows("domains"),
        "\
domain  tag     IOVA in use  streams             members
dma     ASID 1  4 KiB        /iommu@1000000:0x5  /disk@1
dma     ASID 2  4 KiB        /iommu@1000000:0x6  /engine@2
"
    );
}

#[test]
fn streams_of_an_iommu_that_is_not_there_go_nobody_knows_where() {
    let said = Bench::new().boot("driver.skip=iommu run=streams").shown;
    assert!(
        said.contains("0x5     its IOMMU is not bound  /disk@1"),
        "{said}"
    );
}

#[test]
fn walks_show_the_mapping_or_that_there_is_none_to_show() {
    let booted = Bench::new().run("dma verify --json disk@1");
    let iova = booted.record("dma")["iova"].as_u64().unwrap();
    let said = shows(&format!("walk disk@1 {iova}"));
    assert!(said.starts_with(&format!(
        "/disk@1, IOVA {iova:#x}\n  stage 1  level 3  table 0x0  [  0]  0x"
    )));
    assert!(said.ends_with("ReadWrite\n    AF 0x1\n"), "{said}");
    let said = Bench::new()
        .boot("iommu.passthrough=1 run=\"walk disk@1 0x1234\"")
        .shown;
    assert_eq!(
        said,
        "/disk@1, IOVA 0x1234\n  identity domain: the address passes unchanged\n"
    );
}

#[test]
fn a_read_that_is_stopped_is_a_fault_with_a_name() {
    let said = shows("dma read engine@2 0xabcd000 20; dma read engine@2 0xabcd010; faults");
    assert_eq!(
        said,
        "\
its transfer faulted: this is not what is at 0xabcd000, see `faults`
0abcd000  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
0abcd010  00 00 00 00                                      ....
its transfer faulted: this is not what is at 0xabcd010, see `faults`
0abcd010  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
0abcd020  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
0abcd030  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
0abcd040  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
count  event          iommu           stream  device     driver  access  address    stage  detail
21     F_TRANSLATION  /iommu@1000000  0x6     /engine@2  engine  read    0xabcd000  1      by the bench
"
    );
}

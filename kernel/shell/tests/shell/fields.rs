//! The fields of every kind of record: scripts hold on to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::bench::*;

/// Kind, and its fields besides `kind`.
const FIELDS: &[(&str, &str)] = &[
    (
        "boot",
        "board version cpus parked el insn us devices bound waiting failed",
    ),
    (
        "device",
        "name compatible driver state suspended attempts probes waited cause iommu streams group domain \
         decision order",
    ),
    ("why", "device driver state waited cause decision"),
    ("isolation", "device streams domain reach mapped reason"),
    ("node", "path enabled properties"),
    ("driver", "name state bound"),
    (
        "iommu",
        "name driver features streams_attached domains commands syncs accesses events errors quarantined",
    ),
    ("stream", "iommu stream config device driver error"),
    ("entry", "iommu stream config parts"),
    ("walk", "device iova domain levels"),
    (
        "domain",
        "domain tag tag_kind parent mapped substream streams members",
    ),
    (
        "fault",
        "iommu event stream device driver iova access stage count detail",
    ),
    ("dma", "device op bytes iova pa sha256 ok error"),
    ("space", "device op attached iova read written switches"),
    (
        "hostile",
        "device target access at bytes result events moved ok detail",
    ),
    (
        "storm",
        "device bytes events errors quarantined disk ok error",
    ),
    ("data", "device space at faulted data"),
    ("switch", "name class supplier users on rate"),
    ("cpu", "cpu number affinity why"),
    ("together", "cpu maps trips bytes sha256 ok error"),
    ("scale", "name cpus per_second ratio"),
    ("irq", "intid count device"),
    ("memory", "name bytes"),
    (
        "bench",
        "name mode device n insn insn_max sha256 mmio invalidations syncs outstanding map_insn map_max unmap_insn \
         unmap_max",
    ),
    ("log", "text"),
    ("uptime", "us insn"),
    ("command", "name arguments help more"),
    ("step", "command ok error"),
];

/// The same for what is inside of them.
const INNER: &[(&str, &str, &str)] = &[
    ("device", "waited", "on class property"),
    ("device", "cause", "device reason"),
    ("why", "waited", "on class property"),
    ("why", "cause", "device reason"),
    ("isolation", "streams", "iommu stream"),
    ("node", "properties", "name value"),
    (
        "walk",
        "levels",
        "stage level table index descriptor meaning attributes",
    ),
    ("domain", "streams", "iommu stream"),
];

/// Runs commands that between them give every kind.
fn all() -> Booted {
    let bench = Bench::new();
    bench.sim.retire(1);
    let proof = bench.run("dma verify --json disk@1").record("dma");
    let iova = &proof["iova"];
    bench.boot(&format!(
        "report=json run=\"help; devices; why orphan@4; why disk@1; isolation; tree; driver list; \
         iommu; streams; ste iommu@1000000 5; walk disk@1 {iova}; domains; \
         dma read engine@2 0xabcd000; faults; space engine@2 attach b; dma verify; clocks; cpus; together 2; bench cores; irqs; mem; dmesg; uptime; bench alloc; \
         hostile engine@2 read 0xabcd000; hostile engine@2 storm; \
         unbind iommu@1000000\""
    ))
}

fn fields(record: &Value) -> BTreeSet<&str> {
    let object = record.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

fn words(list: &str) -> BTreeSet<&str> {
    list.split_whitespace().collect()
}

#[test]
fn every_kind_has_exactly_the_fields_that_are_documented() {
    let booted = all();
    assert_eq!(booted.text(), "", "text among the records");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for record in all_records(&booted.shown) {
        let kind = record["kind"].as_str().expect("a kind");
        let known = FIELDS.iter().find(|(name, _)| *name == kind);
        let (_, expected) = known.unwrap_or_else(|| panic!("unknown kind {kind}"));
        let mut expected = words(expected);
        expected.insert("kind");
        assert_eq!(fields(&record), expected, "{kind}");
        *seen.entry(kind.to_owned()).or_default() += 1;
    }
    let seen: BTreeSet<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(seen, FIELDS.iter().map(|(kind, _)| *kind).collect());
}

#[test]
fn what_is_inside_of_records_is_documented_too() {
    let booted = all();
    for (kind, list, expected) in INNER {
        let mut found = false;
        for record in booted.records(kind) {
            for item in record[list].as_array().expect(list) {
                assert_eq!(fields(item), words(expected), "{kind}.{list}");
                found = true;
            }
        }
        assert!(found, "no {kind} with {list}");
    }
}

#[test]
fn the_manual_names_every_kind_and_field() {
    let manual = include_str!("../../../../docs/records.md");
    let section = |kind: &str| {
        let start = manual.find(&format!("\n### `{kind}`\n"));
        let rest = &manual[start.unwrap_or_else(|| panic!("no section {kind}")) + 1..];
        rest[3..].split("\n### ").next().unwrap().to_owned()
    };
    for (kind, list) in FIELDS {
        let text = section(kind);
        for field in words(list) {
            assert!(text.contains(&format!("`{field}`")), "{kind}.{field}");
        }
    }
    for (kind, list, fields) in INNER {
        for field in words(fields) {
            assert!(
                section(kind).contains(&format!("`{field}`")),
                "{kind}.{list}.{field}"
            );
        }
    }
}

#[test]
fn text_becomes_records_for_one_command_only() {
    let booted = Bench::new().run("uptime; uptime --json; uptime");
    let lines: Vec<&str> = booted.shown.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], lines[2]);
    assert!(lines[1].starts_with("@{\"kind\":\"uptime\""));
}

#[test]
fn the_main_job_reports_its_transfers_and_the_state() {
    let booted = Bench::new().boot("report=json");
    let count = |kind| booted.records(kind).len();
    assert_eq!((count("dma"), count("device"), count("iommu")), (3, 7, 1));
    assert_eq!(
        (count("isolation"), count("boot"), count("step")),
        (3, 1, 0)
    );
    let digests = booted.records("dma");
    let digests: Vec<&str> = digests
        .iter()
        .filter_map(|dma| dma["sha256"].as_str())
        .collect();
    assert_eq!(digests, [DIGEST]);
    // People read on.
    assert!(booted.text().contains("OK: 3 proofs of DMA, none failed\n"));
}

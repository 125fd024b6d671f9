//! `mastiff plan` as people and scripts call it: exit statuses, text, records, and one
//! line for everything that is no device tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mastiff_dt::build::TreeBuilder;
use serde_json::Value;

/// A tree in a file of its own, which goes with this.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &[u8]) -> Self {
        let name = format!("{name}-{}.dtb", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, content).expect("the file can be written");
        Self(path)
    }

    fn plan(&self, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mastiff"));
        command.arg("plan").arg(&self.0).args(options);
        command.output().expect("mastiff runs")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is text")
}

fn records(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout).lines();
    lines
        .map(|line| serde_json::from_str(line).expect("each line is a record"))
        .collect()
}

fn record<'r>(records: &'r [Value], name: &str) -> &'r Value {
    let mut named = records.iter().filter(|record| record["name"] == name);
    named
        .next()
        .unwrap_or_else(|| panic!("no record of {name}"))
}

/// A master behind an IOMMU with a clock, listed before both, and a bus with a map.
fn machine() -> TreeBuilder {
    TreeBuilder::new()
        .node("dma@1", |n| {
            n.compatible(&["vendor,dma"]).cells("iommus", &[1, 5, 1, 9])
        })
        .node("iommu@2", |n| {
            n.compatible(&["arm,smmu-v3"])
                .u32("#iommu-cells", 1)
                .phandle(1)
                .cells("clocks", &[2])
        })
        .node("clock", |n| {
            n.compatible(&["fixed-clock"])
                .u32("#clock-cells", 0)
                .u32("clock-frequency", 24_000_000)
                .phandle(2)
        })
        .node("pcie@3", |n| {
            n.compatible(&["pci-host-ecam-generic"])
                .string("device_type", "pci")
                .u32("iommu-map-mask", 0xff)
                .cells("iommu-map", &[0, 1, 0x100, 0x80, 0x80, 1, 0x200, 8])
        })
        .node("off", |n| {
            n.compatible(&["vendor,dma"]).string("status", "disabled")
        })
}

#[test]
fn with_a_driver_for_everything_all_is_bound_in_order() {
    let file = File::new("all", &machine().blob());
    let output = file.plan(&["--drivers", "all", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty());
    let records = records(&output);
    assert_eq!(records.len(), 5);
    let order = |name| record(&records, name)["order"].as_u64();
    assert!(order("/clock") < order("/iommu@2") && order("/iommu@2") < order("/dma@1"));
    let dma = record(&records, "/dma@1");
    for (field, expected) in [
        ("kind", "device".into()),
        ("driver", "vendor,dma".into()),
        ("state", "bound".into()),
        ("probes", 1.into()),
        ("iommu", "/iommu@2".into()),
        ("domain", "dma".into()),
        ("compatible", vec!["vendor,dma"].into()),
        ("cause", Value::Array(vec![])),
    ] {
        assert_eq!(dma[field], expected, "{field}");
    }
    let waited = &record(&records, "/iommu@2")["waited"][0];
    assert_eq!(waited["on"], "/clock");
    assert_eq!(waited["class"], "clock");
    assert_eq!(waited["property"], "clocks");
    let streams = &dma["streams"][0];
    assert_eq!(
        (&streams["iommu"], &streams["property"]),
        (&"/iommu@2".into(), &"iommus".into())
    );
    assert_eq!(streams["ids"], Value::from(vec![5, 9]));
    let map = &record(&records, "/pcie@3")["streams"][0];
    assert_eq!(
        (&map["property"], &map["mask"]),
        (&"iommu-map".into(), &0xff.into())
    );
    assert_eq!(
        map["ranges"][1],
        serde_json::json!({"first": 0x80, "id": 0x200, "count": 8})
    );
    assert_eq!(record(&records, "/off")["state"], "disabled");
}

#[test]
fn the_images_drivers_leave_what_they_are_not_for() {
    let file = File::new("image", &machine().blob());
    let output = file.plan(&["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let of_image = records(&output);
    assert_eq!(record(&of_image, "/dma@1")["state"], "unclaimed");
    assert_eq!(record(&of_image, "/dma@1")["driver"], Value::Null);
    assert_eq!(record(&of_image, "/iommu@2")["driver"], "smmuv3");
    let said = file.plan(&["--drivers", "image"]);
    let said = text(&said.stdout);
    assert!(said.contains("/dma@1  no driver"), "{said}");
    let last = said.lines().last();
    assert_eq!(
        last,
        Some("5 devices: 3 bound, 0 waiting, 0 failed, 1 unclaimed, 1 disabled")
    );
}

/// An overlay with this as its only fragment, for the root.
fn overlay(name: &str, fill: impl FnOnce(TreeBuilder) -> TreeBuilder) -> File {
    let fragment = |n: TreeBuilder| n.string("target-path", "/").node("__overlay__", fill);
    File::new(
        name,
        &TreeBuilder::new().node("fragment@0", fragment).blob(),
    )
}

#[test]
fn overlays_come_after_what_could_be_bound_and_wake_who_waits_for_them() {
    // The overlays' phandles come after the tree's: the IOMMU is going to be 3.
    let tree = TreeBuilder::new()
        .node("dma@1", |n| {
            n.compatible(&["vendor,dma"]).cells("iommus", &[3, 5])
        })
        .node("other", |n| n.compatible(&["vendor,other"]).phandle(2));
    let file = File::new("overlaid", &tree.blob());
    let iommu = overlay("iommu", |n| {
        n.node("iommu@2", |n| {
            n.compatible(&["vendor,iommu"])
                .u32("#iommu-cells", 1)
                .phandle(1)
        })
    });
    let more = overlay("more", |n| {
        n.node("more", |n| n.compatible(&["vendor,more"]))
    });
    assert_eq!(file.plan(&["--drivers", "all"]).status.code(), Some(1));
    let [iommu, more] = [&iommu, &more].map(|file| file.0.to_str().expect("a path"));
    let options = ["--drivers", "all", "--json", "--overlay", iommu];
    let output = file.plan(&[&options[..], &["--overlay", more]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let records = records(&output);
    for (name, attempts, order) in [
        ("/other", 1, 0),
        ("/iommu@2", 1, 1),
        ("/dma@1", 2, 2),
        ("/more", 1, 3),
    ] {
        let device = record(&records, name);
        assert_eq!(device["state"], "bound", "{name}");
        assert_eq!(
            (&device["attempts"], &device["order"]),
            (&attempts.into(), &order.into()),
            "{name}"
        );
    }
    assert_eq!(record(&records, "/dma@1")["iommu"], "/iommu@2");
}

#[test]
fn an_overlay_that_is_wrong_is_one_line_that_names_it_and_status_2() {
    let file = File::new("under", &machine().blob());
    let none = File::new("none", &TreeBuilder::new().blob());
    let torn = File::new("torn", &machine().blob()[..100]);
    for (wrong, said) in [(&none, "no fragment"), (&torn, "at byte 0x")] {
        let path = wrong.0.to_str().expect("a path");
        let output = file.plan(&["--overlay", path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let error = text(&output.stderr);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(path) && error.contains(said), "{error}");
    }
    let output = file.plan(&["--overlay", "/nowhere/at-all.dtbo"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/at-all.dtbo"));
}

#[test]
fn what_cannot_bind_is_status_1_with_its_cause() {
    let tree = machine().node("lost", |n| {
        n.compatible(&["vendor,lost"]).cells("clocks", &[77])
    });
    let file = File::new("stuck", &tree.blob());
    let output = file.plan(&["--drivers", "all", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let records = records(&output);
    let lost = record(&records, "/lost");
    assert_eq!(
        (&lost["state"], &lost["order"]),
        (&"failed".into(), &Value::Null)
    );
    assert_eq!(lost["cause"][0]["device"], "/lost");
    let reason = lost["cause"][0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("clocks[0]: phandle 0x4d names no node"),
        "{reason}"
    );
    let output = file.plan(&["--drivers", "all"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.contains("failed  /lost") && said.contains("names no node"),
        "{said}"
    );
}

/// One line that names the file and says at which byte, and status 2.
fn refuse(name: &str, blob: &[u8]) -> String {
    let file = File::new(name, blob);
    for options in [&["--json"][..], &["--drivers", "all"]] {
        let output = file.plan(options);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
        assert!(said.contains(name) && said.contains("at byte 0x"), "{said}");
    }
    let output = file.plan(&[]);
    text(&output.stderr).to_owned()
}

#[test]
fn a_broken_blob_is_one_line_with_its_offset_and_status_2() {
    let blob = machine().blob();
    assert!(refuse("empty", &[]).contains("at byte 0x0: 0 bytes are too short"));
    for len in [1, 39, 40, 100, blob.len() / 2, blob.len() - 1] {
        refuse("truncated", &blob[..len]);
    }
    let swapped: Vec<u8> = blob
        .chunks(4)
        .flat_map(|word| word.iter().rev().copied())
        .collect();
    assert!(refuse("endian", &swapped).contains("at byte 0x0: magic is 0xedfe0dd0"));
    // Where the structure block starts: no token.
    let structure = u32::from_be_bytes(blob[8..12].try_into().unwrap()) as usize;
    let mut mutated = blob.clone();
    mutated[structure + 3] = 0x77;
    let said = refuse("mutated", &mutated);
    assert!(
        said.contains(&format!("at byte {structure:#x}: 0x77 is no token")),
        "{said}"
    );
}

#[test]
fn no_byte_of_a_blob_that_is_wrong_ends_in_anything_else() {
    let blob = machine().blob();
    for at in (0..blob.len()).step_by(61) {
        let mut mutated = blob.clone();
        mutated[at] ^= 0xff;
        let output = File::new(&format!("flip{at}"), &mutated).plan(&["--drivers", "all"]);
        let status = output.status.code();
        assert!(matches!(status, Some(0..=2)), "byte {at}: {status:?}");
        assert_eq!(status == Some(2), output.stdout.is_empty(), "byte {at}");
    }
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_mastiff"))
        .args(["plan", "/nowhere/at-all.dtb"])
        .output()
        .expect("mastiff runs");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("/nowhere/at-all.dtb") && said.lines().count() == 1,
        "{said}"
    );
    let file = File::new("usage", &machine().blob());
    assert_eq!(file.plan(&["--drivers", "some"]).status.code(), Some(2));
    assert_eq!(file.plan(&["--board", "none"]).status.code(), Some(2));
}

#[test]
fn an_enormous_compatible_does_not_make_an_enormous_record() {
    let long = "x".repeat(1_900_000);
    let tree = machine()
        .node("giant", |n| n.compatible(&["vendor,giant", &long]))
        .node("first", |n| n.compatible(&[&long, "vendor,giant"]));
    let file = File::new("giant", &tree.blob());
    for options in [&["--drivers", "all"][..], &["--drivers", "all", "--json"]] {
        let output = file.plan(options);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout.len() < 8000, "{}", output.stdout.len());
    }
    let output = file.plan(&["--drivers", "all", "--json"]);
    let records = records(&output);
    assert_eq!(record(&records, "/first")["state"], "bound");
    let shown = &record(&records, "/giant")["compatible"];
    assert_eq!(
        *shown,
        serde_json::json!(["vendor,giant", "... 1 more, too long to show"])
    );
}

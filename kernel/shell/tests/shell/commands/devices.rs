//! Devices: listed, explained, bound, unbound, suspended.

use mastiff_shell::Ending;
use serde_json::json;

use super::{fails, shows};
use crate::bench::*;

#[test]
fn devices_are_a_table() {
    assert_eq!(
        shows("devices"),
        "\
device          driver  state      domain   streams  tries  waited for
/iommu@1000000  iommu   bound      none     -        1      -
/disk@1         disk    bound      dma      0x5      2      /iommu@1000000
/engine@2       engine  bound      dma      0x6      2      /iommu@1000000
/bus@3          bus     bound      none     -        1      -
/orphan@4       -       unclaimed  none     -        0      -
/off@5          engine  disabled   none     -        0      -
/bus@3/00:01.0  -       unclaimed  blocked  0x8      0      -
"
    );
}

#[test]
fn why_tells_bound_unclaimed_disabled_and_waiting_apart() {
    for (command, said) in [
        ("why /bus@3", "/bus@3: bound by bus without waiting\n"),
        (
            "why disk@1",
            "/disk@1: bound by disk after waiting for iommu /iommu@1000000 (iommus)\n",
        ),
        ("why orphan@4", "/orphan@4: no driver in this image\n"),
        ("why off@5", "/off@5: node disabled\n"),
    ] {
        assert_eq!(shows(command), said);
    }
    let said = Bench::new()
        .boot("driver.late=iommu run=\"why disk@1\"")
        .shown;
    assert_eq!(
        said,
        "/disk@1: waits for iommu /iommu@1000000 (iommus)\n  \
         /iommu@1000000: its driver iommu is held back; `driver add` registers it\n"
    );
}

#[test]
fn a_cause_is_recorded_only_of_what_waits_or_failed() {
    let bench = Bench::new();
    let devices = bench.boot("driver.late=iommu report=json run=uptime");
    for device in devices.records("device") {
        let troubled = ["waiting", "failed"].contains(&device["state"].as_str().unwrap());
        let causes = device["cause"].as_array().unwrap().len();
        assert_eq!(causes > 0, troubled, "{device}");
    }
    let why = Bench::new().run("why --json orphan@4").record("why");
    assert_eq!(
        why["cause"],
        json!([{"device": "/orphan@4", "reason": "no driver in this image"}])
    );
}

#[test]
fn the_tree_is_shown_as_its_source() {
    let tree = base().node("a@1", |n| {
        n.compatible(&["x,y", "z"])
            .flag("dma-coherent")
            .u32("one", 0x10)
            .cells("two", &[1, 0xdead_beef])
            .bytes("odd", &[1, 2, 3])
            .string("status", "disabled")
            .node("b", |n| n.string("quoted", "say \"x\""))
    });
    let booted = Bench::new().boot_with(tree, &[], "run=\"tree /a@1\"");
    assert_eq!(
        booted.shown,
        "\
/a@1  (disabled)
    compatible = \"x,y\", \"z\"
    dma-coherent
    one = <0x10>
    two = <0x1 0xdeadbeef>
    odd = [01 02 03]
    status = \"disabled\"
/a@1/b  (disabled)
    quoted = \"say \\\"x\\\"\"
"
    );
    assert!(shows("tree").starts_with("/\n    #address-cells = <0x2>\n"));
}

#[test]
fn unbinding_and_binding_show_what_changed() {
    let bench = Bench::new();
    let booted = bench.run("unbind iommu@1000000; bind /iommu@1000000; dma verify");
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    let (unbound, bound) = booted
        .shown
        .split_at(booted.shown.rfind("device  ").unwrap());
    assert!(
        unbound.contains("/disk@1         disk    waiting    none    0x5"),
        "{unbound}"
    );
    assert!(
        unbound.contains("/iommu@1000000  iommu   unclaimed  none"),
        "{unbound}"
    );
    assert_eq!(unbound.lines().count(), 4, "{unbound}");
    assert!(
        bound.contains("/disk@1         disk    bound  dma     0x5      3"),
        "{bound}"
    );
}

#[test]
fn what_stood_on_a_bus_is_shown_to_be_gone_and_back() {
    let booted = Bench::new().run("unbind --json /bus@3; devices; bind --json /bus@3");
    let states: Vec<_> = booted
        .records("device")
        .iter()
        .map(|device| format!("{} {}", device["name"], device["state"]))
        .collect();
    assert_eq!(
        states,
        [
            "\"/bus@3\" \"unclaimed\"",
            "\"/bus@3/00:01.0\" \"unclaimed\"",
            "\"/bus@3\" \"bound\"",
            "\"/bus@3/00:01.0\" \"unclaimed\"",
        ]
    );
    assert!(!booted.text().contains("00:01.0"), "{}", booted.shown);
}

#[test]
fn a_late_driver_is_added_and_taken_back() {
    let booted = Bench::new().boot(
        "driver.late=iommu driver.skip=bus \
         run=\"driver list; driver add iommu; dma verify; driver remove iommu; devices\"",
    );
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    for line in [
        "iommu   late        0",
        "bus     skipped     0",
        "disk    registered  0",
        "/disk@1         disk    bound  dma     0x5      2      /iommu@1000000",
        "/engine@2       engine  waiting    none    0x6      2      /iommu@1000000",
    ] {
        assert!(booted.shown.contains(line), "{line}\n{}", booted.shown);
    }
}

#[test]
fn rescan_tries_again_what_failed() {
    let bench = Bench::new();
    bench
        .iommu
        .inject()
        .fail(mastiff_testkit::inject::Step::Attach, 0);
    let booted = bench.run("rescan; rescan");
    assert!(
        booted.shown.contains("/disk@1  disk    bound"),
        "{}",
        booted.shown
    );
    assert!(
        booted.shown.ends_with("\nnothing changed\n"),
        "{}",
        booted.shown
    );
}

#[test]
fn suspended_devices_are_shown_and_left_alone() {
    let booted = Bench::new().run("suspend --json; devices; resume --json; dma verify");
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    let devices = booted.records("device");
    let (suspended, resumed) = devices.split_at(devices.len() / 2);
    assert!(
        suspended
            .iter()
            .all(|device| device["suspended"] == true && device["state"] == "bound")
    );
    assert!(
        resumed
            .iter()
            .all(|device| device["suspended"] == false && device["state"] == "bound")
    );
    assert_eq!(suspended.len(), resumed.len());
    assert!(suspended.iter().any(|device| device["name"] == ENGINE));
    assert!(booted.text().contains("suspended"));
    for command in [
        "dma verify",
        "disk disk@1 hash",
        "run",
        "space engine@2 detach",
    ] {
        let booted = Bench::new().run(&format!("suspend; {command}"));
        assert_eq!(booted.ending, Ending::PowerOff(1));
        assert!(
            booted
                .shown
                .contains(&format!("{command}: the devices are suspended"))
        );
    }
    let booted = Bench::new().run("suspend; unbind disk@1");
    assert!(
        booted
            .shown
            .contains("unbind disk@1: the devices are suspended"),
        "{}",
        booted.shown
    );
    assert!(fails("resume").contains("not suspended"));
}

#[test]
fn a_driver_that_a_device_cannot_have_fails_the_boot() {
    for wrong in ["engine@2:nobody", "engine@2:disk", "nothing@7:engine"] {
        let booted = Bench::new().boot(&format!("driver.override={wrong} run=uptime"));
        assert_eq!(booted.ending, Ending::PowerOff(1), "{wrong}");
    }
    let booted = Bench::new().boot("driver.override=engine@2:engine run=uptime");
    assert_eq!(booted.ending, Ending::PowerOff(0));
}

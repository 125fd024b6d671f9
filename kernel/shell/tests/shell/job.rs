//! The main job: when it succeeds, when it fails, and what it says of each master.

use mastiff_shell::Ending;
use serde_json::json;

use crate::bench::*;

const OK: Ending = Ending::PowerOff(0);
const FAILED: Ending = Ending::PowerOff(1);

#[test]
fn every_master_proves_its_dma_and_the_disk_is_hashed() {
    let bench = Bench::new();
    let tree = tree().node("gone@6", |n| {
        n.compatible(&["test,orphan"]).string("status", "disabled")
    });
    let booted = bench.boot_with(tree, &bench.drivers(), "");
    assert_eq!(booted.ending, OK);
    let text = booted.text();
    for line in [
        "Probe story",
        "  bound     /disk@1 [disk], waited for iommu /iommu@1000000 (iommus)",
        "  and 2 without a driver here; `devices` lists them",
        "  and 1 disabled; `devices` lists them",
        "DMA, verified byte by byte",
        "OK: 3 proofs of DMA, none failed",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\n{text}");
    }
    assert!(text.contains(&format!("  sha256 {DIGEST}\n")), "{text}");
    assert!(text.contains("  /disk@1: 64 KiB read, device address 0x"));
    assert!(text.contains("  /engine@2: 128 B moved and compared, device address 0x"));
    assert!(!text.contains("no disk"), "{text}");
}

#[test]
fn the_story_has_suppliers_first_and_tells_why_one_failed() {
    let bench = Bench::new();
    let drivers = [
        bench.master("disk", Is::Dead),
        bench.master("engine", Is::Engine),
        bench.iommu_driver(),
    ];
    let text = bench.boot_with(tree(), &drivers, "").text();
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}\n{text}"));
    let iommu = at("  bound     /iommu@1000000 [iommu]\n");
    let engine = at("  bound     /engine@2 [engine], waited for iommu");
    let disk = at("  failed    /disk@1 [disk], waited for iommu");
    assert!(iommu < engine && engine < disk);
    at("\n             /disk@1: unsupported: a dead device (0x0)\n");
    // It could have had a driver, but the tree has it off.
    at("  disabled  /off@5 [engine]\n");
}

#[test]
fn a_proof_that_fails_fails_the_boot() {
    let bench = Bench::new();
    let drivers = [
        bench.master("disk", Is::Disk),
        bench.master("engine", Is::Liar),
        bench.iommu_driver(),
    ];
    let booted = bench.boot_with(tree(), &drivers, "report=json");
    assert_eq!(booted.ending, FAILED);
    let text = booted.text();
    let why = "byte 0x9 came back as 0x00 instead of 0x5a";
    assert!(
        text.contains(&format!("  /engine@2: FAILED: {why}\n")),
        "{text}"
    );
    assert!(text.contains("FAILED: 1 of 3 proofs of DMA\n"), "{text}");
    let bad = booted
        .records("dma")
        .into_iter()
        .find(|dma| dma["ok"] == false);
    let bad = bad.expect("a record of the failure");
    assert_eq!(
        (&bad["device"], &bad["error"]),
        (&json!(ENGINE), &json!(why))
    );
}

#[test]
fn a_disk_that_breaks_off_fails_the_boot() {
    let bench = Bench::new();
    let drivers = [bench.master("disk", Is::BrokenDisk), bench.iommu_driver()];
    let booted = bench.boot_with(tree(), &drivers, "report=json");
    assert_eq!(booted.ending, FAILED);
    let text = booted.text();
    assert!(text.contains("  /disk@1: FAILED: transfer: ABORTED (status 0x7)\n"));
    assert!(text.contains("FAILED: 1 of 2 proofs of DMA\n"), "{text}");
    assert!(
        booted
            .records("dma")
            .iter()
            .all(|dma| dma["sha256"].is_null())
    );
}

#[test]
fn without_a_disk_what_is_there_is_proved() {
    let bench = Bench::new();
    let drivers = [bench.master("engine", Is::Engine), bench.iommu_driver()];
    let booted = bench.boot_with(tree(), &drivers, "");
    assert_eq!(booted.ending, OK);
    let text = booted.text();
    assert!(text.contains("  no disk is bound: nothing to read and hash\n"));
    assert!(text.contains("OK: 1 proof of DMA, none failed\n"), "{text}");
}

#[test]
fn no_master_fails_the_boot_and_each_that_might_have_been_one_says_why() {
    let bench = Bench::new();
    let booted = bench.boot_with(tree(), &[bench.master("disk", Is::Disk)], "report=json");
    assert_eq!(booted.ending, FAILED);
    let text = booted.text();
    assert!(text.contains("FAILED: no bus master is bound, so no DMA was proved\n"));
    let last: Vec<&str> = text.lines().rev().take(2).collect();
    assert!(
        last[1].starts_with("  /disk@1: refused: its IOMMU /iommu@1000000"),
        "{text}"
    );
    assert_eq!(last[0], "  /iommu@1000000: no driver in this image");
    assert_eq!(booted.records("dma").len(), 0);
}

#[test]
fn masters_that_can_prove_nothing_are_not_called_unbound() {
    let bench = Bench::new();
    let drivers = [bench.master("engine", Is::Mute), bench.iommu_driver()];
    let booted = bench.boot_with(tree(), &drivers, "");
    assert_eq!(booted.ending, FAILED);
    let text = booted.text();
    assert!(
        text.contains(
            "FAILED: no bus master that is bound can prove its DMA, so no DMA was proved\n"
        ),
        "{text}"
    );
}

#[test]
fn the_first_verified_block_is_told_in_instructions_and_time() {
    let mut bench = Bench::new();
    bench.instructions = Some(7_000_000);
    let boot = bench.boot("report=json").record("boot");
    assert_eq!(
        (&boot["insn"], &boot["us"]),
        (&json!(7_000_000), &json!(1_000_002))
    );
    // Without a proof there is no such block.
    let boot = bench.boot("report=json run=uptime").record("boot");
    assert_eq!((&boot["insn"], &boot["us"]), (&json!(null), &json!(null)));
}

#[test]
fn a_bar_shows_progress_to_whoever_watches() {
    let watched = Bench::new().boot("interactive=1").shown;
    assert!(watched.contains("\r  [################................]  50 %  0 of 0 MiB"));
    assert!(watched.contains(DIGEST));
    assert!(!Bench::new().boot("").shown.contains('\r'));
}

/// Name and reach of every master, from the records and from the words.
fn isolation(booted: &Booted) -> Vec<(String, String, String)> {
    let text = booted.text();
    let words = |name: &str| {
        let lines: Vec<&str> = text
            .lines()
            .skip_while(|line| *line != "Isolation")
            .collect();
        let line = lines
            .iter()
            .find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name}\n{text}"));
        line.rsplit("  ").next().unwrap().to_owned()
    };
    let records = booted.records("isolation").into_iter();
    records
        .map(|record| {
            let name = record["device"].as_str().unwrap();
            (
                name.to_owned(),
                record["reach"].as_str().unwrap().to_owned(),
                words(name),
            )
        })
        .collect()
}

fn expect(booted: &Booted, expected: &[(&str, &str, &str)]) {
    let found = isolation(booted);
    let found: Vec<(&str, &str, &str)> = found.iter().map(|(a, b, c)| (&**a, &**b, &**c)).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_each_master_reaches() {
    let bench = Bench::new();
    let drivers = [
        bench.master("disk", Is::Disk),
        bench.master("engine", Is::Dead),
        bench.bus_driver(),
        bench.iommu_driver(),
    ];
    expect(
        &bench.boot_with(tree(), &drivers, "report=json"),
        &[
            (DISK, "mapped", "only what is mapped: 4 KiB now (ASID 1)"),
            (ENGINE, "nothing", "nothing: its stream aborts"),
            ("/bus@3/00:01.0", "nothing", "nothing: its stream aborts"),
        ],
    );
}

#[test]
fn an_iommu_that_is_not_bound_holds_nobody_back() {
    let bench = Bench::new();
    let drivers = [bench.master("disk", Is::Disk), bench.bus_driver()];
    expect(
        &bench.boot_with(tree(), &drivers, "report=json"),
        &[
            (
                DISK,
                "unknown",
                "unknown: its IOMMU is not bound, and no bus holds it back",
            ),
            (
                ENGINE,
                "unknown",
                "unknown: its IOMMU is not bound, and no bus holds it back",
            ),
            (
                "/bus@3/00:01.0",
                "nothing",
                "nothing: its bus mastering is off",
            ),
        ],
    );
}

#[test]
fn direct_and_identity_dma_reach_all_memory_and_say_why() {
    let bench = Bench::new();
    let drivers = [bench.master("disk", Is::Disk), bench.iommu_driver()];
    let only = |iommus: &[u32]| master(iommu(base()), "disk@1", "test,disk", iommus);
    expect(
        &bench.boot_with(only(&[1, 5]), &drivers, "report=json iommu.passthrough=1"),
        &[(
            DISK,
            "all",
            "all memory that it can address: identity domain",
        )],
    );
    expect(
        &bench.boot_with(only(&[]), &drivers, "report=json"),
        &[(
            DISK,
            "all",
            "all memory that it can address: direct DMA: it has no IOMMU",
        )],
    );
    let booted = bench.boot_with(
        only(&[1, 5]),
        &drivers[..1],
        "report=json iommu.missing=direct",
    );
    let (_, reach, words) = isolation(&booted).remove(0);
    assert_eq!(reach, "all");
    assert!(
        words.contains("iommu.missing=direct") && words.contains("no driver"),
        "{words}"
    );
    // The story names the decision as well.
    assert!(
        booted
            .text()
            .contains("\n             policy: direct DMA by iommu.missing=direct")
    );
}

#[test]
fn a_stream_shared_with_a_bound_master_is_no_stream_that_aborts() {
    let bench = Bench::new();
    let drivers = [
        bench.master("disk", Is::Disk),
        bench.master("engine", Is::Dead),
        bench.iommu_driver(),
    ];
    let tree = master(iommu(base()), "disk@1", "test,disk", &[1, 5]);
    let tree = master(tree, "engine@2", "test,engine", &[1, 5]);
    expect(
        &bench.boot_with(tree, &drivers, "report=json"),
        &[
            (DISK, "mapped", "only what is mapped: 4 KiB now (ASID 1)"),
            (
                ENGINE,
                "mapped",
                "only what is mapped: 4 KiB now (as much as /disk@1, whose stream it has)",
            ),
        ],
    );
}

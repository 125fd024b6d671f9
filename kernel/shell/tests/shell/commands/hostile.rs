//! What a hostile master reaches, on a machine where it is stopped, on one where it is
//! not, and with a device that only seems to do what it is told.

use std::collections::BTreeMap;

use mastiff_shell::Ending;
use mastiff_testkit::inject::Step;
use serde_json::{Value, json};

use super::{fails, shows};
use crate::bench::*;

/// Attempts by what was aimed at: access and result.
fn attempts(booted: &Booted) -> BTreeMap<String, Vec<(String, String)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for record in booted.records("hostile") {
        let attempt = (text(&record["access"]), text(&record["result"]));
        all.entry(text(&record["target"]))
            .or_default()
            .push(attempt);
    }
    all
}

fn both(result: &str) -> Vec<(String, String)> {
    ["read", "write"]
        .map(|way| (way.into(), result.into()))
        .into()
}

#[test]
fn s32_an_iommu_stops_it_and_names_it() {
    let booted = Bench::new().run("hostile --json engine@2; dma verify");
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    let mut attempts = attempts(&booted);
    assert_eq!(attempts.remove("its own buffer"), Some(both("reached")));
    // The bench's device has 40 bits of an address.
    let somewhere = attempts.remove("somewhere").unwrap();
    assert!(somewhere.iter().all(|(_, result)| result != "reached"));
    for target in [
        "the kernel's data",
        "its buffer, unmapped",
        "the page of that, freed",
    ] {
        assert_eq!(attempts.remove(target), Some(both("stopped")), "{target}");
    }
    let random = attempts.remove("somewhere in memory").unwrap();
    assert!(random.len() == 16 && random.iter().all(|(_, result)| result == "stopped"));
    // What is bound and has registers, of which there is nothing here.
    assert_eq!(attempts, BTreeMap::new());
    for record in booted.records("hostile") {
        let own = record["target"] == "its own buffer";
        assert_eq!(record["events"], json!(if own { 0 } else { 16 }));
        assert_eq!(record["moved"], json!(if own { 64 } else { 0 }));
        assert_eq!(record["ok"], true);
    }
}

#[test]
fn s32_what_passes_unchanged_is_told_and_fails() {
    let bench = Bench::new();
    bench.sim.memory().allow_strays();
    let booted = bench.boot("iommu.passthrough=1 run=\"hostile --json engine@2\"");
    assert_eq!(booted.ending, Ending::PowerOff(1));
    let attempts = attempts(&booted);
    assert_eq!(attempts["its own buffer"], both("reached"));
    // It reads all; a write would do harm, except where nothing is any more.
    let leak = vec![
        ("read".to_owned(), "reached".to_owned()),
        ("write".to_owned(), "skipped".to_owned()),
    ];
    assert_eq!(attempts["the kernel's data"], leak);
    let last = booted.shown.lines().last().unwrap();
    assert!(last.contains(" attempts got through; see above"), "{last}");
    // The kernel's page is as it was.
    let data = booted.records("hostile");
    let data = data.iter().find(|r| r["target"] == "the kernel's data");
    assert_eq!(data.unwrap()["moved"], 64);
}

#[test]
fn a_write_that_gets_through_is_seen() {
    let bench = Bench::new();
    let booted =
        bench.boot("iommu.passthrough=1 run=\"hostile --json engine@2 write 0x40000000 32\"");
    assert_eq!(booted.ending, Ending::PowerOff(1), "{}", booted.shown);
    let record = booted.record("hostile");
    assert_eq!(
        (&record["result"], &record["moved"], &record["ok"]),
        (&json!("reached"), &json!(32), &json!(false))
    );
}

#[test]
fn a_device_that_does_nothing_proves_nothing() {
    let bench = Bench::new();
    let drivers = [bench.master("engine", Is::Mute), bench.iommu_driver()];
    let booted = bench.boot_with(tree(), &drivers, "run=\"hostile engine@2\"");
    assert_eq!(booted.ending, Ending::PowerOff(1));
    assert!(
        booted
            .shown
            .ends_with("it does not even reach its own memory, so nothing is proved\n"),
        "{}",
        booted.shown
    );
}

#[test]
fn one_address_at_a_time() {
    let said = shows("hostile engine@2 read 0xabcd000; hostile engine@2 write 0xabcd000 8");
    let lines: Vec<Vec<&str>> = said
        .lines()
        .filter(|line| line.starts_with("this address"))
        .map(|line| line.split_whitespace().skip(2).collect())
        .collect();
    assert_eq!(
        lines,
        [
            ["read", "0xabcd000", "stopped", "16", "-"],
            ["write", "0xabcd000", "stopped", "2", "-"]
        ]
    );
    // Bits that the device leaves out.
    let said = shows("hostile engine@2 read 0x120000001000");
    assert!(
        said.contains("its bus has it go to 0x20000001000 instead") || said.contains("go to"),
        "{said}"
    );
}

#[test]
fn s32_it_comes_back_from_where_it_was_unbound_or_suspended() {
    for (phase, attempts) in [("unbound", 4), ("waiting", 4), ("suspended", 2)] {
        let booted = Bench::new().run(&format!("hostile --json engine@2 {phase}; dma verify"));
        assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
        let records = booted.records("hostile");
        assert_eq!(records.len(), attempts);
        assert!(records.iter().all(|record| record["moved"] == 0));
    }
    assert_eq!(
        fails("hostile disk@1 unbound"),
        "/disk@1 is no bound master that can be aimed"
    );
}

#[test]
fn s30_a_storm_ends_with_the_stream_cut_off() {
    let booted = Bench::new().run("hostile --json engine@2 storm disk@1");
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    let storm = booted.record("storm");
    assert_eq!(
        (&storm["events"], &storm["bytes"]),
        (&json!(1024), &json!(4096))
    );
    assert_eq!(
        (&storm["quarantined"], &storm["ok"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(booted.record("dma")["sha256"], DIGEST);
    assert_eq!(
        shows("hostile engine@2 storm"),
        "  /engine@2: 4 KiB of faults, 1024 events heard, none lost; \
         its streams abort until it is attached anew\n"
    );
    let again = "all its streams abort: unbind it and bind it again first";
    for command in ["hostile engine@2", "hostile engine@2 read 0"] {
        let booted = Bench::new().run(&format!("hostile engine@2 storm; {command}"));
        assert!(booted.shown.ends_with(&format!("{command}: {again}\n")));
    }
}

#[test]
fn a_storm_of_several_takes_masters_that_can_be_aimed_and_each_once() {
    assert_eq!(
        fails("hostile engine@2 storm disk@1 with engine@2"),
        "/engine@2 is named twice"
    );
    assert_eq!(
        fails("hostile engine@2 storm with disk@1"),
        "/disk@1 is no bound master that can be aimed"
    );
}

#[test]
fn s30_a_storm_that_nobody_hears_or_cuts_off_is_a_failure() {
    let bench = Bench::new();
    bench.iommu.inject().fail(Step::Block, 0);
    let booted = bench.run("hostile --json engine@2 storm disk@1");
    assert_eq!(booted.ending, Ending::PowerOff(1));
    let storm = booted.record("storm");
    assert_eq!(
        storm["error"],
        "1024 events, and its stream was not cut off"
    );
    let bench = Bench::new();
    bench.sim.memory().allow_strays();
    let booted = bench.boot("iommu.passthrough=1 run=\"hostile engine@2 storm\"");
    assert_eq!(booted.ending, Ending::PowerOff(1));
    assert!(
        booted.shown.ends_with("no event came of it\n"),
        "{}",
        booted.shown
    );
}

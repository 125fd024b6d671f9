//! The bench: rows with what was counted, or no rows at all.

use crate::bench::*;

/// `sha256sum` of a mebibyte of the disk in pieces of 4 KiB, from the places that the
/// bench chooses.
const PLACES: &str = "54a67208a965ea231b4cc09bcb29896c017f03bd52c1422f0ea0c95dccf48df1";

#[test]
fn rows_say_what_an_operation_takes() {
    let bench = Bench::new();
    bench.sim.retire(1);
    let booted = bench.run("bench --json");
    let rows = booted.records("bench");
    let of = |name: &str, outstanding: Option<u64>| {
        let mut all = rows.iter();
        let row = all.find(|row| row["name"] == name && row["outstanding"].as_u64() == outstanding);
        row.unwrap_or_else(|| panic!("{name} {outstanding:?} in {rows:?}"))
    };
    for (name, outstanding) in [
        ("map-4k", Some(1)),
        ("map-4k", Some(4096)),
        ("map-64k", Some(256)),
        ("map-2m", Some(1)),
        ("list-32x4k", None),
        ("first-map", None),
        ("alloc-4k", None),
        ("attach", None),
        ("detach", None),
        ("read-4k-qd1", None),
        ("attempt", None),
        ("iommu-probe", None),
    ] {
        let row = of(name, outstanding);
        assert!(row["n"].as_u64() >= Some(1000), "{row}");
        assert_eq!(row["mode"], "strict");
        // This CPU retires nothing but looks at its counter.
        assert_eq!((&row["insn"], &row["insn_max"]), (&0.into(), &0.into()));
    }
    // Each unmapping waits once.
    assert_eq!(of("map-4k", Some(16))["syncs"], 1.0);
    // 64 MiB of memory do not hold them.
    let outstanding = |row: &serde_json::Value| row["outstanding"].as_u64();
    assert!(rows.iter().all(|row| outstanding(row) < Some(1 << 20)));
    assert_eq!(bench.sim.memory().live(), 0, "all is given back");
    let unbound = |record: &serde_json::Value| record["state"] == "waiting";
    assert!(!booted.records("device").iter().any(unbound));
}

#[test]
fn reads_are_of_what_is_on_the_disk() {
    let bench = Bench::new();
    bench.sim.retire(1);
    let booted = bench.run("disk disk@1 bench --json");
    let rows = booted.records("bench");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    // The disk has less than 128 KiB.
    assert_eq!(names, ["read-4k-qd1", "read-4k-qd32"]);
    for row in &rows {
        assert_eq!((&row["device"], &row["n"]), (&DISK.into(), &4096.into()));
        assert_eq!(row["sha256"], PLACES, "as it was computed elsewhere");
    }
}

#[test]
fn what_was_in_memory_before_is_no_read() {
    let bench = Bench::new();
    bench.sim.retire(1);
    let drivers = [bench.master("disk", Is::BrokenDisk), bench.iommu_driver()];
    let booted = bench.boot_with(tree(), &drivers, "run=\"disk disk@1 bench\"");
    assert_eq!(booted.ending, mastiff_shell::Ending::PowerOff(1));
    let said = "read-4k-qd1: not all that was read came from the disk";
    assert!(booted.shown.contains(said), "{}", booted.shown);
}

#[test]
fn a_counter_that_miscounts_is_not_believed() {
    let mut bench = Bench::new();
    bench.sim.retire(1);
    bench.turn = 3;
    let booted = bench.run("bench");
    assert_eq!(booted.ending, mastiff_shell::Ending::PowerOff(1));
    let said = "bench: the counter is not exact: it shows 3000000 for 2000000 instructions";
    assert_eq!(booted.shown.lines().last(), Some(said));
}

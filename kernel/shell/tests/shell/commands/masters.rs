//! Masters and disks: proved, read, left at work, switched.

use mastiff_shell::Ending;
use serde_json::json;

use super::{fails, shows};
use crate::bench::*;

#[test]
fn masters_are_verified_one_or_all() {
    let said = shows("dma verify");
    assert_eq!(said.lines().count(), 2, "{said}");
    // Disks first.
    assert!(
        said.starts_with("  /disk@1: 128 B moved and compared, device address 0x"),
        "{said}"
    );
    assert!(shows("dma verify engine@2").starts_with("  /engine@2: 128 B moved"));

    let bench = Bench::new();
    let drivers = [bench.master("engine", Is::Liar), bench.iommu_driver()];
    for (command, error) in [
        ("dma verify", "the DMA of 1 of 1 is not right; see above"),
        ("dma verify engine@2", "its DMA is not right; see above"),
    ] {
        let booted = bench.boot_with(tree(), &drivers, &format!("run=\"{command}\""));
        assert_eq!(booted.ending, Ending::PowerOff(1));
        let lines: Vec<&str> = booted.shown.lines().collect();
        assert!(
            lines[0].starts_with("  /engine@2: FAILED: byte 0x9"),
            "{lines:?}"
        );
        assert_eq!(lines[1], format!("{command}: {error}"));
    }
}

#[test]
fn disks_are_read_and_hashed() {
    let said = shows("disk disk@1 hash");
    assert!(
        said.starts_with("  /disk@1: 64 KiB read, device address 0x"),
        "{said}"
    );
    assert!(said.ends_with(&format!("\n  sha256 {DIGEST}\n")), "{said}");

    let booted = Bench::new().run("disk --json disk@1 hash; disk --json disk@1 read 1 2");
    let hash = booted.record("dma");
    assert_eq!(
        (&hash["bytes"], &hash["sha256"]),
        (&json!(65536), &json!(DIGEST))
    );
    let data = booted.records("data");
    let read: String = data
        .iter()
        .map(|data| data["data"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = content()
        .skip(BLOCK)
        .take(2 * BLOCK)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(read, expected.concat());
    assert_eq!(data[0]["at"], json!(512));
    assert_eq!(data[1]["at"], json!(1024));
    assert!(shows("disk disk@1 read 0").starts_with("00000000  00 01 02 03"));
}

#[test]
fn the_main_job_is_a_command_too() {
    let booted = Bench::new().run("run");
    assert_eq!(booted.ending, Ending::PowerOff(0));
    assert!(booted.shown.contains(DIGEST));
    let booted = Bench::new().boot_with(tree(), &[], "run=run");
    assert_eq!(booted.ending, Ending::PowerOff(1));
    assert!(
        booted
            .shown
            .ends_with("run: not every master's DMA was proved; see above\n")
    );
}

#[test]
fn a_master_is_left_at_work() {
    let bench = Bench::new();
    let booted = bench.run("dma begin engine@2; unbind disk@1; dma finish engine@2");
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    let diary = bench.diary.take();
    let at = |line: &str| diary.iter().position(|known| known == line).expect(line);
    assert!(at("/engine@2: begin") < at("/disk@1: quiesce"));
    assert!(at("/disk@1: quiesce") < at("/engine@2: finish"));
    assert!(fails("dma begin orphan@4").contains("no bound master"));
}

#[test]
fn spaces_are_attached_and_switched() {
    let text = shows("space engine@2 attach b; space engine@2 read 0x2000; space engine@2 detach");
    assert!(
        text.contains("/engine@2  b      read  0x2000  b     b"),
        "{text}"
    );
    let booted = Bench::new().run("space engine@2 attach a; space engine@2 switch 3 --json");
    let seen = booted.records("space");
    let columns = |name| {
        seen.iter()
            .map(|seen| seen[name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(columns("read"), [json!("a"), json!("b"), json!("a")]);
    assert_eq!(columns("written"), [json!("b"), json!("a"), json!("b")]);
    assert_eq!(columns("attached"), columns("written"));
    assert_eq!(seen[0]["switches"], 1);
    for (command, said) in [
        (
            "space disk@1 detach",
            "/disk@1 has no address spaces of its own",
        ),
        ("space engine@2 attach c", "no space c; there are: a, b"),
        (
            "space engine@2 map here",
            "the address must be a number, not here",
        ),
        (
            "space engine@2 switch 0",
            "1 to 1000 transfers can be made at a time",
        ),
        (
            "space engine@2 switch 1001",
            "1 to 1000 transfers can be made at a time",
        ),
    ] {
        assert_eq!(fails(command), said);
    }
    assert!(fails("space engine@2 unmap 0x1000").contains("0x1000"));
    assert!(fails("space engine@2 nonsense").starts_with("usage: space"));
}

#[test]
fn together_each_cpu_maps_and_reads_and_one_has_the_other_master_go_round() {
    let bench = Bench::new();
    let booted = bench.run("together 2 --json");
    let part = booted.record("together");
    assert_eq!((&part["cpu"], &part["trips"]), (&0.into(), &1.into()));
    // Once for each stretch of the disk, too.
    assert_eq!(part["maps"], 2 + BLOCKS);
    assert_eq!(part["bytes"], BLOCKS * BLOCK as u64);
    assert_eq!(
        (&part["sha256"], &part["ok"]),
        (&DIGEST.into(), &true.into())
    );
    assert_eq!(bench.sim.memory().live(), 0, "all is given back");
}

#[test]
fn together_all_cpus_are_at_it() {
    let bench = Bench::new();
    bench.sim.set_cpus(3);
    let booted = bench.run("unbind disk@1; together 40 --json; bench cores --json");
    let parts = booted.records("together");
    let column = |name: &str| -> Vec<u64> {
        parts
            .iter()
            .filter_map(|part| part[name].as_u64())
            .collect()
    };
    assert_eq!(
        (column("cpu"), column("maps")),
        (vec![0, 1, 2], vec![40; 3])
    );
    let mut trips = column("trips");
    trips.sort_unstable();
    assert_eq!(trips, [0, 0, 3], "one of them, every 16 times");
    assert_eq!(bench.sim.memory().live(), 0, "all is given back");
}

#[test]
fn together_what_goes_wrong_on_one_cpu_is_told_with_its_number() {
    let bench = Bench::new();
    let drivers = [bench.master("disk", Is::BrokenDisk), bench.iommu_driver()];
    let booted = bench.boot_with(tree(), &drivers, "run=\"together 1\"");
    assert_eq!(booted.ending, Ending::PowerOff(1));
    assert!(
        booted.text().contains("together 1: CPU 0: "),
        "{}",
        booted.text()
    );
}

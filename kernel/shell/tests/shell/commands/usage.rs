//! What is said where a command, its arguments or a name are wrong, and by `help`.

use mastiff_shell::Ending;
use serde_json::json;

use super::{fails, shows};
use crate::bench::*;

const HOSTILE: &str = "usage: hostile <device> [read|write <address> [bytes] | storm [disk] [with <device>...] | \
                       unbound|waiting|suspended | window]";

#[test]
fn wrong_arguments_get_one_clear_line() {
    let no_device = "no device nobody; `devices` lists them";
    for (command, said) in [
        ("frobnicate", "no such command; `help` lists them"),
        ("--json", "--json goes with a command"),
        ("help frobnicate", "no such command; `help` lists them"),
        ("help a b", "usage: help [command]"),
        ("devices x", "usage: devices"),
        ("why", "usage: why <device>"),
        ("why a b", "usage: why <device>"),
        ("why nobody", no_device),
        ("tree /no/where", "no node /no/where in the tree"),
        ("tree / /", "usage: tree [path]"),
        (
            "driver",
            "usage: driver list | add <driver> | remove <driver>",
        ),
        (
            "driver list x",
            "usage: driver list | add <driver> | remove <driver>",
        ),
        (
            "driver add",
            "usage: driver list | add <driver> | remove <driver>",
        ),
        ("driver add nobody", "no driver nobody in this image"),
        ("driver add disk", "driver disk is registered already"),
        ("driver remove nobody", "no driver nobody in this image"),
        ("bind", "usage: bind <device>"),
        ("bind nobody", no_device),
        ("bind disk@1", "it is bound already"),
        ("bind /off@5", "the tree disables it"),
        ("bind /orphan@4", "no driver in this image is for it"),
        ("unbind", "usage: unbind <device>"),
        ("unbind nobody", no_device),
        ("unbind /orphan@4", "it is not bound"),
        ("rescan x", "usage: rescan"),
        ("bench frobnicate", "no such bench; `help bench` lists them"),
        (
            "bench",
            "this CPU does not count instructions; QEMU's do with -icount shift=0",
        ),
        ("isolation x", "usage: isolation"),
        ("iommu x", "usage: iommu"),
        ("streams x", "usage: streams"),
        ("ste /iommu@1000000", "usage: ste <iommu> <stream>"),
        ("ste nobody 5", no_device),
        ("ste /disk@1 5", "/disk@1 is no bound IOMMU"),
        (
            "ste /iommu@1000000 many",
            "the stream must be a number, not many",
        ),
        (
            "ste /iommu@1000000 0x100000000",
            "a StreamID has 32 bits at most",
        ),
        ("walk /disk@1", "usage: walk <device> <iova>"),
        ("walk nobody 0", no_device),
        ("walk /disk@1 there", "the IOVA must be a number, not there"),
        ("walk /orphan@4 0", "/orphan@4 is attached to no domain"),
        ("domains x", "usage: domains"),
        ("faults x", "usage: faults"),
        (
            "dma",
            "usage: dma verify [device] | begin|finish <device> | read <device> <iova> [bytes]",
        ),
        (
            "dma frob",
            "usage: dma verify [device] | begin|finish <device> | read <device> <iova> [bytes]",
        ),
        ("dma verify nobody", no_device),
        (
            "dma verify /iommu@1000000",
            "/iommu@1000000 is no bound master that can prove its DMA",
        ),
        ("dma read nobody 0", no_device),
        (
            "dma read /engine@2 there",
            "the address must be a number, not there",
        ),
        (
            "dma read /engine@2 0 many",
            "the number of bytes must be a number, not many",
        ),
        (
            "dma read /engine@2 0 0",
            "1 to 4096 bytes can be read at a time",
        ),
        (
            "dma read /engine@2 0 4097",
            "1 to 4096 bytes can be read at a time",
        ),
        (
            "dma read /bus@3 0",
            "/bus@3 is no bound master that can be aimed",
        ),
        ("hostile", HOSTILE),
        ("hostile nobody", no_device),
        (
            "hostile disk@1",
            "/disk@1 is no bound master that can be aimed",
        ),
        ("hostile engine@2 bound", HOSTILE),
        ("hostile engine@2 read", HOSTILE),
        ("hostile engine@2 unbound 1", HOSTILE),
        (
            "hostile engine@2 read there",
            "the address must be a number, not there",
        ),
        (
            "hostile engine@2 write 0 4097",
            "1 to 4096 bytes can be moved at a time",
        ),
        (
            "hostile engine@2 read 0 0",
            "1 to 4096 bytes can be moved at a time",
        ),
        ("hostile engine@2 storm nobody", no_device),
        (
            "hostile engine@2 storm engine@2",
            "/engine@2 is no bound disk",
        ),
        (
            "disk /disk@1",
            "usage: disk <device> hash | read <block> [blocks] | bench",
        ),
        (
            "disk /disk@1 frob",
            "usage: disk <device> hash | read <block> [blocks] | bench",
        ),
        ("disk nobody hash", no_device),
        ("disk /engine@2 hash", "/engine@2 is no bound disk"),
        ("disk /engine@2 read 0", "/engine@2 is no bound disk"),
        (
            "disk /disk@1 read there",
            "the block must be a number, not there",
        ),
        (
            "disk /disk@1 read 0 many",
            "the number of blocks must be a number, not many",
        ),
        (
            "disk /disk@1 read 0 0",
            "1 block to 64 KiB can be shown at a time",
        ),
        (
            "disk /disk@1 read 0 129",
            "1 block to 64 KiB can be shown at a time",
        ),
        (
            "disk /disk@1 read 0 0x8000000000000000",
            "1 block to 64 KiB can be shown at a time",
        ),
        ("disk /disk@1 read 128", "beyond the disk's end"),
        (
            "disk /disk@1 read 0xffffffffffffffff",
            "beyond the disk's end",
        ),
        ("run x", "usage: run"),
        ("clocks x", "usage: clocks"),
        ("irqs x", "usage: irqs"),
        ("mem x", "usage: mem"),
        ("dmesg x", "usage: dmesg"),
        ("boot x", "usage: boot"),
        ("uptime x", "usage: uptime"),
        ("sleep", "usage: sleep <milliseconds>"),
        ("sleep long", "the time must be a number, not long"),
        ("sleep 60001", "60000 ms at most"),
        ("reboot x", "usage: reboot"),
        ("poweroff 1 2", "usage: poweroff [status]"),
        ("poweroff 256", "the status is 0 to 255"),
        ("poweroff many", "the status must be a number, not many"),
    ] {
        assert_eq!(fails(command), said, "{command}");
    }
}

#[test]
fn a_name_that_ends_two_devices_is_ambiguous() {
    let bench = Bench::new();
    let tree = tree().node("bus@6", |n| {
        n.compatible(&["test,bus"])
            .cells("iommu-map", &[0, 1, 0x10, 8])
    });
    let booted = bench.boot_with(tree, &bench.drivers(), "run=\"why 00:01.0\"");
    assert_eq!(
        booted.shown,
        "why 00:01.0: 00:01.0 is ambiguous, give the whole path: \
         /bus@3/00:01.0, /bus@6/00:01.0\n"
    );
}

#[test]
fn help_lists_every_command_and_has_more_on_each() {
    let list = Bench::new().run("help --json").records("command");
    assert!(list.len() > 20);
    assert_eq!(shows("help").lines().count(), list.len() + 1);
    let manual = include_str!("../../../../../docs/shell.md");
    for command in &list {
        assert_eq!(command["more"], json!(null));
        let name = command["name"].as_str().unwrap();
        let said = shows(&format!("help {name}"));
        let usage = format!("{name} {}", command["arguments"].as_str().unwrap());
        assert_eq!(said.lines().next(), Some(usage.trim_end()));
        assert!(said.lines().count() > 3, "{name} has no more");
        // The usage is as long as it is.
        assert!(said.lines().skip(1).all(|line| line.len() <= 80), "{said}");
        let row = format!("| `{}` |", usage.trim_end().replace('|', "\\|"));
        assert!(manual.contains(&row), "docs/shell.md lacks {row}");
    }
}

#[test]
fn lists_that_are_empty_say_so() {
    let run = |command: &str| {
        let booted = Bench::new().boot_with(base(), &[], &format!("run=\"{command}\""));
        assert_eq!(booted.ending, Ending::PowerOff(0));
        booted.shown
    };
    assert_eq!(run("devices"), "no devices\n");
    assert_eq!(run("iommu"), "no IOMMU is bound\n");
    assert_eq!(run("streams"), "no device has a stream\n");
    assert_eq!(run("domains"), "no domain lives\n");
    assert_eq!(run("faults"), "no faults\n");
    assert_eq!(run("isolation"), "no masters\n");
    assert_eq!(run("faults --json"), "");
    let said = Bench::new()
        .boot_with(base(), &[], "run=\"dma verify\"")
        .shown;
    assert_eq!(said, "dma verify: no bound master can prove its DMA\n");
}

#[test]
fn the_first_step_that_fails_is_the_last() {
    let booted = Bench::new().boot("report=json run=\"uptime; why nobody; echo not reached\"");
    assert_eq!(booted.ending, Ending::PowerOff(1));
    let error = "no device nobody; `devices` lists them";
    assert_eq!(
        booted.records("step"),
        [
            json!({"kind": "step", "command": "uptime", "ok": true, "error": null}),
            json!({"kind": "step", "command": "why nobody", "ok": false, "error": error}),
        ]
    );
    assert_eq!(booted.text(), format!("why nobody: {error}\n"));
    // What the state is in the end is reported all the same.
    assert_eq!(booted.records("device").len(), 7);
    booted.record("boot");
}

//! Every command with right, wrong and missing arguments.

use mastiff_shell::Ending;
use serde_json::json;

use crate::bench::*;

/// What a command shows on the usual machine, where it succeeds.
fn shows(command: &str) -> String {
    let booted = Bench::new().run(command);
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    booted.shown
}

/// What is wrong with a command that fails: one line that begins with it.
fn fails(command: &str) -> String {
    let booted = Bench::new().run(&format!("{command}; echo not reached"));
    assert_eq!(booted.ending, Ending::PowerOff(1), "{}", booted.shown);
    let last = booted.shown.lines().last().unwrap_or_default();
    let said = last.strip_prefix(&format!("{command}: "));
    said.unwrap_or_else(|| panic!("{command}: {}", booted.shown))
        .to_owned()
}

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
            "/bus@3 is no bound master that can be told what to do",
        ),
        (
            "disk /disk@1",
            "usage: disk <device> hash | read <block> [blocks]",
        ),
        (
            "disk /disk@1 frob",
            "usage: disk <device> hash | read <block> [blocks]",
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
    let manual = include_str!("../../../../docs/shell.md");
    for command in &list {
        assert_eq!(command["more"], json!(null));
        let name = command["name"].as_str().unwrap();
        let said = shows(&format!("help {name}"));
        let usage = format!("{name} {}", command["arguments"].as_str().unwrap());
        assert_eq!(said.lines().next(), Some(usage.trim_end()));
        assert!(said.lines().count() > 3, "{name} has no more");
        assert!(said.lines().all(|line| line.len() <= 80), "{said}");
        let row = format!("| `{}` |", usage.trim_end().replace('|', "\\|"));
        assert!(manual.contains(&row), "docs/shell.md lacks {row}");
    }
}

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
domain  ASID  IOVA in use  streams             members
dma     1     4 KiB        /iommu@1000000:0x5  /disk@1
dma     2     4 KiB        /iommu@1000000:0x6  /engine@2
"
    );
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
    assert!(said.ends_with("ReadWrite\n"), "{said}");
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
2      F_TRANSLATION  /iommu@1000000  0x6     /engine@2  engine  read    0xabcd000  1      by the bench
"
    );
}

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
fn what_is_switched_is_shown_with_its_users() {
    assert_eq!(
        shows("clocks"),
        "name  class  state  users  rate\npll   clock  off    0      24 MHz\n"
    );
    let clock = Bench::new().run("clocks --json").record("switch");
    assert_eq!(clock["supplier"], IOMMU);
    assert_eq!(
        shows("unbind iommu@1000000; clocks").lines().last(),
        Some("no clocks, and nothing else that is switched")
    );
}

#[test]
fn the_machine_is_told_of() {
    assert_eq!(shows("irqs"), "0 without a handler\n");
    assert_eq!(
        shows("mem"),
        "memory       size\nfree         1.5 GiB\nquarantined  0 B\n"
    );
    assert_eq!(
        shows("dmesg"),
        "[    0.000001] first\n[    0.000002] second\n"
    );
    assert_eq!(shows("uptime"), "1.000002 s after entry\n");
    let boot = "Mastiff 1.2.3 on bench, 1 CPU (3 parked), entered at EL2; 7 devices: 4 bound, 0 waiting, 0 failed\n";
    assert_eq!(shows("boot"), boot);
    assert_eq!(shows("sleep 10"), "");
    assert_eq!(shows("echo a  b"), "a b\n");
    assert_eq!(shows("echo"), "\n");

    let mut bench = Bench::new();
    bench.instructions = Some(1);
    let said = bench.run("dma verify disk@1; boot").shown;
    assert!(said.ends_with("first verified block 1.000002 s after entry, 1 instruction\n"));
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

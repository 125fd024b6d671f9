//! The prompt, and how boots end.

use mastiff_shell::Ending;

use crate::bench::*;

fn typed(keys: &[u8]) -> Booted {
    Bench::new().keys(keys).boot("interactive=1")
}

/// What was shown after the main job.
fn session(booted: &Booted) -> &str {
    let (_, session) = booted.shown.split_once("OK: 3 proofs").unwrap();
    session
}

#[test]
fn lines_are_edited_run_and_remembered() {
    // A slip of the finger corrected, then the same line from the history.
    let booted = typed(b"echo hellp\x7fo\r\x1b[A\r\x04");
    let said = session(&booted);
    assert!(
        said.contains("`help` lists the commands, ctrl-D powers off.\n"),
        "{said}"
    );
    assert_eq!(said.matches("\nhello\n").count(), 2, "{said}");
    assert_eq!(said.matches("mastiff> ").count(), 3, "{said}");
    assert_eq!(booted.ending, Ending::PowerOff(0));
}

#[test]
fn a_command_that_fails_says_so_and_the_prompt_stays() {
    let booted = typed(b"nonsense\recho on\r");
    let said = session(&booted);
    assert!(
        said.contains("nonsense: no such command; `help` lists them\n"),
        "{said}"
    );
    assert!(said.contains("\non\n"), "{said}");
    assert_eq!(booted.ending, Ending::PowerOff(0));
}

#[test]
fn a_line_may_hold_several_commands_or_none() {
    let said = typed(b"\r ; ;\recho a; echo b\rnonsense; echo c\r").shown;
    assert!(said.contains("\na\nb\n"), "{said}");
    assert!(!said.contains("\nc\n"), "{said}");
}

#[test]
fn json_is_asked_for_by_command() {
    let booted = typed(b"uptime --json\r--json uptime\ruptime\r");
    assert_eq!(booted.records("uptime").len(), 2);
    assert!(booted.text().contains("1.000002 s after entry\n"));
}

#[test]
fn control_d_ends_with_the_status_of_the_main_job() {
    let bench = Bench::new().keys(b"echo x\r\x04echo y\r");
    let booted = bench.boot_with(tree(), &[], "interactive=1");
    assert!(booted.shown.contains("\nx\n") && !booted.shown.contains("\ny\n"));
    assert_eq!(booted.ending, Ending::PowerOff(1));
}

#[test]
fn commands_end_the_boot_as_they_say() {
    assert_eq!(typed(b"poweroff 7\recho no\r").ending, Ending::PowerOff(7));
    assert_eq!(typed(b"poweroff\r").ending, Ending::PowerOff(0));
    let booted = typed(b"reboot\recho no\r");
    assert_eq!(booted.ending, Ending::Reboot);
    assert!(!booted.shown.contains("\nno\n"));
}

#[test]
fn run_takes_the_place_of_main_job_and_prompt() {
    let booted = Bench::new()
        .keys(b"echo typed\r")
        .boot("interactive=1 run=\"echo a; poweroff 0x2a; echo b\"");
    assert_eq!(booted.shown, "a\n");
    assert_eq!(booted.ending, Ending::PowerOff(42));
}

#[test]
fn however_a_boot_ends_its_devices_are_down_before() {
    for end in ["poweroff 3", "reboot", "nonsense", "echo done"] {
        let bench = Bench::new();
        let pages = bench.sim.memory().live();
        bench.run(end);
        let diary = bench.diary.take();
        let at = |line: &str| {
            let found = diary.iter().position(|known| known == line);
            found.unwrap_or_else(|| panic!("{end}: no {line} in {diary:?}"))
        };
        // Users before their supplier.
        let iommu = at(&format!("{IOMMU}: quiesce"));
        assert!(at("/disk@1: quiesce") < iommu && at("/engine@2: quiesce") < iommu);
        let counts = bench.iommu.counts();
        assert_eq!(
            (counts.attached, counts.domains, counts.mappings),
            (0, 0, 0)
        );
        assert_eq!(counts.blocks, 2);
        assert_eq!(bench.sim.memory().live(), pages);
    }
}

#[test]
fn a_console_that_went_with_a_command_is_brought_back() {
    let mut bench = Bench::new().keys(b"unbind /disk@1\rdevices --json\r");
    bench.there = vec![false, true];
    let booted = bench.boot("interactive=1");
    let of_disk = booted.records("device").into_iter();
    let states: Vec<_> = of_disk.filter(|device| device["name"] == DISK).collect();
    assert_eq!(
        states[0]["state"], "bound",
        "what was unbound with it is back too"
    );
    assert_eq!(booted.ending, Ending::PowerOff(0));

    let mut bench = Bench::new().keys(b"unbind /disk@1\recho on\r");
    bench.there = vec![false, false];
    let booted = bench.boot("interactive=1");
    assert!(!booted.shown.contains("\non\n"));
    assert_eq!(booted.ending, Ending::PowerOff(1));
}

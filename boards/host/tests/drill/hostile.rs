//! A hostile master against the image's own drivers: the SMMU's driver on the strict
//! model of an SMMU, with everything else of the machine around it.

use std::cell::RefCell;
use std::fmt;

use mastiff_core::addr::PhysAddr;
use mastiff_core::platform::{PageRequest, Pages, Platform};
use mastiff_core::policy::Policy;
use mastiff_shell::bootargs::BootArgs;
use mastiff_shell::{BootFacts, Core, Ending, Place, Shell, System};
use mastiff_testkit::Sim;
use serde_json::Value;

use crate::machine::Machine;
use crate::virt;

const WIDE: &str = "/pcie@10000000/00:06.0";
const NARROW: &str = "/pcie@10000000/00:02.0";

/// What is shown, and memory.
struct Console {
    shown: RefCell<String>,
    sim: Sim,
    place: PhysAddr,
}

impl System for Console {
    fn print(&self, text: fmt::Arguments<'_>) {
        self.shown.borrow_mut().push_str(&text.to_string());
    }
    fn key(&self) -> Option<u8> {
        None
    }
    fn listens(&self) -> bool {
        true
    }
    fn idle(&self) {}
    fn facts(&self) -> BootFacts {
        BootFacts {
            board: "host",
            version: "0",
            cpus: 1,
            parked: 0,
            el: 1,
        }
    }
    fn instructions(&self) -> Option<u64> {
        None
    }
    fn turn(&self, _: u32) {}
    fn uptime_us(&self) -> u64 {
        0
    }
    fn cpus(&self) -> Vec<Core> {
        Vec::new()
    }
    fn memory(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
    fn places(&self) -> Vec<Place> {
        vec![Place {
            name: "the kernel's data",
            at: self.place,
        }]
    }
    fn peek(&self, at: PhysAddr, to: &mut [u8]) -> bool {
        self.sim.memory().peek(at.0, to)
    }
    fn dmesg(&self, _: &mut dyn FnMut(&str)) {}
}

/// Runs commands; the status, and the records.
fn run(machine: Machine, commands: &str) -> (u8, Vec<Value>) {
    let line = format!("report=json run=\"{commands}\"");
    let args = BootArgs::parse(&line, Policy::default());
    let page = machine.sim.alloc_pages(PageRequest::new(4096));
    let page = page.expect("there is memory");
    page.fill(0, 4096, 0xc3);
    let console = Console {
        shown: RefCell::default(),
        sim: machine.sim.clone(),
        place: page.pa(),
    };
    let ending = Shell::new(machine.engine, &console, &args).serve(args.run.as_deref());
    let Ending::PowerOff(status) = ending else {
        panic!("{ending:?}");
    };
    let shown = console.shown.into_inner();
    println!("{shown}");
    let records = shown.lines().filter_map(|line| line.strip_prefix('@'));
    let records = records.map(|line| serde_json::from_str(line).expect(line));
    (status, records.collect())
}

fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let all = records.iter();
    all.filter(|record| record["kind"] == kind).collect()
}

#[test]
fn s32_every_attempt_is_an_event_with_its_name() {
    let (status, records) = run(virt::with_smmu(), &format!("hostile {WIDE}; dma verify"));
    assert_eq!(status, 0);
    let attempts = of(&records, "hostile");
    for attempt in &attempts {
        let allowed = match attempt["target"].as_str().unwrap() {
            "its own buffer" | "its doorbell" => "reached",
            _ => "stopped",
        };
        let result = attempt["result"].as_str().unwrap();
        assert_eq!(result, allowed, "{attempt}");
        assert_eq!(attempt["events"] == 0, result != "stopped", "{attempt}");
    }
    for table in ["its L1STD", "its STE", "its CD", "its table of level 3"] {
        assert!(
            attempts.iter().any(|attempt| attempt["target"] == table),
            "{table}"
        );
    }
    for fault in of(&records, "fault") {
        assert_eq!(
            (&fault["device"], &fault["driver"]),
            (&WIDE.into(), &"edu-wide".into())
        );
    }
    assert!(of(&records, "dma").iter().all(|proof| proof["ok"] == true));
}

#[test]
fn s32_a_small_device_goes_astray_and_is_stopped_there() {
    let (status, records) = run(virt::with_smmu(), &format!("hostile {NARROW}"));
    assert_eq!(status, 0);
    let astray = |record: &&&Value| record["result"] == "astray";
    assert!(of(&records, "hostile").iter().filter(astray).count() > 10);
}

#[test]
fn s32_what_is_under_way_outlasts_the_binding_and_gets_nowhere() {
    for phase in ["unbound", "waiting", "suspended"] {
        let (status, records) = run(
            virt::with_smmu(),
            &format!("hostile {WIDE} {phase}; dma verify"),
        );
        assert_eq!(status, 0, "{phase}");
        for attempt in of(&records, "hostile") {
            assert_eq!(attempt["result"], "silent", "{attempt}");
        }
    }
}

//! The console of a boot: it keeps what it was shown, and has keys to press.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;

use mastiff_core::addr::PhysAddr;
use mastiff_shell::{BootFacts, Core, Ending, Place, System};
use mastiff_testkit::Sim;
use serde_json::Value;

/// The console of one boot.
#[derive(Default)]
pub struct Console {
    pub(super) shown: RefCell<String>,
    pub(super) keys: RefCell<VecDeque<u8>>,
    pub(super) naps: Cell<u32>,
    // Answers to whether it is there; yes when they are used up.
    pub(super) there: RefCell<VecDeque<bool>>,
    pub(super) instructions: Option<u64>,
    pub(super) turns: Option<(Sim, u64)>,
    // Memory, and a page of it that is the kernel's.
    pub(super) sim: Option<(Sim, PhysAddr)>,
}

impl System for Console {
    fn print(&self, text: fmt::Arguments<'_>) {
        self.shown.borrow_mut().push_str(&text.to_string());
    }
    fn key(&self) -> Option<u8> {
        // Each key only after a nap, as fingers are slow.
        if self.naps.replace(0) == 0 {
            return None;
        }
        let mut keys = self.keys.borrow_mut();
        if keys.is_empty() {
            // Whoever is at the keyboard leaves in the end: ctrl-D, and where that is
            // no end, return before it.
            keys.extend(b"\x04\r");
        }
        keys.pop_front()
    }
    fn listens(&self) -> bool {
        self.there.borrow_mut().pop_front().unwrap_or(true)
    }
    fn idle(&self) {
        self.naps.set(self.naps.get() + 1);
    }
    fn facts(&self) -> BootFacts {
        BootFacts {
            board: "bench",
            version: "1.2.3",
            cpus: 1,
            parked: 3,
            el: 2,
        }
    }
    fn instructions(&self) -> Option<u64> {
        self.instructions
    }
    fn turn(&self, turns: u32) {
        if let Some((sim, each)) = &self.turns {
            sim.retire(each * u64::from(turns) + 5);
        }
    }
    fn uptime_us(&self) -> u64 {
        1_000_002
    }
    fn cpus(&self) -> Vec<Core> {
        let cpu = |number: Option<usize>, affinity: u64| Core {
            path: format!("/cpus/cpu@{affinity:x}"),
            affinity: Some(affinity),
            number,
            why: number
                .is_none()
                .then(|| "there is no PSCI to start it".into()),
        };
        vec![cpu(Some(0), 0), cpu(None, 0x101)]
    }
    fn memory(&self) -> Vec<(&'static str, u64)> {
        vec![("free", 3 << 29), ("quarantined", 0)]
    }
    fn places(&self) -> Vec<Place> {
        let sim = self.sim.iter();
        let place = |(_, at): &(Sim, PhysAddr)| Place {
            name: "the kernel's data",
            at: *at,
        };
        sim.map(place).collect()
    }
    fn peek(&self, at: PhysAddr, to: &mut [u8]) -> bool {
        let sim = self.sim.as_ref();
        sim.is_some_and(|(sim, _)| sim.memory().peek(at.0, to))
    }
    fn dmesg(&self, sink: &mut dyn FnMut(&str)) {
        sink("[    0.000001] first\n");
        sink("[    0.000002] second\n");
    }
}

/// What came of a boot.
pub struct Booted {
    pub ending: Ending,
    /// All that the console showed.
    pub shown: String,
}

impl Booted {
    /// The text among it: every line that is no record.
    pub fn text(&self) -> String {
        let lines = self.shown.lines().filter(|line| !line.starts_with('@'));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// The records of a kind among it, parsed.
    pub fn records(&self, kind: &str) -> Vec<Value> {
        let records = all_records(&self.shown);
        records.filter(|record| record["kind"] == kind).collect()
    }

    pub fn record(&self, kind: &str) -> Value {
        let mut records = self.records(kind);
        assert_eq!(records.len(), 1, "{kind}: {records:?}");
        records.remove(0)
    }
}

pub fn all_records(shown: &str) -> impl Iterator<Item = Value> {
    let lines = shown.lines().filter_map(|line| line.strip_prefix('@'));
    lines.map(|line| serde_json::from_str(line).expect(line))
}

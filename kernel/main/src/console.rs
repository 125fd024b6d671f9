//! The machine as the shell sees it: `hw` and `arch` behind the shell's trait.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use mastiff_arch::{Boot, Cores, Machine};
use mastiff_core::addr::{PAGE, PhysAddr};
use mastiff_core::platform::{Instant, Platform};
use mastiff_hw::frames::{Kind, frames};
use mastiff_shell::{BootFacts, Core, Place, System};

/// How long an idle prompt sleeps at most: a console without an interrupt is looked
/// at this often.
const NAP_US: u64 = 20_000;

pub struct BoardConsole {
    machine: Machine,
    cores: RefCell<Cores>,
    facts: BootFacts,
    entered: Instant,
}

impl BoardConsole {
    pub fn new(board: &'static str, boot: &Boot) -> Self {
        Self {
            machine: boot.machine,
            cores: RefCell::new(Cores::of(boot.machine, &boot.tree)),
            facts: BootFacts {
                board,
                version: env!("CARGO_PKG_VERSION"),
                cpus: 1,
                parked: boot.parked,
                el: boot.el,
            },
            entered: boot.entered,
        }
    }

    /// Has the other CPUs come, while the boot goes on.
    pub fn start_cores(&self) {
        // What came from reset with us has nobody to start it, and was told of.
        if self.facts.parked == 0 {
            self.cores.borrow_mut().start();
        }
    }

    pub fn machine(&self) -> Machine {
        self.machine
    }
}

impl System for BoardConsole {
    fn print(&self, text: fmt::Arguments<'_>) {
        mastiff_hw::console::print(text);
    }

    fn key(&self) -> Option<u8> {
        mastiff_hw::console::current()?.read()
    }

    fn listens(&self) -> bool {
        mastiff_hw::console::current().is_some()
    }

    fn idle(&self) {
        let hub = self.machine.irqs();
        let busy = hub.service();
        let now = self.machine.now();
        let due = hub.chores().tidy(now);
        if !busy {
            let nap = now.after_us(NAP_US);
            self.machine.sleep(due.map_or(nap, |due| due.min(nap)));
            hub.service();
        }
    }

    fn facts(&self) -> BootFacts {
        let cpus = self.cpus();
        let running = cpus.iter().filter(|cpu| cpu.number.is_some()).count();
        // One of them does, whatever the tree says.
        let running = running.max(1);
        let others = cpus.len().saturating_sub(running) as u32;
        BootFacts {
            cpus: running as u32,
            parked: others.max(self.facts.parked),
            ..self.facts
        }
    }

    fn cpus(&self) -> Vec<Core> {
        let mut cores = self.cores.borrow_mut();
        cores.settle();
        let cores = cores.all().iter().map(|cpu| Core {
            path: cpu.path.clone(),
            affinity: cpu.affinity,
            number: cpu.number,
            why: cpu.why.clone(),
        });
        cores.collect()
    }

    fn instructions(&self) -> Option<u64> {
        mastiff_arch::insn_retired()
    }

    fn turn(&self, turns: u32) {
        mastiff_arch::turn(turns);
    }

    fn uptime_us(&self) -> u64 {
        self.machine.now().us_since(self.entered)
    }

    fn memory(&self) -> Vec<(&'static str, u64)> {
        let name = |kind| match kind {
            Kind::Heap => "heap beyond the image",
            kind => kind.name(),
        };
        let mut memory: Vec<(&'static str, u64)> = match frames() {
            None => Vec::new(),
            Some(frames) => Kind::ALL
                .iter()
                .map(|&kind| (name(kind), frames.of_kind(kind) * PAGE))
                .collect(),
        };
        // Of the heap as a whole, the part within the image included.
        let (used, size) = mastiff_arch::heap_usage();
        memory.push(("heap in use", used as u64));
        memory.push(("heap in all", size as u64));
        memory
    }

    fn places(&self) -> Vec<Place> {
        let places = mastiff_arch::places().into_iter();
        places.map(|(name, at)| Place { name, at }).collect()
    }

    fn peek(&self, at: PhysAddr, to: &mut [u8]) -> bool {
        mastiff_arch::peek(at, to)
    }

    fn dmesg(&self, sink: &mut dyn FnMut(&str)) {
        mastiff_hw::console::dmesg(&mut |bytes| {
            sink(core::str::from_utf8(bytes).unwrap_or("?"));
        });
    }
}

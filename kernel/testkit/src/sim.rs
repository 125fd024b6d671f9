//! The simulated machine: memory, bus, interrupts and time behind one handle.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use mastiff_core::irq::IrqHub;
use mastiff_core::platform::MAX_CPUS;

use crate::bus::{Bus, DmaPort, DmaTranslator, Shared, SimDevice};
use crate::inject::Injections;
use crate::irq::{MsiFrame, MsiRegisters, SimChip};
use crate::lock;
use crate::memory::Memory;
use crate::trace::Trace;

/// Where RAM begins unless a test says otherwise: as on QEMU's virt machine,
/// above what a device with 28 address bits reaches.
const RAM: u64 = 0x4000_0000;
const RAM_LEN: u64 = 64 << 20;

/// How long reading the clock and one round of a polling loop take.
const LOOK_NS: u64 = 50;
const RELAX_NS: u64 = 1_000;
/// How far a sleeping CPU's time moves between two looks at the devices.
const NAP_NS: u64 = 1_000_000;

/// A simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct Sim {
    pub(crate) machine: Arc<Machine>,
}

pub(crate) struct Machine {
    pub memory: Arc<Memory>,
    pub bus: Bus,
    pub hub: Arc<IrqHub>,
    pub chip: Arc<SimChip>,
    pub trace: Trace,
    pub inject: Injections,
    pub windows: AtomicUsize,
    /// Instructions retired, which are counted from the first on.
    pub retired: AtomicU64,
    /// How many CPUs there are, and which of them a thread is.
    pub cpus: AtomicUsize,
    pub threads: Mutex<HashMap<ThreadId, usize>>,
    clock: AtomicU64,
}

impl Machine {
    pub fn time(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }
}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// 64 MiB of coherent RAM and an interrupt controller, no devices.
    pub fn new() -> Self {
        Self::with_ram(RAM, RAM_LEN)
    }

    /// The same with other RAM.
    pub fn with_ram(base: u64, len: u64) -> Self {
        let hub = Arc::new(IrqHub::new());
        let chip = SimChip::new(&hub);
        hub.set_chip(Some(chip.clone()));
        Self {
            machine: Arc::new(Machine {
                memory: Arc::new(Memory::new(base, len)),
                bus: Bus::default(),
                hub,
                chip,
                trace: Trace::default(),
                inject: Injections::default(),
                windows: AtomicUsize::new(0),
                retired: AtomicU64::new(0),
                cpus: AtomicUsize::new(1),
                threads: Mutex::default(),
                clock: AtomicU64::new(0),
            }),
        }
    }

    /// The RAM.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.machine.memory
    }

    /// The interrupt controller.
    pub fn chip(&self) -> &Arc<SimChip> {
        &self.machine.chip
    }

    /// What can be made to fail.
    pub fn inject(&self) -> &Injections {
        &self.machine.inject
    }

    /// The record of what software did.
    pub fn trace(&self) -> &Trace {
        &self.machine.trace
    }

    /// Retires instructions. The CPU counts them from now on, and a few for each
    /// look at the counter.
    pub fn retire(&self, instructions: u64) {
        self.machine
            .retired
            .fetch_add(instructions, Ordering::SeqCst);
    }

    /// Has `cpus` CPUs: each thread is one, numbered in the order in which they ask if
    /// they are not [told](Self::be_cpu). More threads than CPUs share numbers, which
    /// costs nothing but speed.
    pub fn set_cpus(&self, cpus: usize) {
        assert!((1..=MAX_CPUS).contains(&cpus), "{cpus} CPUs");
        self.machine.cpus.store(cpus, Ordering::SeqCst);
    }

    /// Makes the calling thread CPU `cpu`.
    pub fn be_cpu(&self, cpu: usize) {
        assert!(cpu < self.machine.cpus.load(Ordering::SeqCst), "CPU {cpu}");
        lock(&self.machine.threads).insert(std::thread::current().id(), cpu);
    }

    /// Register windows that are mapped.
    pub fn windows(&self) -> usize {
        self.machine.windows.load(Ordering::SeqCst)
    }

    /// Puts a device's registers at a physical address.
    pub fn add_device<D: SimDevice + 'static>(&self, start: u64, len: u64, device: D) -> Shared<D> {
        let device = Arc::new(Mutex::new(device));
        self.share_device(start, len, device.clone());
        device
    }

    /// The same for a device that the test holds already.
    pub fn share_device<D: SimDevice + 'static>(&self, start: u64, len: u64, device: Shared<D>) {
        assert!(
            !self.memory().overlaps(start, len),
            "a device at {start:#x} in RAM"
        );
        self.machine.bus.add(start, len, device);
    }

    /// Sends these streams through an IOMMU's model; the others go straight to
    /// memory.
    pub fn translate_by<T: DmaTranslator + 'static>(
        &self,
        streams: RangeInclusive<u32>,
        by: Shared<T>,
    ) {
        self.machine.bus.translate_by(streams, by);
    }

    /// A frame at `at` for `count` message interrupts from `first` on.
    pub fn add_msi_frame(&self, at: u64, first: u32, count: u32) -> Arc<MsiFrame> {
        self.add_device(at, 0x1000, MsiRegisters { raised: Vec::new() });
        MsiFrame::new(self.chip().clone(), at, first, count)
    }

    /// Raises an interrupt once.
    pub fn raise(&self, intid: u32) {
        self.machine.chip.raise(intid);
    }

    /// Lets time pass, with the devices at work.
    pub fn advance_us(&self, us: u64) {
        self.pass(us * 1000);
    }

    /// A master's way to memory, for tests that play the master themselves.
    pub fn port(&self) -> DmaPort<'_> {
        DmaPort {
            machine: &self.machine,
        }
    }

    pub(crate) fn look(&self) -> u64 {
        self.machine.clock.fetch_add(LOOK_NS, Ordering::SeqCst) + LOOK_NS
    }

    pub(crate) fn spin(&self) {
        self.pass(RELAX_NS);
    }

    pub(crate) fn nap_until(&self, deadline: u64) {
        // Also where an interrupt is pending: the device may just be taking it back.
        self.pass(LOOK_NS);
        while !self.machine.hub.is_pending() {
            let now = self.machine.time();
            if now >= deadline {
                return;
            }
            self.pass(NAP_NS.min(deadline - now));
        }
    }

    fn pass(&self, ns: u64) {
        self.machine.clock.fetch_add(ns, Ordering::SeqCst);
        self.machine.bus.tick(&self.machine);
    }
}

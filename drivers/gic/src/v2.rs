//! GICv2: a distributor and a CPU interface, both by registers (IHI 0048).
//!
//! Which group an interrupt is in needs no choice here. Outside the secure state
//! software sees group 1 only; a GIC with one security state puts everything into
//! group 0. In both, bit 0 of the two control registers is the enable of that one
//! group, and it comes as an IRQ.
//!
//! The registers of private interrupts and of the CPU interface are each CPU's own: a
//! CPU sees to itself when it joins.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use mastiff_core::driver::Bound;
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::{IrqChip, IrqSpec, Trigger};
use mastiff_core::platform::{Barrier, MAX_CPUS, Mmio, Platform};
use mastiff_core::probe::{Probe, Service};
use spin::{Mutex, Once};

use crate::bank::{Bank, Saved};
use crate::root::{FIRST_PPI, NUDGE, Root, RootChip, Routes};
use crate::spec::distributor as gicd;
use crate::{specifier, v2m};

/// What the driver uses of the two windows, in bytes.
const GICD_LEN: u64 = 0x1000;
const GICC_LEN: u64 = 0x20;

/// Binds a GICv2 and its message frames.
pub fn bind<P: Platform>(probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
    let dist = probe.mmio(0, GICD_LEN)?;
    let cpu = probe.mmio(1, GICC_LEN)?;
    let chip = Arc::new(Chip::new(probe.platform(), dist, cpu));
    probe.publish(Service::Irq(chip.clone()))?;
    v2m::publish_frames(probe, &chip)?;
    let root = Root::install(probe.platform(), chip)?;
    log::info!("{}: GICv2, {} interrupts", probe.name(), root.chip().lines);
    Ok(Box::new(root))
}

/// A GICv2.
pub struct Chip<P: Platform> {
    platform: P,
    dist: P::Mmio,
    cpu: P::Mmio,
    lines: u32,
    /// The CPU that binds the GIC: what is not steered elsewhere goes there.
    home: usize,
    /// The bit of each CPU that takes interrupts, as targets have it. On a GIC for one
    /// CPU that is 0 too.
    bits: [Once<u8>; MAX_CPUS],
    routes: Routes,
    /// The private interrupts that drivers asked for, and the edges among them: each
    /// CPU sees its own registers of these only.
    private: AtomicU32,
    edges: AtomicU32,
    // ICFGR is shared by 16 interrupts, so changing it is a read and a write.
    config: Mutex<()>,
}

impl<P: Platform> Chip<P> {
    fn new(platform: &P, dist: P::Mmio, cpu: P::Mmio) -> Self {
        let home = platform.cpu();
        let chip = Self {
            platform: platform.clone(),
            lines: gicd::lines(dist.read32(gicd::TYPER)),
            dist,
            cpu,
            home,
            bits: [const { Once::new() }; MAX_CPUS],
            routes: Routes::all_to(home),
            private: AtomicU32::new(0),
            edges: AtomicU32::new(0),
            config: Mutex::new(()),
        };
        chip.note_this_cpu();
        chip
    }

    /// Notes the bit of the calling CPU. The targets of the private interrupts are
    /// read-only and each CPU sees itself there.
    fn note_this_cpu(&self) {
        if let Some(slot) = self.bits.get(self.platform.cpu()) {
            slot.call_once(|| {
                (0..32)
                    .map(|intid| self.dist.read8(gicd::ITARGETSR + intid))
                    .find(|&targets| targets != 0)
                    .unwrap_or(0)
            });
        }
    }

    /// The bit of a CPU that takes interrupts.
    fn bit(&self, cpu: usize) -> Result<u8, Fault> {
        let bit = self.bits.get(cpu).and_then(Once::get);
        bit.copied().ok_or(Fault::CpuDeaf { cpu })
    }

    fn bank(&self) -> Bank<'_, P::Mmio> {
        Bank::new(&self.dist, 0)
    }

    /// Whether there is one security state only.
    fn is_one_state(&self) -> bool {
        self.dist.read32(gicd::TYPER) & gicd::TYPER_SECURITY == 0
    }

    fn route(&self, intid: u32) {
        if intid >= 32
            && let Ok(bit) = self.bit(self.routes.get(intid))
        {
            self.dist.write8(gicd::ITARGETSR + intid as usize, bit);
        }
    }

    /// Lets the calling CPU be signalled, nudges to begin with.
    fn start_interface(&self) {
        self.bank().enable(NUDGE);
        self.cpu.write32(gicd::GICC_PMR, 0xff);
        self.cpu.write32(gicd::GICC_CTLR, gicd::GICC_CTLR_ENABLE);
    }

    fn words(&self) -> impl Iterator<Item = u32> + use<P> {
        0..self.lines.div_ceil(32)
    }
}

impl<P: Platform> RootChip for Chip<P> {
    fn start(&self) -> Result<(), Fault> {
        let one_state = self.is_one_state();
        for word in self.words() {
            self.bank().reset(word);
            if one_state {
                self.bank().set_group(word, false);
            }
        }
        self.dist.write32(gicd::CTLR, gicd::CTLR_ENABLE);
        self.start_interface();
        Ok(())
    }

    fn silence(&self) {
        self.cpu.write32(gicd::GICC_CTLR, 0);
        self.dist.write32(gicd::CTLR, 0);
        // Both have taken effect where they are answered.
        self.cpu.read32(gicd::GICC_CTLR);
        self.dist.read32(gicd::CTLR);
    }

    fn save(&self) -> Vec<Saved> {
        self.words().map(|word| self.bank().save(word)).collect()
    }

    fn restore(&self, saved: &[Saved]) {
        for (word, saved) in self.words().zip(saved) {
            saved.enabled().for_each(|n| self.route(32 * word + n));
            self.bank().restore(word, saved);
        }
    }
}

impl<P: Platform> IrqChip for Chip<P> {
    fn translate(&self, cells: &[u32]) -> Result<IrqSpec, Fault> {
        specifier::decode(cells, self.lines)
    }

    fn enable(&self, irq: IrqSpec) -> Result<(), Fault> {
        let intid = irq.intid;
        if intid >= self.lines {
            return Err(Fault::IrqOutOfRange { intid });
        }
        let _config = self.config.lock();
        let bank = self.bank();
        bank.disable(intid);
        bank.set_trigger(intid, irq.trigger)?;
        bank.clear_pending(intid);
        if intid >= 32 {
            self.routes.set(intid, self.home);
            self.route(intid);
        } else {
            let edge = u32::from(irq.trigger == Trigger::Edge) << intid;
            self.edges.fetch_or(edge, Ordering::Relaxed);
            self.private.fetch_or(1 << intid, Ordering::Relaxed);
        }
        bank.enable(intid);
        Ok(())
    }

    fn mask(&self, intid: u32) {
        if intid < self.lines {
            self.bank().disable(intid);
        }
    }

    fn unmask(&self, intid: u32) {
        if intid < self.lines {
            self.bank().enable(intid);
        }
    }

    fn claim(&self) -> Option<u32> {
        let mut seen = self.cpu.read32(gicd::GICC_IAR);
        while seen & 0x3ff < FIRST_PPI {
            // A nudge: the CPU is awake, which is all that it was for. Above the INTID
            // stands who sent it, which ends it too (IHI 0048 §4.4.5).
            self.cpu.write32(gicd::GICC_EOIR, seen);
            seen = self.cpu.read32(gicd::GICC_IAR);
        }
        let intid = seen & 0x3ff;
        (intid < gicd::SPECIAL).then_some(intid)
    }

    fn complete(&self, intid: u32) {
        self.cpu.write32(gicd::GICC_EOIR, intid);
    }

    fn join(&self) -> Result<(), Fault> {
        let _config = self.config.lock();
        let bank = self.bank();
        bank.reset(0);
        if self.is_one_state() {
            bank.set_group(0, false);
        }
        let private = self.private.load(Ordering::Relaxed);
        let edges = self.edges.load(Ordering::Relaxed);
        for intid in (0..32).filter(|intid| private & 1 << intid != 0) {
            let edge = edges & 1 << intid != 0;
            let trigger = if edge { Trigger::Edge } else { Trigger::Level };
            bank.set_trigger(intid, trigger)?;
            bank.enable(intid);
        }
        self.note_this_cpu();
        self.start_interface();
        Ok(())
    }

    fn nudge(&self, cpu: usize) {
        if let Ok(bit) = self.bit(cpu) {
            self.platform.barrier(Barrier::Full);
            let to = u32::from(bit) << gicd::SGIR_TARGETS;
            self.dist.write32(gicd::SGIR, to | NUDGE);
        }
    }

    fn steer(&self, intid: u32, cpu: usize) -> Result<(), Fault> {
        if !(32..self.lines).contains(&intid) {
            return Err(Fault::IrqOutOfRange { intid });
        }
        self.bit(cpu)?;
        self.routes.set(intid, cpu);
        self.route(intid);
        Ok(())
    }
}

//! GICv2: a distributor and a CPU interface, both by registers (IHI 0048).
//!
//! Which group an interrupt is in needs no choice here. Outside the secure state
//! software sees group 1 only; a GIC with one security state puts everything into
//! group 0. In both, bit 0 of the two control registers is the enable of that one
//! group, and it comes as an IRQ.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::driver::Bound;
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::{IrqChip, IrqSpec};
use mastiff_core::platform::{Mmio, Platform};
use mastiff_core::probe::{Probe, Service};
use spin::Mutex;

use crate::bank::{Bank, Saved};
use crate::root::{Root, RootChip};
use crate::spec::distributor as gicd;
use crate::{specifier, v2m};

/// What the driver uses of the two windows, in bytes.
const GICD_LEN: u64 = 0x1000;
const GICC_LEN: u64 = 0x20;

/// Binds a GICv2 and its message frames.
pub fn bind<P: Platform>(probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
    let dist = probe.mmio(0, GICD_LEN)?;
    let cpu = probe.mmio(1, GICC_LEN)?;
    let chip = Arc::new(Chip::new(dist, cpu));
    probe.publish(Service::Irq(chip.clone()))?;
    v2m::publish_frames(probe, &chip)?;
    let root = Root::install(probe.platform().irqs(), chip)?;
    log::info!("{}: GICv2, {} interrupts", probe.name(), root.chip().lines);
    Ok(Box::new(root))
}

/// A GICv2.
pub struct Chip<M: Mmio> {
    dist: M,
    cpu: M,
    lines: u32,
    /// The CPU that binds the GIC: all interrupts go there.
    targets: u8,
    // ICFGR is shared by 16 interrupts, so changing it is a read and a write.
    config: Mutex<()>,
}

impl<M: Mmio> Chip<M> {
    fn new(dist: M, cpu: M) -> Self {
        Self {
            lines: gicd::lines(dist.read32(gicd::TYPER)),
            targets: this_cpu(&dist),
            dist,
            cpu,
            config: Mutex::new(()),
        }
    }

    fn bank(&self) -> Bank<'_, M> {
        Bank::new(&self.dist, 0)
    }

    fn route(&self, intid: u32) {
        if intid >= 32 {
            let at = gicd::ITARGETSR + intid as usize;
            self.dist.write8(at, self.targets);
        }
    }

    fn words(&self) -> impl Iterator<Item = u32> + use<M> {
        0..self.lines.div_ceil(32)
    }
}

/// The bit of the calling CPU. The targets of the private interrupts are read-only
/// and each CPU sees its own; a GIC for one CPU has none (0).
fn this_cpu<M: Mmio>(dist: &M) -> u8 {
    (0..32)
        .map(|intid| dist.read8(gicd::ITARGETSR + intid))
        .find(|&targets| targets != 0)
        .unwrap_or(0)
}

impl<M: Mmio> RootChip for Chip<M> {
    fn start(&self) -> Result<(), Fault> {
        let one_state = self.dist.read32(gicd::TYPER) & gicd::TYPER_SECURITY == 0;
        for word in self.words() {
            self.bank().reset(word);
            if one_state {
                self.bank().set_group(word, false);
            }
        }
        self.dist.write32(gicd::CTLR, gicd::CTLR_ENABLE);
        self.cpu.write32(gicd::GICC_PMR, 0xff);
        self.cpu.write32(gicd::GICC_CTLR, gicd::GICC_CTLR_ENABLE);
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

impl<M: Mmio> IrqChip for Chip<M> {
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
        self.route(intid);
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
        // Above the INTID stands which CPU sent an SGI; nothing here sends any.
        let intid = self.cpu.read32(gicd::GICC_IAR) & 0x3ff;
        (intid < gicd::SPECIAL).then_some(intid)
    }

    fn complete(&self, intid: u32) {
        self.cpu.write32(gicd::GICC_EOIR, intid);
    }
}

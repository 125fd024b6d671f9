//! LPIs: message interrupts, thousands of them, whose configuration and pending
//! state is in memory (IHI 0069 §5.1). The kernel latches the first
//! [`LPIS`] of them; the tables are the smallest that the architecture has.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use mastiff_core::addr::PAGE;
use mastiff_core::error::Fault;
use mastiff_core::irq::{FIRST_LPI, LPIS};
use mastiff_core::platform::{Barrier, Mmio, Platform};
use spin::Mutex;

use crate::bank::PRIORITY;
use crate::redistributor::Redistributor;
use crate::shared::Shared;
use crate::spec::{distributor as gicd, redistributor as gicr, table};
use crate::v3::Chip;

/// Bits of an INTID with the fewest LPIs there can be: 8192 to 16383.
const ID_BITS: u32 = 14;
const CONFIG_LEN: u64 = (1 << ID_BITS) - FIRST_LPI as u64;
const PENDING_LEN: u64 = (1 << ID_BITS) / 8;
/// PENDBASER has no address bits below this (IHI 0069 §12.11.31).
const PENDING_ALIGN: u64 = 0x1_0000;

/// The LPIs: configured for all CPUs alike, pending at one.
pub struct Lpis<P: Platform> {
    chip: Arc<Chip<P>>,
    config: Shared<P>,
    /// By CPU, of those that take LPIs.
    pending: Mutex<BTreeMap<usize, Shared<P>>>,
    /// A bit per LPI that is given out.
    used: Mutex<[u64; LPIS as usize / 64]>,
}

impl<P: Platform> Lpis<P> {
    /// Switches LPIs on for the CPU that boots, all of them disabled.
    pub fn start(chip: Arc<Chip<P>>, coherent: bool) -> Result<Self, Fault> {
        let typer = chip.typer;
        if typer & gicd::TYPER_LPIS == 0 || gicd::id_bits(typer) < ID_BITS {
            return Err(Fault::Unsupported {
                what: "GICD_TYPER without LPIs",
                seen: u64::from(typer),
            });
        }
        stop(&chip, &chip.redist)?;
        let config = Shared::zeroed(&chip.platform, CONFIG_LEN, PAGE, coherent)?;
        let home = chip.home;
        let lpis = Self {
            chip,
            config,
            pending: Mutex::default(),
            used: Mutex::new([0; LPIS as usize / 64]),
        };
        lpis.serve(home)?;
        Ok(lpis)
    }

    /// Sees to it that CPU `cpu` takes LPIs.
    pub fn serve(&self, cpu: usize) -> Result<(), Fault> {
        let mut pending = self.pending.lock();
        if pending.contains_key(&cpu) {
            return Ok(());
        }
        let redist = self.chip.of(cpu)?;
        stop(&self.chip, redist)?;
        let platform = &self.chip.platform;
        let coherent = self.config.coherent();
        let table = Shared::zeroed(platform, PENDING_LEN, PENDING_ALIGN, coherent)?;
        // Noted first: should it be on all the same, the drop sees to the table.
        let table = pending.entry(cpu).or_insert(table);
        self.switch_on(redist, table)
    }

    /// Switches LPIs on again where they went off with a redistributor's power.
    pub fn resume(&self) -> Result<(), Fault> {
        for (&cpu, pending) in self.pending.lock().iter() {
            let redist = self.chip.of(cpu)?;
            let control = redist.regs.read32(gicr::CTLR);
            if control & gicr::CTLR_ENABLE_LPIS == 0 {
                pending.clear();
                self.switch_on(redist, pending)?;
            }
        }
        Ok(())
    }

    fn switch_on(&self, redist: &Redistributor<P::Mmio>, pending: &Shared<P>) -> Result<(), Fault> {
        let regs = &redist.regs;
        let shift = table::REDISTRIBUTOR_CACHE_SHIFT;
        let config = self.config.at() | u64::from(ID_BITS - 1);
        self.config.point(regs, gicr::PROPBASER, shift, config);
        let base = pending.at() | gicr::PENDBASER_ZERO;
        pending.point(regs, gicr::PENDBASER, shift, base);
        switch(&self.chip, redist, true)?;
        self.chip.platform.barrier(Barrier::Full);
        Ok(())
    }

    /// Gives out an LPI, disabled.
    pub fn take(&self) -> Result<u32, Fault> {
        let mut used = self.used.lock();
        for (index, word) in used.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            if bit < 64 {
                *word |= 1 << bit;
                return Ok(FIRST_LPI + 64 * index as u32 + bit);
            }
        }
        Err(Fault::Exhausted {
            what: "LPI",
            limit: u64::from(LPIS),
        })
    }

    /// Takes an LPI back that nothing can raise any more.
    pub fn give_back(&self, lpi: u32) {
        let n = lpi - FIRST_LPI;
        self.used.lock()[n as usize / 64] &= !(1 << (n % 64));
    }

    /// Configures an LPI. That takes effect with the next commands: their queue is
    /// published after this, and the redistributor may have the old configuration
    /// cached until one of them makes it look again.
    pub fn set_enabled(&self, lpi: u32, enabled: bool) {
        let byte = if enabled {
            gicr::lpi_enabled(PRIORITY)
        } else {
            gicr::lpi_disabled(PRIORITY)
        };
        self.config.store_byte((lpi - FIRST_LPI) as usize, byte);
    }
}

impl<P: Platform> Drop for Lpis<P> {
    fn drop(&mut self) {
        for (&cpu, pending) in self.pending.get_mut() {
            let off = self.chip.of(cpu);
            if let Err(fault) = off.and_then(|redist| switch(&self.chip, redist, false)) {
                log::error!("LPIs stay on, their tables are parked: {fault}");
                self.config.park();
                pending.park();
            }
        }
    }
}

/// Switches LPIs off at a redistributor that is to have other tables: the base
/// registers may be written only while LPIs are off, and an earlier owner's tables are
/// used until they are.
fn stop<P: Platform>(chip: &Chip<P>, redist: &Redistributor<P::Mmio>) -> Result<(), Fault> {
    if redist.typer & gicr::TYPER_PLPIS == 0 {
        return Err(Fault::Unsupported {
            what: "GICR_TYPER without physical LPIs",
            seen: redist.typer,
        });
    }
    switch(chip, redist, false)
}

/// Switches LPIs on or off. Hardware may refuse to switch them off once they were
/// on (IHI 0069 §12.11.2, EnableLPIs).
fn switch<P: Platform>(
    chip: &Chip<P>,
    redist: &Redistributor<P::Mmio>,
    on: bool,
) -> Result<(), Fault> {
    let others = redist.regs.read32(gicr::CTLR) & !gicr::CTLR_ENABLE_LPIS;
    let wanted = if on { gicr::CTLR_ENABLE_LPIS } else { 0 };
    redist.regs.write32(gicr::CTLR, others | wanted);
    redist.settle(&chip.platform)?;
    let seen = redist.regs.read32(gicr::CTLR);
    if seen & gicr::CTLR_ENABLE_LPIS != wanted {
        return Err(Fault::Register {
            name: "GICR_CTLR (EnableLPIs)",
            expected: u64::from(others | wanted),
            seen: u64::from(seen),
        });
    }
    Ok(())
}

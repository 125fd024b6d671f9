//! Finding and waking the redistributor of the CPU that boots. Each CPU has one;
//! they stand in a row in one or more regions, and only GICR_TYPER says whose one
//! is. Each candidate is mapped by itself, since a region can be many megabytes.

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform, poll};
use mastiff_core::probe::Probe;

use crate::PATIENCE_US;
use crate::bank::Bank;
use crate::spec::redistributor as gicr;

/// The redistributor of one CPU.
pub struct Redistributor<M: Mmio> {
    pub regs: M,
    pub at: PhysAddr,
    pub typer: u64,
}

impl<M: Mmio> Redistributor<M> {
    /// Finds the one whose affinity is that of `mpidr`. The regions are the GIC's
    /// windows from the second on.
    pub fn find<P: Platform<Mmio = M>>(
        probe: &mut Probe<'_, P>,
        mpidr: u64,
    ) -> Result<Self, Fault> {
        let node = probe.require_node()?;
        let regions = node.cell("#redistributor-regions")?.unwrap_or(1);
        let stride = match node.prop("redistributor-stride") {
            Some(prop) => Some(
                prop.as_cells()?
                    .iter()
                    .fold(0, |sum, &cell| sum << 32 | u64::from(cell)),
            ),
            None => None,
        };
        if let Some(stride) = stride
            && (stride < gicr::LEN || stride % 0x1_0000 != 0)
        {
            return Err(Fault::Unsupported {
                what: "a redistributor-stride that is no multiple of 64 KiB from 128 KiB on",
                seen: stride,
            });
        }
        let wanted = gicr::packed_affinity(mpidr);
        let mut last = None;
        for index in 1..=regions as usize {
            let region = probe.window(index)?;
            if region.len < gicr::LEN {
                return Err(Fault::WindowTooSmall {
                    index,
                    have: region.len,
                    need: gicr::LEN,
                });
            }
            match Self::find_in(probe, region, stride, wanted)? {
                Ok(found) => return Ok(found),
                Err(typer) => last = typer,
            }
        }
        let Some(seen) = last else {
            return Err(Fault::invalid("`#redistributor-regions` is 0"));
        };
        Err(Fault::Register {
            name: "GICR_TYPER (last redistributor; affinity in the upper half)",
            expected: u64::from(wanted) << 32,
            seen,
        })
    }

    /// Looks through one region; where it is not there, the last TYPER seen.
    fn find_in<P: Platform<Mmio = M>>(
        probe: &mut Probe<'_, P>,
        region: PhysRange,
        stride: Option<u64>,
        wanted: u32,
    ) -> Result<Result<Self, Option<u64>>, Fault> {
        let mut offset = 0;
        let mut last = None;
        while region.len - offset >= gicr::LEN {
            let at = region.start.add(offset);
            let len = gicr::LEN;
            let regs = probe.map(PhysRange { start: at, len })?;
            let typer = regs.read64(gicr::TYPER);
            if gicr::affinity(typer) == wanted {
                return Ok(Ok(Self { regs, at, typer }));
            }
            last = Some(typer);
            let len = match typer & gicr::TYPER_VLPIS {
                0 => gicr::LEN,
                _ => gicr::LEN_WITH_VLPIS,
            };
            offset = offset.saturating_add(stride.unwrap_or(len)).min(region.len);
            if typer & gicr::TYPER_LAST != 0 {
                break;
            }
        }
        Ok(Err(last))
    }

    /// The private interrupts' registers.
    pub fn bank(&self) -> Bank<'_, M> {
        Bank::new(&self.regs, gicr::SGI_FRAME)
    }

    /// Has it forward interrupts to its CPU (IHI 0069 §11.1). Where the secure
    /// state owns that, it has done so, and the register reads as awake.
    pub fn wake<P: Platform>(&self, platform: &P) -> Result<(), Fault> {
        let waker = self.regs.read32(gicr::WAKER);
        let awake = waker & !gicr::WAKER_PROCESSOR_SLEEP;
        self.regs.write32(gicr::WAKER, awake);
        poll(platform, PATIENCE_US, || {
            (self.regs.read32(gicr::WAKER) & gicr::WAKER_CHILDREN_ASLEEP == 0).then_some(())
        })
        .ok_or_else(|| Fault::Timeout {
            awaited: "wake-up of the redistributor (ChildrenAsleep = 0)",
            register: "GICR_WAKER",
            seen: u64::from(self.regs.read32(gicr::WAKER)),
            us: PATIENCE_US,
        })
    }

    /// Waits until what was written has taken effect.
    pub fn settle<P: Platform>(&self, platform: &P) -> Result<(), Fault> {
        poll(platform, PATIENCE_US, || {
            (self.regs.read32(gicr::CTLR) & gicr::CTLR_RWP == 0).then_some(())
        })
        .ok_or_else(|| Fault::Timeout {
            awaited: "effect of a write (RWP = 0)",
            register: "GICR_CTLR",
            seen: u64::from(self.regs.read32(gicr::CTLR)),
            us: PATIENCE_US,
        })
    }
}

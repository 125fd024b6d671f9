//! Finding and waking the redistributor of a CPU. Each has one; they stand in a row in one or more regions, and only GICR_TYPER says whose one
//! is. Each candidate is mapped by itself, since a region can be many megabytes.

use alloc::vec::Vec;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform, poll};
use mastiff_core::probe::Probe;

use crate::PATIENCE_US;
use crate::bank::Bank;
use crate::root::NUDGE;
use crate::spec::redistributor as gicr;

/// Where the redistributors stand.
pub struct Row {
    // One that is missing is so only to who gets there.
    regions: Vec<Result<PhysRange, Fault>>,
    stride: Option<u64>,
}

impl Row {
    /// As the tree tells: the GIC's windows from the second on.
    pub fn of<P: Platform>(probe: &Probe<'_, P>) -> Result<Self, Fault> {
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
        let regions = (1..=regions as usize).map(|index| {
            let region = probe.window(index)?;
            if region.len < gicr::LEN {
                return Err(Fault::WindowTooSmall {
                    index,
                    have: region.len,
                    need: gicr::LEN,
                });
            }
            Ok(region)
        });
        Ok(Self {
            regions: regions.collect(),
            stride,
        })
    }
}

/// The redistributor of one CPU.
pub struct Redistributor<M: Mmio> {
    pub regs: M,
    pub at: PhysAddr,
    pub typer: u64,
    /// Of its CPU, as MPIDR_EL1 has it.
    pub affinity: u64,
}

impl<M: Mmio> Redistributor<M> {
    /// Finds the one whose affinity is that of `mpidr`, mapping one after the other.
    pub fn find(
        row: &Row,
        mpidr: u64,
        mut map: impl FnMut(PhysRange) -> Result<M, Fault>,
    ) -> Result<Self, Fault> {
        let mut last = None;
        for region in &row.regions {
            match Self::find_in(&mut map, region.clone()?, row.stride, mpidr)? {
                Ok(found) => return Ok(found),
                Err(typer) => last = typer,
            }
        }
        let Some(seen) = last else {
            return Err(Fault::invalid("`#redistributor-regions` is 0"));
        };
        Err(Fault::Register {
            name: "GICR_TYPER (last redistributor; affinity in the upper half)",
            expected: u64::from(gicr::packed_affinity(mpidr)) << 32,
            seen,
        })
    }

    /// Looks through one region; where it is not there, the last TYPER seen.
    fn find_in(
        map: &mut impl FnMut(PhysRange) -> Result<M, Fault>,
        region: PhysRange,
        stride: Option<u64>,
        mpidr: u64,
    ) -> Result<Result<Self, Option<u64>>, Fault> {
        let mut offset = 0;
        let mut last = None;
        while region.len - offset >= gicr::LEN {
            let at = region.start.add(offset);
            let len = gicr::LEN;
            let regs = map(PhysRange { start: at, len })?;
            let typer = regs.read64(gicr::TYPER);
            if gicr::affinity(typer) == gicr::packed_affinity(mpidr) {
                return Ok(Ok(Self {
                    regs,
                    at,
                    typer,
                    affinity: mpidr,
                }));
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

    /// Has it forward its CPU the private interrupts that are asked for, once the CPU
    /// lets them; nudges are.
    pub fn start<P: Platform>(&self, platform: &P) -> Result<(), Fault> {
        self.wake(platform)?;
        self.bank().set_group(0, true);
        self.bank().reset(0);
        self.bank().enable(NUDGE);
        self.settle(platform)
    }

    /// Has it forward interrupts to its CPU (IHI 0069 §11.1). Where the secure
    /// state owns that, it has done so, and the register reads as awake.
    fn wake<P: Platform>(&self, platform: &P) -> Result<(), Fault> {
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

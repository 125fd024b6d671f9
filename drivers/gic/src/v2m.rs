//! GICv2m: a frame whose one register raises the SPI that is written to it, so that
//! a PCI function can signal by message (Arm Base System Architecture, GICv2m).
//! Which SPIs are the frame's stands in its MSI_TYPER, or in the tree where that
//! is wrong. A GICv2m cannot tell requesters apart.

use alloc::sync::Arc;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::irq::{IrqChip, IrqSpec, MsiChip, MsiVector, Trigger};
use mastiff_core::platform::{Mmio, Platform};
use mastiff_core::probe::{Probe, Service};
use mastiff_dt::Node;
use spin::Mutex;

use crate::v2::Chip;

const COMPATIBLE: &str = "arm,gic-v2m-frame";
const FRAME_LEN: u64 = 0x1000;
const MSI_TYPER: usize = 0x008;
/// Writing an SPI's INTID here makes it pending.
const MSI_SETSPI_NS: u64 = 0x040;

/// The first SPI of a frame and how many it has.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Spis {
    first: u32,
    count: u32,
}

/// Publishes the message frames below a GICv2's node. One that makes no sense is
/// left out: its devices have their wired interrupts still.
pub fn publish_frames<P: Platform>(
    probe: &mut Probe<'_, P>,
    chip: &Arc<Chip<P>>,
) -> Result<(), Fault> {
    let node = probe.require_node()?;
    let frames = node
        .children()
        .filter(|child| child.is_compatible(COMPATIBLE));
    for child in frames.filter(|child| child.status().is_enabled()) {
        match Frame::find(probe, child, chip.clone()) {
            Ok(frame) => {
                let Spis { first, count } = frame.spis;
                log::info!("{}: GICv2m, INTIDs {first}+{count}", child.path());
                probe.publish_at(child.id(), Service::Msi(Arc::new(frame)));
            }
            Err(fault) => log::warn!("{}: no message interrupts: {fault}", child.path()),
        }
    }
    Ok(())
}

struct Frame {
    doorbell: PhysAddr,
    spis: Spis,
    chip: Arc<dyn IrqChip>,
    /// A bit per SPI of the frame that is given out.
    used: Mutex<[u64; 16]>,
}

impl Frame {
    fn find<P: Platform>(
        probe: &mut Probe<'_, P>,
        node: Node<'_>,
        chip: Arc<dyn IrqChip>,
    ) -> Result<Self, Fault> {
        let regions = node.reg()?;
        let region = regions.first().ok_or(Fault::NoWindow { index: 0 })?;
        if region.size < FRAME_LEN {
            return Err(Fault::WindowTooSmall {
                index: 0,
                have: region.size,
                need: FRAME_LEN,
            });
        }
        let start = PhysAddr(region.base);
        let len = FRAME_LEN;
        let regs = probe.map(PhysRange { start, len })?;
        let typer = from_typer(regs.read32(MSI_TYPER));
        let spis = Spis {
            first: node.cell("arm,msi-base-spi")?.unwrap_or(typer.first),
            count: node.cell("arm,msi-num-spis")?.unwrap_or(typer.count),
        };
        Ok(Self {
            doorbell: start.add(MSI_SETSPI_NS),
            spis: plausible(spis)?,
            chip,
            used: Mutex::new([0; 16]),
        })
    }

    fn take(&self) -> Option<u32> {
        let mut used = self.used.lock();
        let free = (0..self.spis.count).find(|&n| used[n as usize / 64] & 1 << (n % 64) == 0)?;
        used[free as usize / 64] |= 1 << (free % 64);
        Some(self.spis.first + free)
    }

    fn give_back(&self, intid: u32) {
        let n = intid - self.spis.first;
        self.used.lock()[n as usize / 64] &= !(1 << (n % 64));
    }
}

impl MsiChip for Frame {
    fn allocate(&self, requester: u32) -> Result<MsiVector, Fault> {
        let intid = self.take().ok_or(Fault::Exhausted {
            what: "GICv2m interrupt",
            limit: u64::from(self.spis.count),
        })?;
        let trigger = Trigger::Edge;
        if let Err(fault) = self.chip.enable(IrqSpec { intid, trigger }) {
            self.give_back(intid);
            return Err(fault);
        }
        Ok(MsiVector {
            requester,
            intid,
            doorbell: self.doorbell,
            data: intid,
        })
    }

    fn steer(&self, vector: &MsiVector, cpu: usize) -> Result<(), Fault> {
        self.chip.steer(vector.intid, cpu)
    }

    fn release(&self, vector: &MsiVector) {
        self.chip.mask(vector.intid);
        self.give_back(vector.intid);
    }
}

fn from_typer(typer: u32) -> Spis {
    Spis {
        first: typer >> 16 & 0x3ff,
        count: typer & 0x3ff,
    }
}

/// SPIs are INTIDs 32 to 1019.
fn plausible(spis: Spis) -> Result<Spis, Fault> {
    let end = spis.first.checked_add(spis.count);
    if spis.first >= 32 && spis.count > 0 && end.is_some_and(|end| end <= 1020) {
        return Ok(spis);
    }
    Err(Fault::Unsupported {
        what: "GICv2m interrupts out of the range of SPIs (first, count)",
        seen: u64::from(spis.first) << 32 | u64::from(spis.count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typer_has_base_and_number() {
        // What QEMU's virt machine has: 64 from SPI 48 on.
        let spis = from_typer(0x0050_0040);
        assert_eq!((spis.first, spis.count), (80, 64));
        assert_eq!(plausible(spis), Ok(spis));
    }

    #[test]
    fn ranges_outside_the_spis_are_refused() {
        for (first, count) in [(0, 64), (31, 1), (1019, 2), (80, 0), (u32::MAX, 2)] {
            assert!(plausible(Spis { first, count }).is_err(), "{first}+{count}");
        }
        let last = Spis {
            first: 1019,
            count: 1,
        };
        assert_eq!(plausible(last), Ok(last));
    }
}

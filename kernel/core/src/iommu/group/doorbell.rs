//! Where a member writes to raise an interrupt: a target of its DMA like any other.

use alloc::vec::Vec;

use super::Group;
use super::joining::Member;
use crate::addr::{Iova, PhysAddr};
use crate::error::Fault;
use crate::iommu::{Permission, Reserved};

impl Member {
    /// Whether a write to a doorbell passes untranslated, whichever stream it carries.
    fn rings_directly(&self, pa: PhysAddr) -> bool {
        let covers = |of_stream: &Vec<Reserved>| {
            let mut doorbells = of_stream.iter().filter(|region| region.doorbell);
            doorbells.any(|region| (region.first..=region.last).contains(&pa.0))
        };
        self.reserved.iter().all(covers)
    }
}

impl Group {
    /// The address at which member `device` writes to raise an interrupt: the doorbell
    /// is a target of its DMA like any other and needs a mapping, unless the IOMMU lets
    /// such writes pass.
    pub(crate) fn doorbell(&self, device: &str, pa: PhysAddr, limit: u64) -> Result<Iova, Fault> {
        let size = self.page;
        let (page, offset) = (pa.0 & !(size - 1), pa.0 & (size - 1));
        if self.identity || pa.0 <= limit && self.rings_directly(device, pa) {
            return Ok(Iova(pa.0));
        }
        let mut doorbells = self.doorbells.lock();
        let known = doorbells
            .iter()
            .find(|(known, iova)| *known == page && iova.0 + (size - 1) <= limit);
        let iova = match known {
            Some((_, iova)) => *iova,
            None => {
                let slot =
                    self.mappings
                        .map(0, PhysAddr(page), size, limit, Permission::Doorbell)?;
                doorbells.push((page, slot.iova));
                slot.iova
            }
        };
        Ok(iova.add(offset))
    }

    fn rings_directly(&self, device: &str, pa: PhysAddr) -> bool {
        let live = self.live.lock();
        let mut same = live.members.iter().filter(|member| &*member.name == device);
        same.any(|member| member.rings_directly(pa))
    }
}

//! Address spaces below others: what a driver that manages its IOMMU may nest spaces
//! in. Memory that a nested space maps gets an address here first, of the core's
//! choice, and that is what the nested space leads to. So none of them reaches what
//! is not mapped here, whatever its own tables say.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::NodeId;
use spin::Mutex;

use super::group::Behind;
use super::{Domain, ParentDomain, Permission};
use crate::addr::{Iova, PhysAddr};
use crate::dma::{IovaSpace, Slot};
use crate::error::Fault;

/// What spaces can be nested in: one domain for each IOMMU that the device is behind.
pub struct Lower {
    pub(super) inner: Arc<Below>,
}

/// One for each IOMMU that a device is behind.
pub(super) type Domains = Vec<(NodeId, Arc<dyn Domain>)>;

/// What the handle and all that is nested share.
pub(super) struct Below {
    domains: Vec<(NodeId, Arc<dyn ParentDomain>)>,
    space: Mutex<IovaSpace>,
}

impl Lower {
    pub(super) fn new(behind: &[Behind]) -> Result<Self, Fault> {
        let (mut domains, mut aperture) = (Vec::new(), u64::MAX);
        for behind in behind {
            let domain = behind.iommu.parent_domain()?;
            aperture = aperture.min(domain.aperture());
            domains.push((behind.node, domain));
        }
        let space = Mutex::new(IovaSpace::new(aperture));
        let inner = Arc::new(Below { domains, space });
        Ok(Self { inner })
    }
}

impl Below {
    /// A domain of each IOMMU, nested in this one.
    pub fn nested(&self) -> Result<Domains, Fault> {
        let nested = |(node, domain): &(NodeId, Arc<dyn ParentDomain>)| {
            let domain = domain.nested()?;
            Ok((*node, domain))
        };
        self.domains.iter().map(nested).collect()
    }

    /// Gives memory an address.
    pub fn map(&self, pa: PhysAddr, len: u64, access: Permission) -> Result<Iova, Fault> {
        let slot = self.space.lock().alloc(len, u64::MAX)?;
        let at = slot.iova;
        for (done, (_, domain)) in self.domains.iter().enumerate() {
            if let Err(fault) = domain.map(at, pa, len, access) {
                let undone = self.domains[..done]
                    .iter()
                    .try_for_each(|(_, domain)| domain.unmap(at, len));
                if undone.is_ok() {
                    self.space.lock().free(slot, len);
                }
                return Err(fault);
            }
        }
        Ok(at)
    }

    /// Takes it back. On an error the memory may still be reached, and the address is
    /// never handed out again.
    pub fn unmap(&self, at: Iova, len: u64) -> Result<(), Fault> {
        let mut result = Ok(());
        for (_, domain) in &self.domains {
            result = result.and(domain.unmap(at, len));
        }
        result?;
        self.space.lock().free(Slot::new(at.0), len);
        Ok(())
    }
}

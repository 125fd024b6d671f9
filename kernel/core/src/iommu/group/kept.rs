//! What firmware mapped: memory that a device uses already when it is attached, so
//! that it must be there from the first transaction on.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Group;
use super::joining::Live;
use crate::addr::{Iova, PhysAddr};
use crate::error::Fault;
use crate::iommu::{Domain, Permission};

/// Memory that firmware mapped for a device and that must stay mapped.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub iova: Iova,
    pub pa: PhysAddr,
    pub len: u64,
}

/// A mapping that firmware made, for as long as a member uses it.
pub(super) struct Kept {
    pub mapping: Identity,
    domains: Vec<Arc<dyn Domain>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Identity { iova, len, .. } = self.mapping;
        for domain in &self.domains {
            if let Err(fault) = domain.unmap(iova, len) {
                // The memory is firmware's: nobody is given it in either case.
                log::error!("firmware's mapping at {iova}: {fault}");
            }
        }
    }
}

impl Group {
    /// Maps what firmware mapped, where it did; what another member has mapped like
    /// that already is shared.
    pub(super) fn keep(&self, live: &Live, mappings: &[Identity]) -> Result<Vec<Arc<Kept>>, Fault> {
        if self.identity {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for &mapping in mappings {
            let known = live.members.iter().flat_map(|member| &member.kept);
            let same = known.chain(&all).find(|kept| kept.mapping == mapping);
            if let Some(kept) = same.cloned() {
                all.push(kept);
                continue;
            }
            let Identity { iova, pa, len } = mapping;
            let mut kept = Kept {
                mapping,
                domains: Vec::new(),
            };
            for (_, domain) in self.mappings.domains() {
                domain.map(iova, pa, len, Permission::ReadWrite)?;
                kept.domains.push(domain.clone());
            }
            all.push(Arc::new(kept));
        }
        Ok(all)
    }
}

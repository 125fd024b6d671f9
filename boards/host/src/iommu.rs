//! An IOMMU on paper: it takes every stream and every mapping, and remembers none.

use std::sync::Arc;

use mastiff_core::addr::{Iova, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Domain, EntryDump, Iommu, Limits, Permission, Status, Tag, WalkStep};

/// What a stand-in publishes for a node with `#iommu-cells`.
pub struct PaperIommu;

impl Iommu for PaperIommu {
    /// The tree does not say how many streams an IOMMU has: a register would.
    fn limits(&self) -> Limits {
        Limits {
            aperture: (1 << 48) - 1,
            streams: 1 << 32,
            page: mastiff_core::addr::PAGE,
        }
    }

    fn paging_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        Ok(Arc::new(PaperDomain))
    }

    fn identity_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        Ok(Arc::new(PaperDomain))
    }

    fn block(&self, _stream: StreamId) -> Result<(), Fault> {
        Ok(())
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn live_streams(&self) -> Vec<StreamId> {
        Vec::new()
    }

    fn describe(&self, _stream: StreamId) -> Result<EntryDump, Fault> {
        Ok(EntryDump::default())
    }
}

struct PaperDomain;

impl Domain for PaperDomain {
    fn attach(&self, _stream: StreamId) -> Result<(), Fault> {
        Ok(())
    }

    fn map(&self, _: Iova, _: PhysAddr, _: u64, _: Permission) -> Result<(), Fault> {
        Ok(())
    }

    fn unmap(&self, _iova: Iova, _len: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn walk(&self, _iova: Iova) -> Vec<WalkStep> {
        Vec::new()
    }

    fn tag(&self) -> Option<Tag> {
        None
    }
}

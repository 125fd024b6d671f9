//! Domains: what a stream's transactions go through.

mod context;
mod cover;
mod flush;
mod nested;
mod tags;
mod walk;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PhysAddr, StreamId, SubstreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{self, Domain, Hint, Permission, WalkStep};

pub(crate) use context::Context;
pub(crate) use nested::{Lower, Parent, Shown};
pub(crate) use tags::Tags;

use crate::attach::Route;
use crate::bind::Machine;
use crate::smmu::Smmu;

/// A domain with tables of its own.
pub(crate) struct PagingDomain<P: Machine>(pub Arc<Context<P>>);

impl<P: Machine> Domain for PagingDomain<P> {
    fn attach(&self, stream: StreamId) -> Result<(), Fault> {
        let smmu = self.0.smmu();
        smmu.attach(stream, Route::Translate(self.0.clone()))
    }

    fn attach_substream(&self, stream: StreamId, substream: SubstreamId) -> Result<(), Fault> {
        let smmu = self.0.smmu();
        smmu.attach_substream(stream, substream, &self.0)
    }

    fn map(&self, iova: Iova, pa: PhysAddr, len: u64, access: Permission) -> Result<(), Fault> {
        self.map_near(Hint::default(), iova, pa, len, access)?;
        Ok(())
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        self.0.unmap(iova, len)
    }

    fn map_near(
        &self,
        hint: Hint,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Hint, Box<Fault>> {
        self.0.map_near(hint, iova, pa, len, access)
    }

    fn map_list(
        &self,
        hint: Hint,
        iova: Iova,
        pieces: &[PhysAddr],
        piece: u64,
        access: Permission,
    ) -> Result<Hint, (usize, Box<Fault>)> {
        match self.0.map_pieces(hint, iova, pieces, piece, access) {
            true => Ok(hint),
            false => self.map_each(hint, iova, pieces, piece, access),
        }
    }

    fn unmap_list(&self, hint: Hint, iova: Iova, count: usize, piece: u64) -> Result<(), Fault> {
        match count {
            0 => Ok(()),
            _ => Ok(self.0.unmap_near(hint, iova, piece * count as u64)?),
        }
    }

    fn unmap_near(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        self.0.unmap_near(hint, iova, len)
    }

    fn clear(&self, hint: Hint, iova: Iova, count: usize, piece: u64) -> Result<(), Box<Fault>> {
        self.0.clear(hint, iova, piece * count as u64)
    }

    fn prepare(&self, iova: Iova) -> Hint {
        self.0.prepare(iova)
    }

    fn flush(&self) -> Result<(), Fault> {
        self.0.flush()
    }

    fn walk(&self, iova: Iova) -> Vec<WalkStep> {
        self.0.walk(iova)
    }

    fn tag(&self) -> Option<iommu::Tag> {
        Some(self.0.shown_tag())
    }

    fn parent_tag(&self) -> Option<iommu::Tag> {
        let parent = self.0.parent()?;
        Some(parent.context().shown_tag())
    }
}

/// A domain in which addresses pass unchanged, without tables.
pub(crate) struct IdentityDomain<P: Machine>(pub Arc<Smmu<P>>);

impl<P: Machine> Domain for IdentityDomain<P> {
    fn attach(&self, stream: StreamId) -> Result<(), Fault> {
        self.0.attach(stream, Route::Bypass)
    }

    fn map(&self, iova: Iova, pa: PhysAddr, len: u64, _: Permission) -> Result<(), Fault> {
        if iova.0 == pa.0 {
            return Ok(());
        }
        let why = "in an identity domain the address is the physical one";
        Err(Fault::BadRange { iova, len, why })
    }

    fn unmap(&self, _: Iova, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn walk(&self, _: Iova) -> Vec<WalkStep> {
        Vec::new()
    }

    fn tag(&self) -> Option<iommu::Tag> {
        None
    }
}

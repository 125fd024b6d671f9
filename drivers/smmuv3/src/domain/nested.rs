//! Nested domains: a stage 1 above a stage 2 (IHI 0070 §3.4). The lower one, the parent,
//! says what masters may reach; what is nested in it chooses within that. The parent
//! translates everything of stage 1: the addresses of CDs, of tables, and those that
//! masters' addresses become.
//!
//! CDs and tables are memory of the driver, and the parent shows it to the hardware
//! in the upper half of its addresses, for reading only: no mapping of a nested
//! domain leads there. Users of the parent have the lower half.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{self, Domain, ParentDomain, Permission, WalkStep};

use super::{Context, PagingDomain};
use crate::attach::Route;
use crate::bind::Machine;
use crate::memory::Memory;
use crate::smmu::Smmu;
use crate::spec::Command;

/// A stage 2 with room for what is nested in it.
pub(crate) struct Parent<P: Machine> {
    context: Arc<Context<P>>,
    // Where the half of the driver starts.
    lift: u64,
}

impl<P: Machine> Parent<P> {
    /// A parent in which every address faults. Only where there are both stages.
    pub fn new(smmu: Arc<Smmu<P>>) -> Result<Self, Fault> {
        let Some(below) = smmu.below else {
            let what = "nested domains, which take both stages (IDR0.S1P, IDR0.S2P)";
            let seen = u64::from(smmu.features.stage2) | u64::from(smmu.features.stage1) << 1;
            return Err(Fault::Unsupported { what, seen });
        };
        let context = Arc::new(Context::stage2(smmu, below)?);
        let lift = 1 << (below.input_bits - 1);
        Ok(Self { context, lift })
    }

    pub fn context(&self) -> &Arc<Context<P>> {
        &self.context
    }

    /// How much what it shows is above its memory.
    pub fn lift(&self) -> u64 {
        self.lift
    }

    /// Shows memory of the driver to the hardware, and says where.
    pub fn show(&self, pa: u64, len: u64) -> Result<u64, Fault> {
        if !self.is_below(pa, len) {
            let (bytes, limit) = (len, self.lift - 1);
            return Err(Fault::OutOfMemory { bytes, limit });
        }
        let at = pa + self.lift;
        self.context
            .map(Iova(at), PhysAddr(pa), len, Permission::Read)?;
        Ok(at)
    }

    /// Takes it back. On an error the hardware may still read it.
    pub fn hide(&self, at: u64, len: u64) -> Result<(), Fault> {
        self.unmap(Iova(at), len)
    }

    /// What is cached of both stages goes by no intermediate address, so all of it does;
    /// and only when stage 2 is known to be forgotten, or it might be made anew from
    /// that.
    fn unmap(&self, at: Iova, len: u64) -> Result<(), Fault> {
        self.context.unmap(at, len)?;
        let both = Command::tlbi_nh_all(self.context.number());
        self.context.smmu().run([both])
    }

    fn is_below(&self, at: u64, len: u64) -> bool {
        at < self.lift && len <= self.lift - at
    }

    /// Whether these addresses are of the half of its users.
    pub fn check(&self, at: u64, len: u64) -> Result<(), Fault> {
        if self.is_below(at, len) {
            return Ok(());
        }
        let (iova, why) = (Iova(at), "it is beyond the addresses of the parent domain");
        Err(Fault::BadRange { iova, len, why })
    }
}

/// Memory of a structure of stage 1, and the address at which the hardware finds it.
pub(crate) struct Shown<P: Machine> {
    // Always there, until `drop`.
    memory: Option<Memory<P>>,
    parent: Option<Arc<Parent<P>>>,
    at: u64,
    len: u64,
}

impl<P: Machine> Shown<P> {
    /// `bytes` that hold anything, aligned to their size and to 64.
    pub fn new(smmu: &Smmu<P>, bytes: u64, parent: Option<Arc<Parent<P>>>) -> Result<Self, Fault> {
        // A parent maps whole pages, and nothing else of the kernel is to be in them.
        let len = match parent {
            Some(_) => bytes.max(smmu.geometry.granule.size()),
            None => bytes,
        };
        let memory = Memory::new(&smmu.platform, &smmu.reach, len, 64)?;
        let at = match &parent {
            Some(parent) => parent.show(memory.pa(), len)?,
            None => memory.pa(),
        };
        Ok(Self {
            memory: Some(memory),
            parent,
            at,
            len,
        })
    }

    /// Where entries say that it is.
    pub fn at(&self) -> u64 {
        self.at
    }

    pub fn memory(&self) -> Result<&Memory<P>, Fault> {
        self.memory.as_ref().ok_or(Fault::Revoked)
    }

    /// Gives it up for ever: the hardware may still use it.
    pub fn abandon(mut self) {
        if let Some(memory) = self.memory.take() {
            memory.abandon();
        }
    }
}

impl<P: Machine> Drop for Shown<P> {
    fn drop(&mut self) {
        let (Some(memory), Some(parent)) = (self.memory.take(), &self.parent) else {
            return;
        };
        if let Err(fault) = parent.hide(self.at, self.len) {
            log::error!(
                "a nested structure at {:#x} stays allocated: {fault}",
                self.at
            );
            memory.abandon();
        }
    }
}

/// What the core has of a parent.
pub(crate) struct Lower<P: Machine>(pub Arc<Parent<P>>);

impl<P: Machine> Domain for Lower<P> {
    fn attach(&self, stream: StreamId) -> Result<(), Fault> {
        let context = &self.0.context;
        let route = Route::Translate(context.clone());
        context.smmu().attach(stream, route)
    }

    fn map(&self, iova: Iova, pa: PhysAddr, len: u64, access: Permission) -> Result<(), Fault> {
        self.0.check(iova.0, len)?;
        self.0.context.map(iova, pa, len, access)
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        self.0.check(iova.0, len)?;
        self.0.unmap(iova, len)
    }

    fn walk(&self, iova: Iova) -> Vec<WalkStep> {
        self.0.context.walk(iova)
    }

    fn tag(&self) -> Option<iommu::Tag> {
        Some(self.0.context.shown_tag())
    }
}

impl<P: Machine> ParentDomain for Lower<P> {
    fn aperture(&self) -> u64 {
        self.0.lift - 1
    }

    fn nested(&self) -> Result<Arc<dyn Domain>, Fault> {
        let context = Context::nested(self.0.clone())?;
        Ok(Arc::new(PagingDomain(Arc::new(context))))
    }
}

//! Domains: what a stream's transactions go through.

mod context;
mod cover;
mod flush;
mod recent;
mod tags;

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Domain, Permission, WalkStep};
use mastiff_pgtable::{Attrs, Entry, Exec, Geometry};

pub(crate) use context::Context;
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

    fn map(&self, iova: Iova, pa: PhysAddr, len: u64, access: Permission) -> Result<(), Fault> {
        self.0.map(iova, pa, len, access)
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        self.0.unmap(iova, len)
    }

    fn walk(&self, iova: Iova) -> Vec<WalkStep> {
        let walk = self.0.walk(iova);
        let steps = walk.iter().flat_map(|walk| walk.steps());
        let step = |step: &mastiff_pgtable::WalkStep| WalkStep {
            level: step.level,
            table: PhysAddr(step.table),
            index: step.index,
            descriptor: step.raw,
            meaning: meaning(step, &self.0.smmu().geometry).into_boxed_str(),
        };
        steps.map(step).collect()
    }

    fn tag(&self) -> Option<u32> {
        Some(self.0.number().into())
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

    fn tag(&self) -> Option<u32> {
        None
    }
}

fn meaning(step: &mastiff_pgtable::WalkStep, geometry: &Geometry) -> alloc::string::String {
    let leaf = |kind, pa, attrs| {
        let together = match step.contiguous(geometry) {
            1 => "".to_string(),
            count => format!(", one of {count} contiguous"),
        };
        format!("{kind} at {pa:#x}, {}{together}", rights(attrs))
    };
    match step.entry {
        Entry::Invalid => "invalid: faults".to_string(),
        Entry::Table { pa } => format!("table at {pa:#x}"),
        Entry::Block { pa, attrs } => leaf("block", pa, attrs),
        Entry::Page { pa, attrs } => leaf("page", pa, attrs),
    }
}

fn rights(attrs: Option<Attrs>) -> alloc::string::String {
    let Some(attrs) = attrs else {
        return "attributes that this driver does not make".to_string();
    };
    let execute = if attrs.exec == Exec::Never {
        ""
    } else {
        ", executable"
    };
    format!("{:?}, {:?}{execute}", attrs.access, attrs.memory)
}

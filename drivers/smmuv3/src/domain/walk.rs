//! A walk as people are shown it: every descriptor that the hardware reads, in order.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PhysAddr};
use mastiff_core::iommu::WalkStep;
use mastiff_pgtable::{Attrs, Entry, Exec, Geometry, Stage, WalkStep as Step};

use super::Context;
use crate::bind::Machine;

impl<P: Machine> Context<P> {
    /// The walk for an address. Nested, each of its tables is at an address that the
    /// parent walks for first, and so is what comes out of it.
    pub fn walk(&self, iova: Iova) -> Vec<WalkStep> {
        let mut all = Vec::new();
        let tables = self.tables();
        let geometry = tables.geometry();
        for step in tables.walk(iova.0).steps() {
            let table = match self.parent() {
                None => step.table,
                Some(parent) => {
                    all.extend(parent.context().walk(Iova(step.table)));
                    step.table - parent.lift()
                }
            };
            all.push(WalkStep {
                stage: match self.stage() {
                    Stage::One => 1,
                    Stage::Two => 2,
                },
                level: step.level,
                table: PhysAddr(table),
                index: step.index,
                descriptor: step.raw,
                meaning: meaning(step, &geometry).into_boxed_str(),
                attributes: step.fields(&geometry).collect(),
            });
        }
        if let (Some(parent), Some((output, ..))) = (self.parent(), tables.translate(iova.0)) {
            all.extend(parent.context().walk(Iova(output)));
        }
        all
    }
}

fn meaning(step: &Step, geometry: &Geometry) -> String {
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

fn rights(attrs: Option<Attrs>) -> String {
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

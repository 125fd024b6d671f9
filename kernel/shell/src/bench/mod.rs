//! What things cost, in retired instructions: single operations counted one by one,
//! on a counter that was checked first. `docs/performance.md` says how to read it.

mod cores;
mod disk;
mod dma;
mod engine;
mod meter;
mod random;

use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::iommu::Iommu;

use mastiff_core::platform::Platform;
use mastiff_dt::NodeId;

use crate::commands::Failure;
use crate::records::{BenchRecord, Record};
use crate::shell::Shell;
pub use cores::rows as cores;
use meter::{Meter, Samples};

/// One family of rows.
type Family<P> = fn(&mut Course<'_, '_, P>, &mut Vec<Record>) -> Result<(), Failure>;

/// All families, by name. The last ones take devices down and up again.
fn families<P: Platform>() -> [(&'static str, Family<P>); 8] {
    [
        ("map", dma::rows),
        ("list", dma::lists),
        ("first", dma::first),
        ("alloc", dma::alloc),
        ("attach", dma::attach),
        ("disk", disk::all),
        ("probe", engine::probe),
        ("table", engine::table),
    ]
}

/// What a family works with.
struct Course<'s, 'a, P: Platform> {
    shell: &'s mut Shell<'a, P>,
    meter: Meter<P>,
    mode: &'static str,
}

/// Runs one family, or all.
pub fn run<P: Platform>(
    shell: &mut Shell<'_, P>,
    name: Option<&str>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let chosen = |family: &str| name.is_none_or(|name| name == family);
    let mut families = Vec::from(families::<P>());
    families.retain(|(family, _)| chosen(family));
    if families.is_empty() {
        return Err(Failure::new("no such bench; `help bench` lists them"));
    }
    let mut course = Course::new(shell)?;
    for (_, family) in families {
        family(&mut course, out)?;
    }
    Ok(())
}

/// Runs the rows of one disk.
pub fn disk<P: Platform>(
    shell: &mut Shell<'_, P>,
    name: &str,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    disk::rows(&Course::new(shell)?, name, out)
}

impl BenchRecord {
    /// Notes what mapping and unmapping took, each by itself.
    fn in_two(&mut self, maps: Samples, unmaps: Samples) {
        let ((map_insn, map_max), (unmap_insn, unmap_max)) = (maps.spread(), unmaps.spread());
        (self.map_insn, self.map_max) = (Some(map_insn), Some(map_max));
        (self.unmap_insn, self.unmap_max) = (Some(unmap_insn), Some(unmap_max));
    }
}

/// What the IOMMUs were given to do.
#[derive(Copy, Clone, Default)]
struct Work {
    commands: u64,
    syncs: u64,
    accesses: u64,
}

impl Work {
    fn minus(&self, before: &Self) -> Self {
        Self {
            commands: self.commands - before.commands,
            syncs: self.syncs - before.syncs,
            accesses: self.accesses - before.accesses,
        }
    }

    fn plus(&self, more: &Self) -> Self {
        Self {
            commands: self.commands + more.commands,
            syncs: self.syncs + more.syncs,
            accesses: self.accesses + more.accesses,
        }
    }

    /// Notes it in a row, for each of its operations.
    fn per_operation(&self, row: &mut BenchRecord) {
        let each = |count: u64| Some(count as f32 / row.n.max(1) as f32);
        let (mmio, syncs) = (each(self.accesses), each(self.syncs));
        row.invalidations = each(self.commands - self.syncs);
        (row.mmio, row.syncs) = (mmio, syncs);
    }
}

impl<'s, 'a, P: Platform> Course<'s, 'a, P> {
    /// Fails where instructions are not counted exactly.
    fn new(shell: &'s mut Shell<'a, P>) -> Result<Self, Failure> {
        let context = shell.engine.context();
        let mode = match (context.policy.passthrough, context.policy.lazy) {
            (true, _) => "passthrough",
            (false, true) => "lazy",
            (false, false) => "strict",
        };
        let meter = Meter::new(&context.platform, shell.system)?;
        Ok(Self { shell, meter, mode })
    }

    /// The first IOMMU that is bound.
    fn iommu(&self) -> Result<(NodeId, Arc<dyn Iommu>), Failure> {
        let mut iommus = self.shell.engine.context().iommus().into_iter();
        let first = iommus.next();
        first.ok_or_else(|| Failure::new("no IOMMU is bound"))
    }

    /// What the IOMMUs were given to do so far.
    fn work(&self) -> Work {
        let iommus = self.shell.engine.context().iommus();
        iommus.iter().fold(Work::default(), |sum, (_, iommu)| {
            let status = iommu.status();
            sum.plus(&Work {
                commands: status.commands,
                syncs: status.syncs,
                accesses: status.accesses,
            })
        })
    }

    /// Notes in a row what they were given to do since, for each of its operations.
    fn since(&self, before: &Work, row: &mut BenchRecord) {
        self.work().minus(before).per_operation(row);
    }

    /// A row of operations of one kind.
    fn row(&self, name: &'static str, samples: Samples) -> BenchRecord {
        let n = samples.len() as u32;
        let (insn, insn_max) = samples.spread();
        BenchRecord {
            name,
            mode: self.mode,
            n,
            insn,
            insn_max,
            ..BenchRecord::default()
        }
    }
}

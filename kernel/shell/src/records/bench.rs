//! What things cost.

use alloc::boxed::Box;
use alloc::string::String;

use serde::Serialize;

/// One row of the bench: instructions per operation are medians, the other counts
/// averages. What a row does not have is none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BenchRecord {
    /// What was done.
    pub name: &'static str,
    /// How unmapping works: `strict`, `lazy`, `passthrough`.
    pub mode: &'static str,
    /// The device that it was done with.
    pub device: Option<Box<str>>,
    /// How many operations were counted.
    pub n: u32,
    /// Instructions of one: of a mapping and its end, where there are both.
    pub insn: u32,
    /// The most that one took.
    pub insn_max: u32,
    /// Reads and writes of the IOMMU's registers.
    pub mmio: Option<f32>,
    /// Commands to the IOMMU that drop something it cached.
    pub invalidations: Option<f32>,
    /// Waits until those took effect.
    pub syncs: Option<f32>,
    /// The digest of what a row's first reads gave: a mebibyte.
    pub sha256: Option<String>,
    /// Mappings that were out meanwhile.
    pub outstanding: Option<u32>,
    /// Instructions of a mapping.
    pub map_insn: Option<u32>,
    /// The most that one took.
    pub map_max: Option<u32>,
    /// Instructions of its end.
    pub unmap_insn: Option<u32>,
    /// The most that one took.
    pub unmap_max: Option<u32>,
}

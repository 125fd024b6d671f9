//! What the kernel decides where the tree leaves a choice. Every rule has a name
//! on the command line, and every decision it makes is printed with its reason.

/// The rules of one boot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What becomes of a master whose IOMMU cannot come (`iommu.missing=`).
    pub missing_iommu: MissingIommu,
    /// Attach masters to identity domains (`iommu.passthrough=1`).
    pub passthrough: bool,
}

/// What becomes of a master whose IOMMU cannot come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MissingIommu {
    /// Its probe fails.
    Refuse,
    /// It does DMA directly.
    Direct,
}

impl Policy {
    /// What is safe.
    pub const DEFAULT: Self = Self {
        missing_iommu: MissingIommu::Refuse,
        passthrough: false,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

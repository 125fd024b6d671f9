//! What the kernel decides where the tree leaves a choice. Every rule has a name
//! on the command line, and every decision it makes is printed with its reason.

/// The rules of one boot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What becomes of a master whose IOMMU cannot come (`iommu.missing=`).
    pub missing_iommu: MissingIommu,
    /// Attach masters to identity domains (`iommu.passthrough=1`).
    pub passthrough: bool,
    /// Complete unmappings later, many at a time (`iommu.strict=0`).
    pub lazy: bool,
    /// The size of the pages that IOMMUs map with, where they leave a choice
    /// (`iommu.granule=`): their smallest if none is given.
    pub granule: Option<u64>,
    /// What the board decides for single devices, by name: it wins over
    /// `missing_iommu`.
    pub devices: &'static [(&'static str, MissingIommu)],
    /// Suppliers that firmware left on, by `compatible`: without a driver of ours they
    /// count as there.
    pub left_on: &'static [&'static str],
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
        lazy: false,
        granule: None,
        devices: &[],
        left_on: &[],
    };

    /// Whether any master may go on without its IOMMU: then what becomes of an IOMMU
    /// that is not used must not stop it.
    pub fn allows_direct(&self) -> bool {
        let direct = |decision| decision == MissingIommu::Direct;
        direct(self.missing_iommu) || self.devices.iter().any(|&(_, decision)| direct(decision))
    }

    /// What becomes of this device if its IOMMU cannot come.
    pub fn missing_iommu_of(&self, device: &str) -> MissingIommu {
        let own = self.devices.iter().find(|(name, _)| *name == device);
        own.map_or(self.missing_iommu, |(_, decision)| *decision)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

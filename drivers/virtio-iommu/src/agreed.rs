//! What driver and device agreed on, checked: features, and the limits that the
//! configuration gives.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::addr::PAGE;
use mastiff_core::error::Fault;

use crate::spec::feature::Features;
use crate::transport::Config;

/// More than this for the properties of one endpoint is taken for nonsense.
const LARGEST_PROBE: u32 = 1 << 20;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Agreed {
    pub features: Features,
    /// Smallest page.
    pub granule: u64,
    /// First and last input address.
    pub input: (u64, u64),
    /// First and last domain ID.
    pub domains: (u32, u32),
    /// Bytes of properties that PROBE gives; 0 where it is not there.
    pub probe_size: u32,
}

impl Agreed {
    /// What the features make of the configuration (virtio §5.13.4): a field whose
    /// feature is not there says nothing.
    pub fn new(features: Features, config: Config) -> Result<Self, Fault> {
        let unsupported = |what, seen| Err(Fault::Unsupported { what, seen });
        let granule = config.page_sizes & config.page_sizes.wrapping_neg();
        if granule == 0 || granule > PAGE {
            let what = "an IOMMU whose smallest page is larger than 4 KiB (page_size_mask)";
            return unsupported(what, config.page_sizes);
        }
        let input = match features.has(Features::INPUT_RANGE) {
            true => config.input,
            false => (0, u64::MAX),
        };
        if input.0 > input.1 {
            return unsupported("an IOMMU without input addresses (input_range)", input.0);
        }
        let domains = match features.has(Features::DOMAIN_RANGE) {
            true => config.domains,
            false => (0, u32::MAX),
        };
        if domains.0 > domains.1 {
            let first = domains.0.into();
            return unsupported("an IOMMU without domains (domain_range)", first);
        }
        let probe_size = match features.has(Features::PROBE) {
            true => config.probe_size,
            false => 0,
        };
        if probe_size > LARGEST_PROBE {
            let what = "an IOMMU with more than 1 MiB of properties (probe_size)";
            return unsupported(what, probe_size.into());
        }
        Ok(Self {
            features,
            granule,
            input,
            domains,
            probe_size,
        })
    }

    /// For people.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.features.words();
        let Self { input, domains, .. } = self;
        words.push(format!("granule {:#x}", self.granule));
        words.push(format!("input addresses {:#x} to {:#x}", input.0, input.1));
        words.push(format!("domains {:#x} to {:#x}", domains.0, domains.1));
        words
    }
}

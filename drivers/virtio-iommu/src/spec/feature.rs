//! Feature bits, of all devices (virtio §6) and of the IOMMU (virtio §5.13.3).

use alloc::string::String;
use alloc::vec::Vec;

/// A set of features.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Features(pub u64);

const NAMES: &[(Features, &str)] = &[
    (Features::INPUT_RANGE, "input range"),
    (Features::DOMAIN_RANGE, "domain range"),
    (Features::MAP_UNMAP, "map/unmap"),
    (Features::BYPASS, "bypass without a domain"),
    (Features::PROBE, "probe"),
    (Features::MMIO, "MMIO mappings"),
    (Features::BYPASS_CONFIG, "bypass domains"),
    (Features::ACCESS_PLATFORM, "platform addresses"),
    (Features::ORDER_PLATFORM, "platform ordering"),
];

impl Features {
    /// Input addresses are limited by the configuration.
    pub const INPUT_RANGE: Self = Self(1 << 0);
    /// Domain IDs are limited by the configuration.
    pub const DOMAIN_RANGE: Self = Self(1 << 1);
    /// MAP and UNMAP are there.
    pub const MAP_UNMAP: Self = Self(1 << 2);
    /// Endpoints without a domain reach memory, if this is accepted.
    pub const BYPASS: Self = Self(1 << 3);
    /// PROBE is there.
    pub const PROBE: Self = Self(1 << 4);
    /// Mappings of device registers are there.
    pub const MMIO: Self = Self(1 << 5);
    /// The configuration says whether endpoints without a domain reach memory, and
    /// domains can be made to bypass.
    pub const BYPASS_CONFIG: Self = Self(1 << 6);
    /// The device complies with this version of the specification.
    pub const VERSION_1: Self = Self(1 << 32);
    /// The device's own accesses go where the platform sends them.
    pub const ACCESS_PLATFORM: Self = Self(1 << 33);
    /// The device's own accesses are ordered as the platform's devices' are.
    pub const ORDER_PLATFORM: Self = Self(1 << 36);

    /// What the driver accepts if it is offered. Not `BYPASS`: without it an endpoint
    /// without a domain is blocked.
    pub const WANTED: Self = Self(
        Self::INPUT_RANGE.0
            | Self::DOMAIN_RANGE.0
            | Self::MAP_UNMAP.0
            | Self::PROBE.0
            | Self::MMIO.0
            | Self::BYPASS_CONFIG.0
            | Self::VERSION_1.0
            | Self::ACCESS_PLATFORM.0
            | Self::ORDER_PLATFORM.0,
    );

    /// Whether all of `other` are in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that have a name, in words.
    pub fn words(self) -> Vec<String> {
        let named = NAMES.iter().filter(|(feature, _)| self.has(*feature));
        named.map(|&(_, name)| name.into()).collect()
    }
}

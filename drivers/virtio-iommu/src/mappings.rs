//! What is mapped in a domain. The device has no table that could be read back, and
//! forgets a domain with its last endpoint, so this is the only record: it answers
//! questions, refuses what would clash, and brings mappings back after a reset.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

use mastiff_core::addr::{Iova, PhysAddr};
use mastiff_core::error::Fault;
use mastiff_core::iommu::Permission;

use crate::spec::feature::Features;
use crate::spec::request::{MAP_MMIO, MAP_READ, MAP_WRITE, Request};

/// One mapping, as it was made.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    pub first: u64,
    /// Included.
    pub last: u64,
    pub pa: u64,
    pub access: Permission,
}

impl Mapping {
    /// A mapping of `len` bytes, aligned to `granule`, whose input addresses all lie
    /// in `input`.
    pub fn new(
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        access: Permission,
        granule: u64,
        input: (u64, u64),
    ) -> Result<Self, Fault> {
        let bad = |why| Err(Fault::BadRange { iova, len, why });
        if len == 0 || (iova.0 | pa.0 | len) & (granule - 1) != 0 {
            return bad("not whole pages of the IOMMU");
        }
        let last = iova.0.checked_add(len - 1);
        let Some(last) = last.filter(|&last| input.0 <= iova.0 && last <= input.1) else {
            return bad("beyond the IOMMU's input addresses");
        };
        if pa.0.checked_add(len - 1).is_none() {
            return bad("the memory behind it wraps around");
        }
        Ok(Self {
            first: iova.0,
            last,
            pa: pa.0,
            access,
        })
    }

    pub fn overlaps(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }

    /// The request that makes it.
    pub fn request(&self, domain: u32, features: Features) -> Request {
        let registers = if features.has(Features::MMIO) {
            MAP_MMIO
        } else {
            0
        };
        Request::Map {
            domain,
            first: self.first,
            last: self.last,
            pa: self.pa,
            flags: match self.access {
                Permission::Read => MAP_READ,
                Permission::ReadWrite => MAP_READ | MAP_WRITE,
                Permission::Doorbell => MAP_READ | MAP_WRITE | registers,
            },
        }
    }

    /// Where an address in it leads.
    pub fn output(&self, iova: u64) -> u64 {
        self.pa + (iova - self.first)
    }

    pub fn words(&self) -> String {
        let access = match self.access {
            Permission::Read => "read",
            Permission::ReadWrite => "read, write",
            Permission::Doorbell => "read, write, device registers",
        };
        let Self {
            first, last, pa, ..
        } = self;
        format!("{first:#x} to {last:#x} mapped to {pa:#x}, {access}")
    }
}

/// All mappings of a domain, and the latest that there were.
#[derive(Default)]
pub(crate) struct Mappings {
    // By their first address.
    live: BTreeMap<u64, Mapping>,
    // The latest first.
    gone: VecDeque<Mapping>,
}

/// How many are remembered: a device that uses an address too long most often uses
/// one that it was given lately.
const REMEMBERED: usize = 8;

impl Mappings {
    /// Whether nothing is where `mapping` is to be.
    pub fn check_free(&self, mapping: &Mapping) -> Result<(), Fault> {
        match self.overlapping(mapping.first, mapping.last) {
            None => Ok(()),
            Some(there) => Err(Fault::AlreadyMapped {
                iova: Iova(there.first.max(mapping.first)),
            }),
        }
    }

    /// Adds a mapping where nothing is.
    pub fn insert(&mut self, mapping: Mapping) {
        self.live.insert(mapping.first, mapping);
    }

    /// The mapping that is exactly this range.
    pub fn exactly(&self, iova: Iova, len: u64) -> Result<Mapping, Fault> {
        let known = self.live.get(&iova.0);
        let known =
            known.filter(|known| Some(known.last) == iova.0.checked_add(len.wrapping_sub(1)));
        known.copied().ok_or(Fault::NotMapped { iova })
    }

    /// Takes a mapping out.
    pub fn remove(&mut self, mapping: &Mapping) {
        self.live.remove(&mapping.first);
        self.gone.truncate(REMEMBERED - 1);
        self.gone.push_front(*mapping);
    }

    /// What is known about an address that faulted.
    pub fn explain(&self, iova: u64) -> String {
        let below = self.live.range(..=iova).next_back();
        let above = self.live.range((Excluded(iova), Unbounded)).next();
        let near = below.into_iter().chain(above).map(|(_, mapping)| mapping);
        let near: Vec<String> = near.map(Mapping::words).collect();
        let mut words = match near.is_empty() {
            true => String::from("nothing is mapped"),
            false => format!("next to it: {}", near.join(" and ")),
        };
        if self.gone.iter().any(|gone| gone.overlaps(iova, iova)) {
            words.push_str(", it was unmapped lately");
        }
        words
    }

    /// The mapping that an address is in.
    pub fn at(&self, iova: u64) -> Option<&Mapping> {
        self.overlapping(iova, iova)
    }

    /// The highest mapping that shares an address with a range.
    pub fn overlapping(&self, first: u64, last: u64) -> Option<&Mapping> {
        // None overlaps another, so the last that starts in or before the range is
        // the one that reaches furthest.
        let (_, mapping) = self.live.range(..=last).next_back()?;
        mapping.overlaps(first, last).then_some(mapping)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.live.values()
    }

    pub fn len(&self) -> usize {
        self.live.len()
    }
}

//! What the device translates by: domains and endpoints (virtio §5.13.6).

use std::collections::{BTreeMap, VecDeque};

use mastiff_testkit::bus::{DmaTranslator, Shared};

use super::{OWN, lock};

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const MMIO: u32 = 4;

const OK: u8 = 0;
const INVAL: u8 = 4;
const RANGE: u8 = 5;
const NOENT: u8 = 6;

const REASON_DOMAIN: u8 = 1;
const REASON_MAPPING: u8 = 2;
const FAULT_ADDRESS: u32 = 1 << 8;

/// A mapping: last address, where it leads, flags.
pub type Mapping = (u64, u64, u32);

#[derive(Default)]
pub struct Domain {
    pub bypass: bool,
    pub mappings: BTreeMap<u64, Mapping>,
}

/// Domains, endpoints, and what went wrong.
pub struct Tables {
    /// Whether endpoints without a domain reach memory.
    pub bypass: bool,
    pub domains: BTreeMap<u32, Domain>,
    pub endpoints: BTreeMap<u32, u32>,
    pub faults: VecDeque<[u8; 24]>,
    /// Accesses that went through without a domain.
    pub bypassed: u32,
    pub granule: u64,
    /// What no endpoint sends through its domain: first and last address, and whether
    /// writes there are messages.
    pub reserved: Vec<(u64, u64, bool)>,
}

impl Tables {
    /// Everything passes.
    pub fn at_power_on() -> Self {
        Self {
            bypass: true,
            domains: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            faults: VecDeque::new(),
            bypassed: 0,
            granule: 0x1000,
            reserved: Vec::new(),
        }
    }

    /// Forgets everything but whether endpoints without a domain reach memory, which
    /// outlives a reset (virtio §5.13.5).
    pub fn reset(&mut self) {
        self.domains.clear();
        self.endpoints.clear();
        self.faults.clear();
    }

    pub fn attach(&mut self, domain: u32, endpoint: u32, bypass: bool) -> u8 {
        let other = self.endpoints.get(&endpoint).copied();
        if let Some(other) = other {
            self.detach(other, endpoint);
        }
        let there = self.domains.entry(domain).or_insert_with(|| Domain {
            bypass,
            ..Domain::default()
        });
        if there.bypass != bypass {
            return INVAL;
        }
        self.endpoints.insert(endpoint, domain);
        OK
    }

    pub fn detach(&mut self, domain: u32, endpoint: u32) -> u8 {
        if self.endpoints.get(&endpoint) != Some(&domain) {
            return INVAL;
        }
        self.endpoints.remove(&endpoint);
        if self.endpoints.values().all(|&other| other != domain) {
            self.domains.remove(&domain);
        }
        OK
    }

    pub fn map(&mut self, domain: u32, first: u64, last: u64, pa: u64, flags: u32) -> u8 {
        let granule = self.granule;
        let Some(there) = self.domains.get_mut(&domain) else {
            return NOENT;
        };
        if there.bypass || flags & !(READ | WRITE | MMIO) != 0 {
            return INVAL;
        }
        let aligned = |address: u64| address & (granule - 1) == 0;
        if first > last
            || ![first, pa, last.wrapping_add(1)]
                .map(aligned)
                .iter()
                .all(|&is| is)
        {
            return RANGE;
        }
        let mut before = there.mappings.range(..=last);
        if before
            .next_back()
            .is_some_and(|(_, mapping)| mapping.0 >= first)
        {
            return INVAL;
        }
        there.mappings.insert(first, (last, pa, flags));
        OK
    }

    pub fn unmap(&mut self, domain: u32, first: u64, last: u64) -> u8 {
        let Some(there) = self.domains.get_mut(&domain) else {
            return NOENT;
        };
        if there.bypass {
            return INVAL;
        }
        let hit = |start: u64, end: u64| start <= last && first <= end;
        let inside = |start: u64, end: u64| first <= start && end <= last;
        let cut = |(&start, mapping): (&u64, &Mapping)| {
            hit(start, mapping.0) && !inside(start, mapping.0)
        };
        if there.mappings.iter().any(cut) {
            return RANGE;
        }
        there
            .mappings
            .retain(|&start, mapping| !inside(start, mapping.0));
        OK
    }

    fn fault(&mut self, reason: u8, endpoint: u32, address: u64, write: bool) {
        let access = if write { WRITE } else { READ };
        let mut bytes = [0; 24];
        bytes[0] = reason;
        bytes[4..8].copy_from_slice(&(FAULT_ADDRESS | access).to_le_bytes());
        bytes[8..12].copy_from_slice(&endpoint.to_le_bytes());
        bytes[16..].copy_from_slice(&address.to_le_bytes());
        self.faults.push_back(bytes);
    }

    fn translate(&mut self, endpoint: u32, address: u64, write: bool) -> Option<u64> {
        let Some(domain) = self.endpoints.get(&endpoint) else {
            if self.bypass {
                self.bypassed += 1;
                return Some(address);
            }
            self.fault(REASON_DOMAIN, endpoint, address, write);
            return None;
        };
        let domain = &self.domains[domain];
        if domain.bypass {
            return Some(address);
        }
        let mut regions = self.reserved.iter();
        let region = regions.find(|(first, last, _)| (*first..=*last).contains(&address));
        if let Some((_, _, message)) = region {
            return (*message && write).then_some(address);
        }
        let need = if write { WRITE } else { READ };
        let found = domain.mappings.range(..=address).next_back();
        match found {
            Some((&first, &(last, pa, flags))) if address <= last && flags & need != 0 => {
                Some(pa + (address - first))
            }
            _ => {
                self.fault(REASON_MAPPING, endpoint, address, write);
                None
            }
        }
    }
}

/// What the machine sends transactions through.
pub struct Translator(pub Shared<Tables>);

impl DmaTranslator for Translator {
    fn translate(&mut self, stream: u32, addr: u64, write: bool) -> Option<u64> {
        match stream {
            OWN => Some(addr),
            _ => lock(&self.0).translate(stream, addr, write),
        }
    }
}

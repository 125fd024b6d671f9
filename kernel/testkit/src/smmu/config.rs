//! The configuration cache: stream table and context descriptors.
//!
//! An SMMU may fetch whatever is reachable at any time, cache it in any state,
//! invalid ones included, and keep it until an invalidation has completed
//! (IHI 0070 §3.21.3). This one does it as early as it may: all that is reachable
//! is fetched when it becomes so, and fetched again the moment an invalidation is
//! issued. What software writes later is not seen.

use std::collections::BTreeMap;

use super::cd;
use super::cds::CachedCds;
use super::features::Features;
use super::regs::BASE_ADDRESS;
use super::ste::{Ste, Words, has_stage2, level1};
use super::view::View;
use super::watch::Watch;

/// The stream table as the registers describe it (§6.3.24, §6.3.25).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct StreamTable {
    pub base: u64,
    /// log2 of the number of streams, as it is programmed.
    pub log2size: u32,
    /// Bits of StreamID that index the second level, if there is one.
    pub split: Option<u32>,
}

impl StreamTable {
    pub fn new(base: u64, cfg: u32) -> Self {
        let split = match cfg >> 6 & 0x1f {
            split @ (8 | 10) => split,
            _ => 6,
        };
        Self {
            base: base & BASE_ADDRESS & !0x3f,
            log2size: cfg & 0x3f,
            split: (cfg >> 16 & 0b11 == 0b01).then_some(split),
        }
    }

    /// log2 of the size of what the base points to.
    pub fn bytes_bits(&self) -> u32 {
        match self.split {
            None => self.log2size + 6,
            Some(split) => (self.log2size.saturating_sub(split) + 3).max(6),
        }
    }
}

/// Neighbouring STEs: all of a linear table, or one level 2 array.
#[derive(Clone)]
pub(super) struct Array {
    pub pa: u64,
    /// `None` where the fetch was aborted, which is not cached.
    pub stes: Vec<Option<Words>>,
}

/// Why there is no STE for a stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum NoSte {
    /// C_BAD_STREAMID.
    Unreachable,
    /// F_STE_FETCH.
    Aborted { pa: u64 },
}

/// What is cached.
pub(super) struct ConfigCache {
    pub(super) features: Features,
    pub(super) cr2: u32,
    pub(super) table: StreamTable,
    pub(super) level1: Vec<u64>,
    /// By the first stream.
    pub(super) arrays: BTreeMap<u32, Array>,
    pub(super) cds: BTreeMap<u32, CachedCds>,
    pub(super) watches: BTreeMap<u32, Watch>,
}

impl ConfigCache {
    /// Fetches everything that is reachable.
    pub fn fetch(view: View<'_>, table: StreamTable, features: &Features, cr2: u32) -> Self {
        let mut cache = Self {
            features: features.clone(),
            cr2,
            table,
            level1: Vec::new(),
            arrays: BTreeMap::new(),
            cds: BTreeMap::new(),
            watches: BTreeMap::new(),
        };
        match table.split {
            None => {
                let array = Array::fetch(view, table.base, cache.stream_bits());
                cache.arrays.insert(0, array);
            }
            Some(split) => {
                let count = 1 << cache.stream_bits().saturating_sub(split);
                let level1 = view.many(table.base, count);
                cache.level1 = level1.unwrap_or_else(|| vec![0; count]);
                for index in 0..count {
                    let array = cache.fetch_array(view, cache.level1[index]);
                    cache.set_array((index << split) as u32, array);
                }
            }
        }
        for stream in cache.streams() {
            cache.fetch_cds_of(view, stream);
        }
        cache
    }

    fn stream_bits(&self) -> u32 {
        self.table.log2size.min(self.features.stream_bits)
    }

    pub(super) fn streams(&self) -> Vec<u32> {
        let arrays = self.arrays.iter();
        arrays
            .flat_map(|(&first, array)| (first..).take(array.stes.len()))
            .collect()
    }

    pub(super) fn fetch_array(&self, view: View<'_>, descriptor: u64) -> Option<Array> {
        let (pa, bits) = level1(descriptor, self.table.split?)?;
        Some(Array::fetch(view, pa, bits))
    }

    pub(super) fn set_array(&mut self, first: u32, array: Option<Array>) {
        match array {
            Some(array) => drop(self.arrays.insert(first, array)),
            None => drop(self.arrays.remove(&first)),
        }
    }

    pub(super) fn first_of(&self, stream: u32) -> u32 {
        match self.table.split {
            None => 0,
            Some(split) => stream >> split << split,
        }
    }

    /// Where the STE of `stream` is, by what is cached of level 1.
    pub(super) fn place(&self, stream: u32) -> Option<(u32, usize, u64)> {
        if u64::from(stream) >> self.stream_bits() != 0 {
            return None;
        }
        let first = self.first_of(stream);
        let array = self.arrays.get(&first)?;
        let index = (stream - first) as usize;
        (index < array.stes.len()).then_some((first, index, array.pa + 64 * index as u64))
    }

    /// The STE of `stream`.
    pub fn ste(&self, view: View<'_>, stream: u32) -> Result<Ste, NoSte> {
        let (first, index, pa) = self.place(stream).ok_or(NoSte::Unreachable)?;
        let words = match self.arrays[&first].stes[index] {
            Some(words) => words,
            None => view.words(pa).ok_or(NoSte::Aborted { pa })?,
        };
        Ok(self.decode(&words))
    }

    pub(super) fn decode(&self, words: &Words) -> Ste {
        Ste::decode(words, &self.features, self.cr2)
    }

    /// The context descriptors of `stream`, which go through stage 1.
    pub fn cds(&self, stream: u32) -> Option<&CachedCds> {
        self.cds.get(&stream)
    }

    /// Every context that translations can still be made through.
    pub fn contexts(&self) -> impl Iterator<Item = (u32, cd::Context)> {
        self.stage1_contexts().chain(self.stage2_contexts())
    }

    fn stage2_contexts(&self) -> impl Iterator<Item = (u32, cd::Context)> {
        let stes = self
            .arrays
            .iter()
            .flat_map(|(&first, array)| (first..).zip(&array.stes));
        stes.filter_map(|(stream, words)| {
            let stage2 = self.decode(&words.filter(has_stage2)?).stage2()?;
            Some((stream, stage2.context()))
        })
    }

    fn stage1_contexts(&self) -> impl Iterator<Item = (u32, cd::Context)> {
        let features = &self.features;
        self.cds.iter().flat_map(move |(&stream, cached)| {
            let place = self.place(stream);
            let words = place.and_then(|(first, index, _)| self.arrays[&first].stes[index]);
            let ste = words.and_then(|words| match self.decode(&words) {
                Ste::Stage1(ste) => Some(ste),
                _ => None,
            });
            let decode = move |words: &Words| {
                let context = cd::Context::decode(words, &ste?, features);
                Some((stream, context.ok()?))
            };
            cached.all().filter_map(decode)
        })
    }

    pub(super) fn fetch_cds_of(&mut self, view: View<'_>, stream: u32) {
        match self.ste(view, stream) {
            Ok(Ste::Stage1(ste)) => drop(self.cds.insert(stream, CachedCds::fetch(view, &ste))),
            _ => drop(self.cds.remove(&stream)),
        }
    }
}

impl Array {
    fn fetch(view: View<'_>, pa: u64, bits: u32) -> Self {
        let count = 1 << bits;
        let stes = match view.many(pa, 8 * count) {
            Some(words) => {
                let (stes, _) = words.as_chunks();
                stes.iter().map(|&ste| Some(ste)).collect()
            }
            None => vec![None; count],
        };
        Self { pa, stes }
    }
}

//! The configuration cache: stream table and context descriptors.
//!
//! An SMMU may fetch whatever is reachable at any time, cache it in any state,
//! invalid ones included, and keep it until an invalidation has completed
//! (IHI 0070 §3.21.3). This one does it as early as it may: all that is reachable
//! is fetched when it becomes so, and fetched again the moment an invalidation is
//! issued. What software writes later is not seen.

use std::collections::BTreeMap;

use super::cd;
use super::features::Features;
use super::regs::BASE_ADDRESS;
use super::rule;
use super::ste::{Ste, Words, level1};
use super::view::View;
use super::watch::{Marks, Watch};

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
struct Array {
    pa: u64,
    /// `None` where the fetch was aborted, which is not cached.
    stes: Vec<Option<Words>>,
}

struct CachedCd {
    pa: u64,
    words: Words,
    watch: Watch,
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
    features: Features,
    cr2: u32,
    table: StreamTable,
    level1: Vec<u64>,
    /// By the first stream.
    arrays: BTreeMap<u32, Array>,
    cds: BTreeMap<u32, CachedCd>,
    watches: BTreeMap<u32, Watch>,
}

/// What one stream's part of the cache becomes when an invalidation completes.
pub(super) struct Fresh {
    stream: u32,
    level1: Option<(u64, Option<Array>)>,
    ste: Option<(Words, Marks)>,
    cd: Option<(u64, Words, Option<Marks>)>,
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
            cache.fetch_cd_of(view, stream);
        }
        cache
    }

    fn stream_bits(&self) -> u32 {
        self.table.log2size.min(self.features.stream_bits)
    }

    fn streams(&self) -> Vec<u32> {
        let arrays = self.arrays.iter();
        arrays
            .flat_map(|(&first, array)| (first..).take(array.stes.len()))
            .collect()
    }

    fn fetch_array(&self, view: View<'_>, descriptor: u64) -> Option<Array> {
        let (pa, bits) = level1(descriptor, self.table.split?)?;
        Some(Array::fetch(view, pa, bits))
    }

    fn set_array(&mut self, first: u32, array: Option<Array>) {
        match array {
            Some(array) => drop(self.arrays.insert(first, array)),
            None => drop(self.arrays.remove(&first)),
        }
    }

    fn first_of(&self, stream: u32) -> u32 {
        match self.table.split {
            None => 0,
            Some(split) => stream >> split << split,
        }
    }

    /// Where the STE of `stream` is, by what is cached of level 1.
    fn place(&self, stream: u32) -> Option<(u32, usize, u64)> {
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

    fn decode(&self, words: &Words) -> Ste {
        Ste::decode(words, &self.features, self.cr2)
    }

    /// The context descriptor of `stream`, which is at `pa`; `None` for an abort.
    pub fn cd(&self, view: View<'_>, stream: u32, pa: u64) -> Option<Words> {
        match self.cds.get(&stream) {
            Some(cd) if cd.pa == pa => Some(cd.words),
            // An aborted fetch is not cached, so it is tried again.
            _ => view.words(pa),
        }
    }

    /// Every context that translations can still be made through.
    pub fn contexts(&self) -> impl Iterator<Item = (u32, cd::Context)> {
        self.cds.iter().filter_map(|(&stream, cached)| {
            let (first, index, _) = self.place(stream)?;
            let words = self.arrays[&first].stes[index]?;
            let Ste::Stage1(ste) = self.decode(&words) else {
                return None;
            };
            let context = cd::Context::decode(&cached.words, &ste, &self.features);
            Some((stream, context.ok()?))
        })
    }

    fn fetch_cd_of(&mut self, view: View<'_>, stream: u32) {
        let fetched = match self.ste(view, stream) {
            Ok(Ste::Stage1(ste)) => view.words(ste.cd).map(|words| (ste.cd, words)),
            _ => None,
        };
        match fetched {
            Some((pa, words)) => self.set_cd(stream, pa, words),
            None => drop(self.cds.remove(&stream)),
        }
    }

    fn set_cd(&mut self, stream: u32, pa: u64, words: Words) {
        let watch = Watch::new(words);
        self.cds.insert(stream, CachedCd { pa, words, watch });
    }

    /// An invalidation of the STE of `stream` was issued: of what leads to it too,
    /// if it is not `leaf`.
    pub fn refetch_ste(&mut self, view: View<'_>, stream: u32, leaf: bool) -> Fresh {
        self.watch_cd(view, stream);
        let level1 = self.refetch_level1(view, stream).filter(|_| !leaf);
        let mut fresh = Fresh {
            stream,
            level1: level1.clone(),
            ste: None,
            cd: None,
        };
        let first = self.first_of(stream);
        let found = match &level1 {
            Some((_, array)) => array.clone().and_then(|array| {
                let index = (stream - first) as usize;
                array.stes.get(index).copied().flatten()
            }),
            None => self.place(stream).and_then(|(.., pa)| view.words(pa)),
        };
        let Some(words) = found else { return fresh };
        fresh.ste = Some((words, self.watch_ste(stream, words)));
        if let Ste::Stage1(ste) = self.decode(&words)
            && let Some(words) = view.words(ste.cd)
        {
            let known = self.cds.get_mut(&stream).filter(|cd| cd.pa == ste.cd);
            let marks = known.map(|cd| cd.watch.observe(words));
            fresh.cd = Some((ste.cd, words, marks));
        }
        fresh
    }

    /// The descriptor that leads to `stream` and, where it changed, its array.
    fn refetch_level1(&self, view: View<'_>, stream: u32) -> Option<(u64, Option<Array>)> {
        let split = self.table.split?;
        let index = (stream >> split) as usize;
        let known = *self.level1.get(index)?;
        let raw = view.word(self.table.base + 8 * index as u64)?;
        (raw != known).then(|| (raw, self.fetch_array(view, raw)))
    }

    fn watch_ste(&mut self, stream: u32, words: Words) -> Marks {
        let known = self.place(stream);
        let known = known.and_then(|(first, index, _)| self.arrays[&first].stes[index]);
        let watch = self.watches.entry(stream);
        let watch = watch.or_insert_with(|| Watch::new(known.unwrap_or(words)));
        let marks = watch.observe(words);
        rule(
            !watch.is_torn(Ste::used),
            "§3.21.3: a valid STE changed in several words without an invalidation between, so the SMMU may see a mix",
        );
        marks
    }

    /// Looks at the CD behind the cached STE: as long as that one may be used, the
    /// CD must stay whole.
    fn watch_cd(&mut self, view: View<'_>, stream: u32) -> Option<Marks> {
        let cached = self.cds.get_mut(&stream)?;
        let marks = cached.watch.observe(view.words(cached.pa)?);
        rule(
            !cached.watch.is_torn(cd::used),
            "§3.21.3: a CD behind a live STE changed in several words without an invalidation between",
        );
        Some(marks)
    }

    /// An invalidation of the CD of `stream` was issued.
    pub fn refetch_cd(&mut self, view: View<'_>, stream: u32) -> Option<Fresh> {
        let marks = self.watch_cd(view, stream);
        let Ok(Ste::Stage1(ste)) = self.ste(view, stream) else {
            return None;
        };
        let words = view.words(ste.cd)?;
        Some(Fresh {
            stream,
            level1: None,
            ste: None,
            cd: Some((ste.cd, words, marks)),
        })
    }

    /// An invalidation of everything was issued.
    pub fn refetch_all(&mut self, view: View<'_>) -> Box<Self> {
        let known: Vec<u32> = self
            .cds
            .keys()
            .chain(self.watches.keys())
            .copied()
            .collect();
        for stream in known {
            self.refetch_ste(view, stream, true);
        }
        Box::new(Self::fetch(view, self.table, &self.features, self.cr2))
    }

    /// The streams that an invalidation of 2^`bits` of them from `stream` on hits.
    pub fn streams_in(&self, stream: u32, bits: u32) -> Vec<u32> {
        let streams = self.streams().into_iter();
        streams
            .filter(|&known| u64::from(known ^ stream) >> bits == 0)
            .collect()
    }

    /// The invalidation has completed.
    pub fn apply(&mut self, view: View<'_>, fresh: Fresh) {
        let stream = fresh.stream;
        let only_cd = fresh.ste.is_none() && fresh.level1.is_none();
        if !(only_cd && fresh.cd.is_some()) {
            self.watch_cd(view, stream);
        }
        if let Some((raw, array)) = fresh.level1 {
            let index = (stream >> self.table.split.unwrap_or(0)) as usize;
            self.level1[index] = raw;
            let first = self.first_of(stream);
            let count = array.as_ref().map_or(0, |array| array.stes.len());
            self.set_array(first, array);
            for neighbour in (first..).take(count) {
                self.fetch_cd_of(view, neighbour);
            }
        }
        if let Some((words, marks)) = fresh.ste {
            if let Some((first, index, _)) = self.place(stream) {
                let array = self.arrays.get_mut(&first);
                array.expect("there is its place").stes[index] = Some(words);
            }
            if let Some(watch) = self.watches.get_mut(&stream) {
                watch.settle(marks);
            }
        }
        match (fresh.cd, self.cds.get_mut(&stream)) {
            (Some((pa, words, Some(marks))), Some(cached)) if cached.pa == pa => {
                cached.words = words;
                cached.watch.settle(marks);
            }
            (Some((pa, words, _)), _) => self.set_cd(stream, pa, words),
            (None, _) => drop(self.cds.remove(&stream)),
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

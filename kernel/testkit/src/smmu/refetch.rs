//! Invalidations of configuration: what is fetched again when one is issued, and
//! put in place of the old when it completes. Whether an update may be seen half
//! done is judged here as well, since every update is followed by one.

use super::cds::{CachedCds, FreshCds};
use super::config::{Array, ConfigCache};
use super::rule;
use super::ste::{Ste, Words};
use super::view::View;
use super::watch::{Marks, Watch};

/// What one stream's part of the cache becomes when an invalidation completes.
pub(super) struct Fresh {
    stream: u32,
    level1: Option<(u64, Option<Array>)>,
    ste: Option<(Words, Marks)>,
    cds: Option<FreshCds>,
}

impl ConfigCache {
    /// An invalidation of the STE of `stream` was issued: of what leads to it too,
    /// if it is not `leaf`.
    pub fn refetch_ste(&mut self, view: View<'_>, stream: u32, leaf: bool) -> Fresh {
        self.watch_cds(view, stream);
        let level1 = self.refetch_level1(view, stream).filter(|_| !leaf);
        let mut fresh = Fresh {
            stream,
            level1: level1.clone(),
            ste: None,
            cds: None,
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
        if let Ste::Stage1(ste) = self.decode(&words) {
            fresh.cds = Some(FreshCds::fetch(view, &ste, self.cds.get_mut(&stream)));
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

    fn watch_cds(&mut self, view: View<'_>, stream: u32) {
        if let Some(cached) = self.cds.get_mut(&stream) {
            cached.observe(view);
        }
    }

    /// An invalidation of a CD of `stream` was issued, or of all of them: of what
    /// leads to it too, if it is not `leaf`.
    pub fn refetch_cds(
        &mut self,
        view: View<'_>,
        stream: u32,
        only: Option<u32>,
        leaf: bool,
    ) -> Option<Fresh> {
        let cached = self.cds.get_mut(&stream)?;
        Some(Fresh {
            stream,
            level1: None,
            ste: None,
            cds: Some(cached.refetch(view, only, !leaf)),
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
        self.watch_cds(view, stream);
        if let Some((raw, array)) = fresh.level1 {
            let index = (stream >> self.table.split.unwrap_or(0)) as usize;
            self.level1[index] = raw;
            let first = self.first_of(stream);
            let count = array.as_ref().map_or(0, |array| array.stes.len());
            self.set_array(first, array);
            for neighbour in (first..).take(count) {
                self.fetch_cds_of(view, neighbour);
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
        // Whichever came first in the batch, the STE decides what its CDs are.
        let Ok(Ste::Stage1(ste)) = self.ste(view, stream) else {
            self.cds.remove(&stream);
            return;
        };
        if let Some(fresh) = fresh.cds.filter(|fresh| fresh.is_of(&ste)) {
            let known = self.cds.remove(&stream).filter(|known| known.is_of(&ste));
            let mut known = known.unwrap_or_else(|| CachedCds::empty(&ste));
            known.apply(view, fresh);
            self.cds.insert(stream, known);
        } else if self
            .cds
            .get(&stream)
            .is_some_and(|known| !known.is_of(&ste))
        {
            self.cds.remove(&stream);
        }
    }
}

//! What is cached of one stream's context descriptors: all that is reachable, and of
//! two levels both. A descriptor is cached by its SubstreamID, so it outlives the
//! table that it was read from until an invalidation names it (IHI 0070 §4.3.3).

use std::collections::BTreeMap;

use super::cd;
use super::rule;
use super::ste::{CdTable, Stage1, Stage2, Words};
use super::view::View;
use super::walk::{Class, read_at, walk};
use super::watch::{Marks, Watch};

const VALID: u64 = 1;
const L2_PTR: u64 = 0x00ff_ffff_ffff_f000;

/// Why there is no context descriptor.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum NoCd {
    /// Its level 1 descriptor is invalid: C_BAD_SUBSTREAMID.
    Unreachable,
    /// F_CD_FETCH, or what stage 2 makes of it.
    Aborted { at: u64 },
}

/// The descriptors of a stream.
pub(super) struct CachedCds {
    table: CdTable,
    under: Option<Stage2>,
    /// `None` where the fetch was aborted, which is not cached.
    level1: Vec<Option<u64>>,
    cds: BTreeMap<u32, CachedCd>,
}

struct CachedCd {
    /// Where it was read from; nowhere if that is out of reach now.
    at: Option<u64>,
    words: Words,
    watch: Watch,
}

/// What an invalidation that was issued found.
pub(super) struct FreshCds {
    table: CdTable,
    under: Option<Stage2>,
    /// Every descriptor, or the one that was named.
    only: Option<u32>,
    level1: Vec<Option<u64>>,
    /// Level 1 is invalidated too.
    deep: bool,
    cds: BTreeMap<u32, (u64, Words)>,
    marks: BTreeMap<u32, Marks>,
}

/// The memory behind an address in a table.
fn physical(view: View<'_>, under: Option<Stage2>, at: u64) -> Option<u64> {
    let Some(under) = under else { return Some(at) };
    let under = under.context();
    let mut second = |ipa| walk(view, &under, ipa).leaf;
    read_at(at, Class::Cd, &mut second).ok()
}

fn words<const N: usize>(view: View<'_>, under: Option<Stage2>, at: u64) -> Option<[u64; N]> {
    view.words(physical(view, under, at)?)
}

/// A descriptor of level 1 (§5.3): the table of level 2, if it is valid.
fn level2(raw: u64, split: u32) -> Option<u64> {
    if raw & VALID == 0 {
        return None;
    }
    rule(
        raw & !(L2_PTR | VALID) == 0,
        "§5.3: reserved bits are set in an L1CD",
    );
    let pointer = raw & L2_PTR;
    rule(
        pointer & ((64 << split) - 1) == 0,
        "§5.3: L2Ptr of an L1CD is not aligned to the array's size",
    );
    Some(pointer)
}

/// Where descriptor `index` is, by these descriptors of level 1.
fn place(table: &CdTable, level1: &[Option<u64>], index: u32) -> Result<u64, NoCd> {
    let Some(split) = table.split else {
        return Ok(table.base + 64 * u64::from(index));
    };
    let at = table.base + 8 * u64::from(index >> split);
    let raw = level1[(index >> split) as usize].ok_or(NoCd::Aborted { at })?;
    let array = level2(raw, split).ok_or(NoCd::Unreachable)?;
    Ok(array + 64 * u64::from(index & ((1 << split) - 1)))
}

impl CachedCds {
    /// Fetches everything that is reachable.
    pub fn fetch(view: View<'_>, ste: &Stage1) -> Self {
        let mut cached = Self::empty(ste);
        cached.replace(FreshCds::fetch(view, ste, None));
        cached
    }

    /// Nothing yet of what an STE names.
    pub fn empty(ste: &Stage1) -> Self {
        Self {
            table: ste.cds,
            under: ste.under,
            level1: vec![None; ste.cds.level1()],
            cds: BTreeMap::new(),
        }
    }

    /// Whether it is of what an STE names, whatever that says of transactions without
    /// a SubstreamID.
    pub fn is_of(&self, ste: &Stage1) -> bool {
        let plain = self.table.plain;
        self.table == CdTable { plain, ..ste.cds } && self.under == ste.under
    }

    /// Descriptor `index`: as it is cached, or, where a fetch was aborted, as it is.
    pub fn get(&self, view: View<'_>, index: u32) -> Result<Words, NoCd> {
        if let Some(cached) = self.cds.get(&index) {
            return Ok(cached.words);
        }
        let at = place(&self.table, &self.level1, index)?;
        words(view, self.under, at).ok_or(NoCd::Aborted { at })
    }

    /// All descriptors that are cached.
    pub fn all(&self) -> impl Iterator<Item = &Words> {
        self.cds.values().map(|cached| &cached.words)
    }

    /// Looks at the descriptors as they are in memory now: as long as they may be used
    /// they must stay whole.
    pub fn observe(&mut self, view: View<'_>) -> BTreeMap<u32, Marks> {
        let mut marks = BTreeMap::new();
        for (&index, cached) in &mut self.cds {
            let now = cached.at.and_then(|at| words(view, self.under, at));
            let Some(now) = now else { continue };
            marks.insert(index, cached.watch.observe(now));
            rule(
                !cached.watch.is_torn(cd::used),
                "§3.21.3: a CD behind a live STE changed in several words without an invalidation between",
            );
        }
        marks
    }

    /// An invalidation was issued: of one descriptor, or of all with what leads to
    /// them.
    pub fn refetch(&mut self, view: View<'_>, only: Option<u32>, deep: bool) -> FreshCds {
        let ste = (self.table, self.under);
        let mut fresh = FreshCds::read(view, ste, only, (deep, self.level1.clone()));
        fresh.marks = self.observe(view);
        fresh
    }

    /// The invalidation has completed.
    pub fn apply(&mut self, view: View<'_>, fresh: FreshCds) {
        let followed = (fresh.only.is_some() && fresh.deep).then(|| fresh.level1.clone());
        if let Some(level1) = &followed {
            self.level1.clone_from(level1);
        }
        self.replace(fresh);
        if followed.is_some() {
            self.follow(view);
        }
    }

    /// Level 1 has changed: what it leads to is fetched; what is cached stays, and is
    /// read from its new place from now on.
    fn follow(&mut self, view: View<'_>) {
        for index in 0..1 << self.table.bits {
            let at = place(&self.table, &self.level1, index).ok();
            let now = at.and_then(|at| words(view, self.under, at));
            match (self.cds.get_mut(&index), at, now) {
                (Some(cached), at, _) => cached.at = at,
                (None, Some(at), Some(words)) => self.put(index, at, words),
                _ => {}
            }
        }
        self.observe(view);
    }

    fn put(&mut self, index: u32, at: u64, words: Words) {
        let cached = CachedCd {
            at: Some(at),
            words,
            watch: Watch::new(words),
        };
        self.cds.insert(index, cached);
    }

    fn replace(&mut self, fresh: FreshCds) {
        let FreshCds { only, marks, .. } = fresh;
        let gone = |index: u32| only.is_none_or(|only| only == index);
        self.cds
            .retain(|index, _| !gone(*index) || fresh.cds.contains_key(index));
        if only.is_none() {
            self.table = fresh.table;
            self.level1 = fresh.level1;
        }
        for (index, (at, words)) in fresh.cds {
            match (self.cds.get_mut(&index), marks.get(&index)) {
                (Some(cached), Some(marks)) if cached.at == Some(at) => {
                    cached.words = words;
                    cached.watch.settle(*marks);
                }
                _ => self.put(index, at, words),
            }
        }
    }
}

impl FreshCds {
    /// Everything, without a look at what was there before.
    pub fn fetch(view: View<'_>, ste: &Stage1, known: Option<&mut CachedCds>) -> Self {
        let level1 = vec![None; ste.cds.level1()];
        let mut fresh = Self::read(view, (ste.cds, ste.under), None, (true, level1));
        if let Some(known) = known.filter(|known| known.is_of(ste)) {
            fresh.marks = known.observe(view);
        }
        fresh
    }

    /// Whether it is of what an STE names.
    pub fn is_of(&self, ste: &Stage1) -> bool {
        let plain = self.table.plain;
        self.table == CdTable { plain, ..ste.cds } && self.under == ste.under
    }

    fn read(
        view: View<'_>,
        (table, under): (CdTable, Option<Stage2>),
        only: Option<u32>,
        (deep, mut level1): (bool, Vec<Option<u64>>),
    ) -> Self {
        let named = |index: usize| match (only, table.split) {
            (Some(only), Some(split)) => (only >> split) as usize == index,
            _ => true,
        };
        for (index, known) in level1.iter_mut().enumerate().filter(|_| deep) {
            if named(index) {
                let at = table.base + 8 * index as u64;
                *known = words(view, under, at).map(|[word]| word);
            }
        }
        let wanted = only.map_or(0..1 << table.bits, |only| only..only + 1);
        let cds = wanted.filter_map(|index| {
            let at = place(&table, &level1, index).ok()?;
            Some((index, (at, words(view, under, at)?)))
        });
        Self {
            table,
            under,
            only,
            cds: cds.collect(),
            level1,
            deep,
            marks: BTreeMap::new(),
        }
    }
}

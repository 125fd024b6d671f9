//! Cached translations, and cached pointers to tables.
//!
//! Only valid ones are cached (IHI 0070 §3.21.1). They stay until an invalidation
//! whose *minimum* scope covers them has completed; and at the moment that it is
//! issued they are looked up once more, as a prefetch may, so that a table which
//! is changed only then is still followed afterwards.

use std::collections::HashMap;

use super::cd::Context;
use super::command::{Tlbi, World};
use super::view::View;
use super::walk::{Leaf, Table, WalkFault, walk, walk_from};

/// Sizes of pages and blocks of all granules, and of contiguous ones, as log2.
const SIZES: [u32; 8] = [12, 14, 16, 21, 25, 29, 30, 34];

/// Whose translation it is. No ASID: global.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct Tag {
    world: World,
    stage2: bool,
    vmid: u16,
    asid: Option<u16>,
}

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct LeafKey {
    tag: Tag,
    size: u32,
    page: u64,
}

#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct TableKey {
    tag: Tag,
    granule: u32,
    level: u32,
    /// The address above what the table spans.
    prefix: u64,
}

/// What is cached.
#[derive(Default)]
pub(super) struct Tlb {
    leaves: HashMap<LeafKey, Leaf>,
    tables: HashMap<TableKey, Table>,
}

/// What an invalidation that was issued leaves when it completes.
#[derive(Default)]
pub(super) struct Leftover {
    leaves: Vec<(LeafKey, Option<Leaf>)>,
    tables: Vec<(TableKey, Option<Table>)>,
}

impl Context {
    fn tag(&self, global: bool) -> Tag {
        let tagged = self.world != World::El2 && !self.stage2 && !global;
        Tag {
            world: self.world,
            stage2: self.stage2,
            vmid: self.vmid,
            asid: tagged.then_some(self.asid),
        }
    }

    fn makes(&self, tag: Tag) -> bool {
        tag == self.tag(false) || tag == self.tag(true)
    }
}

impl TableKey {
    /// log2 of what a table that resolves `level` spans.
    fn span(granule: u32, level: u32) -> u32 {
        granule + (4 - level) * (granule - 3)
    }

    fn va(&self) -> u64 {
        self.prefix << Self::span(self.granule, self.level)
    }
}

impl Tlb {
    /// The translation of `va`, and all that it takes, cached from here on.
    pub fn look_up(
        &mut self,
        view: View<'_>,
        context: &Context,
        va: u64,
    ) -> Result<Leaf, WalkFault> {
        if let Some(leaf) = self.leaf(context, va) {
            return Ok(leaf);
        }
        let start = self.table(context, va);
        let under = context.under.map(|under| under.context());
        let mut second = |ipa| match &under {
            Some(under) => self.look_up(view, under, ipa),
            None => unreachable!("there is no stage 2"),
        };
        let walk = walk_from(view, context, va, start, &mut second);
        self.insert_tables(context, va, &walk.tables);
        let leaf = walk.leaf?;
        // One that is contiguous with others is kept with them, and by itself as well:
        // each has to be invalidated.
        for leaf in [walk.group, Some(leaf)].into_iter().flatten() {
            self.insert_leaf(context, va, leaf);
        }
        Ok(leaf)
    }

    /// The same in what is cached and, where nothing is, in memory: as a walk goes
    /// that nobody sees.
    fn prefetch(&self, view: View<'_>, context: &Context, va: u64) -> super::walk::Walk {
        let under = context.under.map(|under| under.context());
        let mut second = |ipa| match &under {
            Some(under) => match self.leaf(under, ipa) {
                Some(leaf) => Ok(leaf),
                None => walk(view, under, ipa).leaf,
            },
            None => unreachable!("there is no stage 2"),
        };
        walk_from(view, context, va, None, &mut second)
    }

    /// How many translations there are.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// The cached translation of `va`.
    pub fn leaf(&self, context: &Context, va: u64) -> Option<Leaf> {
        let tags = [context.tag(false), context.tag(true)];
        let keys = SIZES.iter().flat_map(|&size| {
            let page = va >> size;
            tags.map(|tag| LeafKey { tag, size, page })
        });
        keys.filter_map(|key| self.leaves.get(&key)).next().copied()
    }

    /// The deepest cached table on the way to `va`.
    fn table(&self, context: &Context, va: u64) -> Option<Table> {
        let (region, _) = context.region(va)?;
        let granule = region.granule;
        let key = |level| TableKey {
            tag: context.tag(false),
            granule,
            level,
            prefix: va >> TableKey::span(granule, level),
        };
        (1..=3)
            .rev()
            .find_map(|level| self.tables.get(&key(level)))
            .copied()
    }

    /// Caches a translation.
    fn insert_leaf(&mut self, context: &Context, va: u64, leaf: Leaf) {
        let key = LeafKey {
            tag: context.tag(leaf.global),
            size: leaf.size,
            page: va >> leaf.size,
        };
        self.leaves.insert(key, leaf);
    }

    /// Caches the tables on the way to `va`, also to where nothing is mapped.
    fn insert_tables(&mut self, context: &Context, va: u64, tables: &[Table]) {
        let Some((region, _)) = context.region(va) else {
            return;
        };
        for &table in tables {
            let key = TableKey {
                tag: context.tag(false),
                granule: region.granule,
                level: table.level,
                prefix: va >> TableKey::span(region.granule, table.level),
            };
            self.tables.insert(key, table);
        }
    }

    /// An invalidation was issued; `contexts` are those that translations can be
    /// made through at this moment.
    pub fn invalidate(&self, view: View<'_>, tlbi: &Tlbi, contexts: &[Context]) -> Leftover {
        let again = |tag: Tag, va: u64| {
            let context = contexts.iter().find(|context| context.makes(tag))?;
            Some(self.prefetch(view, context, va))
        };
        let leaves = self.leaves.iter();
        let leaves = leaves
            .filter(|(key, leaf)| tlbi.hits(key.tag) && tlbi.hits_leaf(key, leaf))
            .map(|(&key, _)| {
                let walk = again(key.tag, key.page << key.size);
                let found = walk.map_or([None; 2], |walk| [walk.leaf.ok(), walk.group]);
                let mut found = found.into_iter().flatten();
                (key, found.find(|leaf| leaf.size == key.size))
            });
        let tables = self.tables.iter();
        let tables = tables
            .filter(|(key, _)| tlbi.hits(key.tag) && tlbi.hits_table(key))
            .map(|(&key, _)| {
                let walk = again(key.tag, key.va());
                let tables = walk.map(|walk| walk.tables).unwrap_or_default();
                (
                    key,
                    tables.into_iter().find(|table| table.level == key.level),
                )
            });
        Leftover {
            leaves: leaves.collect(),
            tables: tables.collect(),
        }
    }

    /// The invalidation has completed.
    pub fn apply(&mut self, leftover: Leftover) {
        for (key, leaf) in leftover.leaves {
            match leaf {
                Some(leaf) => drop(self.leaves.insert(key, leaf)),
                None => drop(self.leaves.remove(&key)),
            }
        }
        for (key, table) in leftover.tables {
            match table {
                Some(table) => drop(self.tables.insert(key, table)),
                None => drop(self.tables.remove(&key)),
            }
        }
    }
}

impl Tlbi {
    /// §4.4.2: by ASID hits non-global entries only; by ASID and address global
    /// ones too.
    fn hits(&self, tag: Tag) -> bool {
        let world = self.el1 == (tag.world == World::El1);
        let stage = if tag.stage2 { self.stage2 } else { self.stage1 };
        let vmid = self.vmid.is_none_or(|vmid| vmid == tag.vmid);
        let asid = match (self.asid, tag.asid) {
            (None, _) => true,
            (Some(_), None) => self.range.is_some(),
            (Some(wanted), Some(asid)) => wanted == asid,
        };
        world && stage && vmid && asid
    }

    fn hits_leaf(&self, key: &LeafKey, leaf: &Leaf) -> bool {
        let Some(range) = self.range else { return true };
        range.level.is_none_or(|level| level == leaf.level)
            // A piece of a larger leaf of stage 1 goes with all of that.
            && self.hits_address(
                key.page >> (leaf.span - key.size),
                leaf.span,
                leaf.granule,
            )
    }

    fn hits_table(&self, key: &TableKey) -> bool {
        let Some(range) = self.range else { return true };
        // With a level, only tables above it: one that resolves `level` is named
        // by a descriptor of the level before.
        !range.leaf
            && range.level.is_none_or(|level| key.level <= level)
            && self.hits_address(
                key.prefix,
                TableKey::span(key.granule, key.level),
                key.granule,
            )
    }

    fn hits_address(&self, page: u64, size: u32, granule: u32) -> bool {
        let Some(range) = self.range else { return true };
        if range.len == 0 {
            return range.start >> size == page;
        }
        let start = u128::from(page) << size;
        let end = start + (1 << size);
        let wanted = u128::from(range.start);
        range.granule == Some(granule) && start < wanted + u128::from(range.len) && wanted < end
    }
}

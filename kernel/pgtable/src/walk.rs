//! Looking an address up, level by level, as the hardware does: for the `walk`
//! of a console, for fault reports and for tests.

use core::ops::Range;

use crate::entry::{self, Entry};
use crate::fields;
use crate::geometry::{Geometry, LAST_LEVEL};
use crate::mem::TableMem;
use crate::stage1::Attrs;
use crate::table::PageTable;

const LEVELS: usize = LAST_LEVEL as usize + 1;

#[derive(Copy, Clone)]
enum Towards {
    Bottom,
    Top,
}

/// One descriptor on the way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkStep {
    /// Level of the table.
    pub level: u8,
    /// Where the table is.
    pub table: u64,
    /// Which of its descriptors was read.
    pub index: usize,
    /// The descriptor.
    pub raw: u64,
    /// What it says.
    pub entry: Entry,
}

impl WalkStep {
    /// How many neighbouring leaves, this one included, a walker may keep as one.
    pub fn contiguous(&self, geometry: &Geometry) -> usize {
        match self.entry {
            Entry::Block { .. } | Entry::Page { .. } if entry::is_contiguous(self.raw) => {
                geometry.contiguous(self.level)
            }
            _ => 1,
        }
    }

    /// Its attributes by their architected names, whoever wrote them.
    pub fn fields(&self, geometry: &Geometry) -> impl Iterator<Item = (&'static str, u64)> {
        fields::of(geometry.stage, self.entry, self.raw)
    }
}

/// All descriptors on the way to an address. The last one is a leaf or invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    steps: [Option<WalkStep>; LEVELS],
}

impl Walk {
    /// From the root down; none at all if the address is beyond the input space.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = &WalkStep> {
        self.steps.iter().flatten()
    }

    /// Where the walk ended.
    pub fn end(&self) -> Option<&WalkStep> {
        self.steps().next_back()
    }
}

impl<M: TableMem> PageTable<M> {
    /// Reads every descriptor on the way to `va`.
    pub fn walk(&self, va: u64) -> Walk {
        let mut steps = [None; LEVELS];
        if va >> self.geometry.input_bits != 0 {
            return Walk { steps };
        }
        let mut table = self.root;
        for level in self.geometry.start_level()..=LAST_LEVEL {
            let index = self.geometry.index(va, level);
            let raw = self.mem.load(table, index);
            let entry = Entry::decode(&self.geometry, level, raw);
            steps[usize::from(level)] = Some(WalkStep {
                level,
                table,
                index,
                raw,
                entry,
            });
            match entry {
                Entry::Table { pa } => table = pa,
                _ => break,
            }
        }
        Walk { steps }
    }

    /// The leaves next to `va`: the last one that starts at or before it, and the
    /// first one that starts after it. It may look at every table there is.
    pub fn around(&self, va: u64) -> [Option<Range<u64>>; 2] {
        let last = (1 << self.geometry.input_bits) - 1;
        let level = self.geometry.start_level();
        let below = self.seek(self.root, level, va.min(last), Towards::Bottom);
        let after = match &below {
            Some(leaf) => leaf.end.max(va.saturating_add(1)),
            None => va.saturating_add(1),
        };
        let above = if after <= last {
            self.seek(self.root, level, after, Towards::Top)
        } else {
            None
        };
        [below, above]
    }

    /// The leaf at `from` or else the next one in a direction, within one table.
    fn seek(&self, table: u64, level: u8, from: u64, towards: Towards) -> Option<Range<u64>> {
        let span = self.geometry.span(level);
        let mut at = from;
        loop {
            let (index, start) = (self.geometry.index(at, level), at & !(span - 1));
            let raw = self.mem.load(table, index);
            match Entry::decode(&self.geometry, level, raw) {
                Entry::Table { pa } => {
                    if let Some(found) = self.seek(pa, level + 1, at, towards) {
                        return Some(found);
                    }
                }
                Entry::Block { .. } | Entry::Page { .. } => return Some(start..start + span),
                Entry::Invalid => {}
            }
            at = match towards {
                Towards::Bottom if index > 0 => start - 1,
                Towards::Top if index + 1 < self.geometry.granule.entries() => start + span,
                _ => return None,
            };
        }
    }

    /// Where `va` leads: its output address, what is allowed there, and the size
    /// of the leaf that says so.
    pub fn translate(&self, va: u64) -> Option<(u64, Attrs, u64)> {
        let walk = self.walk(va);
        let end = walk.end()?;
        let size = self.geometry.span(end.level);
        match end.entry {
            Entry::Block { pa, attrs } | Entry::Page { pa, attrs } => {
                Some((pa | va & (size - 1), attrs?, size))
            }
            Entry::Table { .. } | Entry::Invalid => None,
        }
    }
}

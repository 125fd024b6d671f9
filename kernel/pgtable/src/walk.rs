//! Looking an address up, level by level, as the hardware does: for the `walk`
//! of a console, for fault reports and for tests.

use crate::entry::Entry;
use crate::geometry::LAST_LEVEL;
use crate::mem::TableMem;
use crate::stage1::Attrs;
use crate::table::PageTable;

const LEVELS: usize = LAST_LEVEL as usize + 1;

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

//! Ranges: one traversal, four passes over it.
//!
//! Mapping looks first (`Reserve`: are all slots free, and are the tables
//! there?) and writes leaves second (`Install`); unmapping likewise (`Check`,
//! `Clear`). So a call that cannot succeed leaves no leaf behind and never shows
//! the walker one.

use core::convert::Infallible;
use core::ops::Range;

use crate::entry::{self, Entry};
use crate::error::MapError;
use crate::geometry::{Geometry, LAST_LEVEL};
use crate::mem::TableMem;
use crate::table::PageTable;

/// Neighbouring leaves of one size that were unmapped together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaves {
    /// The first byte that is no longer mapped.
    pub va: u64,
    /// How many bytes are no longer mapped: a multiple of `size`.
    pub len: u64,
    /// Bytes that each leaf mapped: invalidate one address in each.
    pub size: u64,
    /// The level they were at, for a TTL hint.
    pub level: u8,
}

/// The part of the range that one entry of a table answers for.
struct Slot {
    table: u64,
    index: usize,
    level: u8,
    va: u64,
    len: u64,
}

/// What a pass did with a slot.
enum Step {
    /// Go on in the table below.
    Descend(u64),
    /// Nothing was changed.
    Seen,
    /// The entry was written and wants publishing.
    Written,
}

trait Pass {
    type Error;
    fn slot(&mut self, slot: &Slot) -> Result<Step, Self::Error>;
    /// A run of written entries of one table has been published.
    fn published(&mut self, _leaves: Leaves) {}
}

impl<M: TableMem> PageTable<M> {
    #[inline(never)]
    pub(crate) fn map_range(
        &self,
        va: u64,
        pa: u64,
        len: u64,
        attributes: u64,
    ) -> Result<(), MapError> {
        aligned([va, pa, len], self.geometry.granule.size())?;
        self.check_input(va, len)?;
        if !Geometry::fits(pa, len, self.geometry.output_bits) {
            let bits = self.geometry.output_bits;
            return Err(MapError::OutputRange { pa, len, bits });
        }
        let offset = pa.wrapping_sub(va);
        self.pass(
            va..va + len,
            &mut Reserve {
                tables: self,
                offset,
            },
        )?;
        let mut install = Install {
            tables: self,
            offset,
            attributes,
            end: va + len,
            together: va,
            done: va,
        };
        let result = self.pass(va..va + len, &mut install);
        if result.is_err() {
            let undo = va..install.done;
            self.clear(undo, &mut |_| {});
        }
        result
    }

    #[inline(never)]
    pub(crate) fn unmap_range(
        &self,
        va: u64,
        len: u64,
        unmapped: &mut impl FnMut(Leaves),
    ) -> Result<(), MapError> {
        aligned([va, len, 0], self.geometry.granule.size())?;
        self.check_input(va, len)?;
        let range = va..va + len;
        self.pass(
            range.clone(),
            &mut Check {
                tables: self,
                range,
            },
        )?;
        self.clear(va..va + len, unmapped);
        Ok(())
    }

    fn check_input(&self, va: u64, len: u64) -> Result<(), MapError> {
        let bits = self.geometry.input_bits;
        if len == 0 {
            return Err(MapError::Empty { va });
        }
        if !Geometry::fits(va, len, bits) {
            return Err(MapError::InputRange { va, len, bits });
        }
        Ok(())
    }

    fn clear(&self, range: Range<u64>, unmapped: &mut impl FnMut(Leaves)) {
        let tables = self;
        let Ok(()) = self.pass(range, &mut Clear { tables, unmapped });
    }

    fn pass<P: Pass>(&self, range: Range<u64>, pass: &mut P) -> Result<(), P::Error> {
        self.traverse(self.root, self.geometry.start_level(), range, pass)
    }

    fn traverse<P: Pass>(
        &self,
        table: u64,
        level: u8,
        range: Range<u64>,
        pass: &mut P,
    ) -> Result<(), P::Error> {
        let span = self.geometry.span(level);
        let mut va = range.start;
        let mut written = range.start;
        while va < range.end {
            let end = range.end.min((va | (span - 1)) + 1);
            let slot = Slot {
                table,
                index: self.geometry.index(va, level),
                level,
                va,
                len: end - va,
            };
            match pass.slot(&slot)? {
                Step::Written => {}
                Step::Seen => written = end,
                Step::Descend(child) => {
                    self.publish_run(table, level, written..va, pass);
                    self.traverse(child, level + 1, va..end, pass)?;
                    written = end;
                }
            }
            va = end;
        }
        self.publish_run(table, level, written..va, pass);
        Ok(())
    }

    fn publish_run<P: Pass>(&self, table: u64, level: u8, run: Range<u64>, pass: &mut P) {
        let size = self.geometry.span(level);
        let len = run.end - run.start;
        if len == 0 {
            return;
        }
        let first = self.geometry.index(run.start, level);
        self.mem.publish(table, first, (len / size) as usize);
        pass.published(Leaves {
            va: run.start,
            len,
            size,
            level,
        });
    }

    /// Whether `slot` is where a leaf for its bytes goes, unless a table is
    /// there already.
    fn takes_leaf(&self, slot: &Slot, offset: u64) -> bool {
        let span = self.geometry.span(slot.level);
        let pa = slot.va.wrapping_add(offset);
        self.geometry.leaf_at(slot.level) && slot.len == span && pa & (span - 1) == 0
    }

    /// Whether `slot` is the first of leaves that a range up to `end` makes
    /// contiguous: all of them are to be mapped, and none is a table.
    fn starts_group(&self, slot: &Slot, offset: u64, end: u64) -> bool {
        let (count, bytes) = (
            self.geometry.contiguous(slot.level),
            self.geometry.group(slot.level),
        );
        let aligned = (slot.va | offset) & (bytes - 1) == 0;
        let free = |index| self.mem.load(slot.table, index) == 0;
        count > 1
            && aligned
            && end - slot.va >= bytes
            && (slot.level == LAST_LEVEL || (slot.index..slot.index + count).all(free))
    }

    /// The table below `slot`, if `raw` is one.
    fn child_of(&self, slot: &Slot, raw: u64) -> Option<u64> {
        if slot.level == LAST_LEVEL {
            return None;
        }
        self.child(slot.table, slot.index, raw)
    }
}

fn aligned(values: [u64; 3], page: u64) -> Result<(), MapError> {
    match values.into_iter().find(|value| value % page != 0) {
        Some(value) => Err(MapError::Misaligned { value, page }),
        None => Ok(()),
    }
}

/// First pass of mapping: every slot is free, every table is there.
struct Reserve<'a, M: TableMem> {
    tables: &'a PageTable<M>,
    offset: u64,
}

impl<M: TableMem> Pass for Reserve<'_, M> {
    type Error = MapError;

    fn slot(&mut self, slot: &Slot) -> Result<Step, MapError> {
        let tables = self.tables;
        let raw = tables.mem.load(slot.table, slot.index);
        match Entry::decode(&tables.geometry, slot.level, raw) {
            Entry::Invalid if tables.takes_leaf(slot, self.offset) => Ok(Step::Seen),
            Entry::Invalid => tables
                .install_table(slot.table, slot.index, slot.va)
                .map(Step::Descend),
            _ => tables
                .child_of(slot, raw)
                .map(Step::Descend)
                .ok_or(MapError::Occupied { va: slot.va }),
        }
    }
}

/// Second pass of mapping: the leaves.
struct Install<'a, M: TableMem> {
    tables: &'a PageTable<M>,
    offset: u64,
    attributes: u64,
    /// Where the range ends.
    end: u64,
    /// All leaves below this are contiguous with the one before.
    together: u64,
    /// All below this is mapped.
    done: u64,
}

impl<M: TableMem> Pass for Install<'_, M> {
    type Error = MapError;

    fn slot(&mut self, slot: &Slot) -> Result<Step, MapError> {
        let tables = self.tables;
        if slot.level < LAST_LEVEL {
            let raw = tables.mem.load(slot.table, slot.index);
            if let Some(child) = entry::child(raw) {
                if slot.va < self.together {
                    // Another mapper's, since the group was seen to be free.
                    return Err(MapError::Occupied { va: slot.va });
                }
                return Ok(Step::Descend(child));
            }
        }
        if slot.va >= self.together && tables.starts_group(slot, self.offset, self.end) {
            self.together = slot.va + tables.geometry.group(slot.level);
        }
        let hint = if slot.va < self.together {
            entry::CONTIGUOUS
        } else {
            0
        };
        let pa = slot.va.wrapping_add(self.offset);
        let leaf = entry::leaf(slot.level, pa, self.attributes | hint);
        tables
            .mem
            .compare_exchange(slot.table, slot.index, 0, leaf)
            .map_err(|_| MapError::Occupied { va: slot.va })?;
        self.done = slot.va + slot.len;
        Ok(Step::Written)
    }
}

/// First pass of unmapping: every leaf is there and lies within the range, and so do
/// those that are contiguous with it. What a walker may keep as one goes as one: taking
/// a part out would mean to take out all, invalidate, and put the rest back, and a
/// master would fault on that meanwhile (DDI 0487 §D8.17.1).
struct Check<'a, M: TableMem> {
    tables: &'a PageTable<M>,
    range: Range<u64>,
}

impl<M: TableMem> Pass for Check<'_, M> {
    type Error = MapError;

    fn slot(&mut self, slot: &Slot) -> Result<Step, MapError> {
        let tables = self.tables;
        let raw = tables.mem.load(slot.table, slot.index);
        let geometry = &tables.geometry;
        match Entry::decode(geometry, slot.level, raw) {
            Entry::Invalid => Err(MapError::NotMapped { va: slot.va }),
            Entry::Table { pa } => Ok(Step::Descend(pa)),
            Entry::Block { .. } | Entry::Page { .. } => {
                let size = match entry::is_contiguous(raw) {
                    true => geometry.group(slot.level),
                    false => geometry.span(slot.level),
                };
                let va = slot.va & !(size - 1);
                if va < self.range.start || self.range.end - va < size {
                    return Err(MapError::PartOfBlock { va, size });
                }
                Ok(Step::Seen)
            }
        }
    }
}

/// Second pass of unmapping, and the undoing of a map: no leaf remains.
struct Clear<'a, M: TableMem, F: FnMut(Leaves)> {
    tables: &'a PageTable<M>,
    unmapped: &'a mut F,
}

impl<M: TableMem, F: FnMut(Leaves)> Pass for Clear<'_, M, F> {
    type Error = Infallible;

    fn slot(&mut self, slot: &Slot) -> Result<Step, Infallible> {
        let tables = self.tables;
        if slot.level < LAST_LEVEL {
            let raw = tables.mem.load(slot.table, slot.index);
            if let Some(child) = entry::child(raw) {
                return Ok(Step::Descend(child));
            }
        }
        tables.mem.store(slot.table, slot.index, 0);
        Ok(Step::Written)
    }

    fn published(&mut self, leaves: Leaves) {
        (self.unmapped)(leaves);
    }
}

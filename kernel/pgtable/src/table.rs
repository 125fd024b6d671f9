//! The tree of tables: making it, finding a leaf in it, mapping, unmapping, and
//! giving it all back.
//!
//! One page in a table that exists already is what nearly every DMA mapping
//! asks for; it is decided here with one compare-exchange (map) or one load and
//! one store (unmap). All else goes through the passes of `range`.

use core::mem::ManuallyDrop;

use crate::entry;
use crate::error::MapError;
use crate::geometry::{Geometry, LAST_LEVEL};
use crate::hint::LeafHint;
use crate::mem::TableMem;
use crate::range::Leaves;
use crate::stage1::Attrs;

/// Translation tables of one address space.
pub struct PageTable<M: TableMem> {
    pub(crate) mem: M,
    pub(crate) geometry: Geometry,
    pub(crate) root: u64,
    hint: LeafHint,
}

impl<M: TableMem> PageTable<M> {
    /// An empty address space.
    pub fn new(mem: M, geometry: Geometry) -> Result<Self, MapError> {
        if !geometry.is_supported() {
            return Err(MapError::Unsupported(geometry));
        }
        let root = alloc(&mem, &geometry, 0)?;
        mem.publish(root, 0, geometry.granule.entries());
        Ok(Self {
            mem,
            geometry,
            root,
            hint: LeafHint::new(),
        })
    }

    /// Where the root table is: what TTBR (or CD.TTB0) holds.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The shape this was made with.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Maps `len` bytes at `va` to those at `pa`, with the biggest leaves that
    /// both addresses' alignment and the tables already there allow, marked as
    /// contiguous where there are enough of them.
    ///
    /// `va` counts from the bottom of the input space; for a TTBR1 region it is
    /// the address less the ones above [`Geometry::input_bits`]. On an error
    /// nothing of the range is mapped by this call. New mappings need no
    /// invalidation; only after an [`MapError::Occupied`] that a *concurrent*
    /// `map` of the same range caused may a walker have seen some of it.
    pub fn map(&self, va: u64, pa: u64, len: u64, attrs: Attrs) -> Result<(), MapError> {
        let attributes = self.geometry.encode(attrs);
        if self.is_page(va, pa, len)
            && let Some(table) = self.last_table(va)
        {
            return self.map_page(table, va, entry::leaf(LAST_LEVEL, pa, attributes));
        }
        self.map_range(va, pa, len, attributes)
    }

    /// Unmaps `len` bytes at `va`, all of which must be mapped, by leaves that
    /// lie within the range, all that are contiguous with them included; on an error
    /// nothing is changed.
    ///
    /// `unmapped` hears of what was taken out, once it is published, so that the
    /// caller can invalidate it. The caller owns the range: nobody else maps or
    /// unmaps in it at the same time.
    pub fn unmap(
        &self,
        va: u64,
        len: u64,
        unmapped: &mut impl FnMut(Leaves),
    ) -> Result<(), MapError> {
        if self.is_page(va, 0, len)
            && let Some(table) = self.last_table(va)
        {
            return self.unmap_page(table, va, unmapped);
        }
        self.unmap_range(va, len, unmapped)
    }

    /// Whether this is one page between addresses that are in reach.
    #[inline]
    fn is_page(&self, va: u64, pa: u64, len: u64) -> bool {
        let geometry = &self.geometry;
        let page = geometry.granule.size();
        let beyond = va >> geometry.input_bits | pa >> geometry.output_bits;
        len == page && (va | pa) & (page - 1) == 0 && beyond == 0
    }

    #[inline]
    fn map_page(&self, table: u64, va: u64, leaf: u64) -> Result<(), MapError> {
        let index = self.geometry.index(va, LAST_LEVEL);
        if self.mem.compare_exchange(table, index, 0, leaf).is_err() {
            return Err(MapError::Occupied { va });
        }
        self.mem.publish(table, index, 1);
        Ok(())
    }

    #[inline]
    fn unmap_page(
        &self,
        table: u64,
        va: u64,
        unmapped: &mut impl FnMut(Leaves),
    ) -> Result<(), MapError> {
        let index = self.geometry.index(va, LAST_LEVEL);
        if !entry::is_page_alone(self.mem.load(table, index)) {
            return self.unmap_range(va, self.geometry.granule.size(), unmapped);
        }
        self.mem.store(table, index, 0);
        self.mem.publish(table, index, 1);
        let size = self.geometry.granule.size();
        unmapped(Leaves {
            va,
            len: size,
            size,
            level: LAST_LEVEL,
        });
        Ok(())
    }

    /// The last-level table for `va`, if there is one that walkers see.
    #[inline]
    fn last_table(&self, va: u64) -> Option<u64> {
        match self.hint.get(&self.geometry, va) {
            Some(table) => Some(table),
            None => self.find_last_table(va),
        }
    }

    #[inline(never)]
    fn find_last_table(&self, va: u64) -> Option<u64> {
        let mut table = self.root;
        for level in self.geometry.start_level()..LAST_LEVEL {
            let raw = self.mem.load(table, self.geometry.index(va, level));
            table = entry::published_child(raw)?;
        }
        self.hint.set(&self.geometry, va, table);
        Some(table)
    }

    /// Puts a new table into an empty entry, or finds the one that another
    /// mapper put there first. `va` is the address that needs it.
    pub(crate) fn install_table(&self, at: u64, index: usize, va: u64) -> Result<u64, MapError> {
        let child = alloc(&self.mem, &self.geometry, va)?;
        // Its zeroes must be there before anything points to them.
        self.mem.publish(child, 0, self.geometry.granule.entries());
        let raw = entry::table(child);
        match self.mem.compare_exchange(at, index, 0, raw) {
            Ok(_) => {
                self.publish_table(at, index, raw);
                Ok(child)
            }
            Err(found) => {
                self.mem.free_table(child, self.geometry.granule.size());
                self.child(at, index, found)
                    .ok_or(MapError::Occupied { va })
            }
        }
    }

    /// The table that the entry `raw` at `at[index]` points to, published.
    pub(crate) fn child(&self, at: u64, index: usize, raw: u64) -> Option<u64> {
        let child = entry::child(raw)?;
        if entry::published_child(raw).is_none() {
            self.publish_table(at, index, raw);
        }
        Some(child)
    }

    fn publish_table(&self, at: u64, index: usize, raw: u64) {
        self.mem.publish(at, index, 1);
        // Hardware ignores the bit, so this changes nothing for walkers.
        self.mem.store(at, index, entry::published(raw));
    }

    /// Gives every table up for ever, where a walker may still use them: what was to
    /// make sure that none does has failed.
    pub fn abandon(self) {
        let tables = ManuallyDrop::new(self);
        tables.each_table(tables.root, tables.geometry.start_level(), &|table| {
            let size = tables.geometry.granule.size();
            tables.mem.quarantine_table(table, size);
        });
    }

    /// All tables, none before those that it points to.
    fn each_table(&self, table: u64, level: u8, act: &impl Fn(u64)) {
        if level < LAST_LEVEL {
            for index in 0..self.geometry.granule.entries() {
                if let Some(child) = entry::child(self.mem.load(table, index)) {
                    self.each_table(child, level + 1, act);
                }
            }
        }
        act(table);
    }
}

/// A table that the walker can reach.
fn alloc<M: TableMem>(mem: &M, geometry: &Geometry, va: u64) -> Result<u64, MapError> {
    let size = geometry.granule.size();
    let pa = mem.alloc_table(size).ok_or(MapError::OutOfTables { va })?;
    if pa & (size - 1) != 0 || !Geometry::fits(pa, size, geometry.output_bits) {
        mem.free_table(pa, size);
        return Err(MapError::BadTable { pa });
    }
    Ok(pa)
}

/// Frees every table. Whoever drops it has made sure that no walker uses the
/// tables any more: the context is gone and its invalidation has completed.
impl<M: TableMem> Drop for PageTable<M> {
    fn drop(&mut self) {
        self.each_table(self.root, self.geometry.start_level(), &|table| {
            self.mem.free_table(table, self.geometry.granule.size());
        });
    }
}

//! The tree of tables: making it, finding a leaf in it, mapping, unmapping, and
//! giving it all back.
//!
//! Nearly every DMA mapping is a run of leaves in one table, and who made one at that
//! address before has a [`Hint`] to it; both are served here. All else, and all that
//! is to be refused, goes through the passes of `range`.

use crate::entry;
use crate::error::MapError;
use crate::geometry::{Geometry, LAST_LEVEL};
use crate::hint::Hint;
use crate::mem::{Kind, TableMem};
use crate::range::Leaves;
use crate::stage1::Attrs;

/// Translation tables of one address space.
pub struct PageTable<M: TableMem> {
    pub(crate) mem: M,
    pub(crate) geometry: Geometry,
    pub(crate) root: u64,
    // Of the last level and the one above it.
    shapes: [Shape; 2],
    // A walker may use them for ever.
    abandoned: bool,
}

/// What is needed of a level with leaves, without a computation.
struct Shape {
    /// The lowest bit that it resolves, and the lowest of the level above.
    shift: u32,
    above: u32,
    /// The bits below what it resolves.
    mask: u64,
    /// Those, and the ones that no output address has.
    not_output: u64,
    /// Its leaves that stand alone.
    alone: Kind,
    /// Bytes of as many leaves as a walker may keep as one.
    group: u64,
    /// The index of its last entry.
    last: usize,
}

impl Shape {
    fn new(geometry: &Geometry, level: u8) -> Self {
        Self {
            shift: geometry.shift(level),
            above: geometry.shift(level) + (geometry.granule.bits() - 3),
            mask: geometry.span(level) - 1,
            not_output: (geometry.span(level) - 1) | (!0 << geometry.output_bits),
            alone: entry::leaves(level, true),
            group: geometry.group(level),
            last: geometry.granule.entries() - 1,
        }
    }
}

/// What leaves have besides an address, for tables of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafBits(u64);

/// One entry.
struct One {
    table: u64,
    index: usize,
    not_output: u64,
    last: usize,
    alone: Kind,
}

/// Neighbouring entries of one table.
struct Run {
    level: u8,
    table: u64,
    index: usize,
    count: usize,
    // What each of them spans.
    page: u64,
    // What those span that a walker may keep as one, and whether the run is made of them.
    group: u64,
    whole: bool,
}

impl<M: TableMem> PageTable<M> {
    /// An empty address space.
    pub fn new(mem: M, geometry: Geometry) -> Result<Self, MapError> {
        if !geometry.is_supported() {
            return Err(MapError::Unsupported(geometry));
        }
        let root = alloc(&mem, &geometry, 0)?;
        mem.publish(root, 0, geometry.granule.entries());
        let shape = |level| Shape::new(&geometry, level);
        Ok(Self {
            mem,
            geometry,
            root,
            shapes: [shape(LAST_LEVEL), shape(LAST_LEVEL - 1)],
            abandoned: false,
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
        self.map_range(va, pa, len, self.geometry.encode(attrs))
    }

    /// The same for the owner of the range, who may know where the leaves go, and wants
    /// to: nobody else maps or unmaps in it at the same time, as for
    /// [`unmap`](Self::unmap).
    pub fn map_near(
        &self,
        hint: Hint,
        va: u64,
        pa: u64,
        len: u64,
        attrs: Attrs,
    ) -> Result<Hint, MapError> {
        let attributes = self.geometry.encode(attrs);
        if Geometry::fits(pa, len, self.geometry.output_bits)
            && let Some(run) = self.known(hint, va, pa, len)
            && self.put(&run, pa, attributes)
        {
            return Ok(hint);
        }
        self.map_far(va, pa, len, attributes)
    }

    /// The same, if it takes one leaf and the hint leads to its empty entry: says
    /// whether it did. This is on the way of nearly every mapping, so it leaves it to
    /// the caller to make the entry visible, which for a walker that snoops is a barrier.
    #[inline(always)]
    pub fn map_one(&self, hint: Hint, va: u64, pa: u64, len: u64, bits: LeafBits) -> bool {
        let Some(one) = self.one(hint, va, len) else {
            return false;
        };
        if pa & one.not_output != 0 {
            return false;
        }
        let leaf = pa | bits.0 | one.alone.bits;
        self.mem.set(one.table, one.index, 1, leaf, 0)
    }

    /// The same for leaves of the last level that a walker may keep as one, or several
    /// times as many of them in one table.
    #[inline(always)]
    pub fn map_groups(&self, hint: Hint, va: u64, pa: u64, len: u64, bits: LeafBits) -> bool {
        let Some((table, index, count)) = self.groups(hint, va, len) else {
            return false;
        };
        let shape = &self.shapes[0];
        if pa & shape.not_output | (pa + (len - 1)) >> self.geometry.output_bits != 0 {
            return false;
        }
        let together = if pa & (shape.group - 1) == 0 {
            entry::CONTIGUOUS
        } else {
            0
        };
        let leaf = pa | bits.0 | shape.alone.bits | together;
        self.mem.set(table, index, count, leaf, shape.mask + 1)
    }

    /// Unmaps as much: says which leaves.
    #[inline(always)]
    pub fn unmap_groups(&self, hint: Hint, va: u64, len: u64) -> Option<Leaves> {
        let (table, index, count) = self.groups(hint, va, len)?;
        let (size, level) = (self.shapes[0].mask + 1, LAST_LEVEL);
        let kind = entry::leaves(level, false);
        let leaves = Leaves {
            va,
            len,
            size,
            level,
        };
        self.mem.unset(table, index, count, kind).then_some(leaves)
    }

    /// The table, the first index and the number of leaves of the last level for a range
    /// of whole groups within the table that a hint leads to.
    #[inline(always)]
    fn groups(&self, hint: Hint, va: u64, len: u64) -> Option<(u64, usize, usize)> {
        let shape = &self.shapes[0];
        let table = hint.table(va, shape.above)?;
        let index = (va >> shape.shift) as usize & shape.last;
        let count = (len >> shape.shift) as usize;
        let whole = (va | len) & (shape.group - 1) == 0;
        let several = count.wrapping_sub(2) < shape.last - index;
        (hint.above() == 0 && whole && several).then_some((table, index, count))
    }

    /// The same for pieces of one leaf each, side by side. They are told by their
    /// addresses, which become their leaves on the way.
    pub fn map_pieces(
        &self,
        hint: Hint,
        va: u64,
        pieces: &mut [u64],
        piece: u64,
        bits: LeafBits,
    ) -> bool {
        let Some(one) = self.one(hint, va, piece) else {
            return false;
        };
        let bits = bits.0 | one.alone.bits;
        let mut all = 0;
        for pa in pieces.iter_mut() {
            all |= *pa;
            *pa |= bits;
        }
        let inside = pieces.len() <= one.last + 1 - one.index;
        all & one.not_output == 0 && inside && self.mem.put(one.table, one.index, pieces)
    }

    /// Makes the tables on the way to a page, and says where they lead.
    pub fn prepare(&self, va: u64) -> Result<Hint, MapError> {
        if !Geometry::fits(va, 1, self.geometry.input_bits) {
            return Ok(Hint::NONE);
        }
        let found = self.find(va, LAST_LEVEL, true)?;
        Ok(found.map_or(Hint::NONE, |(level, table)| {
            Hint::new(&self.geometry, va, level, table)
        }))
    }

    /// What leaves with these attributes have besides an address.
    pub fn leaf_bits(&self, attrs: Attrs) -> LeafBits {
        LeafBits(self.geometry.encode(attrs))
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
        if let Some(level) = self.level_of(va, 0, len)
            && let Some((level, table)) = self.find(va, level, false)?
            && let Some(run) = self.run(level, table, va, 0, len)
            && let Some(leaves) = self.take(&run, va, len)
        {
            unmapped(leaves);
            return Ok(());
        }
        self.unmap_range(va, len, unmapped)
    }

    /// The same, if the hint leads to the leaves, and they are all that is there to
    /// unmap.
    pub fn unmap_near(&self, hint: Hint, va: u64, len: u64) -> Option<Leaves> {
        let run = self.known(hint, va, 0, len)?;
        self.take(&run, va, len)
    }

    /// The same, if it is one leaf: says how many levels above the last it was. As for
    /// [`map_one`](Self::map_one), it is for the caller to have a walker see that.
    #[inline(always)]
    pub fn unmap_one(&self, hint: Hint, va: u64, len: u64) -> Option<usize> {
        let one = self.one(hint, va, len)?;
        if !self.mem.unset(one.table, one.index, 1, one.alone) {
            return None;
        }
        Some(usize::from(hint.above()))
    }

    /// The entry that a hint leads to, if the range is what one leaf spans.
    #[inline(always)]
    fn one(&self, hint: Hint, va: u64, len: u64) -> Option<One> {
        let shape = &self.shapes[usize::from(hint.above())];
        let table = hint.table(va, shape.above)?;
        if va & shape.mask | len ^ (shape.mask + 1) != 0 {
            return None;
        }
        Some(One {
            table,
            index: (va >> shape.shift) as usize & shape.last,
            not_output: shape.not_output,
            last: shape.last,
            alone: shape.alone,
        })
    }

    #[inline(never)]
    fn map_far(&self, va: u64, pa: u64, len: u64, attributes: u64) -> Result<Hint, MapError> {
        if let Some(level) = self.level_of(va, pa, len)
            && let Some((level, table)) = self.find(va, level, true)?
            && let Some(run) = self.run(level, table, va, pa, len)
            && self.put(&run, pa, attributes)
        {
            return Ok(Hint::new(&self.geometry, va, level, table));
        }
        self.map_range(va, pa, len, attributes)?;
        Ok(Hint::NONE)
    }

    /// The run of entries that a hint knows of.
    fn known(&self, hint: Hint, va: u64, pa: u64, len: u64) -> Option<Run> {
        let above = hint.above();
        let shape = &self.shapes[usize::from(above)];
        let table = hint.table(va, shape.above)?;
        self.part(LAST_LEVEL - above, shape, table, [va, pa, len])
    }

    /// The run of entries of a table for a range, if they are all there.
    fn run(&self, level: u8, table: u64, va: u64, pa: u64, len: u64) -> Option<Run> {
        let geometry = &self.geometry;
        if !Geometry::fits(pa, len, geometry.output_bits) {
            return None;
        }
        let shape = Shape::new(geometry, level);
        self.part(level, &shape, table, [va, pa, len])
    }

    /// The entries of `table` for a range, if it is made of whole ones and all of them
    /// are in this table.
    fn part(&self, level: u8, shape: &Shape, table: u64, [va, pa, len]: [u64; 3]) -> Option<Run> {
        let within = va & ((1 << shape.above) - 1);
        let whole = (va | pa | len) & shape.mask == 0;
        // Another mapper's table may come among several blocks, and must not be lost.
        let several = level == LAST_LEVEL || len == shape.mask + 1;
        let inside = several && len.wrapping_sub(1) < (1 << shape.above) - within;
        (whole && inside).then_some(Run {
            level,
            table,
            index: (within >> shape.shift) as usize,
            count: (len >> shape.shift) as usize,
            page: shape.mask + 1,
            group: shape.group,
            whole: (va | len) & (shape.group - 1) == 0,
        })
    }

    /// The level of the biggest leaves that a range within one table can be made of.
    fn level_of(&self, va: u64, pa: u64, len: u64) -> Option<u8> {
        let geometry = &self.geometry;
        if len == 0 || !Geometry::fits(va, len, geometry.input_bits) {
            return None;
        }
        let whole = |level| (va | pa | len) & (geometry.span(level) - 1) == 0;
        let mut levels = geometry.start_level()..=LAST_LEVEL;
        levels.find(|&level| geometry.leaf_at(level) && whole(level))
    }

    /// The table with the entries for `va` at `wanted`, or below that if there is a
    /// table already where such a leaf would go; none where a leaf is in the way, or
    /// where a table is missing and is not to be made.
    fn find(&self, va: u64, wanted: u8, make: bool) -> Result<Option<(u8, u64)>, MapError> {
        let (mut level, mut table) = (self.geometry.start_level(), self.root);
        loop {
            if level == LAST_LEVEL {
                return Ok(Some((level, table)));
            }
            let index = self.geometry.index(va, level);
            let raw = self.mem.load(table, index);
            table = match self.child(table, index, raw) {
                Some(child) => child,
                None if level >= wanted => return Ok(Some((level, table))),
                None if make && raw == 0 => self.install_table(table, index, va)?,
                None => return Ok(None),
            };
            level += 1;
        }
    }

    /// Puts leaves into a run of entries, if all of them are empty and what can be made
    /// contiguous of them is all or nothing.
    fn put(&self, run: &Run, pa: u64, attributes: u64) -> bool {
        let page = run.page;
        let within = run.index as u64 * page;
        let fits = run.group > page && (within ^ pa) & (run.group - 1) == 0;
        if fits && !run.whole && run.count as u64 * page >= run.group {
            // Some of it, perhaps.
            return false;
        }
        let hint = if fits && run.whole {
            entry::CONTIGUOUS
        } else {
            0
        };
        let leaf = entry::leaf(run.level, pa, attributes | hint);
        let put = self
            .mem
            .fill(run.table, run.index, run.count, leaf, run.page);
        if put {
            self.mem.publish(run.table, run.index, run.count);
        }
        put
    }

    /// Empties a run of entries, if all of them are leaves.
    fn take(&self, run: &Run, va: u64, len: u64) -> Option<Leaves> {
        // Of those that a walker may keep as one, all go or none.
        let kind = entry::leaves(run.level, !run.whole);
        if !self.mem.clear(run.table, run.index, run.count, kind) {
            return None;
        }
        self.mem.publish(run.table, run.index, run.count);
        Some(Leaves {
            va,
            len,
            size: run.page,
            level: run.level,
        })
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
        if !entry::is_published(raw) {
            self.publish_table(at, index, raw);
        }
        Some(child)
    }

    fn publish_table(&self, at: u64, index: usize, raw: u64) {
        self.mem.publish(at, index, 1);
        // Hardware ignores the bit, so this changes nothing for walkers.
        self.mem.store(at, index, entry::published(raw));
    }

    /// Gives every table up for ever at the end, where a walker may still use them: what
    /// was to make sure that none does has failed.
    pub fn abandon(&mut self) {
        self.abandoned = true;
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

/// Frees every table, unless they were abandoned. Whoever drops it has made sure that no
/// walker uses the tables any more: the context is gone and its invalidation has
/// completed.
impl<M: TableMem> Drop for PageTable<M> {
    fn drop(&mut self) {
        let size = self.geometry.granule.size();
        self.each_table(self.root, self.geometry.start_level(), &|table| {
            if self.abandoned {
                self.mem.quarantine_table(table, size);
            } else {
                self.mem.free_table(table, size);
            }
        });
    }
}

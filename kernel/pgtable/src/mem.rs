//! Where tables live: the one thing that a user of this crate brings along.

/// What descriptors have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The bits that count.
    pub mask: u64,
    /// What they are.
    pub bits: u64,
}

impl Kind {
    /// The bits by which a descriptor is of another kind.
    #[inline(always)]
    pub const fn differs(self, descriptor: u64) -> u64 {
        (descriptor ^ self.bits) & self.mask
    }
}

/// Memory for tables, and the way to their words.
///
/// A table is one granule in size and aligned to it; `index` counts its 64-bit
/// descriptors. Words are read and written as single-copy atoms, since walkers
/// and other CPUs look at them at any time.
pub trait TableMem {
    /// A table of zeroes, `bytes` long and as aligned, or `None` when there is no
    /// memory.
    fn alloc_table(&self, bytes: u64) -> Option<u64>;

    /// Takes back a table of `bytes` from [`alloc_table`](Self::alloc_table).
    fn free_table(&self, pa: u64, bytes: u64);

    /// Takes back a table of `bytes` that a walker may go on reading for ever, so that
    /// it is nobody's again.
    fn quarantine_table(&self, pa: u64, bytes: u64);

    /// Reads a descriptor, with acquire ordering: what its writer stored into
    /// the table it points to is seen too.
    fn load(&self, pa: u64, index: usize) -> u64;

    /// Writes a descriptor.
    fn store(&self, pa: u64, index: usize, value: u64);

    /// Replaces `old` by `new`, with acquire and release ordering, or returns
    /// what was found instead.
    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64>;

    /// Puts `first`, and `step` more each time, into `count` neighbouring descriptors,
    /// at least one, if all of them are empty; else it stores nothing and says `false`.
    ///
    /// They are leaves of a range that the caller owns: nobody else writes them
    /// meanwhile, so a look beforehand and plain stores do, and it takes no
    /// compare-exchange for each.
    #[inline]
    fn fill(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        let all = index..index + count;
        let empty = all.clone().all(|index| self.load(pa, index) == 0);
        if empty {
            let mut value = first;
            for index in all {
                self.store(pa, index, value);
                value = value.wrapping_add(step);
            }
        }
        empty
    }

    /// The same where that can be done on the spot; whoever is told `false` tries
    /// [`fill`](Self::fill).
    #[inline(always)]
    fn set(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        self.fill(pa, index, count, first, step)
    }

    /// The same for leaves that lead anywhere.
    #[inline]
    fn put(&self, pa: u64, index: usize, leaves: &[u64]) -> bool {
        let all = index..index + leaves.len();
        let empty = all.clone().all(|index| self.load(pa, index) == 0);
        if empty {
            for (index, &leaf) in all.zip(leaves) {
                self.store(pa, index, leaf);
            }
        }
        empty
    }

    /// Empties `count` neighbouring descriptors, if all of them are of a kind; else it
    /// stores nothing and says `false`.
    #[inline]
    fn clear(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        let mut all = index..index + count;
        let same = |index| kind.differs(self.load(pa, index)) == 0;
        all.clone().all(same)
            && all.all(|index| {
                self.store(pa, index, 0);
                true
            })
    }

    /// The same where that can be done on the spot; whoever is told `false` tries
    /// [`clear`](Self::clear).
    #[inline(always)]
    fn unset(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        self.clear(pa, index, count, kind)
    }

    /// Makes `count` descriptors from `index` on visible to the walker: a store
    /// barrier and, where the walker does not snoop, a clean of their cache
    /// lines before it. Where other code issues that barrier anyway before the
    /// walker can be made to look (a doorbell behind one), a coherent
    /// implementation may be empty.
    fn publish(&self, pa: u64, index: usize, count: usize);
}

impl<T: TableMem + ?Sized> TableMem for &T {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        (**self).alloc_table(bytes)
    }

    fn free_table(&self, pa: u64, bytes: u64) {
        (**self).free_table(pa, bytes);
    }

    fn quarantine_table(&self, pa: u64, bytes: u64) {
        (**self).quarantine_table(pa, bytes);
    }

    fn load(&self, pa: u64, index: usize) -> u64 {
        (**self).load(pa, index)
    }

    fn store(&self, pa: u64, index: usize, value: u64) {
        (**self).store(pa, index, value);
    }

    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        (**self).compare_exchange(pa, index, old, new)
    }

    fn fill(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        (**self).fill(pa, index, count, first, step)
    }

    fn put(&self, pa: u64, index: usize, leaves: &[u64]) -> bool {
        (**self).put(pa, index, leaves)
    }

    fn set(&self, pa: u64, index: usize, count: usize, first: u64, step: u64) -> bool {
        (**self).set(pa, index, count, first, step)
    }

    fn unset(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        (**self).unset(pa, index, count, kind)
    }

    fn clear(&self, pa: u64, index: usize, count: usize, kind: Kind) -> bool {
        (**self).clear(pa, index, count, kind)
    }

    fn publish(&self, pa: u64, index: usize, count: usize) {
        (**self).publish(pa, index, count);
    }
}

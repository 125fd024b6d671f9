//! The free blocks of one zone of RAM, by the buddy scheme: a block of order k is
//! 2^k frames at a multiple of 2^k. Any run of frames can be given back, whole
//! blocks or not, since the caller knows its length; so there is no block size to
//! remember, and a run takes no more frames than were asked for.
//!
//! Per order there is one [`BitTree`], so taking and giving back cost steps in the
//! logarithm of the zone's size. Of the smallest blocks that fit, the highest below
//! the caller's limit is taken: memory that every device can reach is kept for
//! those that reach no other.

use super::bits::{self, BitTree};

/// Largest block: 2^18 frames, 1 GiB.
const MAX_ORDER: usize = 18;
const ORDERS: usize = MAX_ORDER + 1;

pub(super) struct Buddy<'m> {
    /// Numbers of the first frame and of the one after the last.
    first: u64,
    end: u64,
    free: u64,
    blocks: [BitTree<'m>; ORDERS],
}

/// Blocks of `order` that start before `end`, counted from the one with `first`.
const fn slots(first: u64, end: u64, order: usize) -> usize {
    (((end - 1) >> order) - (first >> order) + 1) as usize
}

/// Words of metadata for the frames `first..end`, which are not none.
pub(super) fn words(first: u64, end: u64) -> usize {
    (0..ORDERS)
        .map(|order| bits::words(slots(first, end, order)))
        .sum()
}

impl<'m> Buddy<'m> {
    /// A zone without free frames, in zeroed `storage` of [`words`] words.
    pub(super) fn new(first: u64, end: u64, mut storage: &'m mut [u64]) -> Self {
        let blocks = core::array::from_fn(|order| {
            let slots = slots(first, end, order);
            let (mine, rest) = core::mem::take(&mut storage).split_at_mut(bits::words(slots));
            storage = rest;
            BitTree::new(mine, slots)
        });
        Self {
            first,
            end,
            free: 0,
            blocks,
        }
    }

    /// Number of free frames.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Takes `count` frames in a row from a multiple of `align` (a power of two,
    /// in frames), all below frame `limit`.
    pub(super) fn take(&mut self, count: u64, align: u64, limit: u64) -> Option<u64> {
        if count == 0 {
            return None;
        }
        let order = count.checked_next_power_of_two()?.max(align).ilog2() as usize;
        let highest = limit.min(self.end).checked_sub(count)?;
        let (found, start) = (order..ORDERS).find_map(|order| {
            let slot = (highest >> order).checked_sub(self.first >> order)?;
            // `slot` is the block that `highest` lies in, so its start fits too.
            let slot = self.blocks[order].last(slot as usize)?;
            Some((order, self.start(order, slot)))
        })?;
        self.remove(found, start);
        self.put(start + count, start + (1 << found));
        Some(start)
    }

    /// Gives the frames `start..end` back. They are in the zone and not free.
    pub(super) fn put(&mut self, mut start: u64, end: u64) {
        while start < end {
            let fits = (end - start).ilog2();
            let order = start.trailing_zeros().min(fits).min(MAX_ORDER as u32);
            self.put_block(order as usize, start);
            start += 1 << order;
        }
    }

    fn put_block(&mut self, mut order: usize, mut start: u64) {
        self.free += 1 << order;
        while order < MAX_ORDER {
            let buddy = start ^ 1 << order;
            if buddy < self.first || buddy >= self.end {
                break;
            }
            let slot = self.slot(order, buddy);
            if !self.blocks[order].contains(slot) {
                break;
            }
            self.blocks[order].remove(slot);
            start &= buddy;
            order += 1;
        }
        let slot = self.slot(order, start);
        self.blocks[order].insert(slot);
    }

    fn remove(&mut self, order: usize, start: u64) {
        let slot = self.slot(order, start);
        self.blocks[order].remove(slot);
        self.free -= 1 << order;
    }

    fn slot(&self, order: usize, start: u64) -> usize {
        ((start >> order) - (self.first >> order)) as usize
    }

    fn start(&self, order: usize, slot: usize) -> u64 {
        ((self.first >> order) + slot as u64) << order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    const FIRST: u64 = 0x4_0123;
    const END: u64 = FIRST + 3000;

    /// The same contract, a frame at a time.
    struct Naive(BTreeSet<u64>);

    impl Naive {
        fn is_free(&self, start: u64, end: u64) -> bool {
            (start..end).all(|frame| self.0.contains(&frame))
        }

        /// Whether a whole aligned block of free frames starts low enough.
        fn has_block(&self, count: u64, align: u64, limit: u64) -> bool {
            let size = count.next_power_of_two().max(align);
            self.0.iter().any(|&start| {
                start % size == 0 && start + count <= limit && self.is_free(start, start + size)
            })
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take { count: u64, align: u32, limit: u64 },
        Put { which: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..200u64, 0..9u32, prop_oneof![Just(u64::MAX), FIRST..END + 50])
                .prop_map(|(count, align, limit)| Step::Take { count, align, limit }),
            2 => any::<usize>().prop_map(|which| Step::Put { which }),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(
            hole in FIRST..END,
            hole_len in 0..200u64,
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut storage = vec![0; words(FIRST, END)];
            let mut buddy = Buddy::new(FIRST, END, &mut storage);
            let hole_end = END.min(hole + hole_len);
            buddy.put(FIRST, hole);
            buddy.put(hole_end, END);
            let mut naive = Naive((FIRST..hole).chain(hole_end..END).collect());
            let mut held: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take { count, align, limit } => {
                        let align = 1 << align;
                        match buddy.take(count, align, limit) {
                            Some(start) => {
                                prop_assert!(naive.is_free(start, start + count));
                                prop_assert!(start % align == 0 && start + count <= limit);
                                (start..start + count).for_each(|f| assert!(naive.0.remove(&f)));
                                held.push((start, start + count));
                            }
                            None => prop_assert!(!naive.has_block(count, align, limit)),
                        }
                    }
                    Step::Put { which } if !held.is_empty() => {
                        let (start, end) = held.swap_remove(which % held.len());
                        buddy.put(start, end);
                        naive.0.extend(start..end);
                    }
                    Step::Put { .. } => {}
                }
                prop_assert_eq!(buddy.free(), naive.0.len() as u64);
            }
            // All given back, blocks have coalesced: what fits at first fits again.
            held.drain(..).for_each(|(start, end)| {
                buddy.put(start, end);
                naive.0.extend(start..end);
            });
            for order in 0..12 {
                let fits = naive.has_block(1 << order, 1, u64::MAX);
                prop_assert_eq!(buddy.take(1 << order, 1, u64::MAX).map(|at| buddy.put(at, at + (1 << order))).is_some(), fits);
            }
        }
    }

    #[test]
    fn takes_the_highest_below_the_limit() {
        let mut storage = vec![0; words(0, 1 << 20)];
        let mut buddy = Buddy::new(0, 1 << 20, &mut storage);
        buddy.put(0, 1 << 20);
        assert_eq!(buddy.take(1, 1, 0x1000), Some(0));
        // The smallest block first, even where a higher one would have to be split.
        assert_eq!(buddy.take(3, 1, u64::MAX), Some(4));
        assert_eq!(buddy.free(), (1 << 20) - 4);
        assert_eq!(buddy.take(1 << 18, 1 << 18, u64::MAX), Some(0xc_0000));
        assert_eq!(buddy.take((1 << 18) + 1, 1, u64::MAX), None);
        assert_eq!(buddy.take(1, 1, 0), None);
        assert_eq!(buddy.take(0, 1, 0), None);
    }
}

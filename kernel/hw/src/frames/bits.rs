//! A set of small numbers that finds its highest member below a bound in a step per
//! six bits of the range: level 0 has one bit per number, each level above one
//! bit per word below, set while that word is not zero.

/// Levels that a set can have: 64^6 numbers.
const LEVELS: usize = 6;

pub(super) struct BitTree<'m> {
    words: &'m mut [u64],
    /// Where each level starts in `words`; the top one is a single word.
    start: [usize; LEVELS],
    height: usize,
}

/// Words that a set of numbers below `bits` takes.
pub(super) const fn words(bits: usize) -> usize {
    let mut sum = 0;
    let mut level = bits;
    loop {
        level = level.div_ceil(64);
        sum += level;
        if level <= 1 {
            return sum;
        }
    }
}

impl<'m> BitTree<'m> {
    /// An empty set in `words`, which are all zero and as many as [`words`] says.
    pub(super) fn new(words: &'m mut [u64], bits: usize) -> Self {
        let mut start = [0; LEVELS];
        let mut height = 1;
        let mut level = bits.div_ceil(64);
        while level > 1 {
            start[height] = start[height - 1] + level;
            height += 1;
            level = level.div_ceil(64);
        }
        Self {
            words,
            start,
            height,
        }
    }

    pub(super) fn contains(&self, bit: usize) -> bool {
        self.words[bit / 64] & 1 << (bit % 64) != 0
    }

    pub(super) fn insert(&mut self, bit: usize) {
        let mut at = bit;
        for level in 0..self.height {
            let word = &mut self.words[self.start[level] + at / 64];
            let was = *word;
            *word |= 1 << (at % 64);
            if was != 0 {
                return;
            }
            at /= 64;
        }
    }

    pub(super) fn remove(&mut self, bit: usize) {
        let mut at = bit;
        for level in 0..self.height {
            let word = &mut self.words[self.start[level] + at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    /// The highest member that is at most `max`.
    pub(super) fn last(&self, max: usize) -> Option<usize> {
        // Up until a word has a member on the way to `max`, then down its highest.
        let mut at = max;
        let mut inclusive = true;
        for level in 0..self.height {
            let below = if inclusive { 2 } else { 1 } << (at % 64);
            let mask = u64::wrapping_sub(below, 1);
            let found = self.words.get(self.start[level] + at / 64)? & mask;
            if found != 0 {
                return Some(self.descend(level, at / 64 * 64 + found.ilog2() as usize));
            }
            at /= 64;
            inclusive = false;
        }
        None
    }

    /// The highest number under member `at` of `level`.
    fn descend(&self, level: usize, mut at: usize) -> usize {
        for level in (0..level).rev() {
            at = at * 64 + self.words[self.start[level] + at].ilog2() as usize;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec;

    proptest! {
        #[test]
        fn agrees_with_an_ordered_set(
            bits in prop_oneof![1..200usize, 4000..4200usize, 262_100..262_200usize],
            steps in prop::collection::vec((any::<bool>(), any::<usize>(), any::<usize>()), 1..80),
        ) {
            let mut storage = vec![0; words(bits)];
            let mut tree = BitTree::new(&mut storage, bits);
            let mut set = BTreeSet::new();
            for (insert, bit, max) in steps {
                let bit = bit % bits;
                if insert {
                    tree.insert(bit);
                    set.insert(bit);
                } else {
                    tree.remove(bit);
                    set.remove(&bit);
                }
                prop_assert_eq!(tree.contains(bit), insert);
                for max in [max % bits, bit, bit.saturating_sub(1), bits - 1] {
                    prop_assert_eq!(tree.last(max), set.range(..=max).next_back().copied());
                }
            }
        }
    }
}

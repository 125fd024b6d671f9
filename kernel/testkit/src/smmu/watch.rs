//! Torn updates.
//!
//! Hardware reads a structure as 64-bit atoms, in any order and at any time, and
//! may keep what it read until the next invalidation has completed (IHI 0070
//! §3.21.3). So between two completed invalidations each word may have any of the
//! values that it held meanwhile, and the structure any mix of them. A mix is
//! harmless only if it is one of the whole structures that software meant: if at
//! most one word differs in bits that hardware looks at, or none of the first
//! words says that the structure is valid.

use super::ste::Words;

/// The values that each word may have in the SMMU's view.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    words: [History; 8],
}

#[derive(Clone, Debug)]
struct History {
    /// The number of the first value below.
    first: usize,
    values: Vec<u64>,
}

/// Up to where histories went at some point.
#[derive(Copy, Clone, Debug)]
pub(super) struct Marks([usize; 8]);

impl Watch {
    pub fn new(words: Words) -> Self {
        Self {
            words: words.map(|word| History {
                first: 0,
                values: vec![word],
            }),
        }
    }

    /// Memory holds `words` now.
    pub fn observe(&mut self, words: Words) -> Marks {
        for (history, word) in self.words.iter_mut().zip(words) {
            if history.values.last() != Some(&word) {
                history.values.push(word);
            }
        }
        Marks(self.words.each_ref().map(History::latest))
    }

    /// An invalidation that was issued at `marks` has completed: values from
    /// before then are gone.
    pub fn settle(&mut self, marks: Marks) {
        for (history, mark) in self.words.iter_mut().zip(marks.0) {
            let stale = mark.saturating_sub(history.first);
            history.values.drain(..stale);
            history.first += stale;
        }
    }

    /// Whether the SMMU may see a structure that nobody meant. `used` is the bits
    /// that it looks at, given a first word; `None` if that word is invalid.
    pub fn is_torn(&self, used: impl Fn(u64) -> Option<Words>) -> bool {
        let mut masks = [0; 8];
        for candidate in self.words[0].values.iter().filter_map(|&first| used(first)) {
            for (mask, bits) in masks.iter_mut().zip(candidate) {
                *mask |= bits;
            }
        }
        let open = self.words.iter().zip(masks);
        open.filter(|(history, mask)| history.differs_in(*mask))
            .count()
            > 1
    }
}

impl History {
    fn latest(&self) -> usize {
        self.first + self.values.len() - 1
    }

    fn differs_in(&self, mask: u64) -> bool {
        let first = self.values[0] & mask;
        self.values.iter().any(|value| value & mask != first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smmu::ste::Ste;

    const S1: u64 = 0x4000_000b;

    fn words(first: u64, second: u64) -> Words {
        [first, second, 0, 0, 0, 0, 0, 0]
    }

    fn torn(watch: &Watch) -> bool {
        watch.is_torn(Ste::used)
    }

    #[test]
    fn the_procedure_of_3_21_3_1_is_never_torn() {
        let mut watch = Watch::new(words(0, 7));
        let marks = watch.observe(words(S1 & !1, 9));
        assert!(!torn(&watch));
        watch.settle(marks);
        watch.observe(words(S1, 9));
        assert!(!torn(&watch));
    }

    #[test]
    fn without_the_first_sync_it_is() {
        let mut watch = Watch::new(words(0, 7));
        watch.observe(words(S1 & !1, 9));
        watch.observe(words(S1, 9));
        assert!(torn(&watch));
    }

    #[test]
    fn all_at_once_is_torn() {
        let mut watch = Watch::new(words(0, 7));
        watch.observe(words(S1, 9));
        assert!(torn(&watch));
    }

    #[test]
    fn words_that_an_aborting_entry_does_not_use_may_change_under_it() {
        let mut watch = Watch::new(words(1, 7));
        let marks = watch.observe(words(1, 9));
        assert!(!torn(&watch));
        watch.settle(marks);
        watch.observe(words(S1, 9));
        assert!(!torn(&watch));
        let mut hasty = Watch::new(words(1, 7));
        hasty.observe(words(S1, 9));
        assert!(torn(&hasty));
    }

    #[test]
    fn one_word_of_a_valid_entry_may_change_two_may_not() {
        let mut watch = Watch::new(words(S1, 7));
        watch.observe(words(S1 + 64, 7));
        assert!(!torn(&watch));
        watch.observe(words(S1 + 64, 9));
        assert!(torn(&watch));
    }

    #[test]
    fn a_completed_invalidation_forgets_older_values_only() {
        let mut watch = Watch::new(words(S1, 7));
        let marks = watch.observe(words(S1, 8));
        watch.observe(words(S1, 9));
        watch.settle(marks);
        assert_eq!(watch.words[1].values, [8, 9]);
    }
}

//! Which commands invalidate a run of leaves: one for each leaf, or, where there is
//! range invalidation (IHI 0070 §4.4.1.1), a few for all of them.

use mastiff_pgtable::Leaves;

use crate::spec::Command;
use crate::spec::command::{CMD0, Span, Tag};

/// NUM + 1 goes up to this.
const MOST: u64 = 32;
/// SCALE goes up to this (5 bits without IDR5.DS).
const MOST_SCALE: u32 = 31;

/// The commands for neighbouring leaves, in order.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Cover {
    tag: Tag,
    /// log2 of the granule, where there is range invalidation.
    granule: Option<u32>,
    level: u8,
    /// log2 of a leaf's size.
    leaf: u32,
    va: u64,
    /// Leaves that are left.
    left: u64,
}

impl Cover {
    #[inline]
    pub fn new(tag: Tag, granule: Option<u32>, leaves: Leaves) -> Self {
        let leaf = leaves.size.trailing_zeros();
        Self {
            tag,
            granule,
            level: leaves.level,
            leaf,
            va: leaves.va,
            left: leaves.len >> leaf,
        }
    }

    /// How many leaves the next command takes, as a multiplier and a scale.
    ///
    /// Counting in leaves rather than granules keeps every address aligned to the
    /// leaf, which a command that names the leaves' level must be.
    #[inline]
    fn step(&self) -> (u64, u32) {
        let Some(granule) = self.granule else {
            return (1, 0);
        };
        let bits = u64::BITS - self.left.leading_zeros();
        let scale = bits
            .saturating_sub(MOST.ilog2())
            .min(MOST_SCALE - (self.leaf - granule));
        ((self.left >> scale).min(MOST), scale)
    }

    #[inline]
    fn advance(&mut self, leaves: u64) {
        self.va = self.va.wrapping_add(leaves << self.leaf);
        self.left -= leaves;
    }

    /// How many commands there are, up to `limit`: whoever asks has another way
    /// for more.
    #[inline]
    pub fn count(mut self, limit: usize) -> usize {
        if self.granule.is_none() {
            return usize::try_from(self.left).unwrap_or(limit).min(limit);
        }
        let mut count = 0;
        while self.left > 0 && count < limit {
            let (multiplier, scale) = self.step();
            self.advance(multiplier << scale);
            count += 1;
        }
        count
    }
}

impl Iterator for Cover {
    type Item = Command;

    #[inline]
    fn next(&mut self) -> Option<Command> {
        if self.left == 0 {
            return None;
        }
        let (multiplier, scale) = self.step();
        let command = match self.granule {
            Some(granule) => {
                let span = Span {
                    num: multiplier as u8 - 1,
                    scale: (scale + self.leaf - granule) as u8,
                    granule,
                    level: self.level,
                };
                Command::tlbi_span(self.tag, self.va, span)
            }
            None => Command::tlbi_address(self.tag, self.va),
        };
        self.advance(multiplier << scale);
        Some(command)
    }
}

/// The commands for short runs, which nearly all are: made in advance but for the
/// address and the number of leaves.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Short {
    /// By how far the leaves are above the last level.
    parts: [[u64; 2]; 2],
    most: u64,
}

impl Short {
    /// For tables of `granule`, given as a log2, where there is range invalidation if
    /// `ranges`.
    pub fn new(tag: Tag, granule: u32, ranges: bool) -> Self {
        let part = |above: u32| {
            let span = Span {
                num: 0,
                scale: (above * (granule - 3)) as u8,
                granule,
                level: 3 - above as u8,
            };
            match ranges {
                true => Command::tlbi_span(tag, 0, span).0,
                false => Command::tlbi_address(tag, 0).0,
            }
        };
        Self {
            parts: [part(0), part(1)],
            most: if ranges { MOST } else { 1 },
        }
    }

    /// The command for one leaf, so many levels above the last.
    #[inline(always)]
    pub fn one(&self, above: usize, va: u64) -> Command {
        let part = self.parts[above & 1];
        Command([part[0], part[1] | va])
    }

    /// The command for a run of leaves, if one does.
    pub fn command(&self, leaves: &Leaves) -> Option<Command> {
        let part = self.parts.get(usize::from(3 - leaves.level))?;
        let more = (leaves.len >> leaves.size.trailing_zeros()) - 1;
        (more < self.most)
            .then(|| Command([part[0] | more << CMD0::NUM.shift, part[1] | leaves.va]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::command::TLBI1;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn leaves(va: u64, count: u64, level: u8) -> Leaves {
        leaves_of(12, va, count, level)
    }

    fn leaves_of(granule: u32, va: u64, count: u64, level: u8) -> Leaves {
        let size = 1 << (granule + (granule - 3) * (3 - u32::from(level)));
        Leaves {
            va,
            len: count * size,
            size,
            level,
        }
    }

    #[test]
    fn one_page_is_one_command() {
        let page = leaves(0x1234_5000, 1, 3);
        let commands: Vec<_> = Cover::new(Tag::asid(5), Some(12), page).collect();
        // §4.4.2.4 with TG = 4 KiB, TTL = level 3, NUM = SCALE = 0, Leaf.
        assert_eq!(
            commands,
            [Command([5 << 48 | 0x12, 0x1234_5000 | 0b01_11 << 8 | 1])]
        );
        let commands: Vec<_> = Cover::new(Tag::asid(5), None, page).collect();
        assert_eq!(commands, [Command([5 << 48 | 0x12, 0x1234_5000 | 1])]);
    }

    #[test]
    fn a_whole_address_space_fits() {
        let everything = leaves(0, 1 << 36, 3);
        let tag = Tag::asid(1);
        // In leaves of any level: no SCALE beyond 5 bits.
        for run in [everything, leaves(0, 1 << 27, 2), leaves(0, 1 << 18, 1)] {
            let cover = Cover::new(tag, Some(12), run);
            assert_eq!(cover.count(64), 1);
            let ranges: Vec<_> = cover.map(|command| command.range(tag)).collect();
            assert_eq!(ranges, [Some((0, 1 << 48))]);
        }
        assert_eq!(Cover::new(Tag::asid(1), None, everything).count(64), 64);
    }

    proptest! {
        /// The ranges follow one another from the first leaf to the last, each
        /// aligned as its level hint demands, and none is a reserved encoding.
        #[test]
        fn ranges_cover_exactly(
            (granule, level) in prop_oneof![
                (Just(12u32), 1u8..=3),
                (Just(14u32), 2u8..=3),
                (Just(16u32), 2u8..=3),
            ],
            vmid: bool,
            first in 0u64..1 << 30,
            count in prop_oneof![1u64..70, 1u64..100_000, 1u64..1 << 36],
        ) {
            let tag = if vmid { Tag::vmid(3) } else { Tag::asid(3) };
            let size = leaves_of(granule, 0, 1, level).size;
            let va = (first * size) & ((1 << 48) - 1);
            let count = count.min(((1 << 48) - va) / size).max(1);
            let run = leaves_of(granule, va, count, level);
            let cover = Cover::new(tag, Some(granule), run);
            let mut at = va;
            for command in cover {
                // The granule is in every command, or its address would be ambiguous.
                prop_assert_eq!(TLBI1::TG.read(command.0[1]), u64::from(granule - 10) / 2);
                prop_assert_eq!(command.0[0] >> 32, if vmid { 3 } else { 3 << 16 });
                let (address, bytes) = command.range(tag).expect("of this tag");
                prop_assert_eq!(address, at);
                prop_assert!(address.is_multiple_of(size));
                prop_assert_eq!(TLBI1::TTL.read(command.0[1]), u64::from(level));
                prop_assert_eq!(TLBI1::LEAF.read(command.0[1]), 1);
                at += bytes;
            }
            prop_assert_eq!(at, va + run.len);
            prop_assert_eq!(cover.count(usize::MAX), Iterator::count(cover));
            prop_assert!(cover.count(usize::MAX) <= 8);
            prop_assert_eq!(cover.count(1), 1);
            let parts = Short::new(tag, granule, true);
            let short = parts.command(&run);
            if count == 1 && level > 1 {
                prop_assert_eq!(short, Some(parts.one(usize::from(3 - level), va)));
            }
            prop_assert_eq!(short.is_some(), count <= 32 && level > 1);
            if let Some(command) = short {
                prop_assert_eq!(command.range(tag), Some((va, run.len)));
                prop_assert_eq!(command.range(Tag::asid(4)), None);
                prop_assert_eq!(TLBI1::TTL.read(command.0[1]), u64::from(level));
                prop_assert_eq!(TLBI1::LEAF.read(command.0[1]), 1);
            }
        }

        /// Without ranges: one address in each leaf.
        #[test]
        fn pages_cover_exactly(level in 1u8..=3, first in 0u64..1000, count in 1u64..300) {
            let size = leaves(0, 1, level).size;
            let run = leaves(first * size, count, level);
            let cover = Cover::new(Tag::asid(3), None, run);
            let expected: Vec<u64> = (first..first + count).map(|leaf| leaf * size).collect();
            let addresses: Vec<u64> = cover
                .map(|command| command.range(Tag::asid(3)).unwrap().0)
                .collect();
            prop_assert_eq!(addresses, expected);
            prop_assert_eq!(cover.count(usize::MAX) as u64, count);
            let short = Short::new(Tag::asid(3), 12, false).command(&run);
            let only = cover.clone().next().filter(|_| count == 1 && level > 1);
            prop_assert_eq!(short, only);
        }
    }
}

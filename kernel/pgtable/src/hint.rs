//! Where a range's leaves are, so that whoever maps or unmaps it again skips the
//! walk.
//!
//! A hint is one word that its owner keeps with the address: the level and the
//! place of a table, and the part of the address that all entries of the table have
//! in common, by which a hint that is about another address is told. A table stays
//! where it is until the whole tree is dropped, so a hint never dangles before that.
//!
//! Bit 0 is set where the leaves are blocks, a level above the last. Bits [36:1] are
//! bits [47:12] of the table's address, 0 where nothing is known. Bits [63:37] are the
//! address above what the table spans, which is 21 bits at least, of 48.

use crate::geometry::{Geometry, LAST_LEVEL};

const PAGE_BITS: u32 = 12;
const TABLE: u64 = (1 << 37) - 2;
const TAG_BIT: u32 = 37;

/// Where the leaves of a range are, or [`NONE`](Self::NONE). It is worth something
/// for the tables that gave it, as long as they live, and for no others.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Hint(pub u64);

impl Hint {
    /// Nothing is known.
    pub const NONE: Self = Self(0);

    /// The entries for `va` at `level` are in `table`.
    pub(crate) const fn new(geometry: &Geometry, va: u64, level: u8, table: u64) -> Self {
        if level < LAST_LEVEL - 1 {
            return Self::NONE;
        }
        let tag = (va >> geometry.shift(level - 1)) << TAG_BIT;
        Self(tag | table >> (PAGE_BITS - 1) | (LAST_LEVEL - level) as u64)
    }

    /// How far above the last level the leaves are: 0 or 1.
    #[inline]
    pub(crate) const fn above(self) -> u8 {
        (self.0 & 1) as u8
    }

    /// The table of the entries for `va`, if this is about them; `shift` is the lowest
    /// bit that the level above the leaves resolves.
    #[inline]
    pub(crate) const fn table(self, va: u64, shift: u32) -> Option<u64> {
        let table = self.0 & TABLE;
        if table != 0 && self.0 >> TAG_BIT == va >> shift {
            Some(table << (PAGE_BITS - 1))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Granule, Stage};

    #[test]
    fn hints_are_about_the_addresses_of_their_table_only() {
        for granule in [Granule::K4, Granule::K16, Granule::K64] {
            let geometry = Geometry {
                stage: Stage::One,
                granule,
                input_bits: 48,
                output_bits: 48,
                blocks: true,
            };
            let table = (1 << 48) - granule.size();
            for level in [2, 3] {
                let shift = geometry.shift(level - 1);
                let reach = 1 << shift;
                let last = (1u64 << 48) - reach;
                for first in [0, reach, last] {
                    let hint = Hint::new(&geometry, first, level, table);
                    assert_eq!(hint.above(), 3 - level);
                    assert_eq!(hint.table(first, shift), Some(table));
                    assert_eq!(hint.table(first + reach - 1, shift), Some(table));
                    assert_eq!(hint.table(first + reach, shift), None);
                    assert_eq!(hint.table(first.wrapping_sub(1), shift), None);
                }
            }
            assert_eq!(Hint::new(&geometry, 0, 1, table), Hint::NONE);
            assert_eq!(Hint::NONE.table(0, 21), None);
        }
    }
}

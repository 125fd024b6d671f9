//! Ring arithmetic, apart from any ring.
//!
//! The registers hold an index and, above it, a bit that flips at each wrap
//! (IHI 0070 §3.5.1): same index and same bit is empty, same index and different
//! bits is full. That tells two positions apart only if they are within one lap of
//! each other. Software that several CPUs run cannot promise that of a value read a
//! while ago, so positions are counted in 64 bits here and never wrap; registers
//! are made from them, and are turned back by where they must be.

/// The shape of a ring of 2^`log2` entries.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ring {
    // One less than how many, which is what is needed most.
    mask: u64,
}

impl Ring {
    pub const fn new(log2: u32) -> Self {
        // Index and wrap bit share the 20 bits of a register.
        assert!(log2 < 20);
        let mask = (1 << log2) - 1;
        Self { mask }
    }

    pub const fn log2(self) -> u32 {
        self.mask.count_ones()
    }

    pub const fn capacity(self) -> u64 {
        self.mask + 1
    }

    /// Where in memory a position is, counted in entries.
    pub const fn slot(self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// How often the ring was gone through up to a position, this time included; all
    /// that matters of it is the difference to other laps.
    pub const fn lap(self, position: u64) -> u32 {
        ((position >> self.log2()) as u32).wrapping_add(1)
    }

    /// A position as a register shows it: index and wrap bit.
    pub const fn register(self, position: u64) -> u32 {
        (position & (2 * self.capacity() - 1)) as u32
    }

    /// The position that a register shows, which is `known` or up to one lap after
    /// it; `None` if the register shows anything else.
    pub const fn position(self, known: u64, register: u32) -> Option<u64> {
        let register = register as u64;
        if register >= 2 * self.capacity() {
            return None;
        }
        let ahead = register.wrapping_sub(known) & (2 * self.capacity() - 1);
        if ahead > self.capacity() {
            return None;
        }
        Some(known + ahead)
    }

    /// How many entries may be produced at `produced` while the consumer is known
    /// to have reached `consumed`: none where that is known from long ago.
    pub const fn free(self, produced: u64, consumed: u64) -> u64 {
        self.capacity().saturating_sub(produced - consumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn registers_are_index_and_wrap_bit() {
        let ring = Ring::new(3);
        assert_eq!(ring.register(0), 0b0_000);
        assert_eq!(ring.register(7), 0b0_111);
        assert_eq!(ring.register(8), 0b1_000);
        assert_eq!(ring.register(15), 0b1_111);
        assert_eq!(ring.register(16), 0b0_000);
        assert_eq!(ring.slot(13), 5);
    }

    #[test]
    fn one_entry_is_a_ring_too() {
        let ring = Ring::new(0);
        assert_eq!([0, 1, 2, 3].map(|at| ring.register(at)), [0, 1, 0, 1]);
        assert_eq!(ring.slot(3), 0);
        assert_eq!(ring.position(1, 0), Some(2));
        assert_eq!(ring.free(1, 0), 0);
    }

    #[test]
    fn a_register_beyond_the_wrap_bit_is_no_position() {
        assert_eq!(Ring::new(3).position(0, 16), None);
        assert_eq!(Ring::new(3).position(0, u32::MAX), None);
        assert_eq!(Ring::new(3).position(4, 3), None, "going back");
    }

    #[test]
    fn laps_count_from_one_and_wrap() {
        let ring = Ring::new(3);
        assert_eq!([0, 7, 8, 15, 16].map(|at| ring.lap(at)), [1, 1, 2, 2, 3]);
        let last = u64::from(u32::MAX) << 3;
        assert_eq!([last, last + 8].map(|at| ring.lap(at)), [0, 1]);
    }

    proptest! {
        /// Against the architecture's own words (§3.5.1): full is same index with
        /// different wrap bits, empty is same index with same wrap bits.
        #[test]
        fn full_and_empty_are_the_manuals(
            log2 in 0u32..20,
            consumed in 0u64..1 << 40,
            fill in 0u64..=1 << 19,
        ) {
            let ring = Ring::new(log2);
            let produced = consumed + fill % (ring.capacity() + 1);
            let (rd, wr) = (ring.register(consumed), ring.register(produced));
            let mask = (1 << log2) - 1;
            let same_index = rd & mask == wr & mask;
            let same_wrap = rd >> log2 == wr >> log2;
            prop_assert_eq!(produced == consumed, same_index && same_wrap);
            prop_assert_eq!(ring.free(produced, consumed) == 0, same_index && !same_wrap);
            prop_assert_eq!(ring.position(consumed, wr), Some(produced));
        }

        #[test]
        fn only_a_lap_ahead_is_believed(log2 in 0u32..20, known in 0u64..1 << 40, register: u32) {
            let ring = Ring::new(log2);
            if let Some(position) = ring.position(known, register) {
                prop_assert!(position >= known && position - known <= ring.capacity());
                prop_assert_eq!(ring.register(position), register);
            }
        }
    }
}

//! Circular queues: a base with a size, and two indices with a wrap bit each
//! (IHI 0070 §3.5.1).

use super::regs::BASE_ADDRESS;

/// No queue is longer than 2^19 entries.
const MOST: u32 = 19;

/// A queue's base register, decoded.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Queue {
    pub base: u64,
    /// log2 of the number of entries, as it is programmed.
    pub bits: u32,
    /// Bytes in an entry.
    pub entry: u64,
}

impl Queue {
    pub fn new(register: u64, entry: u64) -> Self {
        Self {
            base: register & BASE_ADDRESS,
            bits: (register & 0x1f) as u32,
            entry,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.entry << self.bits
    }

    fn entries(&self) -> u32 {
        1 << self.bits.min(MOST)
    }

    /// Index and wrap bit; all above is ignored.
    pub fn masked(&self, index: u32) -> u32 {
        index & (2 * self.entries() - 1)
    }

    pub fn address(&self, index: u32) -> u64 {
        self.base + u64::from(index & (self.entries() - 1)) * self.entry
    }

    /// The index after this one: past the last entry the wrap bit toggles.
    pub fn next(&self, index: u32) -> u32 {
        self.masked(index + 1)
    }

    /// Entries from `cons` to `prod`, or `None` for an inconsistent pair.
    pub fn used(&self, prod: u32, cons: u32) -> Option<u32> {
        let used = self.masked(prod.wrapping_sub(cons));
        (used <= self.entries()).then_some(used)
    }

    pub fn is_full(&self, prod: u32, cons: u32) -> bool {
        self.used(prod, cons) == Some(self.entries())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_empty_differ_in_the_wrap_bit_only() {
        let queue = Queue::new(0x1000 | 3, 16);
        assert_eq!(queue.used(0, 0), Some(0));
        assert_eq!(queue.used(8, 0), Some(8));
        assert_eq!(queue.used(0, 8), Some(8));
        assert!(queue.is_full(13, 5) && !queue.is_full(5, 5));
        assert_eq!(queue.used(2, 14), Some(4));
        // PROD behind CONS with equal wrap bits is one of the forbidden states.
        assert_eq!(queue.used(2, 5), None);
        assert_eq!(queue.next(15), 0);
        assert_eq!(queue.address(9), 0x1010);
    }

    #[test]
    fn a_queue_of_one_entry_has_only_a_wrap_bit() {
        let queue = Queue::new(0x1000, 16);
        assert_eq!(queue.next(0), 1);
        assert_eq!(queue.next(1), 0);
        assert!(queue.is_full(1, 0));
        assert_eq!(queue.address(1), 0x1000);
    }
}

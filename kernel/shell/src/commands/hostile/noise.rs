//! Bytes that are nowhere else: what is found of them later came from here.

use alloc::vec::Vec;

/// A source of noise (xorshift64, Marsaglia, 2003).
pub struct Noise(u64);

impl Noise {
    /// Another one for each seed.
    pub fn new(seed: u64) -> Self {
        // Spread over all bits; the state must not be 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// So many bytes, none of them 0.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let byte = || (self.next() >> 56) as u8 | 1;
        core::iter::repeat_with(byte).take(len).collect()
    }
}

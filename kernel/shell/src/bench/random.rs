//! Numbers that look random and are the same in every boot: a xorshift generator, so
//! simple that whoever checks from outside what was read can have it too.

/// The generator.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// The next number below `end`, unless that is 0.
    #[inline]
    pub fn below(&mut self, end: u64) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.checked_rem(end)
    }
}

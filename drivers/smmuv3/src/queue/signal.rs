//! Syncs that say by a message that they are complete (IHI 0070 §4.7.3): the hardware
//! writes to a word of memory, and whoever waits looks there instead of at a register
//! of the far side. Each slot of the ring has a word of its own, and what is written
//! is the lap, so that a word tells a sync from those before it in the same slot.

use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Platform};

use super::ring::Ring;
use crate::memory::{Memory, Reach};
use crate::spec::Command;

/// The hardware writes four bytes of each; the others stay 0.
const WORD: usize = 8;

pub(crate) struct Signals<P: Platform> {
    ring: Ring,
    words: Memory<P>,
    platform: P,
}

impl<P: Platform> Signals<P> {
    pub fn new(platform: &P, reach: Reach, ring: Ring) -> Result<Self, Fault> {
        let bytes = ring.capacity() * WORD as u64;
        let words = Memory::new(platform, reach, bytes, 64)?;
        words.zero(bytes as usize);
        Ok(Self {
            ring,
            words,
            platform: platform.clone(),
        })
    }

    /// The sync for a position.
    #[inline]
    pub fn sync(&self, position: u64) -> Command {
        let word = self.words.pa() + (self.ring.slot(position) * WORD) as u64;
        Command::sync_telling(word, self.ring.lap(position))
    }

    /// Whether the sync at a position is complete. Others may have been since, in the
    /// same slot.
    #[inline]
    pub fn is_complete(&self, position: u64) -> bool {
        let seen = self.words.load(self.ring.slot(position) * WORD) as u32;
        let since = seen.wrapping_sub(self.ring.lap(position));
        if since > u32::MAX / 2 {
            return false;
        }
        // What the sync is about is looked at only after it.
        self.platform.barrier(Barrier::Acquire);
        true
    }
}

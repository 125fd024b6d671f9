//! Syncs that say by a message that they are complete (IHI 0070 §4.7.3): the hardware
//! writes to a word of memory, and whoever waits looks there instead of at a register
//! of the far side. Each slot of the ring has a word of its own, and what is written
//! is the lap, so that a word tells a sync from those before it in the same slot.

use core::sync::atomic::{AtomicU64, Ordering};

use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Platform};

use super::ring::Ring;
use crate::memory::{Memory, Reach};
use crate::spec::Command;

/// The hardware writes four bytes of each; the others stay 0.
const WORD: usize = 8;

pub(crate) struct Signals<P: Platform> {
    ring: Ring,
    // Always there, until `drop` decides whether it may be freed.
    words: Option<Memory<P>>,
    platform: P,
    // Behind the last sync that was seen to be complete without its message; 0 once a
    // later one told, since they are in order.
    owed: AtomicU64,
}

impl<P: Platform> Signals<P> {
    pub fn new(platform: &P, reach: &Reach, ring: Ring) -> Result<Self, Fault> {
        let bytes = ring.capacity() * WORD as u64;
        let words = Memory::new(platform, reach, bytes, 64)?;
        words.zero(bytes as usize);
        Ok(Self {
            ring,
            words: Some(words),
            platform: platform.clone(),
            owed: AtomicU64::new(0),
        })
    }

    /// The sync for a position.
    #[inline]
    pub fn sync(&self, position: u64) -> Command {
        let base = self.words.as_ref().map_or(0, Memory::pa);
        let word = base + (self.ring.slot(position) * WORD) as u64;
        Command::sync_telling(word, self.ring.lap(position))
    }

    /// The sync at a position told, or it did not when it should have.
    #[inline]
    pub fn note(&self, position: u64, told: bool) {
        let owed = self.owed.load(Ordering::Relaxed);
        if !told {
            self.owed.fetch_max(position + 1, Ordering::Relaxed);
        } else if owed != 0 && owed <= position {
            // Whoever was faster owes more.
            let order = Ordering::Relaxed;
            let _ = self.owed.compare_exchange(owed, 0, order, order);
        }
    }

    /// Whether the sync at a position is complete. Others may have been since, in the
    /// same slot.
    #[inline]
    pub fn is_complete(&self, position: u64) -> bool {
        let slot = self.ring.slot(position) * WORD;
        let seen = self.words.as_ref().map_or(0, |words| words.load(slot)) as u32;
        let since = seen.wrapping_sub(self.ring.lap(position));
        if since > u32::MAX / 2 {
            return false;
        }
        // What the sync is about is looked at only after it.
        self.platform.barrier(Barrier::Acquire);
        true
    }
}

/// A message that nobody has seen may still be under way to its word.
impl<P: Platform> Drop for Signals<P> {
    fn drop(&mut self) {
        if self.owed.load(Ordering::Relaxed) != 0
            && let Some(words) = self.words.take()
        {
            words.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::tests::qemu;
    use mastiff_testkit::Sim;

    /// Whether the words are given up, after these have told or have not.
    fn quarantined(notes: &[(u64, bool)]) -> bool {
        let (sim, reach) = (Sim::new(), Reach::new(&qemu(), true));
        let signals = Signals::new(&sim, &reach, Ring::new(2)).unwrap();
        for &(position, told) in notes {
            signals.note(position, told);
        }
        drop(signals);
        sim.memory().quarantined() == 1
    }

    #[test]
    fn only_a_later_sync_vouches_for_one_that_did_not_tell() {
        assert!(!quarantined(&[]) && !quarantined(&[(5, true)]));
        for lost in [0, 5] {
            assert!(quarantined(&[(lost, false)]));
            assert!(!quarantined(&[(lost, false), (lost + 1, true)]));
            assert!(quarantined(&[(lost, false), (lost + 1, true), (9, false)]));
        }
        // Seen in another order by another CPU.
        assert!(quarantined(&[(5, false), (4, true), (2, true)]));
        assert!(quarantined(&[(5, false), (3, false), (4, true)]));
    }

    #[test]
    fn whoever_looks_late_still_sees_that_it_is_complete() {
        let (ring, reach) = (Ring::new(2), Reach::new(&qemu(), true));
        let signals = Signals::new(&Sim::new(), &reach, ring).unwrap();
        let told = |position| {
            let word = signals.words.as_ref().unwrap();
            word.store(ring.slot(position) * WORD, ring.lap(position).into());
        };
        let complete = |position| signals.is_complete(position);
        // Position 5 is in the slot of 1 and 9, a lap between each.
        assert!(!complete(1));
        told(1);
        assert!(complete(1) && !complete(5) && !complete(9) && !complete(2));
        told(9);
        assert!(complete(1) && complete(5) && complete(9) && !complete(13));
        // Half of all laps are later, and half are earlier.
        told(1 + (0x8000_0000 << 2));
        assert!(!complete(1) && complete(1 + (1 << 2)) && !complete(9 + (0x8000_0000 << 2)));
    }
}

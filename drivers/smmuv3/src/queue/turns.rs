//! Many CPUs fill one ring, and one index tells the hardware how far. Each reserves
//! slots by a compare-exchange, fills them, and says so; whoever then finds the index at
//! its place moves it past all that is filled by now, its own and others'. Nobody waits
//! for anybody, and the index moves in order, by one CPU at a time.
//!
//! Apart from any memory and any register, and with atomics that come from outside, so
//! that loom can go through every interleaving (`tests/loom.rs`).

use alloc::boxed::Box;

use super::atomic::{AtomicU64, Ordering, fence};
use super::ring::Ring;

/// Beside where a batch ends: it ends with a sync.
const SYNC: u64 = 1;
/// Beside how far was shown: somebody is about to show more.
const BUSY: u64 = 1;

pub(crate) struct Turns {
    ring: Ring,
    // Where the next reservation begins.
    next: AtomicU64,
    // INVARIANT: never beyond what the hardware has consumed.
    consumed: AtomicU64,
    // By the slot that it begins in, where a batch that is filled ends, times two, and
    // whether with a sync. What an earlier lap left is not beyond the position.
    ends: Box<[AtomicU64]>,
    // How far the hardware was told to go, times two, and whether somebody is at it. Who
    // is writes the two below as well.
    shown: AtomicU64,
    syncs: AtomicU64,
    // Behind the last sync that the hardware was told of, and behind the one before.
    synced: AtomicU64,
    earlier: AtomicU64,
}

/// Positions of a ring, one after the other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub first: u64,
    pub end: u64,
}

impl Turns {
    pub fn new(ring: Ring) -> Self {
        let ends = (0..ring.capacity()).map(|_| AtomicU64::new(0));
        Self {
            ring,
            next: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            ends: ends.collect(),
            shown: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            earlier: AtomicU64::new(0),
        }
    }

    /// Takes what was reserved so far for consumed. Nobody else is at work.
    pub fn give_up(&self) -> u64 {
        let next = self.next.load(Ordering::Acquire);
        self.consumed.store(next, Ordering::Release);
        self.synced.store(next, Ordering::Release);
        self.earlier.store(next, Ordering::Release);
        self.shown.store(next << 1, Ordering::Release);
        next
    }

    /// How much was reserved so far, and how many syncs the hardware was told of.
    pub fn issued(&self) -> (u64, u64) {
        let next = self.next.load(Ordering::Relaxed);
        (next, self.syncs.load(Ordering::Relaxed))
    }

    /// How far the hardware is known to be.
    #[inline]
    pub fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Acquire)
    }

    /// The hardware is so far at least.
    #[inline]
    pub fn note_consumed(&self, position: u64) {
        self.consumed.fetch_max(position, Ordering::AcqRel);
    }

    /// How far the hardware was told to go.
    pub fn shown(&self) -> u64 {
        self.shown.load(Ordering::Acquire) >> 1
    }

    /// Behind the last sync that the hardware was told of.
    #[inline]
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Behind the sync before that.
    #[inline]
    pub fn synced_earlier(&self) -> u64 {
        self.earlier.load(Ordering::Acquire)
    }

    /// Reserves `most` positions or as many as are free, but at least `least`.
    #[inline(always)]
    pub fn reserve(&self, most: u64, least: u64) -> Option<Extent> {
        loop {
            // In this order: what is consumed was reserved before.
            let consumed = self.consumed.load(Ordering::Acquire);
            let first = self.next.load(Ordering::Relaxed);
            let count = most.min(self.ring.free(first, consumed));
            if count < least {
                return None;
            }
            let end = first + count;
            let (won, lost) = (Ordering::Relaxed, Ordering::Relaxed);
            if self
                .next
                .compare_exchange_weak(first, end, won, lost)
                .is_ok()
            {
                return Some(Extent { first, end });
            }
        }
    }

    /// Where the batch at a position ends, if it is filled, and whether with a sync.
    #[inline(always)]
    fn filled(&self, position: u64) -> Option<(u64, u64)> {
        let slot = self.ring.slot(position);
        let end = self.ends.get(slot)?.load(Ordering::Acquire);
        (end >> 1 > position).then_some((end >> 1, end & SYNC))
    }

    /// What was reserved is filled, and the hardware would see it: `show` is called with
    /// how far it may go, by this CPU or by one that is at it. Says whether by this one.
    #[inline(always)]
    pub fn fill(&self, extent: Extent, sync: bool, show: impl Fn(u64)) -> bool {
        let Extent { first, end } = extent;
        let (won, lost) = (Ordering::Acquire, Ordering::Relaxed);
        let idle = first << 1;
        let alone = self.shown.compare_exchange(idle, idle | BUSY, won, lost);
        if alone.is_err() {
            return self.fill_among_others(extent, sync, &show);
        }
        // All before is shown, so this is next.
        if sync {
            self.note_sync(end);
        }
        show(end);
        if self.leave(end) {
            self.show_more(&show);
        }
        true
    }

    /// Says what is filled to whoever gets there.
    #[cold]
    fn fill_among_others(&self, extent: Extent, sync: bool, show: &impl Fn(u64)) -> bool {
        let end = extent.end << 1 | u64::from(sync);
        if let Some(place) = self.ends.get(self.ring.slot(extent.first)) {
            place.store(end, Ordering::Release);
        }
        // Either it is seen from here, or by whoever is at it, after it was done.
        fence(Ordering::SeqCst);
        self.show_more(show) >= extent.end
    }

    /// Shows what is filled, unless somebody is at it; how far this CPU got, or 0.
    #[cold]
    fn show_more(&self, show: &impl Fn(u64)) -> u64 {
        let mut done = 0;
        let mut shown = self.shown.load(Ordering::Relaxed);
        while shown & BUSY == 0 {
            let (won, lost) = (Ordering::Acquire, Ordering::Relaxed);
            let busy = shown | BUSY;
            if let Err(now) = self.shown.compare_exchange(shown, busy, won, lost) {
                shown = now;
                continue;
            }
            let end = self.show_from(shown >> 1, show);
            if end > shown >> 1 {
                done = end;
            }
            if !self.leave(end) {
                break;
            }
            shown = self.shown.load(Ordering::Relaxed);
        }
        done
    }

    /// Shows all that is filled from `from` on; how far that is.
    fn show_from(&self, from: u64, show: &impl Fn(u64)) -> u64 {
        let mut end = from;
        while let Some((next, sync)) = self.filled(end) {
            end = next;
            if sync != 0 {
                self.note_sync(next);
            }
        }
        if end != from {
            show(end);
        }
        end
    }

    /// A sync is shown, before `end`.
    #[inline(always)]
    fn note_sync(&self, end: u64) {
        let before = self.syncs.load(Ordering::Relaxed);
        self.syncs.store(before + 1, Ordering::Relaxed);
        let last = self.synced.load(Ordering::Relaxed);
        self.earlier.store(last, Ordering::Relaxed);
        self.synced.store(end, Ordering::Release);
    }

    /// Lets others at it; whether there is more by now that nobody may be at.
    #[inline(always)]
    fn leave(&self, end: u64) -> bool {
        self.shown.store(end << 1, Ordering::Release);
        fence(Ordering::SeqCst);
        self.filled(end).is_some()
    }
}

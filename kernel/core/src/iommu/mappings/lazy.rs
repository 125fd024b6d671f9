//! Lazy unmapping: what is unmapped is out of the tables at once, and out of what an
//! IOMMU cached only later, many ranges at a time. Until then a device may reach what
//! it was lent by such a translation, so no address is handed out again before.
//!
//! Each CPU has a queue of its own. It is flushed when it is full or when what is in it
//! for longest is due, by whoever unmaps then (who looks at the clock now and then) or
//! by whoever [waits](crate::chores). A
//! range leaves the queue only when an invalidation that came after it is complete; if
//! that fails it stays, and when a queue has no room any more unmapping fails as it
//! does where it is strict.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::dma::Slot;
use crate::error::Fault;
use crate::platform::Instant;
use crate::sync::Mutex;

/// Ranges that a CPU's queue has room for.
const RANGES: usize = 256;
/// How many ranges come between two looks at the clock.
const LOOK: usize = 16;
/// How long a device may at most reach what was unmapped lazily, if somebody looks.
pub const PATIENCE_US: u64 = 10_000;

/// What is out of the tables and may still be cached.
#[derive(Copy, Clone, Debug)]
pub(super) struct Late {
    pub slot: Slot,
    pub len: u64,
}

/// A queue for each CPU.
pub(super) struct Lazy {
    queues: Box<[Mutex<Queue>]>,
}

struct Queue {
    // Never more than there was room for at first.
    ranges: Vec<Late>,
    // How many ever left.
    gone: u64,
    // When the first one has been here long enough.
    due: Instant,
}

/// What is to be done once a range is in its queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Nothing,
    Flush,
}

impl Lazy {
    pub fn new(cpus: usize) -> Self {
        let queue = || {
            Mutex::new(Queue {
                ranges: Vec::with_capacity(RANGES),
                gone: 0,
                due: Instant(u64::MAX),
            })
        };
        Self {
            queues: (0..cpus.max(1)).map(|_| queue()).collect(),
        }
    }

    /// Notes what is out of the tables; gives it back if there is no room.
    #[inline(always)]
    pub fn put(&self, cpu: usize, now: impl FnOnce() -> Instant, late: Late) -> Result<Next, Late> {
        let mut queue = self.queue(cpu).lock();
        let count = queue.ranges.len();
        if count >= RANGES {
            return Err(late);
        }
        queue.ranges.push(late);
        if count.is_multiple_of(LOOK) {
            let now = now();
            if count == 0 {
                queue.due = now.after_us(PATIENCE_US);
            } else if now >= queue.due {
                return Ok(Next::Flush);
            }
        }
        Ok(if count + 1 == RANGES {
            Next::Flush
        } else {
            Next::Nothing
        })
    }

    /// When the next queue is to be flushed, if there is anything in any; those that are
    /// due are named to `act`.
    pub fn due(&self, now: Instant, mut act: impl FnMut(usize)) -> Option<Instant> {
        for (cpu, queue) in self.queues.iter().enumerate() {
            let due = queue.lock().due;
            if due <= now {
                act(cpu);
            }
        }
        let dues = self.queues.iter().map(|queue| queue.lock().due);
        dues.min().filter(|due| *due != Instant(u64::MAX))
    }

    /// Lets everything go that is in a queue, once `invalidate` is done with it. No lock
    /// is held meanwhile: what comes in then waits for the next time.
    pub fn flush(
        &self,
        cpu: usize,
        invalidate: impl FnOnce() -> Result<(), Fault>,
        release: impl FnOnce(&[Late]),
    ) -> Result<(), Fault> {
        let queue = self.queue(cpu);
        let end = {
            let queue = queue.lock();
            if queue.ranges.is_empty() {
                return Ok(());
            }
            queue.gone + queue.ranges.len() as u64
        };
        invalidate()?;
        let mut queue = queue.lock();
        // Another CPU may have been here in between.
        let ended = end.saturating_sub(queue.gone) as usize;
        release(&queue.ranges[..ended]);
        queue.ranges.drain(..ended);
        queue.gone += ended as u64;
        if queue.ranges.is_empty() {
            queue.due = Instant(u64::MAX);
        }
        Ok(())
    }

    /// How many queues there are.
    pub fn cpus(&self) -> usize {
        self.queues.len()
    }

    #[inline(always)]
    fn queue(&self, cpu: usize) -> &Mutex<Queue> {
        // There are as many as CPUs; whoever counts otherwise shares the first.
        self.queues.get(cpu).unwrap_or(&self.queues[0])
    }
}

#[cfg(all(test, loom))]
mod interleaved {
    //! Every order of two CPUs, one of which unmaps while the other flushes.

    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    /// How many ranges are out of the tables, were out of them when the last invalidation
    /// began, and went.
    #[derive(Default)]
    struct Seen {
        cleared: AtomicUsize,
        ended: AtomicUsize,
        released: AtomicUsize,
    }

    fn flush(lazy: &Lazy, seen: &Seen) {
        let invalidate = || {
            let cleared = seen.cleared.load(Ordering::SeqCst);
            seen.ended.fetch_max(cleared, Ordering::SeqCst);
            Ok(())
        };
        let release = |ended: &[Late]| {
            // The n-th range is only ended by an invalidation that came after n.
            for late in ended {
                assert!(seen.ended.load(Ordering::SeqCst) as u64 >= late.len);
                seen.released.fetch_add(1, Ordering::SeqCst);
            }
        };
        lazy.flush(0, invalidate, release).expect("it cannot fail");
    }

    #[test]
    fn a_range_goes_once_and_after_its_invalidation() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Arc::new((Lazy::new(1), Seen::default()));
            let other = shared.clone();
            let idle = thread::spawn(move || {
                let (lazy, seen) = &*other;
                flush(lazy, seen);
            });
            let (lazy, seen) = &*shared;
            for len in 1..=2 {
                seen.cleared.fetch_add(1, Ordering::SeqCst);
                let slot = Slot::new(0);
                let next = lazy.put(0, || Instant(0), Late { slot, len });
                assert_eq!(next.map_err(|_| ()), Ok(Next::Nothing));
            }
            flush(lazy, seen);
            idle.join().unwrap();
            assert_eq!(seen.released.load(Ordering::SeqCst), 2);
        });
    }
}

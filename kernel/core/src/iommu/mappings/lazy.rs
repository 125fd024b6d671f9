//! Lazy unmapping: what is unmapped is out of the tables at once, and out of what an
//! IOMMU cached only later, many ranges at a time. Until then a device may reach what
//! it was lent by such a translation, so no address is handed out again before.
//!
//! Each CPU has a queue of its own. It is flushed when it is full or when what is in it
//! for longest is due, by whoever unmaps next or by whoever [waits](crate::chores). A
//! range leaves the queue only when an invalidation that came after it is complete; if
//! that fails it stays, and when a queue has no room any more unmapping fails as it
//! does where it is strict.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use spin::Mutex;

use crate::dma::Slot;
use crate::error::Fault;
use crate::platform::Instant;

/// Ranges that a CPU's queue has room for.
pub(crate) const RANGES: usize = 256;
/// How long a range may be in a queue.
pub(crate) const PATIENCE_US: u64 = 10_000;

/// What is out of the tables and may still be cached.
#[derive(Copy, Clone)]
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
    ranges: VecDeque<Late>,
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
                ranges: VecDeque::with_capacity(RANGES),
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
    pub fn put(&self, cpu: usize, now: Instant, late: Late) -> Result<Next, Late> {
        let mut queue = self.queue(cpu).lock();
        let count = queue.ranges.len();
        if count >= RANGES {
            return Err(late);
        }
        if count == 0 {
            queue.due = now.after_us(PATIENCE_US);
        }
        queue.ranges.push_back(late);
        Ok(if count + 1 == RANGES || now >= queue.due {
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
        mut release: impl FnMut(Late),
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
        while queue.gone < end
            && let Some(late) = queue.ranges.pop_front()
        {
            queue.gone += 1;
            release(late);
        }
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

//! The event queue: the hardware produces, software consumes and says so.

use alloc::sync::Arc;

use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Platform};

use super::ring::Ring;
use crate::memory::{Memory, Reach};
use crate::spec::Event;
use crate::spec::registers as regs;
use crate::window::Window;

/// How many events a queue is made for: more than a master raises that faults on
/// every word of a page, so that none is lost.
const LOG2: u32 = 11;

pub(crate) struct EventQueue<P: Platform> {
    ring: Ring,
    memory: Memory<P>,
    window: Arc<Window<P>>,
    platform: P,
    next: u64,
    overflow: u32,
}

/// What was in the queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    /// Events that were copied out.
    pub count: usize,
    /// Events were lost since the last time.
    pub overflowed: bool,
}

impl<P: Platform> EventQueue<P> {
    pub fn new(
        platform: &P,
        window: Arc<Window<P>>,
        reach: &Reach,
        limit: u32,
    ) -> Result<Self, Fault> {
        let ring = Ring::new(LOG2.min(limit));
        let bytes = ring.capacity() * Event::BYTES as u64;
        Ok(Self {
            ring,
            memory: Memory::new(platform, reach, bytes, 32)?,
            window,
            platform: platform.clone(),
            next: 0,
            overflow: 0,
        })
    }

    /// Tells the hardware where the queue is, and that it is empty. Only while it is
    /// disabled.
    pub fn install(&mut self) {
        let base = regs::QUEUE_BASE::ALLOCATE::SET
            + regs::QUEUE_BASE::ADDR.val(self.memory.pa() >> 5)
            + regs::QUEUE_BASE::LOG2SIZE.val(self.ring.log2().into());
        let index = self.ring.register(self.next);
        self.overflow = 0;
        self.window.write64(regs::EVENTQ_BASE, base);
        self.window.write(regs::EVENTQ_PROD, index);
        self.window.write(regs::EVENTQ_CONS, index);
    }

    pub fn capacity(&self) -> usize {
        self.ring.capacity() as usize
    }

    /// Takes up to `into.len()` events out, and acknowledges an overflow
    /// (IHI 0070 §7.4).
    pub fn take(&mut self, into: &mut [Event]) -> Taken {
        let prod = self.window.read(regs::EVENTQ_PROD);
        let produced = self
            .ring
            .position(self.next, prod.read(regs::EVENTQ_PROD::WR));
        let waiting = (produced.unwrap_or(self.next) - self.next) as usize;
        let count = waiting.min(into.len());
        if count == 0 {
            // Only a queue that is full overflows.
            return Taken {
                count,
                overflowed: false,
            };
        }
        let overflow = prod.read(regs::EVENTQ_PROD::OVFLG);
        let overflowed = overflow != self.overflow;
        // The index first, then the records that it covers.
        self.platform.barrier(Barrier::Acquire);
        for event in &mut into[..count] {
            let offset = self.ring.slot(self.next) * Event::BYTES;
            self.memory.refresh(offset, Event::BYTES);
            *event = Event(self.memory.load_words(offset));
            self.next += 1;
        }
        self.overflow = overflow;
        // The records are read before the hardware may overwrite them.
        self.platform.barrier(Barrier::Full);
        let cons = regs::EVENTQ_CONS::RD.val(self.ring.register(self.next))
            + regs::EVENTQ_CONS::OVACKFLG.val(overflow);
        self.window.write(regs::EVENTQ_CONS, cons);
        Taken { count, overflowed }
    }
}

//! The event queue: buffers that the device writes faults into. Every buffer goes
//! back to the device as soon as its fault is read; while none is there the device
//! drops what it would report.

use mastiff_core::dma::Dma;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use crate::queue::{Piece, Queue, Shared};
use crate::spec::event::{self, Event};
use crate::transport::{Doorbell, Transport};

/// The event queue's number (virtio §5.13.2).
pub(crate) const QUEUE: u16 = 1;
/// Buffers that are asked for.
pub(crate) const SIZE: u16 = 64;

/// A buffer, in lines of its own where the machine is not coherent.
const SLOT: usize = 64;
const _: () = assert!(event::LEN <= SLOT);

pub(crate) struct Events<P: Platform> {
    pub queue: Queue<P>,
    slots: Shared<P>,
    pub doorbell: Option<Doorbell>,
}

impl<P: Platform> Events<P> {
    pub fn new(platform: &P, dma: &Dma<P>) -> Result<Self, Fault> {
        Ok(Self {
            queue: Queue::new(platform, dma, SIZE)?,
            slots: dma.alloc(u64::from(SIZE) * SLOT as u64)?,
            doorbell: None,
        })
    }

    /// The memory that the device uses.
    pub fn memory(&self) -> impl Iterator<Item = &Shared<P>> {
        [self.queue.memory(), &self.slots].into_iter()
    }

    /// The device cannot be stopped: what it uses is quarantined.
    pub fn park(&mut self) {
        self.queue.memory_mut().park();
        self.slots.park();
    }

    /// Gives all buffers to the device, which was reset and is ready now.
    pub fn fill(&mut self, transport: &Transport<P>) {
        for slot in 0..self.queue.size() {
            self.give(slot);
        }
        self.publish(transport);
    }

    /// Takes a fault out. Its buffer is the device's again with the next
    /// [`publish`](Self::publish).
    pub fn take(&mut self) -> Option<Result<Event, Fault>> {
        let (head, len) = self.queue.take()?;
        let bad = |status, code: u32| {
            Some(Err(Fault::Device {
                during: "use of the event queue",
                status,
                code: code.into(),
            }))
        };
        let slot = match u16::try_from(head) {
            Ok(slot) if slot < self.queue.size() => slot,
            _ => return bad("a buffer came back that does not exist", head),
        };
        let mut bytes = [0; event::LEN];
        self.slots.read(usize::from(slot) * SLOT, &mut bytes);
        self.give(slot);
        if (len as usize) < event::LEN {
            return bad("an event is too short", len);
        }
        Some(Ok(Event::decode(&bytes)))
    }

    /// Lets the device have what was given to it.
    pub fn publish(&mut self, transport: &Transport<P>) {
        if self.queue.publish()
            && let Some(doorbell) = self.doorbell
        {
            transport.notify(doorbell);
        }
    }

    fn give(&mut self, slot: u16) {
        let address = self.slots.iova().0 + u64::from(slot) * SLOT as u64;
        let piece = Piece {
            address,
            len: event::LEN as u32,
            write: true,
        };
        self.queue.describe(slot, &[piece]);
        self.queue.offer(slot);
    }
}

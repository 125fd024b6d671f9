//! The request queue: requests go out in batches with one notification, and whoever
//! asks waits for the answers, a bounded time. Nothing is under way between two
//! batches, so each finds every descriptor free.

use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::dma::Dma;
use mastiff_core::error::Fault;
use mastiff_core::iommu::Reserved;
use mastiff_core::platform::Platform;

use crate::patience;
use crate::queue::{Piece, Queue, Shared};
use crate::spec::property;
use crate::spec::request::{LONGEST, Request, TAIL};
use crate::transport::{Doorbell, Transport};

/// The request queue's number (virtio §5.13.2).
pub(crate) const QUEUE: u16 = 0;
/// Descriptors that are asked for: two for each request of a batch.
pub(crate) const SIZE: u16 = 2 * BATCH as u16;
/// Requests of a batch, at most.
const BATCH: usize = 16;

/// How long a batch may take.
const BATCH_US: u64 = 1_000_000;

/// Where a request of a batch is: what the device reads, and apart from it, for the
/// sake of machines that are not coherent, what it writes.
const SLOT: usize = 256;
const SLOT_TAIL: usize = 128;
const _: () = assert!(LONGEST <= SLOT_TAIL && SLOT_TAIL + TAIL <= SLOT);

/// What the status reads while the device has not written one.
const NO_STATUS: u8 = 0xff;

pub(crate) struct Requests<P: Platform> {
    platform: P,
    pub queue: Queue<P>,
    slots: Shared<P>,
    // What PROBE gives, where the device has it.
    answer: Option<Shared<P>>,
    pub doorbell: Option<Doorbell>,
    pub sent: u64,
    pub notifications: u64,
    broken: bool,
}

impl<P: Platform> Requests<P> {
    pub fn new(platform: &P, dma: &Dma<P>) -> Result<Self, Fault> {
        Ok(Self {
            platform: platform.clone(),
            queue: Queue::new(platform, dma, SIZE)?,
            slots: dma.alloc((BATCH * SLOT) as u64)?,
            answer: None,
            doorbell: None,
            sent: 0,
            notifications: 0,
            broken: false,
        })
    }

    /// Starts afresh with a queue of `size`: the device was reset.
    pub fn clear(&mut self, size: u16) -> Result<(), Fault> {
        if size < 2 {
            return Err(Fault::Unsupported {
                what: "a request queue that has no room for a request (size)",
                seen: size.into(),
            });
        }
        self.queue.clear(size, true);
        self.broken = false;
        Ok(())
    }

    /// Makes room for what PROBE gives.
    pub fn allow_probe(&mut self, dma: &Dma<P>, probe_size: u32) -> Result<(), Fault> {
        let need = u64::from(probe_size) + TAIL as u64;
        if self
            .answer
            .as_ref()
            .is_none_or(|answer| (answer.len() as u64) < need)
        {
            self.answer = Some(dma.alloc(need)?);
        }
        Ok(())
    }

    /// Whether the device stopped answering.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The memory that the device uses.
    pub fn memory(&self) -> impl Iterator<Item = &Shared<P>> {
        [self.queue.memory(), &self.slots]
            .into_iter()
            .chain(&self.answer)
    }

    /// The device cannot be stopped: what it uses is quarantined.
    pub fn park(&mut self) {
        let own = [self.queue.memory_mut(), &mut self.slots].into_iter();
        own.chain(&mut self.answer).for_each(Shared::park);
    }

    /// Has the device do all of these, and waits until it has. On an error some may
    /// have been done, and some not; it is the first in order. A [`Fault::Timeout`]
    /// says that some may still be done.
    pub fn run(
        &mut self,
        transport: &Transport<P>,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<(), Fault> {
        let mut requests = requests.into_iter();
        let mut result = Ok(());
        loop {
            let mut batch = [None; BATCH];
            let mut count = 0;
            let room = usize::from(self.queue.size() / 2);
            for request in requests.by_ref().take(room) {
                self.put(count, &request);
                batch[count] = Some(request);
                count += 1;
            }
            if count == 0 {
                return result;
            }
            self.exchange(transport, count)?;
            for (index, request) in batch.iter().flatten().enumerate() {
                let status = self.slots.load32(index * SLOT + SLOT_TAIL) as u8;
                result = result.and(request.outcome(status));
            }
        }
    }

    /// The addresses that an endpoint does not send through its domain.
    pub fn probe(
        &mut self,
        transport: &Transport<P>,
        endpoint: u32,
        probe_size: u32,
    ) -> Result<Vec<Reserved>, Fault> {
        let Some(answer) = &self.answer else {
            return Ok(Vec::new());
        };
        let request = Request::Probe { endpoint };
        let len = probe_size as usize;
        answer.fill(0, len, 0);
        answer.write(len, &[NO_STATUS; TAIL]);
        let written = Piece {
            address: answer.iova().0,
            len: (len + TAIL) as u32,
            write: true,
        };
        let read = self.put_read(0, &request);
        self.queue.describe(0, &[read, written]);
        self.queue.offer(0);
        self.exchange(transport, 1)?;
        let mut bytes = vec![0; len + TAIL];
        if let Some(answer) = &self.answer {
            answer.read(0, &mut bytes);
        }
        request.outcome(bytes[len])?;
        Ok(property::reserved(&bytes[..len]).collect())
    }

    /// Puts a request into a slot and offers it.
    fn put(&mut self, index: usize, request: &Request) {
        let tail = index * SLOT + SLOT_TAIL;
        self.slots.write(tail, &[NO_STATUS; TAIL]);
        let written = Piece {
            address: self.slots.iova().0 + tail as u64,
            len: TAIL as u32,
            write: true,
        };
        let read = self.put_read(index, request);
        let head = 2 * index as u16;
        self.queue.describe(head, &[read, written]);
        self.queue.offer(head);
    }

    fn put_read(&self, index: usize, request: &Request) -> Piece {
        let (bytes, len) = request.encode();
        self.slots.write(index * SLOT, &bytes[..len]);
        Piece {
            address: self.slots.iova().0 + (index * SLOT) as u64,
            len: len as u32,
            write: false,
        }
    }

    /// Notifies the device of what was offered, and waits until `count` came back.
    fn exchange(&mut self, transport: &Transport<P>, count: usize) -> Result<(), Fault> {
        self.sent += count as u64;
        if self.queue.publish()
            && let Some(doorbell) = self.doorbell
        {
            transport.notify(doorbell);
            self.notifications += 1;
        }
        let answered = self.answers(transport, count);
        self.broken = answered.is_err();
        answered
    }

    fn answers(&mut self, transport: &Transport<P>, count: usize) -> Result<(), Fault> {
        let fault = |status, code| Fault::Device {
            during: "use of the request queue",
            status,
            code,
        };
        let queue = &mut self.queue;
        let mut open = (1u64 << count) - 1;
        let done = || {
            while let Some((head, _)) = queue.take() {
                let bit = 1u64.checked_shl(head / 2).unwrap_or(0);
                if head % 2 != 0 || open & bit == 0 {
                    let status = "a buffer came back that was not out (descriptor)";
                    return Some(Err(fault(status, head.into())));
                }
                open &= !bit;
            }
            if open == 0 {
                return Some(Ok(()));
            }
            let status = "the device met an error and needs a reset (requests left)";
            let left = open.count_ones().into();
            transport.needs_reset().then(|| Err(fault(status, left)))
        };
        if let Some(answered) = patience::wait(&self.platform, BATCH_US, done) {
            return answered;
        }
        Err(Fault::Timeout {
            awaited: "answer to a request",
            register: "the request queue's used index",
            seen: self.queue.used_index().into(),
            us: BATCH_US,
        })
    }
}

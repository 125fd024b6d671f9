//! Reading blocks. Each command's memory is mapped for that command alone and
//! unmapped before its data is looked at; several commands are out at a time, and
//! data is handed over in the order of the disk.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::addr::{PAGE, PhysAddr};
use mastiff_core::dma::{Dma, DmaLoan, FromDevice};
use mastiff_core::driver::DmaProof;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Pages, Platform};

use crate::controller::{Controller, PRP_LIST, Ticket, To};
use crate::spec::command::Command;
use crate::spec::identify::Namespace;

/// Most bytes that a command moves.
const MAX_TRANSFER: u64 = (PRP_LIST as u64 + 1) * PAGE;
/// What memory holds before a block is read over it to prove that it was.
const PATTERN: u8 = 0x5a;
/// Bytes that are handed over at a time.
const PIECE: usize = 16 << 10;

/// A namespace, read from.
pub struct Reader<P: Platform> {
    controller: Arc<Controller<P>>,
    dma: Dma<P>,
    id: u32,
    namespace: Namespace,
    max_transfer: u64,
}

/// A command that is out, with the memory that it fills.
struct Flight<'d, P: Platform> {
    ticket: Ticket,
    mapping: DmaLoan<'d, P, FromDevice>,
    pa: PhysAddr,
    bytes: usize,
}

impl<P: Platform> Reader<P> {
    /// Namespace `id` of a controller that moves at most `limit` bytes at a time.
    pub fn new(
        controller: &Arc<Controller<P>>,
        dma: Dma<P>,
        id: u32,
        namespace: Namespace,
        limit: Option<u64>,
    ) -> Self {
        Self {
            controller: controller.clone(),
            dma,
            id,
            namespace,
            max_transfer: limit.unwrap_or(MAX_TRANSFER).min(MAX_TRANSFER),
        }
    }

    /// Reads `count` blocks from `first` on.
    pub fn read(
        &self,
        first: u64,
        count: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<DmaProof, Fault> {
        let end = first
            .checked_add(count)
            .filter(|&end| end <= self.namespace.blocks);
        let (Some(end), 1..) = (end, count) else {
            return Err(Fault::invalid(
                "the read is empty or goes beyond the disk's end",
            ));
        };
        let mut out = VecDeque::new();
        let result = self.stream(first, end, &mut out, sink);
        // After an error commands may still be out. Their memory is theirs until
        // they have ended, or the controller has.
        for flight in out {
            self.abandon(flight);
        }
        result
    }

    /// Reads the first block twice, over two different patterns: bytes that come out
    /// the same were written by the device, every one of them.
    pub fn verify(&self) -> Result<DmaProof, Fault> {
        let bytes = 1 << self.namespace.block_log;
        let (first, _) = self.read_over(PATTERN, bytes)?;
        let (second, proof) = self.read_over(!PATTERN, bytes)?;
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        match differs {
            None => Ok(proof),
            Some(offset) => Err(Fault::Mismatch {
                offset: offset as u64,
                expected: first[offset],
                seen: second[offset],
            }),
        }
    }

    /// Reads the first block into memory that holds `pattern`.
    fn read_over(&self, pattern: u8, bytes: usize) -> Result<(Vec<u8>, DmaProof), Fault> {
        let pages = self.dma.pages(bytes as u64)?;
        pages.fill(0, pages.len(), pattern);
        let flight = self.launch(0, 1, pages)?;
        let proof = DmaProof {
            bytes: bytes as u64,
            iova: flight.mapping.iova(),
            pa: flight.pa,
        };
        let pages = self.land(flight)?;
        let mut data = vec![0; bytes];
        pages.read(0, &mut data);
        Ok((data, proof))
    }

    fn stream<'d>(
        &'d self,
        first: u64,
        end: u64,
        out: &mut VecDeque<Flight<'d, P>>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<DmaProof, Fault> {
        let log = self.namespace.block_log;
        let total = (end - first) << log;
        let size = self.max_transfer.min(total);
        let mut buffer = vec![0; PIECE.min(total as usize)];
        let mut spare: Vec<P::Pages> = Vec::new();
        let mut proof = None;
        let mut next = first;
        while next < end || !out.is_empty() {
            while next < end && out.len() < self.controller.depth() {
                let pages = match spare.pop() {
                    Some(pages) => pages,
                    None => self.dma.pages(size)?,
                };
                let blocks = (size >> log).min(end - next);
                let flight = self.launch(next, blocks as u32, pages)?;
                proof.get_or_insert(DmaProof {
                    bytes: total,
                    iova: flight.mapping.iova(),
                    pa: flight.pa,
                });
                out.push_back(flight);
                next += blocks;
            }
            if let Some(flight) = out.pop_front() {
                let bytes = flight.bytes;
                let pages = self.land(flight)?;
                hand_over(&pages, bytes, &mut buffer, sink);
                spare.push(pages);
            }
        }
        proof.ok_or_else(|| Fault::invalid("nothing was read"))
    }

    /// Hands in the read of `blocks` blocks into `pages`.
    fn launch(&self, first: u64, blocks: u32, pages: P::Pages) -> Result<Flight<'_, P>, Fault> {
        let bytes = (blocks as usize) << self.namespace.block_log;
        let pa = pages.pa();
        let mapping = self
            .dma
            .lend::<FromDevice>(pages)
            .map_err(|failure| failure.fault)?;
        let iova = mapping.iova();
        let ticket = self.controller.submit(To::Io, |slot| {
            // The first page is in the command, a second one too; more are in a
            // list (§4.1.1).
            let second = iova.add(PAGE);
            let more = (bytes - 1) / PAGE as usize;
            let rest = match more {
                0 => 0,
                1 => second.0,
                _ => self.controller.prp_list(slot, second, more).0,
            };
            Command::read(self.id, first, blocks, [iova.0, rest])
        })?;
        Ok(Flight {
            ticket,
            mapping,
            pa,
            bytes,
        })
    }

    /// Waits for a command and takes its memory back.
    fn land(&self, flight: Flight<'_, P>) -> Result<P::Pages, Fault> {
        if let Err(fault) = self.controller.finish(flight.ticket) {
            self.let_go(flight.mapping);
            return Err(fault);
        }
        // The data is ordered after its completion where that was taken in.
        flight.mapping.unmap()
    }

    /// Ends a command whose data nobody wants any more.
    fn abandon(&self, flight: Flight<'_, P>) {
        if self.controller.is_broken() {
            self.let_go(flight.mapping);
        } else {
            // Its own error, if it has one, comes after the one to report.
            let _ = self.land(flight);
        }
    }

    /// Frees memory, unless the controller may still write it.
    fn let_go(&self, mapping: DmaLoan<'_, P, FromDevice>) {
        if self.controller.is_stopped() || !self.controller.is_broken() {
            return;
        }
        mapping.park();
    }
}

/// Copies the first `bytes` out, piece by piece.
fn hand_over<T: Pages>(pages: &T, bytes: usize, buffer: &mut [u8], sink: &mut dyn FnMut(&[u8])) {
    let mut done = 0;
    while done < bytes {
        let piece = buffer.len().min(bytes - done);
        pages.read(done, &mut buffer[..piece]);
        sink(&buffer[..piece]);
        done += piece;
    }
}

//! Reading blocks. Commands go out in batches. A batch's memory is one stretch, which
//! is mapped for that batch alone and unmapped, with one invalidation and one sync,
//! before any of its data is looked at. While one batch is out the data of the one
//! before is handed over, in the order in which it was asked for.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE, PhysAddr};
use mastiff_core::dma::{Dma, DmaLoan, FromDevice};
use mastiff_core::driver::{DmaProof, Pace, Piece, Pieces};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Pages, Platform};

use crate::controller::{Controller, Lists, Ticket, To};
use crate::queue::{PRP_LIST, SLOTS};
use crate::spec::command::Command;
use crate::spec::identify::Namespace;

/// Most bytes that a command moves.
const MAX_TRANSFER: u64 = (PRP_LIST as u64 + 1) * PAGE;
/// Commands that are out while a stretch of the disk is read.
const DEPTH: usize = 8;
/// What memory holds before a block is read over it to prove that it was.
const PATTERN: u8 = 0x5a;
/// Bytes that are handed over at a time.
const PORTION: usize = 16 << 10;

/// A namespace, read from.
pub struct Reader<P: Platform> {
    controller: Arc<Controller<P>>,
    dma: Dma<P>,
    id: u32,
    namespace: Namespace,
    max_transfer: u64,
}

/// One of two sides that take turns: the batch of one is out while that of the other is
/// dealt with.
struct Side<'d, P: Platform> {
    // The commands that are out, and the memory that they fill: both or none.
    ticket: Option<Ticket>,
    loan: Option<DmaLoan<'d, P, FromDevice>>,
    count: usize,
    // The memory while nothing is out.
    pages: Option<P::Pages>,
    // The batch's pieces: where on the disk, and how many blocks.
    plan: [(u64, u32); SLOTS],
}

/// How batches are made.
#[derive(Copy, Clone)]
struct Shape {
    /// The pair that they go to.
    pair: usize,
    /// Bytes from piece to piece in a batch's memory.
    stride: usize,
    /// Most pieces of a batch.
    most: usize,
    /// What memory is filled with first.
    over: Option<u8>,
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

    /// Reads `count` blocks from `first` on, by a pair that nobody else uses meanwhile.
    pub fn read(
        &self,
        pair: usize,
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
        let total = count << self.namespace.block_log;
        let bytes = self.max_transfer.min(total);
        let pace = Pace {
            count: total.div_ceil(bytes),
            bytes,
            depth: DEPTH,
            over: None,
        };
        let blocks = bytes >> self.namespace.block_log;
        let mut stretch = Stretch {
            next: first,
            end,
            blocks,
            buffer: vec![0; PORTION.min(total as usize)],
            sink,
        };
        let proof = self.fetch(pair, &pace, &mut stretch)?;
        Ok(DmaProof {
            bytes: total,
            ..proof
        })
    }

    /// Reads the first block twice, over two different patterns: bytes that come out
    /// the same were written by the device, every one of them.
    pub fn verify(&self, pair: usize) -> Result<DmaProof, Fault> {
        let (first, _) = self.read_over(pair, PATTERN)?;
        let (second, proof) = self.read_over(pair, !PATTERN)?;
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

    /// Reads the first block over memory that holds `pattern`.
    fn read_over(&self, pair: usize, pattern: u8) -> Result<(Vec<u8>, DmaProof), Fault> {
        let bytes = 1 << self.namespace.block_log;
        let pace = Pace {
            count: 1,
            bytes,
            depth: 1,
            over: Some(pattern),
        };
        let mut data = Vec::with_capacity(bytes as usize);
        let mut stretch = Stretch {
            next: 0,
            end: 1,
            blocks: 1,
            buffer: vec![0; bytes as usize],
            sink: &mut |block| data.extend_from_slice(block),
        };
        let proof = self.fetch(pair, &pace, &mut stretch)?;
        Ok((data, proof))
    }

    /// Reads pieces from anywhere.
    pub fn fetch(
        &self,
        pair: usize,
        pace: &Pace,
        pieces: &mut dyn Pieces,
    ) -> Result<DmaProof, Fault> {
        if pace.count == 0 || !(1..=self.max_transfer).contains(&pace.bytes) {
            return Err(Fault::invalid(
                "there is nothing to read, or a piece is larger than a transfer",
            ));
        }
        let depth = pace.depth.clamp(1, self.controller.depth()) as u64;
        let count = if depth.min(pace.count) == 1 { 1 } else { 2 };
        let stride = pace.bytes.next_multiple_of(PAGE);
        let most = (depth / count).min(pace.count.div_ceil(count)).max(1);
        let mut sides = Vec::new();
        let most = self.sides(&mut sides, count as usize, stride, most)?;
        let shape = Shape {
            pair,
            stride: stride as usize,
            most,
            over: pace.over,
        };
        let result = self.take_turns(&mut sides, shape, pace.count, pieces);
        // After an error commands may still be out. Their memory is theirs until they
        // have ended, or the controller has.
        for side in sides {
            self.abandon(side);
        }
        result
    }

    /// Memory for as many sides, with room for up to `most` pieces each: for fewer where
    /// memory is short. Says for how many.
    fn sides<'d>(
        &'d self,
        sides: &mut Vec<Side<'d, P>>,
        count: usize,
        stride: u64,
        mut most: u64,
    ) -> Result<usize, Fault> {
        loop {
            let pages = (0..count).map(|_| self.dma.pages(stride * most));
            match pages.collect::<Result<Vec<_>, _>>() {
                Ok(pages) => {
                    sides.extend(pages.into_iter().map(|pages| Side {
                        ticket: None,
                        loan: None,
                        count: 0,
                        pages: Some(pages),
                        plan: [(0, 0); SLOTS],
                    }));
                    return Ok(most as usize);
                }
                Err(Fault::OutOfMemory { .. }) if most > 1 => most /= 2,
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Launches and lands batches until all pieces were read.
    fn take_turns<'d>(
        &'d self,
        sides: &mut [Side<'d, P>],
        shape: Shape,
        count: u64,
        pieces: &mut dyn Pieces,
    ) -> Result<DmaProof, Fault> {
        let (mut left, mut bytes, mut first) = (count, 0, None);
        loop {
            let mut idle = 0;
            for side in &mut *sides {
                bytes += self.land(side, shape, pieces)?;
                let some = left.min(shape.most as u64);
                left -= some;
                match some {
                    0 => idle += 1,
                    some => {
                        let at = self.launch(side, shape, some as usize, pieces)?;
                        first.get_or_insert(at);
                    }
                }
            }
            if idle == sides.len()
                && let Some((iova, pa)) = first
            {
                return Ok(DmaProof { bytes, iova, pa });
            }
        }
    }

    /// Hands in reads of the next pieces, `count` of them. Says where the first one goes.
    #[inline]
    fn launch<'d>(
        &'d self,
        side: &mut Side<'d, P>,
        shape: Shape,
        count: usize,
        pieces: &mut dyn Pieces,
    ) -> Result<(Iova, PhysAddr), Fault> {
        let plan = &mut side.plan[..count];
        for piece in &mut *plan {
            *piece = pieces.next();
            // What is not on the disk the controller refuses.
            if !(1..=shape.stride).contains(&self.bytes(piece.1)) {
                return Err(Fault::invalid("a piece is empty, or larger than announced"));
            }
        }
        let Some(pages) = side.pages.take() else {
            return Err(Fault::Revoked);
        };
        if let Some(byte) = shape.over {
            pages.fill(0, pages.len(), byte);
        }
        let pa = pages.pa();
        let loan = match self.dma.lend::<FromDevice>(pages) {
            Ok(loan) => side.loan.insert(loan),
            Err(failure) => return Err(failure.fault),
        };
        let iova = loan.iova();
        side.count = count;
        side.ticket = Some(
            self.controller
                .launch(To::Io(shape.pair), count, |index, lists| {
                    let at = iova.add((index * shape.stride) as u64);
                    self.command(lists, at, plan[index])
                })?,
        );
        Ok((iova, pa))
    }

    /// Bytes of so many blocks.
    #[inline]
    fn bytes(&self, blocks: u32) -> usize {
        (blocks as usize) << self.namespace.block_log
    }

    /// The first page is in the command, a second one too; more are in a list (§4.1.1).
    #[inline]
    fn command(&self, lists: &mut Lists<'_, P>, at: Iova, (first, blocks): (u64, u32)) -> Command {
        let second = at.add(PAGE);
        let rest = match (self.bytes(blocks) - 1) / PAGE as usize {
            0 => 0,
            1 => second.0,
            more => lists.pages(second, more).0,
        };
        Command::read(self.id, first, blocks, [at.0, rest])
    }

    /// Waits for a side's batch, takes its memory back, and hands its pieces over. Says
    /// how many bytes that were.
    #[inline]
    fn land(
        &self,
        side: &mut Side<'_, P>,
        shape: Shape,
        pieces: &mut dyn Pieces,
    ) -> Result<u64, Fault> {
        let Some(ticket) = side.ticket.take() else {
            return Ok(0);
        };
        let outcome = match self.controller.finish(ticket) {
            Ok(outcome) => outcome,
            Err(fault) => {
                self.let_go(side.loan.take());
                return Err(fault);
            }
        };
        // The data is ordered after its completion where that was taken in.
        let pages = match side.loan.take() {
            Some(loan) => side.pages.insert(loan.unmap()?),
            None => return Err(Fault::Revoked),
        };
        // What came before a failure is good.
        let good = outcome.map_or_else(|(index, _)| index, |()| side.count);
        let mut total = 0;
        for (index, &(_, blocks)) in side.plan.iter().take(good).enumerate() {
            let (at, bytes) = (index * shape.stride, self.bytes(blocks));
            pieces.landed(&Arrived {
                pages: &*pages,
                at,
                bytes,
            });
            total += bytes as u64;
        }
        match outcome {
            Ok(()) => Ok(total),
            Err((_, status)) => status.check("Read").map(|()| total),
        }
    }

    /// Ends commands whose data nobody wants any more.
    fn abandon(&self, side: Side<'_, P>) {
        let ended = |ticket| !self.controller.is_broken() && self.controller.finish(ticket).is_ok();
        if !side.ticket.is_none_or(ended) {
            self.let_go(side.loan);
        }
    }

    /// Frees memory, unless the controller may still write it.
    fn let_go(&self, loan: Option<DmaLoan<'_, P, FromDevice>>) {
        if self.controller.is_stopped() || !self.controller.is_broken() {
            return;
        }
        if let Some(loan) = loan {
            loan.park();
        }
    }
}

/// A piece in the memory of a batch that has landed.
struct Arrived<'p, T> {
    pages: &'p T,
    at: usize,
    bytes: usize,
}

impl<T: Pages> Piece for Arrived<'_, T> {
    fn len(&self) -> usize {
        self.bytes
    }

    fn copy(&self, offset: usize, to: &mut [u8]) {
        self.pages.read(self.at + offset, to);
    }
}

/// A stretch of the disk, in order, handed over portion by portion.
struct Stretch<'s> {
    next: u64,
    end: u64,
    // Most blocks of a piece.
    blocks: u64,
    buffer: Vec<u8>,
    sink: &'s mut dyn FnMut(&[u8]),
}

impl Pieces for Stretch<'_> {
    fn next(&mut self) -> (u64, u32) {
        let (first, count) = (self.next, self.blocks.min(self.end - self.next));
        self.next += count;
        (first, count as u32)
    }

    fn landed(&mut self, piece: &dyn Piece) {
        for at in (0..piece.len()).step_by(self.buffer.len()) {
            let portion = self.buffer.len().min(piece.len() - at);
            let portion = &mut self.buffer[..portion];
            piece.copy(at, portion);
            (self.sink)(portion);
        }
    }
}

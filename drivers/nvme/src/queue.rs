//! A queue pair: where it is in memory, where its ends are, and which commands are
//! out. A command's identifier is its slot. Slots are taken in turn, several at once,
//! and there are fewer of them than entries, so a submission queue is never full.
//! What is out and how it went is kept in bits, a bit for each slot.

use mastiff_core::addr::{Iova, PAGE};
use mastiff_core::dma::{Bidirectional, DmaBuffer};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Mmio, Platform};

use crate::spec::command::{COMMAND_LEN, COMPLETION_LEN, Command, Completion};
use crate::spec::register::{head_doorbell, tail_doorbell};
use crate::spec::status::Status;

/// Most commands that are out at a time.
pub const SLOTS: usize = 32;
/// Entries of a PRP list: with the first page, which is in the command, 128 KiB.
pub const PRP_LIST: usize = 31;
/// Bytes of one slot's list; no list crosses a page (§4.1.1).
const LIST_STRIDE: usize = 256;
const _: () = assert!(PRP_LIST * 8 <= LIST_STRIDE && (PAGE as usize).is_multiple_of(LIST_STRIDE));
/// Bytes of all lists of a pair.
pub const LISTS_LEN: usize = SLOTS * LIST_STRIDE;

/// Where a queue pair is.
#[derive(Copy, Clone, Debug)]
pub struct Layout {
    /// Its number; 0 is the admin queue's.
    pub id: u16,
    /// Entries of each, at least two.
    pub entries: u32,
    /// Offset of the submission queue, a page.
    pub submissions: usize,
    /// Offset of the completion queue, a page.
    pub completions: usize,
    /// Offset of [`LISTS_LEN`] bytes for PRP lists, a page.
    pub lists: usize,
    /// Bytes from doorbell to doorbell.
    pub stride: usize,
}

/// A queue pair.
pub struct Queue {
    layout: Layout,
    depth: usize,
    tail: u32,
    head: u32,
    // What the phase tag of a new entry is in this pass.
    phase: bool,
    // The slot whose turn it is.
    next: usize,
    // Slots that are taken; of these, that wait for their completion; of the others,
    // whose command failed.
    taken: u32,
    out: u32,
    failed: u32,
    statuses: [Status; SLOTS],
    // What the last command gave; the admin queue's alone.
    result: u32,
    // Where the pages of each slot's list begin, and how many it has.
    listed: [(Iova, usize); SLOTS],
}

/// Commands that were handed in together.
#[derive(Copy, Clone, Debug)]
pub struct Run {
    slots: u32,
    first: usize,
}

/// How commands went: the first one that failed, and with what.
pub type Outcome = Result<(), (usize, Status)>;

impl Queue {
    /// An empty pair in zeroed memory.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            depth: SLOTS.min(layout.entries as usize - 1),
            tail: 0,
            head: 0,
            phase: true,
            next: 0,
            taken: 0,
            out: 0,
            failed: 0,
            statuses: [Status(0); SLOTS],
            result: 0,
            listed: [(Iova(0), 0); SLOTS],
        }
    }

    /// Starts over, in zeroed memory.
    pub fn reset(&mut self) {
        *self = Self::new(self.layout);
    }

    /// Commands that may be out at a time.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Where it is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What the last command gave besides its status; the admin queue's alone.
    pub fn result(&self) -> u32 {
        self.result
    }

    /// Slots for `count` commands, at least one.
    #[inline(always)]
    pub fn claim(&mut self, count: usize) -> Result<Run, Fault> {
        let depth = self.depth;
        let (first, run) = (self.next, self.slots(self.next, count));
        if count > depth || self.taken & run != 0 {
            return Err(Fault::Exhausted {
                what: "NVMe command slot",
                limit: depth as u64,
            });
        }
        self.taken |= run;
        self.out |= run;
        self.next = self.slot(first + count);
        Ok(Run { slots: run, first })
    }

    /// Some slots in turn, as bits.
    fn slots(&self, first: usize, count: usize) -> u32 {
        let depth = self.depth;
        let bits = ((1u64 << count.min(SLOTS)) - 1) << first;
        // Those beyond the last one are the first ones.
        (bits | bits >> depth) as u32 & ((1u64 << depth) - 1) as u32
    }

    /// The slot with a number that may be one turn too high.
    #[inline]
    fn slot(&self, number: usize) -> usize {
        let depth = self.depth;
        if number < depth {
            number
        } else {
            number - depth
        }
    }

    /// Writes the command of number `index` of a run. The controller does not know yet.
    #[inline(always)]
    pub fn write<P: Platform>(
        &mut self,
        memory: &DmaBuffer<P, Bidirectional>,
        run: Run,
        index: usize,
        command: &Command,
    ) {
        let slot = self.slot(run.first + index);
        let entry = self.layout.submissions + self.tail as usize * COMMAND_LEN;
        memory.store_pairs(entry, &command.encode(slot as u16));
        self.tail += 1;
        if self.tail == self.layout.entries {
            self.tail = 0;
        }
    }

    /// The PRP list of a command for neighbouring pages. The memory stays the same, and
    /// mostly so do the addresses, so that there is nothing to write.
    #[inline(always)]
    pub fn list<P: Platform>(
        &mut self,
        memory: &DmaBuffer<P, Bidirectional>,
        run: Run,
        index: usize,
        (first, pages): (Iova, usize),
    ) -> Iova {
        let slot = self.slot(run.first + index);
        let at = self.layout.lists + slot * LIST_STRIDE;
        let known = self.listed[slot];
        if known.0 != first || known.1 < pages {
            for page in 0..pages {
                memory.store64(at + 8 * page, first.0 + page as u64 * PAGE);
            }
            self.listed[slot] = (first, pages);
        }
        memory.iova().add(at as u64)
    }

    /// Tells the controller of all commands that were written.
    #[inline]
    pub fn ring<P: Platform>(&self, platform: &P, registers: &P::Mmio) {
        platform.barrier(Barrier::Publish);
        let Layout { id, stride, .. } = self.layout;
        registers.write32(tail_doorbell(id, stride), self.tail);
    }

    /// Takes in what has completed. Returns whether anything had. `name` is the
    /// device's, for the log.
    pub fn reap<P: Platform>(
        &mut self,
        platform: &P,
        registers: &P::Mmio,
        memory: &DmaBuffer<P, Bidirectional>,
        name: &str,
    ) -> bool {
        let Layout {
            id,
            entries,
            completions,
            stride,
            ..
        } = self.layout;
        let mut moved = false;
        // At most a pass: a controller that goes mad must not keep us here.
        for _ in 0..entries {
            if self.out == 0 {
                break;
            }
            let entry = completions + self.head as usize * COMPLETION_LEN;
            let completion = Completion(memory.load32(entry + Completion::OFFSET));
            if completion.phase() != self.phase {
                break;
            }
            if id == 0 {
                self.result = memory.load32(entry + Completion::RESULT);
            }
            self.head += 1;
            if self.head == entries {
                self.head = 0;
                self.phase = !self.phase;
            }
            moved = true;
            self.complete(completion, name);
        }
        if moved {
            // The entries were read before the doorbell gives them back, and the
            // data that they announce is read after.
            platform.barrier(Barrier::Full);
            registers.write32(head_doorbell(id, stride), self.head);
        }
        moved
    }

    #[inline]
    fn complete(&mut self, completion: Completion, name: &str) {
        let slot = completion.command();
        let bit = 1u32.checked_shl(slot.into()).unwrap_or(0);
        if self.out & bit == 0 {
            let id = self.layout.id;
            log::error!("{name}: queue {id} completes command {slot}, which is not out");
            return;
        }
        self.out &= !bit;
        if completion.status().code() != 0 {
            self.failed |= bit;
            self.statuses[usize::from(slot) % SLOTS] = completion.status();
        }
    }

    /// How the commands of a run went, once all of them have completed; their slots are
    /// free again.
    #[inline(always)]
    pub fn take(&mut self, run: Run) -> Option<Outcome> {
        if self.out & run.slots != 0 {
            return None;
        }
        self.taken &= !run.slots;
        let failed = self.failed & run.slots;
        if failed == 0 {
            return Some(Ok(()));
        }
        self.failed &= !failed;
        let first = (0..self.depth).find_map(|index| {
            let slot = self.slot(run.first + index);
            (failed & 1 << slot != 0).then(|| (index, self.statuses[slot]))
        });
        Some(first.map_or(Ok(()), Err))
    }
}

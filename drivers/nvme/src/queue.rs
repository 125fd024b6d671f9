//! A queue pair: where it is in memory, where its ends are, and which commands
//! are out. A command's identifier is its slot, and there are fewer slots than
//! entries, so a submission queue is never full.

use mastiff_core::addr::Iova;
use mastiff_core::dma::{Bidirectional, DmaBuffer};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Mmio, Platform};

use crate::spec::command::{COMMAND_LEN, COMPLETION_LEN, Command, Completion};
use crate::spec::register::{head_doorbell, tail_doorbell};
use crate::spec::status::Status;

/// Most commands that are out at a time.
pub const SLOTS: usize = 8;

/// A queue pair.
pub struct Queue {
    id: u16,
    entries: u32,
    // Offsets in the buffer that all queues share.
    submissions: usize,
    completions: usize,
    stride: usize,
    tail: u32,
    head: u32,
    // What the phase tag of a new entry is in this pass.
    phase: bool,
    slots: [Slot; SLOTS],
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Slot {
    Free,
    Out,
    Done(Status),
}

/// Where a queue pair is.
pub struct Layout {
    /// Its number; 0 is the admin queue's.
    pub id: u16,
    /// Entries of each, at least two.
    pub entries: u32,
    /// Offset of the submission queue, a page.
    pub submissions: usize,
    /// Offset of the completion queue, a page.
    pub completions: usize,
    /// Bytes from doorbell to doorbell.
    pub stride: usize,
}

impl Queue {
    /// An empty pair in zeroed memory.
    pub fn new(layout: Layout) -> Self {
        Self {
            id: layout.id,
            entries: layout.entries,
            submissions: layout.submissions,
            completions: layout.completions,
            stride: layout.stride,
            tail: 0,
            head: 0,
            phase: true,
            slots: [Slot::Free; SLOTS],
        }
    }

    /// Starts over, in zeroed memory.
    pub fn reset(&mut self) {
        (self.tail, self.head, self.phase) = (0, 0, true);
        self.slots = [Slot::Free; SLOTS];
    }

    /// Commands that may be out at a time.
    pub fn depth(&self) -> usize {
        SLOTS.min(self.entries as usize - 1)
    }

    /// Number of entries of each queue.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Its number.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Where the submission queue is for the controller.
    pub fn submissions_at<P: Platform>(&self, memory: &DmaBuffer<P, Bidirectional>) -> Iova {
        memory.iova().add(self.submissions as u64)
    }

    /// Where the completion queue is for the controller.
    pub fn completions_at<P: Platform>(&self, memory: &DmaBuffer<P, Bidirectional>) -> Iova {
        memory.iova().add(self.completions as u64)
    }

    /// A slot for a command.
    pub fn claim(&mut self) -> Result<u16, Fault> {
        let depth = self.depth();
        let free = self.slots[..depth]
            .iter()
            .position(|slot| *slot == Slot::Free);
        let slot = free.ok_or(Fault::Exhausted {
            what: "NVMe command slot",
            limit: depth as u64,
        })?;
        self.slots[slot] = Slot::Out;
        Ok(slot as u16)
    }

    /// Hands a command in under the slot that was claimed for it.
    pub fn submit<P: Platform>(
        &mut self,
        platform: &P,
        registers: &P::Mmio,
        memory: &DmaBuffer<P, Bidirectional>,
        slot: u16,
        command: &Command,
    ) {
        let entry = self.submissions + self.tail as usize * COMMAND_LEN;
        memory.write(entry, &command.encode(slot));
        self.tail = (self.tail + 1) % self.entries;
        platform.barrier(Barrier::Publish);
        registers.write32(tail_doorbell(self.id, self.stride), self.tail);
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
        let before = (self.head, self.phase);
        // At most a pass: a controller that goes mad must not keep us here.
        for _ in 0..self.entries {
            let entry = self.completions + self.head as usize * COMPLETION_LEN;
            let completion = Completion(memory.load32(entry + Completion::OFFSET));
            if completion.phase() != self.phase {
                break;
            }
            self.head += 1;
            if self.head == self.entries {
                self.head = 0;
                self.phase = !self.phase;
            }
            self.complete(completion, name);
        }
        let moved = before != (self.head, self.phase);
        if moved {
            // The entries were read before the doorbell gives them back, and the
            // data that they announce is read after.
            platform.barrier(Barrier::Full);
            registers.write32(head_doorbell(self.id, self.stride), self.head);
        }
        moved
    }

    fn complete(&mut self, completion: Completion, name: &str) {
        match self.slots.get_mut(usize::from(completion.command())) {
            Some(slot @ Slot::Out) => *slot = Slot::Done(completion.status()),
            _ => log::error!(
                "{name}: queue {} completes command {}, which is not out",
                self.id,
                completion.command()
            ),
        }
    }

    /// The status of a command that has completed; its slot is free again.
    pub fn take(&mut self, slot: u16) -> Option<Status> {
        let slot = &mut self.slots[usize::from(slot)];
        match *slot {
            Slot::Done(status) => {
                *slot = Slot::Free;
                Some(status)
            }
            _ => None,
        }
    }
}

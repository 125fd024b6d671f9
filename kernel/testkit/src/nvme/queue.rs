//! The controller's end of a queue pair.

use crate::pci::FunctionPort;

/// A submission queue entry.
#[derive(Copy, Clone, Debug)]
pub(super) struct Entry(pub [u32; 16]);

/// A submission queue.
#[derive(Default)]
pub(super) struct Submissions {
    pub base: u64,
    pub entries: u32,
    pub head: u32,
    pub tail: u32,
    pub completes_to: usize,
}

/// A completion queue.
#[derive(Default)]
pub(super) struct Completions {
    pub base: u64,
    pub entries: u32,
    pub head: u32,
    pub tail: u32,
    pub phase: bool,
    pub vector: usize,
}

impl Entry {
    pub fn opcode(&self) -> u8 {
        self.0[0] as u8
    }

    pub fn id(&self) -> u16 {
        (self.0[0] >> 16) as u16
    }

    pub fn prp(&self, index: usize) -> u64 {
        u64::from(self.0[7 + 2 * index]) << 32 | u64::from(self.0[6 + 2 * index])
    }
}

impl Submissions {
    pub fn new(base: u64, entries: u32, completes_to: usize) -> Self {
        assert!(base.is_multiple_of(4096), "a submission queue at {base:#x}");
        assert!((2..=4096).contains(&entries));
        Self {
            base,
            entries,
            head: 0,
            tail: 0,
            completes_to,
        }
    }

    pub fn ring(&mut self, tail: u32) {
        assert!(
            tail < self.entries,
            "tail {tail} of {} entries",
            self.entries
        );
        self.tail = tail;
    }

    /// The next command; an error if it cannot be fetched.
    pub fn fetch(&mut self, port: &mut FunctionPort<'_, '_>) -> Option<Result<Entry, ()>> {
        if self.head == self.tail {
            return None;
        }
        let mut bytes = [0; 64];
        let at = self.base + 64 * u64::from(self.head);
        self.head = (self.head + 1) % self.entries;
        if port.read(at, &mut bytes).is_err() {
            return Some(Err(()));
        }
        let words = bytes.as_chunks().0;
        Some(Ok(Entry(std::array::from_fn(|index| {
            u32::from_le_bytes(words[index])
        }))))
    }
}

impl Completions {
    pub fn new(base: u64, entries: u32, vector: usize) -> Self {
        assert!(base.is_multiple_of(4096), "a completion queue at {base:#x}");
        assert!((2..=4096).contains(&entries));
        Self {
            base,
            entries,
            head: 0,
            tail: 0,
            phase: true,
            vector,
        }
    }

    pub fn ring(&mut self, head: u32) {
        assert!(
            head < self.entries,
            "head {head} of {} entries",
            self.entries
        );
        let taken = (head + self.entries - self.head) % self.entries;
        let there = (self.tail + self.entries - self.head) % self.entries;
        assert!(
            taken <= there,
            "the driver took {taken} completions of {there}"
        );
        self.head = head;
    }

    pub fn is_full(&self) -> bool {
        (self.tail + 1) % self.entries == self.head
    }

    pub fn is_empty(&self) -> bool {
        self.tail == self.head
    }

    /// Writes an entry; the last word, with the phase tag, comes last.
    pub fn post(
        &mut self,
        port: &mut FunctionPort<'_, '_>,
        (queue, submission_head): (usize, u32),
        id: u16,
        (status, result): (u16, u32),
        turned: bool,
    ) -> Result<(), ()> {
        let at = self.base + 16 * u64::from(self.tail);
        let phase = u32::from(self.phase != turned);
        let words = [
            result,
            0,
            (queue as u32) << 16 | submission_head,
            u32::from(status) << 17 | phase << 16 | u32::from(id),
        ];
        for (index, word) in words.into_iter().enumerate() {
            port.write(at + 4 * index as u64, &word.to_le_bytes())
                .map_err(drop)?;
        }
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        }
        Ok(())
    }
}

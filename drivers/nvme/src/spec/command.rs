//! Submission and completion queue entries (§3.3.3).

use mastiff_core::addr::Iova;

use super::status::Status;

/// Bytes of a submission queue entry.
pub const COMMAND_LEN: usize = 64;
/// Bytes of a completion queue entry.
pub const COMPLETION_LEN: usize = 16;

// Admin commands (§5).
const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
const CREATE_COMPLETION_QUEUE: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const SET_FEATURES: u8 = 0x09;
// I/O commands (NVM §3.2).
const READ: u8 = 0x02;

const FEATURE_QUEUES: u32 = 0x07;
/// Create queue: its memory is contiguous.
const CONTIGUOUS: u32 = 1 << 0;
/// Create completion queue: it interrupts.
const INTERRUPTS: u32 = 1 << 1;

/// What Identify is asked for (§5.17.1).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Identify {
    /// A namespace.
    Namespace(u32),
    /// The controller.
    Controller,
    /// The active namespaces.
    ActiveNamespaces,
}

/// A command without its identifier, which is the queue's affair.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Its name, for errors.
    pub name: &'static str,
    // The entry in double words, little-endian as memory is here.
    words: [u64; COMMAND_LEN / 8],
}

impl Command {
    /// The opcode and the namespace, the two data pointers, and command-specific
    /// double words 10 to 15.
    #[inline(always)]
    fn new(
        name: &'static str,
        (opcode, namespace): (u8, u32),
        data: [u64; 2],
        dwords: [u32; 6],
    ) -> Self {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Self {
            name,
            words: [
                pair(opcode.into(), namespace),
                0,
                0,
                data[0],
                data[1],
                pair(dwords[0], dwords[1]),
                pair(dwords[2], dwords[3]),
                pair(dwords[4], dwords[5]),
            ],
        }
    }

    /// Asks for one page of information at `to`.
    pub fn identify(what: Identify, to: Iova) -> Self {
        let (cns, namespace) = match what {
            Identify::Namespace(namespace) => (0x00, namespace),
            Identify::Controller => (0x01, 0),
            Identify::ActiveNamespaces => (0x02, 0),
        };
        let dwords = [cns, 0, 0, 0, 0, 0];
        Self::new("Identify", (IDENTIFY, namespace), [to.0, 0], dwords)
    }

    /// Asks for so many I/O queues of each kind, at least one (§5.27.1.5).
    pub fn queue_pairs(count: u16) -> Self {
        let last = u32::from(count) - 1;
        let dwords = [FEATURE_QUEUES, last << 16 | last, 0, 0, 0, 0];
        let name = "Set Features (Number of Queues)";
        Self::new(name, (SET_FEATURES, 0), [0; 2], dwords)
    }

    /// Creates completion queue `id` that interrupts by `vector` (§5.5).
    pub fn create_completion_queue(id: u16, at: Iova, entries: u32, vector: u16) -> Self {
        let flags = u32::from(vector) << 16 | CONTIGUOUS | INTERRUPTS;
        let dwords = [size(id, entries), flags, 0, 0, 0, 0];
        let name = "Create I/O Completion Queue";
        Self::new(name, (CREATE_COMPLETION_QUEUE, 0), [at.0, 0], dwords)
    }

    /// Creates submission queue `id`, which completes to the queue of that number
    /// (§5.4).
    pub fn create_submission_queue(id: u16, at: Iova, entries: u32) -> Self {
        let to = u32::from(id) << 16 | CONTIGUOUS;
        let dwords = [size(id, entries), to, 0, 0, 0, 0];
        let name = "Create I/O Submission Queue";
        Self::new(name, (CREATE_SUBMISSION_QUEUE, 0), [at.0, 0], dwords)
    }

    /// Reads `count` blocks, at least one, to what the PRPs describe (NVM §3.2.4).
    #[inline(always)]
    pub fn read(namespace: u32, first: u64, count: u32, prp: [u64; 2]) -> Self {
        let dwords = [first as u32, (first >> 32) as u32, count - 1, 0, 0, 0];
        Self::new("Read", (READ, namespace), prp, dwords)
    }

    /// The entry, as command `id`.
    #[inline(always)]
    pub fn encode(&self, id: u16) -> [[u64; 2]; COMMAND_LEN / 16] {
        let words = &self.words;
        [
            [words[0] | u64::from(id) << 16, words[1]],
            [words[2], words[3]],
            [words[4], words[5]],
            [words[6], words[7]],
        ]
    }
}

fn size(id: u16, entries: u32) -> u32 {
    (entries - 1) << 16 | u32::from(id)
}

/// How many queue pairs the answer to [`Command::queue_pairs`] gives: as many as it has
/// of both kinds (§5.27.1.5).
pub fn granted_pairs(result: u32) -> u16 {
    let (submission, completion) = (result as u16, (result >> 16) as u16);
    submission.min(completion).saturating_add(1)
}

/// The last double word of a completion queue entry (§3.3.3.2): the only one that
/// says whether the entry is there at all.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Completion(pub u32);

impl Completion {
    /// Where it is in the entry.
    pub const OFFSET: usize = 12;
    /// Where the entry has what the command gave.
    pub const RESULT: usize = 0;

    /// The command that it is about.
    #[inline]
    pub fn command(self) -> u16 {
        self.0 as u16
    }

    /// The phase tag, which turns with each pass of the controller.
    #[inline]
    pub fn phase(self) -> bool {
        self.0 & 1 << 16 != 0
    }

    /// How the command went.
    #[inline]
    pub fn status(self) -> Status {
        Status((self.0 >> 17) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(entry: &[[u64; 2]], index: usize) -> u32 {
        (entry.as_flattened()[index / 2] >> (32 * (index % 2))) as u32
    }

    #[test]
    fn a_read_of_eight_blocks() {
        let command = Command::read(1, 0x1_2345_6789, 8, [0x1000, 0xab_0000_2000]);
        let entry = command.encode(0x17);
        assert_eq!(word(&entry, 0), 0x0017_0002);
        assert_eq!(word(&entry, 1), 1);
        assert_eq!((word(&entry, 6), word(&entry, 7)), (0x1000, 0));
        assert_eq!((word(&entry, 8), word(&entry, 9)), (0x2000, 0xab));
        assert_eq!((word(&entry, 10), word(&entry, 11)), (0x2345_6789, 1));
        assert_eq!(word(&entry, 12), 7, "blocks are counted from 0");
    }

    #[test]
    fn queues_are_counted_from_zero() {
        let entry = Command::create_completion_queue(1, Iova(0x4000), 64, 2).encode(0);
        assert_eq!(word(&entry, 0), 0x05);
        assert_eq!(
            (word(&entry, 10), word(&entry, 11)),
            (63 << 16 | 1, 2 << 16 | 3)
        );
        let entry = Command::queue_pairs(4).encode(0);
        assert_eq!((word(&entry, 10), word(&entry, 11)), (7, 0x0003_0003));
        assert_eq!(granted_pairs(0x0003_0001), 2);
        assert_eq!(granted_pairs(0x0001_0003), 2);
        assert_eq!(granted_pairs(0), 1);
        let entry = Command::create_submission_queue(1, Iova(0x5000), 64).encode(0);
        assert_eq!(word(&entry, 0), 0x01);
        assert_eq!(
            (word(&entry, 10), word(&entry, 11)),
            (63 << 16 | 1, 1 << 16 | 1)
        );
    }

    #[test]
    fn a_completion_taken_apart() {
        let completion = Completion(0x4002_0000 | 1 << 16 | 9);
        assert_eq!(completion.command(), 9);
        assert!(completion.phase());
        assert_eq!(completion.status().code(), 0x001);
        assert!(!Completion(0).phase());
    }
}

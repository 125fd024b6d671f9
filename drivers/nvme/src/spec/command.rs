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
    opcode: u8,
    namespace: u32,
    data: [u64; 2],
    dwords: [u32; 6],
}

impl Command {
    const fn new(name: &'static str, opcode: u8) -> Self {
        Self {
            name,
            opcode,
            namespace: 0,
            data: [0; 2],
            dwords: [0; 6],
        }
    }

    /// Asks for one page of information at `to`.
    pub fn identify(what: Identify, to: Iova) -> Self {
        let (cns, namespace) = match what {
            Identify::Namespace(namespace) => (0x00, namespace),
            Identify::Controller => (0x01, 0),
            Identify::ActiveNamespaces => (0x02, 0),
        };
        Self {
            namespace,
            data: [to.0, 0],
            dwords: [cns, 0, 0, 0, 0, 0],
            ..Self::new("Identify", IDENTIFY)
        }
    }

    /// Asks for one I/O queue of each kind (§5.27.1.5); counts are from 0.
    pub fn one_queue_pair() -> Self {
        Self {
            dwords: [FEATURE_QUEUES, 0, 0, 0, 0, 0],
            ..Self::new("Set Features (Number of Queues)", SET_FEATURES)
        }
    }

    /// Creates completion queue `id` that interrupts by vector 0 (§5.5).
    pub fn create_completion_queue(id: u16, at: Iova, entries: u32) -> Self {
        Self {
            data: [at.0, 0],
            dwords: [size(id, entries), CONTIGUOUS | INTERRUPTS, 0, 0, 0, 0],
            ..Self::new("Create I/O Completion Queue", CREATE_COMPLETION_QUEUE)
        }
    }

    /// Creates submission queue `id`, which completes to the queue of that number
    /// (§5.4).
    pub fn create_submission_queue(id: u16, at: Iova, entries: u32) -> Self {
        Self {
            data: [at.0, 0],
            dwords: [
                size(id, entries),
                u32::from(id) << 16 | CONTIGUOUS,
                0,
                0,
                0,
                0,
            ],
            ..Self::new("Create I/O Submission Queue", CREATE_SUBMISSION_QUEUE)
        }
    }

    /// Reads `count` blocks, at least one, to what the PRPs describe (NVM §3.2.4).
    pub fn read(namespace: u32, first: u64, count: u32, prp: [u64; 2]) -> Self {
        Self {
            namespace,
            data: prp,
            dwords: [first as u32, (first >> 32) as u32, count - 1, 0, 0, 0],
            ..Self::new("Read", READ)
        }
    }

    /// The entry, as command `id`.
    pub fn encode(&self, id: u16) -> [u8; COMMAND_LEN] {
        let mut words = [0u32; COMMAND_LEN / 4];
        words[0] = u32::from(id) << 16 | u32::from(self.opcode);
        words[1] = self.namespace;
        for (index, pointer) in self.data.into_iter().enumerate() {
            words[6 + 2 * index] = pointer as u32;
            words[7 + 2 * index] = (pointer >> 32) as u32;
        }
        words[10..].copy_from_slice(&self.dwords);
        let mut bytes = [0; COMMAND_LEN];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

fn size(id: u16, entries: u32) -> u32 {
    (entries - 1) << 16 | u32::from(id)
}

/// The last double word of a completion queue entry (§3.3.3.2): the only one that
/// says whether the entry is there at all.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Completion(pub u32);

impl Completion {
    /// Where it is in the entry.
    pub const OFFSET: usize = 12;

    /// The command that it is about.
    pub fn command(self) -> u16 {
        self.0 as u16
    }

    /// The phase tag, which turns with each pass of the controller.
    pub fn phase(self) -> bool {
        self.0 & 1 << 16 != 0
    }

    /// How the command went.
    pub fn status(self) -> Status {
        Status((self.0 >> 17) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], index: usize) -> u32 {
        u32::from_le_bytes(bytes[4 * index..][..4].try_into().unwrap())
    }

    #[test]
    fn a_read_of_eight_blocks() {
        let command = Command::read(1, 0x1_2345_6789, 8, [0x1000, 0xab_0000_2000]);
        let bytes = command.encode(0x17);
        assert_eq!(word(&bytes, 0), 0x0017_0002);
        assert_eq!(word(&bytes, 1), 1);
        assert_eq!((word(&bytes, 6), word(&bytes, 7)), (0x1000, 0));
        assert_eq!((word(&bytes, 8), word(&bytes, 9)), (0x2000, 0xab));
        assert_eq!((word(&bytes, 10), word(&bytes, 11)), (0x2345_6789, 1));
        assert_eq!(word(&bytes, 12), 7, "blocks are counted from 0");
    }

    #[test]
    fn queues_are_counted_from_zero() {
        let bytes = Command::create_completion_queue(1, Iova(0x4000), 64).encode(0);
        assert_eq!(word(&bytes, 0), 0x05);
        assert_eq!((word(&bytes, 10), word(&bytes, 11)), (63 << 16 | 1, 3));
        let bytes = Command::create_submission_queue(1, Iova(0x5000), 64).encode(0);
        assert_eq!(word(&bytes, 0), 0x01);
        assert_eq!(
            (word(&bytes, 10), word(&bytes, 11)),
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

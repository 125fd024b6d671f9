//! Reading and writing rings, as the device does it (virtio §2.7).

use mastiff_testkit::pci::FunctionPort;

use super::registers::QueueRegisters;

/// A chain of buffers.
pub struct Chain {
    pub head: u16,
    /// What the device reads.
    pub read: Vec<u8>,
    /// Where it writes, and how much.
    pub write: Vec<(u64, u32)>,
}

impl Chain {
    pub fn room(&self) -> u32 {
        self.write.iter().map(|(_, len)| len).sum()
    }
}

pub fn fetch<const N: usize>(port: &mut FunctionPort<'_, '_>, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    port.read(at, &mut bytes).expect("the ring can be read");
    bytes
}

/// What the driver made available and the device has not taken yet.
pub fn waiting(port: &mut FunctionPort<'_, '_>, queue: &QueueRegisters) -> u16 {
    let index = u16::from_le_bytes(fetch(port, queue.available + 2));
    let count = index.wrapping_sub(queue.seen);
    assert!(count <= queue.size, "{count} chains in {}", queue.size);
    count
}

/// Whether the driver wants no interrupts for this queue.
pub fn is_polled(port: &mut FunctionPort<'_, '_>, queue: &QueueRegisters) -> bool {
    let flags = u16::from_le_bytes(fetch(port, queue.available));
    assert_eq!(flags & !1, 0, "reserved flags of the available ring");
    flags & 1 != 0
}

/// Takes a chain.
pub fn take(port: &mut FunctionPort<'_, '_>, queue: &mut QueueRegisters) -> Chain {
    let slot = u64::from(queue.seen % queue.size);
    let head = u16::from_le_bytes(fetch(port, queue.available + 4 + 2 * slot));
    queue.seen = queue.seen.wrapping_add(1);
    let mut chain = Chain {
        head,
        read: Vec::new(),
        write: Vec::new(),
    };
    let mut at = head;
    for _ in 0..queue.size {
        assert!(at < queue.size, "descriptor {at} of {}", queue.size);
        let bytes: [u8; 16] = fetch(port, queue.descriptors + 16 * u64::from(at));
        let word = |range: std::ops::Range<usize>| {
            let mut word = [0; 8];
            word[..range.len()].copy_from_slice(&bytes[range]);
            u64::from_le_bytes(word)
        };
        let (address, len) = (word(0..8), word(8..12) as u32);
        let (flags, next) = (word(12..14), word(14..16) as u16);
        assert_eq!(flags & !3, 0, "flags of descriptor {at}");
        assert_ne!(len, 0, "descriptor {at} is empty");
        if flags & 2 != 0 {
            chain.write.push((address, len));
        } else {
            assert!(chain.write.is_empty(), "read after write (virtio §2.7.4.2)");
            let mut piece = vec![0; len as usize];
            port.read(address, &mut piece).expect("a buffer is memory");
            chain.read.extend(piece);
        }
        if flags & 1 == 0 {
            return chain;
        }
        at = next;
    }
    panic!("a chain that goes in a circle");
}

/// Writes what the device has to say into a chain, and gives it back.
pub fn give(
    port: &mut FunctionPort<'_, '_>,
    queue: &mut QueueRegisters,
    chain: &Chain,
    bytes: &[u8],
    head: u32,
) {
    let mut left = bytes;
    for &(address, len) in &chain.write {
        let (piece, rest) = left.split_at((len as usize).min(left.len()));
        port.write(address, piece).expect("a buffer is memory");
        left = rest;
    }
    assert!(left.is_empty(), "a buffer that is too short");
    let slot = u64::from(queue.done % queue.size);
    let entry = [head.to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
    let at = queue.used + 4 + 8 * slot;
    port.write(at, &entry).expect("the ring can be written");
    queue.done = queue.done.wrapping_add(1);
    let index = queue.done.to_le_bytes();
    port.write(queue.used + 2, &index)
        .expect("the ring can be written");
}

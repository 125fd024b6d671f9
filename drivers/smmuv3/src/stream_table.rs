//! The stream table: linear, or with two levels whose second is made on demand.
//! Every entry that the hardware can reach is one that software wrote: nothing is
//! linked before it is filled with entries that abort.

use alloc::collections::BTreeMap;

use mastiff_core::addr::StreamId;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Platform};

use crate::features::Features;
use crate::memory::{Memory, Reach};
use crate::spec::registers as regs;
use crate::spec::{L1Std, Ste};
use crate::window::Window;

/// Bits of StreamID that a table has where the hardware has as many: the functions of
/// a PCI segment, of which any may be plugged in.
const USUAL_BITS: u32 = 16;
/// How many bits of StreamID a level 2 table can resolve (IHI 0070 §6.3.25): 64 entries
/// in 4 KiB, 256 in 16 KiB, 1,024 in 64 KiB.
const SPLITS: [u32; 3] = [6, 8, 10];

/// The smallest of [`SPLITS`] whose first level is no larger than two tables of the
/// second, or else the largest. Most tables have streams in one or two neighbourhoods,
/// and for these that takes the least memory: 8 KiB and 4 KiB for a PCI segment.
fn split(bits: u32) -> u32 {
    let [smallest, middle, largest] = SPLITS;
    match bits {
        // The first level has 2^(bits - split + 3) bytes, the second 2^(split + 6).
        _ if bits <= 2 * smallest + 4 => smallest,
        _ if bits <= 2 * middle + 4 => middle,
        _ => largest,
    }
}

/// Levels and sizes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Bits of StreamID.
    bits: u32,
    /// Bits of it that the last level resolves: all, if there is one level.
    leaf_bits: u32,
}

impl Shape {
    /// A table for StreamIDs up to `highest`, and no more than the usual ones above:
    /// memory is not spent on each that could exist. Those beyond are refused.
    pub fn new(features: &Features, highest: StreamId) -> Self {
        let needed = u32::BITS - highest.0.leading_zeros();
        let bits = needed.max(USUAL_BITS).min(features.sid_bits);
        let leaf_bits = match features.two_level {
            true => split(bits).min(bits),
            false => bits,
        };
        Self { bits, leaf_bits }
    }

    fn is_linear(self) -> bool {
        self.bits == self.leaf_bits
    }

    pub fn streams(self) -> u64 {
        1 << self.bits
    }

    fn leaf_bytes(self) -> u64 {
        (Ste::BYTES as u64) << self.leaf_bits
    }

    /// Bytes of what STRTAB_BASE points to.
    fn base_bytes(self) -> u64 {
        if self.is_linear() {
            return self.leaf_bytes();
        }
        (L1Std::BYTES as u64) << (self.bits - self.leaf_bits)
    }

    /// Which level 2 table, and where in it in bytes. There is only table 0 if the
    /// table is linear.
    fn locate(self, stream: StreamId) -> Result<(u32, usize), Fault> {
        // A StreamID has 32 bits and a table may have as many: 64-bit shifts.
        let (id, streams) = (u64::from(stream.0), self.streams());
        if id >= streams {
            return Err(Fault::StreamOutOfRange { stream, streams });
        }
        let entry = (id & ((1 << self.leaf_bits) - 1)) as usize;
        Ok(((id >> self.leaf_bits) as u32, entry * Ste::BYTES))
    }
}

/// What has to be invalidated before a new entry can be relied on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reached {
    /// The entry alone.
    Known,
    /// The level 1 descriptor too: it was invalid, and invalid ones may be cached.
    New,
}

pub(crate) struct StreamTable<P: Platform> {
    shape: Shape,
    platform: P,
    reach: Reach,
    /// What STRTAB_BASE points to: all entries, or the first level.
    base: Memory<P>,
    /// Level 2 tables by their index; none if the table is linear.
    leaves: BTreeMap<u32, Leaf<P>>,
}

struct Leaf<P: Platform> {
    memory: Memory<P>,
    /// The hardware is known to have dropped the descriptor from before.
    announced: bool,
}

impl<P: Platform> StreamTable<P> {
    pub fn new(platform: &P, shape: Shape, reach: &Reach) -> Result<Self, Fault> {
        let base = if shape.is_linear() {
            aborting(platform, reach, shape)?
        } else {
            let bytes = shape.base_bytes();
            let base = Memory::new(platform, reach, bytes, 64)?;
            base.zero(bytes as usize);
            base.publish(0, bytes as usize);
            base
        };
        Ok(Self {
            shape,
            platform: platform.clone(),
            reach: reach.clone(),
            base,
            leaves: BTreeMap::new(),
        })
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Tells the hardware where the table is. Only while translation is off.
    pub fn install(&self, window: &Window<P>) {
        let address = regs::STRTAB_BASE::ADDR.val(self.base.pa() >> 6);
        let size = regs::STRTAB_BASE_CFG::LOG2SIZE.val(self.shape.bits);
        let format = if self.shape.is_linear() {
            regs::STRTAB_BASE_CFG::FMT::Linear + size
        } else {
            regs::STRTAB_BASE_CFG::FMT::TwoLevel
                + regs::STRTAB_BASE_CFG::SPLIT.val(self.shape.leaf_bits)
                + size
        };
        window.write64(regs::STRTAB_BASE, regs::STRTAB_BASE::RA::SET + address);
        window.write(regs::STRTAB_BASE_CFG, format);
    }

    /// Makes sure that the stream has an entry, and says whether the way to it is
    /// one that the hardware does not know yet.
    pub fn reach(&mut self, stream: StreamId) -> Result<Reached, Fault> {
        let (index, _) = self.shape.locate(stream)?;
        if self.shape.is_linear() {
            return Ok(Reached::Known);
        }
        if let Some(leaf) = self.leaves.get(&index) {
            return Ok(if leaf.announced {
                Reached::Known
            } else {
                Reached::New
            });
        }
        let memory = aborting(&self.platform, &self.reach, self.shape)?;
        // Filled, and only then linked.
        self.platform.barrier(Barrier::Publish);
        let offset = index as usize * L1Std::BYTES;
        self.base
            .store(offset, L1Std::table(memory.pa(), self.shape.leaf_bits).0);
        self.base.publish(offset, L1Std::BYTES);
        let announced = false;
        self.leaves.insert(index, Leaf { memory, announced });
        Ok(Reached::New)
    }

    /// The hardware has dropped what it knew of the way to the stream's entry.
    pub fn announced(&mut self, stream: StreamId) {
        if let Ok((index, _)) = self.shape.locate(stream)
            && let Some(leaf) = self.leaves.get_mut(&index)
        {
            leaf.announced = true;
        }
    }

    /// Where the stream's entry is, if there is one.
    fn entry(&self, stream: StreamId) -> Result<Option<(&Memory<P>, usize)>, Fault> {
        let (index, offset) = self.shape.locate(stream)?;
        if self.shape.is_linear() {
            return Ok(Some((&self.base, offset)));
        }
        Ok(self.leaves.get(&index).map(|leaf| (&leaf.memory, offset)))
    }

    /// Turns the stream's entry into `to`, writing the words that differ.
    pub fn write(&self, stream: StreamId, to: &Ste) -> Result<(), Fault> {
        if let Some((memory, offset)) = self.entry(stream)? {
            for (word, &value) in to.0.iter().enumerate() {
                if memory.load(offset + 8 * word) != value {
                    memory.store(offset + 8 * word, value);
                }
            }
            memory.publish(offset, Ste::BYTES);
        }
        Ok(())
    }

    /// The stream's entry and its address, if there is one.
    pub fn read(&self, stream: StreamId) -> Result<Option<(u64, Ste)>, Fault> {
        let entry = self.entry(stream)?;
        let read = |(memory, offset): (&Memory<P>, usize)| {
            (memory.pa() + offset as u64, Ste(memory.load_words(offset)))
        };
        Ok(entry.map(read))
    }

    /// The stream's level 1 descriptor and its address, if there are two levels.
    pub fn read_level1(&self, stream: StreamId) -> Result<Option<(u64, L1Std)>, Fault> {
        let (index, _) = self.shape.locate(stream)?;
        if self.shape.is_linear() {
            return Ok(None);
        }
        let offset = index as usize * L1Std::BYTES;
        let descriptor = L1Std(self.base.load(offset));
        Ok(Some((self.base.pa() + offset as u64, descriptor)))
    }
}

/// Entries that abort, for a whole last-level table.
fn aborting<P: Platform>(platform: &P, reach: &Reach, shape: Shape) -> Result<Memory<P>, Fault> {
    let bytes = shape.leaf_bytes();
    let memory = Memory::new(platform, reach, bytes, 64)?;
    memory.zero(bytes as usize);
    for offset in (0..bytes as usize).step_by(Ste::BYTES) {
        memory.store(offset, Ste::ABORT.0[0]);
    }
    memory.publish(0, bytes as usize);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(two_level: bool, sid_bits: u32) -> Shape {
        shape_up_to(two_level, sid_bits, 0)
    }

    fn shape_up_to(two_level: bool, sid_bits: u32, highest: u32) -> Shape {
        let mut features = crate::features::tests::qemu();
        features.two_level = two_level;
        features.sid_bits = sid_bits;
        Shape::new(&features, StreamId(highest))
    }

    #[test]
    fn sizes_are_as_documented() {
        let virt = shape(true, 16);
        let (bits, leaf_bits) = (16, 6);
        assert_eq!(virt, Shape { bits, leaf_bits });
        assert_eq!((virt.base_bytes(), virt.leaf_bytes()), (8 << 10, 4 << 10));
        assert_eq!(shape(true, 32), virt, "nobody asks for more");
        // The widest of each split, and the one after it.
        for (highest, leaf_bits, base, leaf) in [
            (0x1_ffff, 8, 4 << 10, 16 << 10),
            (0xf_ffff, 8, 32 << 10, 16 << 10),
            (0x1f_ffff, 10, 16 << 10, 64 << 10),
            (u32::MAX, 10, 32 << 20, 64 << 10),
        ] {
            let wide = shape_up_to(true, 32, highest);
            assert_eq!(wide.streams(), u64::from(highest) + 1);
            assert_eq!(wide.leaf_bits, leaf_bits, "{highest:#x}");
            assert_eq!((wide.base_bytes(), wide.leaf_bytes()), (base, leaf));
            assert!(wide.locate(StreamId(highest)).is_ok());
        }
        // The hardware has no more than it has.
        assert_eq!(shape_up_to(true, 16, u32::MAX), virt);
        let small = shape(true, 6);
        assert!(small.is_linear() && !shape(true, 7).is_linear());
        assert_eq!(small.base_bytes(), 64 * 64);
        let linear = shape(false, 32);
        assert_eq!((linear.streams(), linear.base_bytes()), (1 << 16, 4 << 20));
        let single = shape(false, 0);
        assert_eq!(single.locate(StreamId(0)), Ok((0, 0)));
        assert!(single.locate(StreamId(1)).is_err());
    }

    #[test]
    fn streams_beyond_the_table_are_refused() {
        let fault = shape(true, 16).locate(StreamId(0x1_0000)).unwrap_err();
        let expected = Fault::StreamOutOfRange {
            stream: StreamId(0x1_0000),
            streams: 0x1_0000,
        };
        assert_eq!(fault, expected);
        assert!(shape(true, 32).locate(StreamId(u32::MAX)).is_err());
        assert_eq!(shape(true, 16).locate(StreamId(0x0108)), Ok((4, 8 * 64)));
    }

    proptest! {
        /// Each StreamID has an entry of its own, within its table.
        #[test]
        fn entries_are_apart(
            two_level: bool,
            sid_bits in 0u32..=32,
            highest: u32,
            a: u32,
            b: u32,
        ) {
            let shape = shape_up_to(two_level, sid_bits, highest);
            let inside = |id: u32| u64::from(id) < shape.streams();
            let (at, bt) = (shape.locate(StreamId(a)), shape.locate(StreamId(b)));
            prop_assert_eq!(at.is_ok(), inside(a));
            prop_assert_eq!(inside(highest), u64::from(highest) < 1 << sid_bits);
            if let (Ok(at), Ok(bt)) = (at, bt) {
                prop_assert_eq!(at == bt, a == b);
                prop_assert!(at.1 as u64 + 64 <= shape.leaf_bytes());
                let tables = if shape.is_linear() { 1 } else { shape.base_bytes() / 8 };
                prop_assert!(u64::from(at.0) < tables);
            }
        }
    }
}

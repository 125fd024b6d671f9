//! Substreams: one context for each SubstreamID of a stream, in a table of CDs (IHI 0070
//! §5.3, §5.4). It is linear, or has two levels where the hardware knows that.
//!
//! A CD that the hardware can reach is never turned into another one where it is: it
//! would be seen half done. Its whole last-level table is copied, changed and put in
//! place of the old one with one store, to level 1 or, without one, to the stream's
//! entry. So a substream changes over without a gap, with one sync, and its neighbours
//! do not notice. What only ends becomes invalid where it is, which is one store too
//! and takes no memory.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use mastiff_core::addr::{StreamId, SubstreamId};
use mastiff_core::error::Fault;
use mastiff_core::platform::Barrier;

use crate::attach::Route;
use crate::bind::Machine;
use crate::domain::Context;
use crate::features::Features;
use crate::memory::Memory;
use crate::smmu::Smmu;
use crate::spec::cd::{Cd, L1Cd};
use crate::spec::ste::{self, Plain};
use crate::spec::{Command, Ste};

/// Bits of SubstreamID that a level 2 table of 4 KiB resolves.
const SPLIT: u32 = 6;
/// The most without a level 1: 64 KiB, all of which is copied.
const LINEAR_BITS: u32 = 10;

/// Bits of SubstreamID, and those of it that the last level resolves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Shape {
    bits: u32,
    leaf_bits: u32,
}

impl Shape {
    fn new(features: &Features) -> Self {
        let bits = match features.stage1 {
            true => features.substream_bits,
            false => 0,
        };
        match features.two_level_cds && bits > SPLIT {
            true => Self {
                bits,
                leaf_bits: SPLIT,
            },
            false => {
                let bits = bits.min(LINEAR_BITS);
                let leaf_bits = bits;
                Self { bits, leaf_bits }
            }
        }
    }

    fn is_linear(self) -> bool {
        self.bits == self.leaf_bits
    }

    fn leaf_bytes(self) -> u64 {
        (Cd::BYTES as u64) << self.leaf_bits
    }

    /// Which last-level table, and where in it in bytes.
    fn locate(self, index: u32) -> (u32, usize) {
        let within = (index & ((1 << self.leaf_bits) - 1)) as usize;
        (index >> self.leaf_bits, Cd::BYTES * within)
    }
}

/// How many SubstreamIDs a stream can have, 0 included.
pub(crate) fn limit(features: &Features) -> u64 {
    match Shape::new(features).bits {
        0 => 0,
        bits => 1 << bits,
    }
}

/// A stream's CDs. A clone is the same table, before some of its parts are replaced.
pub(crate) struct Table<P: Machine> {
    shape: Shape,
    // Level 1, if there is one.
    root: Option<Arc<Memory<P>>>,
    leaves: BTreeMap<u32, Arc<Memory<P>>>,
    contexts: BTreeMap<u32, Arc<Context<P>>>,
}

impl<P: Machine> Clone for Table<P> {
    fn clone(&self) -> Self {
        Self {
            shape: self.shape,
            root: self.root.clone(),
            leaves: self.leaves.clone(),
            contexts: self.contexts.clone(),
        }
    }
}

impl<P: Machine> Table<P> {
    /// A table without a valid CD.
    pub fn new(smmu: &Smmu<P>) -> Result<Self, Fault> {
        let shape = Shape::new(&smmu.features);
        let mut table = Self {
            shape,
            root: None,
            leaves: BTreeMap::new(),
            contexts: BTreeMap::new(),
        };
        if shape.is_linear() {
            table.replace(smmu, 0)?;
            return Ok(table);
        }
        let bytes = (L1Cd::BYTES as u64) << (shape.bits - shape.leaf_bits);
        let root = Memory::new(&smmu.platform, &smmu.reach, bytes, 64)?;
        root.zero(bytes as usize);
        root.publish(0, bytes as usize);
        table.root = Some(Arc::new(root));
        Ok(table)
    }

    /// A copy of a last-level table takes its place, which the hardware does not know.
    fn replace(&mut self, smmu: &Smmu<P>, leaf: u32) -> Result<Arc<Memory<P>>, Fault> {
        let bytes = self.shape.leaf_bytes();
        let copy = Memory::new(&smmu.platform, &smmu.reach, bytes, 64)?;
        for offset in (0..bytes as usize).step_by(8) {
            let known = self.leaves.get(&leaf);
            copy.store(offset, known.map_or(0, |known| known.load(offset)));
        }
        let copy = Arc::new(copy);
        self.leaves.insert(leaf, copy.clone());
        Ok(copy)
    }

    /// Substream `index` goes through a context, once that is linked.
    pub fn set(
        &mut self,
        smmu: &Smmu<P>,
        index: u32,
        context: &Arc<Context<P>>,
    ) -> Result<(), Fault> {
        let unsupported = Fault::Unsupported {
            what: "substreams of a domain that is nested, or of stage 2",
            seen: context.number().into(),
        };
        let plain = context.parent().is_none();
        let (_, cd) = context.cd().filter(|_| plain).ok_or(unsupported)?;
        let (leaf, offset) = self.shape.locate(index);
        let copy = self.replace(smmu, leaf)?;
        for (word, &value) in cd.0.iter().enumerate() {
            copy.store(offset + 8 * word, value);
        }
        copy.publish(0, self.shape.leaf_bytes() as usize);
        self.contexts.insert(index, context.clone());
        Ok(())
    }

    /// Puts the last-level table of `index` in its place, now that it is filled; if
    /// there is no level 1 the stream's entry does that.
    pub fn link(&self, platform: &P, index: u32) {
        let (leaf, _) = self.shape.locate(index);
        if let (Some(root), Some(memory)) = (&self.root, self.leaves.get(&leaf)) {
            platform.barrier(Barrier::Publish);
            let offset = leaf as usize * L1Cd::BYTES;
            root.store(offset, L1Cd::table(memory.pa()).0);
            root.publish(offset, L1Cd::BYTES);
        }
    }

    /// Substream `index` ends: one bit makes its CD invalid, where it is.
    pub fn clear(&mut self, index: u32) {
        let (leaf, offset) = self.shape.locate(index);
        if let Some(memory) = self.leaves.get(&leaf) {
            memory.store(offset, 0);
            memory.publish(offset, 8);
        }
        self.contexts.remove(&index);
    }

    pub fn is_two_level(&self) -> bool {
        self.root.is_some()
    }

    /// Whether this and `other` are reached by the same entry.
    pub fn shares_root(&self, other: &Self) -> bool {
        match (&self.root, &other.root) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    pub fn contexts(&self) -> &BTreeMap<u32, Arc<Context<P>>> {
        &self.contexts
    }

    /// Whether there is any but that of transactions without a SubstreamID.
    pub fn is_used(&self) -> bool {
        self.contexts.keys().any(|&index| index != 0)
    }

    /// The entry of a stream whose CDs are here.
    pub fn ste(&self, smmu: &Smmu<P>, plain: Option<&Route<P>>) -> Ste {
        let base = self.root.as_ref().or_else(|| self.leaves.get(&0));
        let table = ste::CdTable {
            base: base.map_or(0, |memory| memory.pa()),
            two_level: self.is_two_level(),
            bits: self.shape.bits,
            plain: match plain {
                None => Plain::Terminate,
                Some(Route::Bypass) => Plain::Bypass,
                Some(Route::Translate(_)) => Plain::Substream0,
            },
        };
        Ste::substreams(table, smmu.access(), smmu.features.stall_configurable)
    }

    /// The descriptor of level 1 that leads to `index`, if there is one, and its address.
    pub fn level1(&self, index: u32) -> Option<(u64, L1Cd)> {
        let (leaf, _) = self.shape.locate(index);
        let (root, at) = (self.root.as_ref()?, leaf as usize * L1Cd::BYTES);
        Some((root.pa() + at as u64, L1Cd(root.load(at))))
    }

    /// The CD of `index` and its address.
    pub fn cd(&self, index: u32) -> Option<(u64, Cd)> {
        let (leaf, offset) = self.shape.locate(index);
        let memory = self.leaves.get(&leaf)?;
        let cd = Cd(memory.load_words(offset));
        Some((memory.pa() + offset as u64, cd))
    }
}

impl<P: Machine> Smmu<P> {
    /// Whether a SubstreamID can be given a context. 0 is what a stream's transactions
    /// without one use (§5.2 S1DSS).
    pub fn check_substream(&self, substream: SubstreamId) -> Result<(), Fault> {
        let substreams = limit(&self.features);
        if u64::from(substream.0) >= substreams {
            return Err(Fault::SubstreamOutOfRange {
                substream,
                substreams,
            });
        }
        if substream.0 == 0 {
            let why = "SubstreamID 0 is for transactions without one: attach the stream itself";
            return Err(Fault::invalid(why));
        }
        Ok(())
    }

    /// Has the hardware forget the CD of a substream, and what led to it if that
    /// changed.
    pub fn forget_cd(&self, stream: StreamId, index: u32, leaf: bool) -> Result<(), Fault> {
        self.run([Command::cfgi_cd(stream.0, index, leaf)])
    }
}

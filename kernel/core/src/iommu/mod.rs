//! IOMMUs as instances. There is no global table of operations: what a driver
//! publishes is this one [`Iommu`], what a master is attached to is one
//! [`Domain`] of it.

mod fault;
mod group;
mod lower;
mod managed;
mod mappings;
mod streams;

pub use fault::{Access, FaultLog, FaultRecord, FaultReport};
pub(crate) use group::{Behind, Identity, Joining};
pub use group::{Group, GroupInfo};
pub use lower::Lower;
pub(crate) use managed::Inner as ManagedInner;
pub use managed::{Managed, Space};
pub use mappings::PATIENCE_US;
pub(crate) use mappings::Unlisted;
pub(crate) use streams::Reservation;
pub use streams::{Owner, Streams};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::{Iova, PhysAddr, StreamId, SubstreamId};
use crate::error::Fault;

/// One IOMMU.
pub trait Iommu: Send + Sync {
    /// What it can do.
    fn limits(&self) -> Limits;
    /// A new, empty domain: every address faults until it is mapped.
    fn paging_domain(&self) -> Result<Arc<dyn Domain>, Fault>;
    /// A new, empty domain that others can be nested in, where there are two stages of
    /// translation.
    fn parent_domain(&self) -> Result<Arc<dyn ParentDomain>, Fault> {
        let what = "nested domains: this IOMMU has one stage of translation";
        Err(Fault::Unsupported { what, seen: 0 })
    }
    /// A domain in which every address is its own physical address.
    fn identity_domain(&self) -> Result<Arc<dyn Domain>, Fault>;
    /// Aborts everything from `stream`. When this returns `Ok` no transaction of
    /// the stream reaches memory; on an error one still may, and the instance keeps
    /// what its hardware uses for that until it does not, or quarantines it.
    fn block(&self, stream: StreamId) -> Result<(), Fault>;
    /// Input addresses that `stream` does not send through a domain. None of them is
    /// handed out to a group that it is in.
    fn reserved(&self, stream: StreamId) -> Result<Vec<Reserved>, Fault> {
        let _ = stream;
        Ok(Vec::new())
    }
    /// How many SubstreamIDs a stream can have, 0 included; none at all without
    /// substreams.
    fn substreams(&self) -> u64 {
        0
    }
    /// Aborts everything of one substream, as [`block`](Self::block) does for all of a
    /// stream.
    fn block_substream(&self, _: StreamId, substream: SubstreamId) -> Result<(), Fault> {
        let substreams = 0;
        Err(Fault::SubstreamOutOfRange {
            substream,
            substreams,
        })
    }
    /// Counters and features, for people.
    fn status(&self) -> Status;
    /// The streams that do not abort.
    fn live_streams(&self) -> Vec<StreamId>;
    /// The stream's entry, decoded.
    fn describe(&self, stream: StreamId) -> Result<EntryDump, Fault>;
}

/// What an IOMMU can do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Highest input address of a domain.
    pub aperture: u64,
    /// Number of streams, at most 2^32.
    pub streams: u64,
    /// What addresses and lengths of mappings are multiples of, a power of two: a
    /// page or more.
    pub page: u64,
}

/// Input addresses that a stream does not send through its domain.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Reserved {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// Whether what is written there raises interrupts, untranslated; else it goes
    /// nowhere.
    pub doorbell: bool,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.doorbell { "for MSI" } else { "reserved" };
        write!(f, "{:#x} to {:#x} ({what})", self.first, self.last)
    }
}

/// Counters and features of an IOMMU.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What was found in its identification registers, in words.
    pub features: Vec<String>,
    /// Streams that do not abort.
    pub streams_attached: u64,
    /// Domains that live.
    pub domains: u64,
    /// Commands issued, syncs included.
    pub commands: u64,
    /// Syncs issued.
    pub syncs: u64,
    /// Reads and writes of its registers that commands took.
    pub accesses: u64,
    /// Events taken.
    pub events: u64,
    /// Errors of the IOMMU itself (not of masters).
    pub errors: u64,
    /// Streams that were cut off because they would not stop faulting.
    pub quarantined: u64,
}

/// A decoded entry: raw words, then named fields.
#[derive(Clone, Debug, Default)]
pub struct EntryDump {
    /// What happens to transactions: `abort`, `bypass`, `stage 1`, ...
    pub config: &'static str,
    /// The structures, in the order that the hardware reads them.
    pub parts: Vec<DumpPart>,
}

/// One structure of an entry.
#[derive(Clone, Debug)]
pub struct DumpPart {
    /// `STE`, `CD`.
    pub name: &'static str,
    /// The substream that it is of, if the stream has some.
    pub substream: Option<SubstreamId>,
    /// Where it is.
    pub pa: PhysAddr,
    /// Its words.
    pub words: Vec<u64>,
    /// Its fields by their architected names.
    pub fields: Vec<(&'static str, u64)>,
}

/// A page table on an instance, or the absence of one.
pub trait Domain: Send + Sync {
    /// Sends `stream` through this domain. When this returns `Ok` the hardware uses
    /// the new entry.
    fn attach(&self, stream: StreamId) -> Result<(), Fault>;
    /// Sends a substream of `stream` through this domain, whatever others and
    /// transactions without a SubstreamID do.
    fn attach_substream(&self, _: StreamId, substream: SubstreamId) -> Result<(), Fault> {
        let substreams = 0;
        Err(Fault::SubstreamOutOfRange {
            substream,
            substreams,
        })
    }
    /// Maps `len` bytes. The caller owns the range: nobody else maps or unmaps in it
    /// meanwhile. Nothing may be mapped there; on an error nothing is.
    fn map(&self, iova: Iova, pa: PhysAddr, len: u64, access: Permission) -> Result<(), Fault>;
    /// Unmaps exactly what `map` was given. When this returns `Ok` no transaction
    /// reaches the memory through this domain any more. An error of the *sync*
    /// means that one still may: neither memory nor address may be reused.
    fn unmap(&self, iova: Iova, len: u64) -> Result<(), Fault>;
    /// The same as `map`, with what was known of this range when it was mapped last;
    /// gives what is known of it now.
    fn map_near(
        &self,
        hint: Hint,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Hint, Box<Fault>> {
        let _ = hint;
        self.map(iova, pa, len, access)?;
        Ok(Hint::default())
    }
    /// The same as `unmap`, with what is known of this range.
    fn unmap_near(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        let _ = hint;
        Ok(self.unmap(iova, len)?)
    }
    /// Maps pieces of one length, wherever each is, side by side from `iova` on, as
    /// `map_near` would each of them. On an error also says how many are mapped.
    fn map_list(
        &self,
        hint: Hint,
        iova: Iova,
        pieces: &[PhysAddr],
        piece: u64,
        access: Permission,
    ) -> Result<Hint, (usize, Box<Fault>)> {
        self.map_each(hint, iova, pieces, piece, access)
    }
    /// The same, one after the other.
    fn map_each(
        &self,
        hint: Hint,
        iova: Iova,
        pieces: &[PhysAddr],
        piece: u64,
        access: Permission,
    ) -> Result<Hint, (usize, Box<Fault>)> {
        let mut hint = hint;
        for (done, &pa) in pieces.iter().enumerate() {
            let at = iova.add(piece * done as u64);
            let mapped = self.map_near(hint, at, pa, piece, access);
            hint = mapped.map_err(|fault| (done, fault))?;
        }
        Ok(hint)
    }
    /// Unmaps `count` of the pieces that `map_list` was given, from the first one on,
    /// all of them in any case. As for `unmap`, of an error none may be reused.
    fn unmap_list(&self, hint: Hint, iova: Iova, count: usize, piece: u64) -> Result<(), Fault> {
        let mut result = Ok(());
        for index in 0..count as u64 {
            let at = iova.add(piece * index);
            result = result.and(self.unmap_near(hint, at, piece).map_err(Fault::from));
        }
        result
    }
    /// Takes `count` of the pieces that `map_list` was given out of the tables, as
    /// `unmap_list` does, and may leave what is cached of them to [`flush`](Self::flush).
    fn clear(&self, hint: Hint, iova: Iova, count: usize, piece: u64) -> Result<(), Box<Fault>> {
        Ok(self.unmap_list(hint, iova, count, piece)?)
    }
    /// When this returns `Ok` no transaction reaches what was cleared before. On an error
    /// one still may.
    fn flush(&self) -> Result<(), Fault> {
        Ok(())
    }
    /// Makes ready for mappings at and after an address, and says what is known of it.
    fn prepare(&self, iova: Iova) -> Hint {
        let _ = iova;
        Hint::default()
    }
    /// Every level of the walk for an address.
    fn walk(&self, iova: Iova) -> Vec<WalkStep>;
    /// What its translations are told apart by, if they are.
    fn tag(&self) -> Option<Tag>;
    /// The tag of the domain that it is nested in, if it is.
    fn parent_tag(&self) -> Option<Tag> {
        None
    }
}

/// What an IOMMU tells the translations of a domain apart by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Tag {
    /// Of stage 1.
    Asid(u32),
    /// Of stage 2.
    Vmid(u32),
    /// The domain's own number, where tables are not seen.
    Domain(u32),
}

impl Tag {
    /// What it is called.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Asid(_) => "ASID",
            Self::Vmid(_) => "VMID",
            Self::Domain(_) => "domain",
        }
    }

    /// The number by itself.
    pub fn number(self) -> u32 {
        match self {
            Self::Asid(number) | Self::Vmid(number) | Self::Domain(number) => number,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.number())
    }
}

/// A domain that others can be nested in: it says which memory masters may reach and
/// where, and those in it say which of that, and where. What is mapped in a nested
/// domain is not memory, then, but an address of its parent. A stream can be attached
/// to either.
pub trait ParentDomain: Domain {
    /// Highest address that can be mapped here.
    fn aperture(&self) -> u64;
    /// A new, empty domain in this one, which it keeps alive.
    fn nested(&self) -> Result<Arc<dyn Domain>, Fault>;
}

/// What a domain knows of a range's place in its tables: whoever has the range keeps
/// it, and gives it back to spare the domain a search. It means something to the domain
/// that gave it only.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Hint(pub u64);

/// What a master may do with mapped memory.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Permission {
    /// Read only.
    Read,
    /// Read and write; stage 1 has no write-only (DDI 0487 D8.4.1).
    ReadWrite,
    /// Read and write of device registers: an interrupt doorbell.
    Doorbell,
}

/// One level of a walk.
#[derive(Clone, Debug)]
pub struct WalkStep {
    /// Whose table it is: that of a master's addresses (1), or, nested, of their
    /// parent's (2).
    pub stage: u8,
    /// Level, 0 to 3.
    pub level: u8,
    /// The table that was read.
    pub table: PhysAddr,
    /// The entry's index.
    pub index: usize,
    /// The entry.
    pub descriptor: u64,
    /// What it means.
    pub meaning: Box<str>,
    /// Its attributes by their architected names.
    pub attributes: Vec<(&'static str, u64)>,
}

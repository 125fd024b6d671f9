//! IOMMUs, streams, domains, walks and faults. Words of 64 bits that are no
//! address are digits in a string: readers that keep numbers as floating point
//! would lose the lowest of their bits.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::engine::{Device, Engine};
use mastiff_core::iommu::{self, DumpPart, EntryDump, GroupInfo, Status, Tag, WalkStep};
use mastiff_core::platform::Platform;
use mastiff_dt::NodeId;
use serde::Serialize;

use super::{isolation, name_at};

/// One IOMMU.
#[derive(Clone, Debug, Serialize)]
pub struct IommuRecord {
    /// Its path.
    pub name: String,
    /// Its driver.
    pub driver: Option<&'static str>,
    /// What it can do, in words.
    pub features: Vec<String>,
    /// Streams that do not abort.
    pub streams_attached: u64,
    /// Domains that live.
    pub domains: u64,
    /// Commands issued, syncs included.
    pub commands: u64,
    /// Syncs issued.
    pub syncs: u64,
    /// Register accesses that commands took.
    pub accesses: u64,
    /// Events taken.
    pub events: u64,
    /// Errors of its own.
    pub errors: u64,
    /// Streams that were cut off because they would not stop faulting.
    pub quarantined: u64,
}

/// A stream of an IOMMU.
#[derive(Clone, Debug, Serialize)]
pub struct StreamRef {
    /// The IOMMU's path.
    pub iommu: String,
    /// The StreamID there.
    pub stream: u32,
}

/// One stream that the tree or a bus speaks of.
#[derive(Clone, Debug, Serialize)]
pub struct StreamRecord {
    /// The IOMMU's path.
    pub iommu: String,
    /// The StreamID there.
    pub stream: u32,
    /// Where its transactions go (`abort`, `bypass`, `stage 1`, ...); none where
    /// the IOMMU is not bound or has no such stream.
    pub config: Option<&'static str>,
    /// The devices behind it, joined by `+` where they cannot be told apart.
    pub device: Box<str>,
    /// The driver bound to one of them.
    pub driver: Option<&'static str>,
    /// Why `config` is not known.
    pub error: Option<String>,
}

/// A stream's entry, decoded.
#[derive(Clone, Debug, Serialize)]
pub struct EntryRecord {
    /// The IOMMU's path.
    pub iommu: Box<str>,
    /// The StreamID.
    pub stream: u32,
    /// Where its transactions go.
    pub config: &'static str,
    /// The structures, in the order that the hardware reads them.
    pub parts: Vec<PartRecord>,
}

/// One structure of an entry.
#[derive(Clone, Debug, Serialize)]
pub struct PartRecord {
    /// Its architected name.
    pub name: &'static str,
    /// The SubstreamID that it is of, if the stream has substreams.
    pub substream: Option<u32>,
    /// Where it is.
    pub pa: u64,
    /// Its words.
    pub words: Vec<String>,
    /// Its fields.
    pub fields: Vec<FieldRecord>,
}

/// One field of a structure.
#[derive(Clone, Debug, Serialize)]
pub struct FieldRecord {
    /// Its architected name.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

/// The walk for one address.
#[derive(Clone, Debug, Serialize)]
pub struct WalkRecord {
    /// The device whose domain is walked.
    pub device: Box<str>,
    /// The address.
    pub iova: u64,
    /// `dma`, `managed`, or `identity`: no tables, addresses pass unchanged.
    pub domain: &'static str,
    /// What the hardware reads, in order.
    pub levels: Vec<LevelRecord>,
}

/// One level of a walk.
#[derive(Clone, Debug, Serialize)]
pub struct LevelRecord {
    /// The stage: 2 for what a nested domain's addresses go through, and where there is
    /// no stage 1.
    pub stage: u8,
    /// The level, 0 to 3.
    pub level: u8,
    /// The table.
    pub table: u64,
    /// The entry's index.
    pub index: usize,
    /// The entry.
    pub descriptor: String,
    /// What it means.
    pub meaning: Box<str>,
    /// Its attributes.
    pub attributes: Vec<FieldRecord>,
}

/// One live domain.
#[derive(Clone, Debug, Serialize)]
pub struct DomainRecord {
    /// `dma` or `identity`; `managed`: its driver has attached it.
    pub domain: &'static str,
    /// The tag of its translations.
    pub tag: Option<u32>,
    /// What the tag is: `ASID`, `VMID`, or the `domain`'s own number.
    pub tag_kind: Option<&'static str>,
    /// The tag of what it is nested in (VMID).
    pub parent: Option<u32>,
    /// Bytes of IOVA in use.
    pub mapped: u64,
    /// The one substream that goes through it, if it is not all that is without a
    /// SubstreamID.
    pub substream: Option<u32>,
    /// The streams that go through it.
    pub streams: Vec<StreamRef>,
    /// The devices that share it.
    pub members: Vec<Box<str>>,
}

/// What a master did wrong.
#[derive(Clone, Debug, Serialize)]
pub struct FaultRecord {
    /// The IOMMU's path.
    pub iommu: Box<str>,
    /// The event's architected name.
    pub event: &'static str,
    /// The StreamID.
    pub stream: Option<u32>,
    /// The device.
    pub device: Option<Box<str>>,
    /// The driver bound to it at the time.
    pub driver: Option<&'static str>,
    /// The address.
    pub iova: Option<u64>,
    /// `read`, `write`, `execute`, `unknown`.
    pub access: String,
    /// The stage, 0 where none is involved.
    pub stage: u8,
    /// How often.
    pub count: u64,
    /// What else the event says.
    pub detail: String,
}

impl IommuRecord {
    /// What is known of an IOMMU.
    pub fn new(name: String, driver: Option<&'static str>, status: Status) -> Self {
        Self {
            name,
            driver,
            features: status.features,
            streams_attached: status.streams_attached,
            domains: status.domains,
            commands: status.commands,
            syncs: status.syncs,
            accesses: status.accesses,
            events: status.events,
            errors: status.errors,
            quarantined: status.quarantined,
        }
    }
}

impl StreamRef {
    /// Names a stream by its IOMMU.
    pub fn new<P: Platform>(engine: &Engine<P>, iommu: NodeId, stream: StreamId) -> Self {
        Self {
            iommu: name_at(engine, iommu),
            stream: stream.0,
        }
    }
}

impl EntryRecord {
    /// A decoded entry.
    pub fn new(iommu: &str, stream: StreamId, entry: EntryDump) -> Self {
        Self {
            iommu: iommu.into(),
            stream: stream.0,
            config: entry.config,
            parts: entry.parts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DumpPart> for PartRecord {
    fn from(part: DumpPart) -> Self {
        Self {
            name: part.name,
            substream: part.substream.map(|substream| substream.0),
            pa: part.pa.0,
            words: part.words.into_iter().map(word).collect(),
            fields: part.fields.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<(&'static str, u64)> for FieldRecord {
    fn from((name, value): (&'static str, u64)) -> Self {
        Self { name, value }
    }
}

impl WalkRecord {
    /// The walk for an address, in whatever a device's streams go through; nothing
    /// where that is no domain.
    pub fn new<P: Platform>(device: &Device<P>, iova: Iova) -> Option<Self> {
        let levels = device.walk(iova).unwrap_or_default();
        Some(Self {
            device: device.name.clone(),
            iova: iova.0,
            domain: isolation::attached(&device.dma())?,
            levels: levels.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<WalkStep> for LevelRecord {
    fn from(step: WalkStep) -> Self {
        Self {
            stage: step.stage,
            level: step.level,
            table: step.table.0,
            index: step.index,
            descriptor: word(step.descriptor),
            meaning: step.meaning,
            attributes: step.attributes.into_iter().map(Into::into).collect(),
        }
    }
}

impl DomainRecord {
    /// What is known of a domain of this kind.
    pub fn new<P: Platform>(engine: &Engine<P>, domain: &'static str, info: GroupInfo) -> Self {
        let streams = info.streams.iter();
        Self {
            domain,
            tag: info.tag.map(Tag::number),
            tag_kind: info.tag.map(Tag::kind),
            parent: info.parent.map(Tag::number),
            substream: info.substream.map(|substream| substream.0),
            mapped: info.mapped,
            streams: streams
                .map(|&(node, stream)| StreamRef::new(engine, node, stream))
                .collect(),
            members: info.members,
        }
    }
}

impl From<iommu::FaultRecord> for FaultRecord {
    fn from(record: iommu::FaultRecord) -> Self {
        Self {
            iommu: record.iommu,
            event: record.report.event,
            stream: record.report.stream.map(|stream| stream.0),
            device: record.device,
            driver: record.driver,
            iova: record.report.iova.map(|iova| iova.0),
            access: record.report.access.to_string(),
            stage: record.report.stage,
            count: record.count,
            detail: record.report.detail,
        }
    }
}

fn word(word: u64) -> String {
    format!("{word:#018x}")
}

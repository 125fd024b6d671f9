//! What scripts read: one JSON object a line, `@` in front. The fields are a
//! contract; they may be added to, and one is changed only with a word in the
//! change log.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::driver::DmaProof;
use mastiff_core::engine::{Cause, Device, DmaSetup, Engine};
use mastiff_core::iommu::{FaultRecord, Status};
use mastiff_core::platform::Platform;
use serde::Serialize;

/// A record, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// The boot as a whole.
    Boot(BootRecord),
    /// One device.
    Device(DeviceRecord),
    /// One IOMMU.
    Iommu(IommuRecord),
    /// One verified transfer.
    Dma(DmaRecord),
    /// What masters did wrong.
    Fault(FaultLine),
    /// One command of `run=`.
    Step(StepRecord),
}

impl Record {
    /// The record as its line.
    pub fn line(&self) -> String {
        let mut room = alloc::vec![0; FIRST_TRY];
        loop {
            // Strings, numbers and lists: all that can fail is that it does not fit.
            if let Ok(len) = serde_json_core::to_slice(self, &mut room) {
                return format!("@{}", String::from_utf8_lossy(&room[..len]));
            }
            room.resize(room.len() * 2, 0);
        }
    }
}

/// Bytes that most records fit in.
const FIRST_TRY: usize = 1024;

/// The boot as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct BootRecord {
    /// The board's folder name.
    pub board: &'static str,
    /// The kernel's version.
    pub version: &'static str,
    /// CPUs that run.
    pub cpus: u32,
    /// Exception level at entry.
    pub el: u8,
    /// Instructions from entry to the first verified block.
    pub insn: Option<u64>,
    /// Microseconds from entry to the first verified block.
    pub us: Option<u64>,
    /// Number of devices.
    pub devices: usize,
    /// How many are bound.
    pub bound: usize,
    /// How many wait.
    pub waiting: usize,
    /// How many failed.
    pub failed: usize,
}

/// One device.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceRecord {
    /// Its path.
    pub name: Box<str>,
    /// What its node is compatible with, or its PCI identity.
    pub compatible: Vec<String>,
    /// The driver for it.
    pub driver: Option<&'static str>,
    /// Its state.
    pub state: &'static str,
    /// Tries by the engine.
    pub attempts: u32,
    /// How often its driver was entered.
    pub probes: u32,
    /// What it has waited for.
    pub waited: Vec<WaitedRecord>,
    /// From the device to the root cause, where it waits or failed.
    pub cause: Vec<CauseRecord>,
    /// The IOMMU that it is behind.
    pub iommu: Option<String>,
    /// Its StreamIDs there.
    pub streams: Vec<u32>,
    /// The group that shares its domain: the group's first stream.
    pub group: Option<String>,
    /// `dma`, `identity`, `none`.
    pub domain: &'static str,
    /// What policy decided about it.
    pub decision: Option<String>,
    /// Its place in the order of binding.
    pub order: Option<u32>,
}

/// A supplier that a device waited for.
#[derive(Clone, Debug, Serialize)]
pub struct WaitedRecord {
    /// Path of the supplier.
    pub on: String,
    /// What it supplies.
    pub class: String,
    /// The property that asks for it.
    pub property: &'static str,
}

/// A link of the chain to the root cause.
#[derive(Clone, Debug, Serialize)]
pub struct CauseRecord {
    /// The device.
    pub device: Box<str>,
    /// What is the matter with it.
    pub reason: String,
}

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
    /// Commands issued.
    pub commands: u64,
    /// Syncs issued.
    pub syncs: u64,
    /// Events taken.
    pub events: u64,
    /// Errors of its own.
    pub errors: u64,
}

/// One verified transfer.
#[derive(Clone, Debug, Serialize)]
pub struct DmaRecord {
    /// The master.
    pub device: Box<str>,
    /// `verify` or `read`.
    pub op: &'static str,
    /// Bytes that were moved.
    pub bytes: u64,
    /// The address that the device used.
    pub iova: Option<u64>,
    /// The memory behind it.
    pub pa: Option<u64>,
    /// Digest of the data, where all of a disk was read.
    pub sha256: Option<String>,
    /// Whether every byte was right.
    pub ok: bool,
    /// What was wrong.
    pub error: Option<String>,
}

/// What masters did wrong.
#[derive(Clone, Debug, Serialize)]
pub struct FaultLine {
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
    /// The stage.
    pub stage: u8,
    /// How often.
    pub count: u64,
    /// What else the event says.
    pub detail: String,
}

/// One command of `run=`.
#[derive(Clone, Debug, Serialize)]
pub struct StepRecord {
    /// The command.
    pub command: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// What went wrong.
    pub error: Option<String>,
}

impl DeviceRecord {
    /// What is known of a device.
    pub fn new<P: Platform>(engine: &Engine<P>, device: &Device<P>) -> Self {
        let tree = &engine.context().tree;
        let dma = device.dma();
        let (domain, group) = match &dma {
            DmaSetup::None | DmaSetup::Direct => ("none", None),
            DmaSetup::Group(info) => {
                let kind = if info.identity { "identity" } else { "dma" };
                let first = info.streams.first();
                let name = first.map(|(node, id)| format!("{}:{id}", tree.node(*node).path()));
                (kind, name)
            }
        };
        let compatible = match (&device.child, device.node) {
            (Some(child), _) => Vec::from([format!(
                "pci{:04x},{:04x}",
                child.pci.vendor, child.pci.device
            )]),
            (None, Some(node)) => tree.node(node).compatible().map(String::from).collect(),
            (None, None) => Vec::new(),
        };
        Self {
            name: device.name.clone(),
            compatible,
            driver: engine.driver_of(device),
            state: device.state.name(),
            attempts: device.attempts,
            probes: device.probes,
            waited: device
                .waited
                .iter()
                .map(|waited| WaitedRecord {
                    on: tree.node(waited.dependency.node).path(),
                    class: waited.dependency.class.to_string(),
                    property: waited.property,
                })
                .collect(),
            cause: engine
                .causes_of(device)
                .into_iter()
                .map(Into::into)
                .collect(),
            iommu: device
                .streams
                .first()
                .map(|stream| tree.node(stream.iommu).path()),
            streams: device.streams.iter().map(|stream| stream.id.0).collect(),
            group,
            domain,
            decision: device.decision.clone(),
            order: device.order,
        }
    }
}

impl From<Cause> for CauseRecord {
    fn from(cause: Cause) -> Self {
        Self {
            device: cause.device,
            reason: cause.reason,
        }
    }
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
            events: status.events,
            errors: status.errors,
        }
    }
}

impl DmaRecord {
    /// A transfer that was right.
    pub fn good(device: &str, op: &'static str, proof: &DmaProof, sha256: Option<String>) -> Self {
        Self {
            device: device.into(),
            op,
            bytes: proof.bytes,
            iova: Some(proof.iova.0),
            pa: Some(proof.pa.0),
            sha256,
            ok: true,
            error: None,
        }
    }

    /// A transfer that failed.
    pub fn bad(device: &str, op: &'static str, error: String) -> Self {
        Self {
            device: device.into(),
            op,
            bytes: 0,
            iova: None,
            pa: None,
            sha256: None,
            ok: false,
            error: Some(error),
        }
    }
}

impl From<FaultRecord> for FaultLine {
    fn from(record: FaultRecord) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_whatever_is_in_it() {
        let step = |error: &str| {
            let record = Record::Step(StepRecord {
                command: "why \"x\"\n\u{1}".into(),
                ok: false,
                error: Some(error.into()),
            });
            record.line()
        };
        assert_eq!(
            step("no"),
            r#"@{"kind":"step","command":"why \"x\"\n\u0001","ok":false,"error":"no"}"#
        );
        let long = "x".repeat(10 * FIRST_TRY);
        assert!(step(&long).ends_with("x\"}"));
    }

    #[test]
    fn what_is_unknown_is_null() {
        let record = Record::Dma(DmaRecord::bad("/a", "verify", "it failed".into()));
        assert_eq!(
            record.line(),
            r#"@{"kind":"dma","device":"/a","op":"verify","bytes":0,"iova":null,"pa":null,"sha256":null,"ok":false,"error":"it failed"}"#
        );
    }
}

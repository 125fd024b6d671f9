//! What commands answer with, as data. A script reads a record as one line of
//! JSON, `@` in front; for people `text` makes words of the same records. The
//! fields are a contract, `docs/records.md` lists them; they may be added to, and
//! one is changed only with a word in the change log.

mod bench;
mod device;
mod dma;
mod hostile;
mod iommu;
mod isolation;
mod machine;
mod supply;

pub use bench::BenchRecord;
pub use device::{
    CauseRecord, DeviceRecord, DriverRecord, NodeRecord, PropertyRecord, WaitedRecord, WhyRecord,
};
pub use dma::{DataRecord, DmaRecord, SpaceRecord};
pub use hostile::{HostileRecord, Outcome, StormRecord};
pub use iommu::{
    DomainRecord, EntryRecord, FaultRecord, FieldRecord, IommuRecord, LevelRecord, PartRecord,
    StreamRecord, StreamRef, WalkRecord,
};
pub use isolation::{IsolationRecord, Reach};
pub use machine::{
    BootRecord, CommandRecord, CpuRecord, IrqRecord, LogRecord, MemoryRecord, ScaleRecord,
    StepRecord, TogetherRecord, UptimeRecord,
};
pub use supply::SwitchRecord;

use alloc::format;
use alloc::string::String;

use mastiff_core::engine::Engine;
use mastiff_core::platform::Platform;
use mastiff_dt::NodeId;
use serde::Serialize;

/// What a node is called in records: the name of its device, or its path where it
/// has none of its own.
pub fn name_at<P: Platform>(engine: &Engine<P>, node: NodeId) -> String {
    match engine.device_at(node) {
        Some(device) => device.name.clone().into_string(),
        None => engine.context().tree.node(node).path(),
    }
}

/// A record, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// The boot as a whole.
    Boot(BootRecord),
    /// One device.
    Device(DeviceRecord),
    /// Why a device is where it is.
    Why(WhyRecord),
    /// What one master reaches.
    Isolation(IsolationRecord),
    /// One node of the device tree.
    Node(NodeRecord),
    /// One driver of the image.
    Driver(DriverRecord),
    /// One IOMMU.
    Iommu(IommuRecord),
    /// One stream that the tree or a bus speaks of.
    Stream(StreamRecord),
    /// A stream's entry, decoded.
    Entry(EntryRecord),
    /// The walk for one address.
    Walk(WalkRecord),
    /// One live domain.
    Domain(DomainRecord),
    /// What a master did wrong.
    Fault(FaultRecord),
    /// One verified transfer.
    Dma(DmaRecord),
    /// What a master with spaces of its own was told, or saw.
    Space(SpaceRecord),
    /// What a hostile master tried, and what came of it.
    Hostile(HostileRecord),
    /// A storm of faults.
    Storm(StormRecord),
    /// Bytes that were read.
    Data(DataRecord),
    /// What is switched on and off for others.
    Switch(SwitchRecord),
    /// One CPU.
    Cpu(CpuRecord),
    /// What one CPU did while all were at it.
    Together(TogetherRecord),
    /// Mapping on some CPUs at once.
    Scale(ScaleRecord),
    /// One interrupt.
    Irq(IrqRecord),
    /// Memory in one use.
    Memory(MemoryRecord),
    /// One line of the log.
    Log(LogRecord),
    /// Time since entry.
    Uptime(UptimeRecord),
    /// What something costs.
    Bench(BenchRecord),
    /// One command of the shell.
    Command(CommandRecord),
    /// One command that was run.
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

    #[test]
    fn bytes_are_hexadecimal_digits() {
        let record = Record::Data(DataRecord {
            device: "/a".into(),
            space: "disk",
            at: 512,
            faulted: false,
            data: alloc::vec![0, 0xab, 0xff],
        });
        assert_eq!(
            record.line(),
            r#"@{"kind":"data","device":"/a","space":"disk","at":512,"faulted":false,"data":"00abff"}"#
        );
    }
}

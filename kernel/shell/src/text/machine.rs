//! The boot, transfers, the machine and the shell as people read them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::View;
use super::format::{count, dump, size};
use crate::records::{
    BenchRecord, BootRecord, CommandRecord, CpuRecord, DataRecord, DmaRecord, IrqRecord, LogRecord,
    MemoryRecord, ScaleRecord, SpaceRecord, StepRecord, TogetherRecord, UptimeRecord,
};

pub fn boot(record: &BootRecord) -> View {
    let parked = match record.parked {
        0 => String::new(),
        parked => format!(" ({parked} parked)"),
    };
    let mut text = format!(
        "Mastiff {} on {}, {}{parked}, entered at EL{}; {}: {} bound, {} waiting, {} failed\n",
        record.version,
        record.board,
        count(u64::from(record.cpus), "CPU"),
        record.el,
        count(record.devices as u64, "device"),
        record.bound,
        record.waiting,
        record.failed
    );
    if let Some(us) = record.us {
        text.push_str(&format!("first verified block {}\n", when(us, record.insn)));
    }
    View::Lines(text)
}

pub fn bench(record: &BenchRecord) -> View {
    let dash = |number: Option<u32>| number.map_or("-".into(), |number| format!("{number}"));
    let each = |number: Option<f32>| number.map_or("-".into(), |number| format!("{number}"));
    View::Row(
        &[
            "bench",
            "mode",
            "out",
            "insn",
            "most",
            "map",
            "most",
            "unmap",
            "most",
            "MMIO",
            "invalidations",
            "syncs",
        ],
        Vec::from([
            record.name.into(),
            record.mode.into(),
            dash(record.outstanding),
            format!("{}", record.insn),
            format!("{}", record.insn_max),
            dash(record.map_insn),
            dash(record.map_max),
            dash(record.unmap_insn),
            dash(record.unmap_max),
            each(record.mmio),
            each(record.invalidations),
            each(record.syncs),
        ]),
    )
}

pub fn uptime(record: &UptimeRecord) -> View {
    View::Lines(format!("{}\n", when(record.us, record.insn)))
}

fn when(us: u64, insn: Option<u64>) -> String {
    let mut text = format!("{}.{:06} s after entry", us / 1_000_000, us % 1_000_000);
    if let Some(insn) = insn {
        text.push_str(&format!(", {}", count(insn, "instruction")));
    }
    text
}

/// The line of a transfer that was checked.
pub fn proof(record: &DmaRecord) -> String {
    let mut text = format!("  {}: ", record.device);
    if let Some(error) = &record.error {
        text.push_str(&format!("FAILED: {error}"));
    } else {
        let what = match record.op {
            "verify" => "moved and compared",
            _ => "read",
        };
        text.push_str(&format!("{} {what}", size(record.bytes)));
    }
    if let (Some(iova), Some(pa)) = (record.iova, record.pa) {
        text.push_str(&format!(", device address {iova:#x} -> PA {pa:#x}"));
    }
    if let Some(digest) = &record.sha256 {
        text.push_str(&format!("\n  sha256 {digest}"));
    }
    text.push('\n');
    text
}

pub fn space(record: &SpaceRecord) -> View {
    let dash = |space: Option<&'static str>| space.unwrap_or("-").into();
    View::Row(
        &[
            "master", "space", "did", "IOVA", "read", "wrote", "switches",
        ],
        Vec::from([
            record.device.clone().into_string(),
            dash(record.attached),
            record.op.into(),
            record.iova.map_or("-".into(), |iova| format!("{iova:#x}")),
            dash(record.read),
            dash(record.written),
            format!("{}", record.switches),
        ]),
    )
}

pub fn data(record: &DataRecord) -> View {
    let mut text = String::new();
    if record.faulted {
        let at = record.at;
        text = format!("its transfer faulted: this is not what is at {at:#x}, see `faults`\n");
    }
    text.push_str(&dump(record.at, &record.data));
    View::Lines(text)
}

pub fn cpu(record: &CpuRecord) -> View {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    View::Row(
        &["cpu", "number", "affinity", "why not"],
        Vec::from([
            record.cpu.clone(),
            or_dash(record.number.map(|number| format!("{number}"))),
            or_dash(record.affinity.map(|affinity| format!("{affinity:#x}"))),
            or_dash(record.why.clone()),
        ]),
    )
}

pub fn together(record: &TogetherRecord) -> View {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    View::Row(
        &["cpu", "maps", "trips", "read", "sha256", "error"],
        Vec::from([
            format!("{}", record.cpu),
            format!("{}", record.maps),
            format!("{}", record.trips),
            size(record.bytes),
            or_dash(&record.sha256),
            or_dash(&record.error),
        ]),
    )
}

pub fn scale(record: &ScaleRecord) -> View {
    View::Row(
        &["bench", "CPUs", "maps/s", "ratio"],
        Vec::from([
            record.name.into(),
            format!("{}", record.cpus),
            format!("{}", record.per_second),
            format!("{:.2}", record.ratio),
        ]),
    )
}

pub fn irq(record: &IrqRecord) -> View {
    match (record.intid, &record.device) {
        (Some(intid), Some(device)) => View::Row(
            &["irq", "count", "device"],
            Vec::from([
                format!("{intid}"),
                format!("{}", record.count),
                device.clone(),
            ]),
        ),
        _ => View::Lines(format!("{} without a handler\n", record.count)),
    }
}

pub fn memory(record: &MemoryRecord) -> View {
    View::Row(
        &["memory", "size"],
        Vec::from([record.name.into(), size(record.bytes)]),
    )
}

pub fn log(record: &LogRecord) -> View {
    View::Lines(format!("{}\n", record.text))
}

pub fn command(record: &CommandRecord) -> View {
    let usage = format!("{} {}", record.name, record.arguments);
    let usage = usage.trim_end();
    match record.more {
        None => View::Row(
            &["command", "does"],
            Vec::from([usage.into(), record.help.into()]),
        ),
        Some(more) => View::Lines(format!("{usage}\n{}\n\n{more}\n", record.help)),
    }
}

pub fn step(record: &StepRecord) -> View {
    View::Lines(match &record.error {
        Some(error) => format!("{}: {error}\n", record.command),
        None => String::new(),
    })
}

//! The boot, the machine under it, and the shell itself.

use alloc::string::String;

use serde::Serialize;

/// The boot as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct BootRecord {
    /// The board's folder name.
    pub board: &'static str,
    /// The kernel's version.
    pub version: &'static str,
    /// CPUs that run.
    pub cpus: u32,
    /// CPUs that are kept from running since reset.
    pub parked: u32,
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

/// One CPU of the device tree.
#[derive(Clone, Debug, Serialize)]
pub struct CpuRecord {
    /// Its node's path.
    pub cpu: String,
    /// Its number, if it runs.
    pub number: Option<usize>,
    /// The affinity fields of its MPIDR_EL1.
    pub affinity: Option<u64>,
    /// Why it does not run.
    pub why: Option<String>,
}

/// What one CPU did while all of them were at it.
#[derive(Clone, Debug, Serialize)]
pub struct TogetherRecord {
    /// Its number.
    pub cpu: usize,
    /// How often it mapped and unmapped a page and a list.
    pub maps: u64,
    /// How often a master proved its DMA.
    pub trips: u64,
    /// Bytes of the disk that it read.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Option<String>,
    /// Whether all of it went well.
    pub ok: bool,
    /// What did not.
    pub error: Option<String>,
}

/// Mapping and unmapping on some CPUs at once.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleRecord {
    /// Whether in one domain or in one of each CPU's own.
    pub name: &'static str,
    /// How many CPUs.
    pub cpus: usize,
    /// Mappings that were made and ended in a second, by all of them.
    pub per_second: u64,
    /// How many times as many as one CPU managed.
    pub ratio: f32,
}

/// One interrupt.
#[derive(Clone, Debug, Serialize)]
pub struct IrqRecord {
    /// Its number at the controller; none for all that came without a handler.
    pub intid: Option<u32>,
    /// How often it was served.
    pub count: u64,
    /// The device that it belongs to.
    pub device: Option<String>,
}

/// Memory in one use.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryRecord {
    /// The use.
    pub name: &'static str,
    /// How much.
    pub bytes: u64,
}

/// One line of the log.
#[derive(Clone, Debug, Serialize)]
pub struct LogRecord {
    /// The line.
    pub text: String,
}

/// Time since entry.
#[derive(Clone, Debug, Serialize)]
pub struct UptimeRecord {
    /// Microseconds.
    pub us: u64,
    /// Instructions retired, where they can be counted.
    pub insn: Option<u64>,
}

/// One command of the shell.
#[derive(Clone, Debug, Serialize)]
pub struct CommandRecord {
    /// Its name.
    pub name: &'static str,
    /// Its arguments, in brackets what may be left out.
    pub arguments: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// The rest that there is to say, where that was asked for.
    pub more: Option<&'static str>,
}

/// One command that was run.
#[derive(Clone, Debug, Serialize)]
pub struct StepRecord {
    /// The command.
    pub command: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// What went wrong.
    pub error: Option<String>,
}

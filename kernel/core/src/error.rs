//! What can go wrong with a device, as values: a [`Fault`] is final for this
//! attempt, a [`Dependency`] says what to wait for. Never a bare number or text:
//! the probe story, the records and the tests read these.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use mastiff_dt::{NodeId, OverlayError, PropError, SupplierClass};

use crate::addr::{Iova, PhysAddr, StreamId, SubstreamId};

/// Something that a device needs and that another device supplies.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Dependency {
    /// The tree node of the supplier.
    pub node: NodeId,
    /// What it supplies.
    pub class: SupplierClass,
}

/// Why an attempt to bind a device ended.
#[derive(Clone, PartialEq, Debug)]
pub enum ProbeError {
    /// Not yet: try again when this arrives.
    Defer(Dependency),
    /// Not at all, unless the machine changes.
    Fail(Fault),
}

impl<F: Into<Fault>> From<F> for ProbeError {
    fn from(fault: F) -> Self {
        Self::Fail(fault.into())
    }
}

/// What went wrong, with what is needed to say so in one line.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// The tree describes the device wrongly.
    Tree(Box<PropError>),
    /// An overlay cannot be applied.
    Overlay(Box<OverlayError>),
    /// The device has no register window of this index.
    NoWindow {
        /// Index in `reg`, or BAR number.
        index: usize,
    },
    /// A window is smaller than the registers that the driver needs.
    WindowTooSmall {
        /// Index in `reg`, or BAR number.
        index: usize,
        /// Bytes that it has.
        have: u64,
        /// Bytes that are needed.
        need: u64,
    },
    /// Registers cannot be mapped there.
    Unmappable {
        /// Where.
        at: PhysAddr,
        /// Why not.
        why: &'static str,
    },
    /// A register does not hold what it must.
    Register {
        /// Its architected name.
        name: &'static str,
        /// What it should have held.
        expected: u64,
        /// What it held.
        seen: u64,
    },
    /// Hardware did not do in time what was asked.
    Timeout {
        /// What was awaited.
        awaited: &'static str,
        /// The register or word that was watched.
        register: &'static str,
        /// Its value at the end.
        seen: u64,
        /// How long was waited.
        us: u64,
    },
    /// The hardware lacks something that the driver cannot do without, or has
    /// something that it must not use.
    Unsupported {
        /// What.
        what: &'static str,
        /// The identification value that says so.
        seen: u64,
    },
    /// No memory.
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
        /// Highest address that would have done.
        limit: u64,
    },
    /// No IOVA free under the device's limit.
    OutOfIova {
        /// Bytes asked for.
        bytes: u64,
        /// Highest address that the device can put on the bus.
        limit: u64,
    },
    /// Identifiers of a kind are used up.
    Exhausted {
        /// Which (ASID, MSI vector, command slot, ...).
        what: &'static str,
        /// How many there are.
        limit: u64,
    },
    /// Without an IOMMU the device cannot address this memory.
    Unreachable {
        /// The memory.
        at: PhysAddr,
        /// Highest address that the device can put on the bus.
        limit: u64,
    },
    /// The device's requester was told apart by no IOMMU entry.
    StreamOutOfRange {
        /// The StreamID from the tree.
        stream: StreamId,
        /// How many the IOMMU has.
        streams: u64,
    },
    /// There is no such substream.
    SubstreamOutOfRange {
        /// The SubstreamID.
        substream: SubstreamId,
        /// How many a stream of the device can have, behind the IOMMU that it is behind.
        substreams: u64,
    },
    /// The streams of the device belong to more than one live group.
    StreamsSpanGroups {
        /// One of them.
        stream: StreamId,
    },
    /// The address is mapped already.
    AlreadyMapped {
        /// Where.
        iova: Iova,
    },
    /// The address is not mapped as the call assumes.
    NotMapped {
        /// Where.
        iova: Iova,
    },
    /// Address, length or output does not fit the tables or the device.
    BadRange {
        /// Where.
        iova: Iova,
        /// Length in bytes.
        len: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// The device is not bound, or its DMA was taken back.
    Revoked,
    /// Another device has the stream for itself.
    StreamTaken {
        /// The stream.
        stream: StreamId,
        /// The other device.
        by: Box<str>,
    },
    /// Another device can reach this one past the IOMMU, and one of the two has a
    /// driver that manages its streams by itself.
    NotIsolated {
        /// The other device.
        from: Box<str>,
    },
    /// Another device has the registers.
    WindowTaken {
        /// Where.
        at: PhysAddr,
        /// The other device.
        by: Box<str>,
    },
    /// It waits, directly or not, for itself.
    Cycle {
        /// The way round.
        path: Box<str>,
    },
    /// The interrupt number is beyond what the kernel latches.
    IrqOutOfRange {
        /// The controller's number.
        intid: u32,
    },
    /// The CPU takes no interrupts: it does not run, or the controller does not know it.
    CpuDeaf {
        /// Its number.
        cpu: usize,
    },
    /// Another device has the interrupt.
    IrqTaken {
        /// The controller's number.
        intid: u32,
        /// The other device.
        by: Box<str>,
    },
    /// The device has no interrupt of this index.
    NoInterrupt {
        /// Index asked for.
        index: usize,
    },
    /// A supplier that the device cannot do without will not come.
    Supplier {
        /// Path of the supplier, or the property where it cannot be named.
        supplier: Box<str>,
        /// What it would supply.
        class: SupplierClass,
        /// Why it will not.
        why: Absence,
    },
    /// Policy refuses direct DMA to a master whose IOMMU cannot come.
    Refused {
        /// Path of the IOMMU.
        iommu: Box<str>,
        /// Why it cannot come.
        why: Absence,
    },
    /// One of a master's IOMMUs cannot come and another is there.
    HalfBehind {
        /// Path of the one that cannot come.
        iommu: Box<str>,
        /// Why it cannot come.
        why: Absence,
    },
    /// The device reported an error of its own.
    Device {
        /// What was being done.
        during: &'static str,
        /// The status' name in the device's specification.
        status: &'static str,
        /// The raw status.
        code: u64,
    },
    /// Data that came back is not what was sent.
    Mismatch {
        /// First byte that differs.
        offset: u64,
        /// What was sent.
        expected: u8,
        /// What came back.
        seen: u8,
    },
    /// A request that the driver does not serve.
    Invalid {
        /// What is wrong with it.
        what: Box<str>,
    },
}

/// Why a supplier will not come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Absence {
    /// This image has no driver for any of its compatibles.
    NoDriver,
    /// The driver exists but was left out on the command line.
    Skipped,
    /// The node or a parent is disabled.
    Disabled,
    /// Its own probe failed.
    Failed,
    /// It is bound but supplies nothing of the kind.
    NotASupplier,
    /// The node describes no device (nothing on the tree's buses).
    NotADevice,
    /// It waits, directly or not, for the device that waits for it.
    Cycle,
}

/// Where a result is to be small, a fault is in a box.
impl From<Box<Self>> for Fault {
    fn from(fault: Box<Self>) -> Self {
        *fault
    }
}

impl From<PropError> for Fault {
    fn from(error: PropError) -> Self {
        Self::Tree(Box::new(error))
    }
}

impl Fault {
    /// A request that makes no sense, in words.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into().into_boxed_str(),
        }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDriver => "no driver in this image",
            Self::Skipped => "its driver was skipped on the command line",
            Self::Disabled => "node disabled",
            Self::Failed => "it failed",
            Self::NotASupplier => "it is bound but supplies none",
            Self::NotADevice => "the node is not a device on any bus",
            Self::Cycle => "it is in a cycle with this device",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => write!(f, "device tree: {error}"),
            Self::Overlay(error) => error.fmt(f),
            Self::NoWindow { index } => write!(f, "no register window {index}"),
            Self::WindowTooSmall { index, have, need } => {
                write!(
                    f,
                    "register window {index} has {have:#x} bytes, the driver needs {need:#x}"
                )
            }
            Self::Unmappable { at, why } => write!(f, "cannot map registers at {at}: {why}"),
            Self::Register {
                name,
                expected,
                seen,
            } => {
                write!(f, "register {name}: expected {expected:#x}, saw {seen:#x}")
            }
            Self::Timeout {
                awaited,
                register,
                seen,
                us,
            } => {
                write!(f, "no {awaited} after {us} us: {register} = {seen:#x}")
            }
            Self::Unsupported { what, seen } => write!(f, "unsupported: {what} ({seen:#x})"),
            Self::OutOfMemory {
                bytes,
                limit: u64::MAX,
            } => {
                write!(f, "out of memory: {bytes:#x} bytes")
            }
            Self::OutOfMemory { bytes, limit } => {
                write!(f, "out of memory: {bytes:#x} bytes at or below {limit:#x}")
            }
            Self::OutOfIova { bytes, limit } => {
                write!(f, "no IOVA for {bytes:#x} bytes at or below {limit:#x}")
            }
            Self::Exhausted { what, limit } => write!(f, "no {what} left of {limit}"),
            Self::Unreachable { at, limit } => write!(
                f,
                "memory at {at} is out of the device's reach (up to {limit:#x}) without an IOMMU"
            ),
            Self::StreamOutOfRange { stream, streams } => {
                write!(
                    f,
                    "StreamID {stream} is beyond the IOMMU's {streams:#x} streams"
                )
            }
            Self::SubstreamOutOfRange {
                substream,
                substreams: 0,
            } => write!(
                f,
                "SubstreamID {substream}: the device or its IOMMU has no substreams"
            ),
            Self::SubstreamOutOfRange {
                substream,
                substreams,
            } => write!(
                f,
                "SubstreamID {substream} is beyond the {substreams:#x} that the device and its IOMMU have"
            ),
            Self::StreamsSpanGroups { stream } => {
                write!(
                    f,
                    "StreamID {stream} and others of this device are in different groups"
                )
            }
            Self::AlreadyMapped { iova } => write!(f, "IOVA {iova} is mapped already"),
            Self::NotMapped { iova } => write!(f, "IOVA {iova} is not mapped like that"),
            Self::BadRange { iova, len, why } => {
                write!(f, "IOVA range {iova}+{len:#x}: {why}")
            }
            Self::StreamTaken { stream, by } => {
                write!(f, "{by} has StreamID {stream} for itself")
            }
            Self::NotIsolated { from } => write!(
                f,
                "not isolated from {from}: a driver that manages its IOMMU by itself cannot \
                 share a group"
            ),
            Self::WindowTaken { at, by } => write!(f, "the registers at {at} belong to {by}"),
            Self::Cycle { path } => write!(f, "in a cycle: {path}"),
            Self::Revoked => f.write_str("the device's DMA was taken back; bind it first"),
            Self::IrqOutOfRange { intid } => write!(f, "interrupt {intid} is out of range"),
            Self::CpuDeaf { cpu } => write!(f, "CPU {cpu} takes no interrupts"),
            Self::IrqTaken { intid, by } => write!(f, "interrupt {intid} belongs to {by}"),
            Self::NoInterrupt { index } => write!(f, "the device has no interrupt {index}"),
            Self::Supplier {
                supplier,
                class,
                why,
            } => {
                write!(f, "{class} {supplier} will not come: {why}")
            }
            Self::Refused { iommu, why } => write!(
                f,
                "refused: its IOMMU {iommu} will not come ({why}); iommu.missing=direct would allow it"
            ),
            Self::HalfBehind { iommu, why } => write!(
                f,
                "its IOMMU {iommu} will not come ({why}), but another is there: no address would suit both"
            ),
            Self::Device {
                during,
                status,
                code,
            } => {
                write!(f, "{during}: {status} (status {code:#x})")
            }
            Self::Mismatch {
                offset,
                expected,
                seen,
            } => {
                write!(
                    f,
                    "byte {offset:#x} came back as {seen:#04x} instead of {expected:#04x}"
                )
            }
            Self::Invalid { what } => f.write_str(what),
        }
    }
}

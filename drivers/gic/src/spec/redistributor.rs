//! A redistributor: two 64 KiB frames, control and SGIs (IHI 0069 §12.10, §12.11).

/// Length of both frames.
pub const LEN: u64 = 0x2_0000;
/// Length with the two frames for virtual LPIs that a GICv4 adds.
pub const LEN_WITH_VLPIS: u64 = 0x4_0000;
/// Where the SGI frame starts.
pub const SGI_FRAME: usize = 0x1_0000;

/// GICR_CTLR.
pub const CTLR: usize = 0x0000;
/// LPIs are on.
pub const CTLR_ENABLE_LPIS: u32 = 1 << 0;
/// The effects of an earlier write are still on their way.
pub const CTLR_RWP: u32 = 1 << 3;

/// GICR_TYPER, 64 bits.
pub const TYPER: usize = 0x0008;
/// Physical LPIs.
pub const TYPER_PLPIS: u64 = 1 << 0;
/// Virtual LPIs, and so four frames.
pub const TYPER_VLPIS: u64 = 1 << 1;
/// The last one of its region.
pub const TYPER_LAST: u64 = 1 << 4;

/// The affinity of the redistributor's CPU, Aff3 to Aff0 in a byte each.
pub const fn affinity(typer: u64) -> u32 {
    (typer >> 32) as u32
}

/// MPIDR_EL1's affinity fields in the form that TYPER has them.
pub const fn packed_affinity(mpidr: u64) -> u32 {
    (mpidr >> 8 & 0xff00_0000) as u32 | (mpidr & 0x00ff_ffff) as u32
}

/// The redistributor's number, which an ITS may name it by.
pub const fn processor_number(typer: u64) -> u64 {
    typer >> 8 & 0xffff
}

/// GICR_WAKER.
pub const WAKER: usize = 0x0014;
/// Hold interrupts back from the CPU.
pub const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
/// The interface is quiescent.
pub const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;

/// GICR_PROPBASER: the LPI configuration table, a byte per LPI.
pub const PROPBASER: usize = 0x0070;
/// GICR_PENDBASER: the LPI pending table, a bit per INTID.
pub const PENDBASER: usize = 0x0078;
/// PENDBASER.PTZ: the table is all zero.
pub const PENDBASER_ZERO: u64 = 1 << 62;

/// An entry of the LPI configuration table (IHI 0069 §5.1.1): enabled, with the
/// bit that is always 1 and a priority.
pub const fn lpi_enabled(priority: u8) -> u8 {
    lpi_disabled(priority) | 1
}

/// The same, disabled.
pub const fn lpi_disabled(priority: u8) -> u8 {
    priority & 0xfc | 2
}

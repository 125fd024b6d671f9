//! The PL061's registers (DDI 0190 §3.2); each holds 8 bits, one a line.

/// How much of the window is used.
pub const LEN: u64 = 0x1000;
/// Lines.
pub const LINES: u32 = 8;
/// What of a register has a meaning: the bits above may read as anything.
pub const ALL: u32 = 0xff;

/// Data of one line alone: address bits 9:2 say which bits an access is about
/// (§3.3.1). The others read as zero and are not written.
pub const fn data(line: u32) -> usize {
    1 << (line + 2)
}
/// Data of all lines.
pub const DATA_ALL: usize = 0x3fc;
/// Direction: a 1 is an output.
pub const DIR: usize = 0x400;
/// Interrupt mask: a 1 lets one through.
pub const IE: usize = 0x410;
/// Mode control: a 1 leaves the line to other hardware.
pub const AFSEL: usize = 0x420;
/// Part number, bits 7:0 (§3.3.11).
pub const PERIPH_ID0: usize = 0xfe0;
/// PERIPH_ID0 of a PL061.
pub const PART: u32 = 0x61;
/// First byte of what every PrimeCell says of itself (§3.3.12).
pub const PCELL_ID0: usize = 0xff0;
/// PCELL_ID0 of a PrimeCell.
pub const PRIMECELL: u32 = 0x0d;

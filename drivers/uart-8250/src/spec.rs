//! The registers of the 8250 family by their number (TI PC16550D, §8); how far they are
//! apart in memory is each board's choice. Beyond the eighth, what some members add.

/// Data, and with the divisor latch open its low byte.
pub const DATA: usize = 0;
/// Which interrupts there are; with the latch open the divisor's high byte.
pub const IER: usize = 1;
/// IER: bytes came in.
pub const IER_RECEIVE: u8 = 1 << 0;
/// Read: why there is an interrupt.
pub const IIR: usize = 2;
/// IIR: the field that says so.
pub const IIR_CAUSE: u8 = 0xf;
/// IIR, DW_apb_uart: the line was to be changed at work (DW_apb_uart databook, IIR).
pub const IIR_BUSY: u8 = 0x7;
/// IIR: bytes wait and the line fell silent.
pub const IIR_TIMEOUT: u8 = 0xc;
/// Written: the FIFOs.
pub const FCR: usize = 2;
/// FCR: they are on.
pub const FCR_ON: u8 = 1 << 0;
/// The line: length of a byte, parity.
pub const LCR: usize = 3;
/// LCR: the divisor latch is open.
pub const LCR_LATCH: u8 = 1 << 7;
/// The modem's wires, and a gate for the interrupt.
pub const MCR: usize = 4;
/// How it is.
pub const LSR: usize = 5;
/// LSR: there is a byte to read.
pub const LSR_READY: u8 = 1 << 0;
/// LSR: the next byte is not one that was sent: parity, framing, break.
pub const LSR_DAMAGED: u8 = 0b111 << 2;
/// LSR: there is room for a byte to send.
pub const LSR_ROOM: u8 = 1 << 5;
/// LSR: all has been sent.
pub const LSR_IDLE: u8 = 1 << 6;
/// How many registers all of them have.
pub const COMMON: usize = 8;

/// TI: the mode, 0 for a UART (AM65x TRM, UART_MDR1).
pub const MDR1: usize = 8;
/// DW_apb_uart: its status; reading it clears [`IIR_BUSY`].
pub const USR: usize = 31;

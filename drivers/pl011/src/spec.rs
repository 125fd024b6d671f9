//! The PL011's registers (DDI 0183 §3.2); each is 32 bits wide.

/// How much of the window is used.
pub const LEN: u64 = 0x48;

/// Data: reading takes a byte from the receive FIFO, with its errors above it.
pub const DR: usize = 0x00;
/// DR: framing, parity or break error; the byte is not one that was sent.
pub const DR_DAMAGED: u32 = 0b111 << 8;
/// Flags.
pub const FR: usize = 0x18;
/// FR: the transmitter is at work.
pub const FR_BUSY: u32 = 1 << 3;
/// FR: the receive FIFO is empty.
pub const FR_RXFE: u32 = 1 << 4;
/// FR: the transmit FIFO is full.
pub const FR_TXFF: u32 = 1 << 5;
/// Integer part of the baud rate divisor, 16 bits.
pub const IBRD: usize = 0x24;
/// Fractional part, 6 bits.
pub const FBRD: usize = 0x28;
/// Line control; writing it also latches the divisor.
pub const LCR_H: usize = 0x2c;
/// LCR_H: 8 bits, no parity, one stop bit, FIFOs on.
pub const LCR_H_8N1_FIFO: u32 = 0b11 << 5 | 1 << 4;
/// Control.
pub const CR: usize = 0x30;
/// CR: the UART, its transmitter and its receiver are on.
pub const CR_ON: u32 = 1 << 0 | 1 << 8 | 1 << 9;
/// CR: the UART is on.
pub const CR_UARTEN: u32 = 1 << 0;
/// Interrupt mask: a 1 lets one through.
pub const IMSC: usize = 0x38;
/// Interrupt clear.
pub const ICR: usize = 0x44;
/// The receive FIFO reached its level, or has bytes and the line fell silent.
pub const INT_RECEIVE: u32 = 1 << 4 | 1 << 6;

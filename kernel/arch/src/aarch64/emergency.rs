//! Text that must come out now: before there is a console, or when the kernel is
//! beyond logging. It goes to the console if one is installed, whose contract is to
//! take no locks; else to the UART that the tree names, by polling; else to the
//! host behind the CPU.

use core::fmt;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::platform::Mmio;
use mastiff_dt::Tree;
use mastiff_hw::{Window, console};
use spin::Once;

use super::{mmu, semihosting};

/// PL011 (DDI 0183 §3.3): data register, flag register and its "transmit FIFO
/// full". An SBSA UART is the same there.
const DR: usize = 0x00;
const FR: usize = 0x18;
const FR_TXFF: u32 = 1 << 5;
const MODELS: [&str; 2] = ["arm,pl011", "arm,sbsa-uart"];

/// How often a full FIFO is looked at: a byte takes 90 us at 115200 baud.
const PATIENCE: u32 = 1_000_000;

static UART: Once<Window> = Once::new();

/// Finds the UART that `/chosen/stdout-path` names and maps its registers.
pub(crate) fn find_uart(tree: &Tree) {
    let Some(node) = tree.stdout() else { return };
    if !MODELS.iter().any(|model| node.is_compatible(model)) {
        return;
    }
    let Some(registers) = node.reg().ok().and_then(|reg| reg.first().copied()) else {
        return;
    };
    let range = PhysRange {
        start: PhysAddr(registers.base),
        len: registers.size,
    };
    if let Ok(window) = mmu::map_device(range)
        && window.len() >= FR + 4
    {
        UART.call_once(|| window);
    }
}

/// Writes text wherever it can be seen.
pub(crate) fn write(text: &[u8]) {
    if let Some(console) = console::current() {
        console.write(text);
    } else if let Some(uart) = UART.get() {
        text.iter().for_each(|&byte| send(uart, byte));
    } else {
        semihosting::write(text);
    }
}

fn send(uart: &Window, byte: u8) {
    for _ in 0..PATIENCE {
        if uart.read32(FR) & FR_TXFF == 0 {
            break;
        }
    }
    uart.write32(DR, u32::from(byte));
}

/// The same for formatted text.
pub(crate) struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

//! Text that must come out now: before there is a console, or when the kernel is
//! beyond logging. It goes to the console if one is installed, whose contract is to
//! take no locks; else to the UART that the tree names, by polling; else to the
//! host behind the CPU. Where a device turns out to be broken the host gets the rest.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

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
/// Whether console and UART are not to be touched any more.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Leaves console and UART alone from here on: one of them is broken.
pub(crate) fn give_up_devices() {
    BROKEN.store(true, Ordering::Relaxed);
}

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

/// Writes text wherever it can be seen. The MMU is on.
pub(crate) fn write(text: &[u8]) {
    if BROKEN.load(Ordering::Relaxed) {
        semihosting::write(text);
    } else if let Some(console) = console::current() {
        console.write(text);
    } else if let Some(uart) = UART.get() {
        let sent = text.iter().take_while(|&&byte| send(uart, byte)).count();
        if sent < text.len() {
            // One that does not move once is not waited for again.
            give_up_devices();
            semihosting::write(&text[sent..]);
        }
    } else {
        semihosting::write(text);
    }
}

/// Whether the UART took the byte.
fn send(uart: &Window, byte: u8) -> bool {
    let ready = (0..PATIENCE).any(|_| uart.read32(FR) & FR_TXFF == 0);
    if ready {
        uart.write32(DR, u32::from(byte));
    }
    ready
}

/// Last words on their way out. They go through the log's buffer, for as long as it
/// is to be had, and are seen with the next [`super::exit::show_rest`]: should the
/// device break that shows them, they are there to be shown elsewhere.
pub(crate) struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Neither locks nor devices work with the MMU off.
        if !mmu::is_on() {
            semihosting::write(text.as_bytes());
        } else if !console::keep(text) {
            write(text.as_bytes());
        }
        Ok(())
    }
}

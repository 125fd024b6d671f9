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

/// A kind of UART, as far as sending goes: where data is written, and which bits of
/// which register then have which value while there is room.
struct Kind {
    models: &'static [&'static str],
    data: usize,
    status: usize,
    mask: u32,
    room: u32,
}

const KINDS: [Kind; 2] = [
    // DDI 0183 §3.3: the flag "transmit FIFO full". An SBSA UART is the same there.
    Kind {
        models: &["arm,pl011", "arm,sbsa-uart"],
        data: 0x00,
        status: 0x18,
        mask: 1 << 5,
        room: 0,
    },
    // The 8250 family where its registers are words: line status, "holding register
    // empty" (TI PC16550D, §8).
    Kind {
        models: &["snps,dw-apb-uart", "ti,am654-uart"],
        data: 0x00,
        status: 0x14,
        mask: 1 << 5,
        room: 1 << 5,
    },
];

/// How often a full FIFO is looked at: a byte takes 90 us at 115200 baud.
const PATIENCE: u32 = 1_000_000;

static UART: Once<(Window, &Kind)> = Once::new();
/// Whether console and UART are not to be touched any more.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Leaves console and UART alone from here on: one of them is broken.
pub(crate) fn give_up_devices() {
    BROKEN.store(true, Ordering::Relaxed);
}

/// Finds the UART that `/chosen/stdout-path` names and maps its registers.
pub(crate) fn find_uart(tree: &Tree) {
    let Some(node) = tree.stdout() else { return };
    let is_of = |kind: &&Kind| {
        let mut models = kind.models.iter();
        models.any(|model| node.is_compatible(model))
    };
    let Some(kind) = KINDS.iter().find(is_of) else {
        return;
    };
    let Some(registers) = node.reg().ok().and_then(|reg| reg.first().copied()) else {
        return;
    };
    let range = PhysRange {
        start: PhysAddr(registers.base),
        len: registers.size,
    };
    if let Ok(window) = mmu::map_device(range)
        && window.len() >= kind.status + 4
    {
        UART.call_once(|| (window, kind));
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
fn send((window, kind): &(Window, &Kind), byte: u8) -> bool {
    let ready = (0..PATIENCE).any(|_| window.read32(kind.status) & kind.mask == kind.room);
    if ready {
        window.write32(kind.data, u32::from(byte));
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

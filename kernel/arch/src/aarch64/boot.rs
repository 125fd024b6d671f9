//! From entry.S to the board: address space, heap, tree, memory, and the machine.

use core::arch::global_asm;
use core::ops::Range;

use log::{error, info};
use mastiff_core::platform::Instant;
use mastiff_dt::Tree;
use mastiff_hw::console;
use mastiff_hw::frames::{Kind, frames};
use mastiff_hw::heap::KernelHeap;

use super::machine::Machine;
use super::{
    cpu, emergency, exit, firmware, image, memory, mmu, reset, selftest, semihosting, timer,
};

global_asm!(include_str!("header.S"));
global_asm!(include_str!("entry.S"), start = sym start);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap::new();

/// The first word of a tree's blob (Devicetree Specification §5.2), and how much of
/// one is read to see its size.
const MAGIC: u32 = 0xd00d_feed;
const HEADER: u64 = 40;
/// The boot protocol's limit for the size of a blob.
pub(crate) const BLOB_MAX: u64 = 2 << 20;

/// What the board starts with.
pub struct Boot {
    /// The machine.
    pub machine: Machine,
    /// Its description.
    pub tree: Tree,
    /// The exception level that the image was entered at.
    pub el: u8,
    /// Other CPUs that came from reset with us and are kept from running.
    pub parked: u32,
    /// When the first Rust code ran.
    pub entered: Instant,
}

unsafe extern "Rust" {
    /// The board's main function, by way of [`crate::entry!`].
    safe fn mastiff_main(boot: Boot) -> u8;
}

/// Bytes in use in the kernel's heap, and bytes that it has.
pub fn heap_usage() -> (usize, usize) {
    HEAP.usage()
}

/// The first Rust code. Still on physical addresses; the caches are off, so nothing
/// here may use locks.
extern "C" fn start(blob: u64, el: u64) -> ! {
    semihosting::probe();
    let blob = blob_at(blob);
    // It can only fail if the bootloader put image and blob over each other.
    let (space, blob) = match mmu::Space::of_image(blob.clone()) {
        Ok(space) => (space, blob),
        Err(_) => {
            let none = blob.start..blob.start;
            let space = mmu::Space::of_image(none.clone());
            (space.expect("the image has room for its tables"), none)
        }
    };
    // SAFETY: the address space covers the image, each part with the rights that it
    // needs; entry.S has cleaned the caches of what was written since.
    unsafe { space.enable() };
    // SAFETY: for the heap alone by the linker script, and just mapped.
    unsafe {
        let len = image::heap_end() - image::heap_start();
        HEAP.add(image::heap_start() as *mut u8, len as usize);
    }
    timer::init();
    console::init(timer::now);
    exit(go(blob, el as u8))
}

/// Where the blob is, as far as it claims; only its header if it is not one.
pub(crate) fn blob_at(at: u64) -> Range<u64> {
    // SAFETY: the boot protocol has a blob there, and the MMU is off. If the
    // bootloader lied, the fault is reported as any other.
    let (magic, size) = unsafe {
        let header = at as *const u32;
        if !at.is_multiple_of(8) {
            return at..at;
        }
        (header.read_volatile(), header.add(1).read_volatile())
    };
    let size = match u32::from_be(magic) {
        MAGIC => u64::from(u32::from_be(size)),
        _ => HEADER,
    };
    at..at.saturating_add(size.min(BLOB_MAX))
}

/// The rest of the boot; a status where it ends early.
fn go(blob: Range<u64>, el: u8) -> u8 {
    let entered = timer::now();
    info!("Mastiff {}, entered at EL{el}", env!("CARGO_PKG_VERSION"));
    if blob.is_empty() {
        let at = blob.start;
        error!("no device tree at {at:#x}: it must be at a multiple of 8, clear of the image");
        return 1;
    }
    // SAFETY: mapped for reading only, and nobody writes it.
    let bytes = unsafe {
        let len = (blob.end - blob.start) as usize;
        core::slice::from_raw_parts(blob.start as *const u8, len)
    };
    let tree = match Tree::parse(bytes) {
        Ok(tree) => tree,
        Err(error) => {
            error!("{error} (at {:#x})", blob.start);
            return 1;
        }
    };
    firmware::find(&tree);
    cpu::count_in(&tree);
    let parked = match el {
        3 => reset::report(),
        _ => 0,
    };
    timer::correct(&tree);
    let set_up = memory::set_up(&tree, image::range(blob));
    emergency::find_uart(&tree);
    if let Err(error) = set_up {
        error!("{error}");
        return 1;
    }
    let free = frames().map_or(0, |frames| frames.of_kind(Kind::Free));
    info!("{} MiB of memory free", free >> 8);
    let machine = Machine::start();
    selftest::by_command_line(tree.bootargs());
    mastiff_main(Boot {
        machine,
        tree,
        el,
        parked,
        entered,
    })
}

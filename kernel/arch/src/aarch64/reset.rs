//! What only EL3 can set up, for boards whose reset vector is the image's first
//! instruction: whose interrupts are whose, and the tree in RAM. `reset.S` comes
//! before this and leaves EL3 after it.
//!
//! There is no tree to go by yet, no log and no MMU, and the image's variables are
//! zeroed afterwards: so the board says where things are, and what went wrong is kept
//! out of `.bss` until there is somebody to tell.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use aarch64_cpu::registers::{CNTFRQ_EL0, ID_AA64PFR0_EL1};
use log::{error, info};
use mastiff_core::addr::PAGE;
use tock_registers::interfaces::Readable;

use super::boot::{BLOB_MAX, blob_at};

global_asm!(
    include_str!("reset.S"),
    ram = const offset_of!(Reset, ram),
    gap = const 2 * BLOB_MAX,
    set_up = sym set_up,
);

/// What a board's reset vector has to know. The image goes into RAM, behind the room
/// that two trees take at its start: the machine's, and the board's.
#[repr(C)]
pub struct Reset {
    /// Where RAM starts, at a multiple of 2 MiB.
    pub ram: u64,
    /// Where the tree is found: there, or in the flash. In that case the machine may
    /// leave one of its own at the start of RAM, which then says what memory there is.
    pub tree: u64,
    /// How often the system counter counts in a second; 0 if the machine says it.
    pub counter_hz: u64,
    /// GICD_CTLR's address.
    pub distributor: u64,
    /// GICR_CTLR's address in the boot CPU's redistributor.
    pub redistributor: u64,
    /// GICC_CTLR's address, for a GIC that has no system registers.
    pub cpu_interface: u64,
}

impl Reset {
    /// The board is entered by a boot loader only.
    pub const NONE: Self = Self {
        ram: 0,
        tree: 0,
        counter_hz: 0,
        distributor: 0,
        redistributor: 0,
        cpu_interface: 0,
    };
}

/// How often a register is read at most until it changes.
const PATIENCE: u32 = 1_000_000;

/// Distributor and redistributor (IHI 0069 §12.9, §12.11); where both have a register
/// of that name the offset is the same.
const GICD_CTLR: u64 = 0x0000;
const GICD_TYPER: u64 = 0x0004;
const GIC_IGROUPR: u64 = 0x0080;
const GIC_IGRPMODR: u64 = 0x0d00;
/// GICv2's CPUNumber, bits [7:5], counts from 0.
const GICD_TYPER_CPUS: u32 = 5;
const GICR_TYPER: u64 = 0x0008;
const GICR_TYPER_LAST: u32 = 1 << 4;
const GICR_TYPER_VLPIS: u32 = 1 << 1;
/// A redistributor takes two frames of 64 KiB, four where it has VLPIs.
const GICR_LEN: u64 = 0x2_0000;
const GICR_WAKER: u64 = 0x0014;
const GICR_SGI: u64 = 0x1_0000;
const CTLR_ARE_S: u32 = 1 << 4;
const CTLR_ARE_NS: u32 = 1 << 5;
const CTLR_RWP: u32 = 1 << 31;
const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
/// GICC_PMR (IHI 0048 §4.4.2).
const GICC_PMR: u64 = 0x0004;
const LOWEST_PRIORITY: u32 = 0xff;

const FINE: u8 = 0;
const NO_DISTRIBUTOR: u8 = 1;
const NO_REDISTRIBUTOR: u8 = 2;
/// More CPUs than that are not counted: a redistributor may never say that it is last.
const MOST_CPUS: u32 = 512;

/// How it went.
#[unsafe(link_section = ".data.reset")]
static OUTCOME: AtomicU8 = AtomicU8::new(FINE);
/// How many other CPUs there are.
#[unsafe(link_section = ".data.reset")]
static OTHERS: AtomicU32 = AtomicU32::new(0);
/// What CNTFRQ_EL0 was given, where it had nothing.
#[unsafe(link_section = ".data.reset")]
static COUNTER_HZ: AtomicU64 = AtomicU64::new(0);
/// The tree that the machine left in RAM, besides the board's: its start and its end.
#[unsafe(link_section = ".data.reset")]
static LEFT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn read(at: u64) -> u32 {
    // SAFETY: a register that the board names, or the first words of a tree; nothing
    // else runs, and with the MMU off all memory is Device memory.
    unsafe { (at as *const u32).read_volatile() }
}

fn write(at: u64, value: u32) {
    // SAFETY: as for reading.
    unsafe { (at as *mut u32).write_volatile(value) }
}

/// Waits until `at` has none of `bits`; notes it where that does not come.
fn clear(at: u64, bits: u32, otherwise: u8) {
    if !(0..PATIENCE).any(|_| read(at) & bits == 0) {
        OUTCOME.store(otherwise, Ordering::Relaxed);
    }
}

/// Gives everything to the Non-secure state; the address of the tree.
extern "C" fn set_up(board: &Reset) -> u64 {
    let gic = ID_AA64PFR0_EL1.get() >> 24 & 0xf;
    let lines = (read(board.distributor + GICD_TYPER) & 0x1f) + 1;
    if gic == 0 {
        others(read(board.distributor + GICD_TYPER) >> GICD_TYPER_CPUS & 7);
        non_secure(board.distributor, lines);
        // Else the Non-secure state could only set the upper half of the priorities.
        write(board.cpu_interface + GICC_PMR, LOWEST_PRIORITY);
    } else {
        write(board.distributor + GICD_CTLR, CTLR_ARE_S | CTLR_ARE_NS);
        clear(board.distributor + GICD_CTLR, CTLR_RWP, NO_DISTRIBUTOR);
        for bank in 1..lines {
            write(board.distributor + GIC_IGRPMODR + 4 * u64::from(bank), 0);
        }
        non_secure(board.distributor, lines);
        clear(board.distributor + GICD_CTLR, CTLR_RWP, NO_DISTRIBUTOR);
        others(other_redistributors(board.redistributor));
        wake(board.redistributor);
        open_cpu_interface();
    }
    set_counter_frequency(board.counter_hz);
    place_tree(board.tree, board.ram)
}

/// Puts all interrupts of `banks` banks of 32 in group 1, which is the Non-secure one.
fn non_secure(registers: u64, banks: u32) {
    for bank in 0..banks {
        write(registers + GIC_IGROUPR + 4 * u64::from(bank), u32::MAX);
    }
}

fn others(count: u32) {
    OTHERS.store(count, Ordering::Relaxed);
}

/// How many redistributors stand behind the first one of a region.
fn other_redistributors(first: u64) -> u32 {
    let (mut at, mut count) = (first, 0);
    while read(at + GICR_TYPER) & GICR_TYPER_LAST == 0 && count < MOST_CPUS {
        let scale = 1 + u64::from(read(at + GICR_TYPER) & GICR_TYPER_VLPIS != 0);
        at += scale * GICR_LEN;
        count += 1;
    }
    count
}

/// Has the redistributor forward interrupts to its CPU, all of them Non-secure.
fn wake(redistributor: u64) {
    let waker = redistributor + GICR_WAKER;
    write(waker, read(waker) & !WAKER_PROCESSOR_SLEEP);
    clear(waker, WAKER_CHILDREN_ASLEEP, NO_REDISTRIBUTOR);
    write(redistributor + GICR_SGI + GIC_IGRPMODR, 0);
    non_secure(redistributor + GICR_SGI, 1);
}

/// Lets lower levels use the CPU interface's system registers: ICC_SRE_EL3's Enable,
/// DIB, DFB and SRE (IHI 0069 §12.2.24).
fn open_cpu_interface() {
    // SAFETY: the CPU has the register, and nothing uses the interface yet.
    unsafe { asm!("msr S3_6_C12_C12_5, {}", "isb", in(reg) 0b1111u64, options(nostack)) };
}

/// Says in CNTFRQ_EL0 what the counter counts at. Only the highest level may, and what
/// is there after reset is unknown (DDI 0487, CNTFRQ_EL0): machines that know it have
/// it there, others have 0.
fn set_counter_frequency(hz: u64) {
    if hz != 0 && CNTFRQ_EL0.get() == 0 {
        // SAFETY: EL3 may, and nothing has read the time yet.
        unsafe { asm!("msr cntfrq_el0, {}", "isb", in(reg) hz, options(nostack)) };
        COUNTER_HZ.store(hz, Ordering::Relaxed);
    }
}

/// Copies the tree to where it stays, since the flash may be out of reach from here on;
/// gives its place. One that the machine left at the start of RAM is kept.
fn place_tree(from: u64, ram: u64) -> u64 {
    if from == ram {
        return ram;
    }
    let left = blob_at(ram);
    LEFT[0].store(left.start, Ordering::Relaxed);
    LEFT[1].store(left.end, Ordering::Relaxed);
    // On a page of its own, which is mapped with other rights.
    let to = left.end.next_multiple_of(PAGE);
    let blob = blob_at(from);
    for offset in (0..blob.end - blob.start).step_by(4) {
        write(to + offset, read(from + offset));
    }
    to
}

/// The tree that the machine left in RAM for its first firmware, besides the board's.
pub(crate) fn left_tree() -> Option<Range<u64>> {
    let [start, end] = [0, 1].map(|end: usize| LEFT[end].load(Ordering::Relaxed));
    (start != end).then_some(start..end)
}

/// Says how it went, and that other CPUs wait in vain; how many these are.
pub(crate) fn report() -> u32 {
    match OUTCOME.load(Ordering::Relaxed) {
        NO_DISTRIBUTOR => error!("GICD_CTLR.RWP stayed 1 after reset: interrupts may not arrive"),
        NO_REDISTRIBUTOR => {
            error!("GICR_WAKER.ChildrenAsleep stayed 1 after reset: interrupts may not arrive");
        }
        _ => {}
    }
    let hz = COUNTER_HZ.load(Ordering::Relaxed);
    if hz != 0 {
        info!("CNTFRQ_EL0 was 0 after reset: the board's {hz} Hz it is");
    }
    let others = OTHERS.load(Ordering::Relaxed);
    if others > 0 {
        info!("other CPUs parked since reset, with no PSCI to start them: {others}");
    }
    others
}

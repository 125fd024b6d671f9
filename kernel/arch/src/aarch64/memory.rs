//! From the tree's memory nodes to frames: what is RAM, what of it is mapped, what
//! of it is ours.

use alloc::vec::Vec;
use core::arch::{asm, global_asm};
use core::fmt;

use log::warn;
use mastiff_core::addr::{PAGE, PhysAddr, PhysRange};
use mastiff_dt::{PropError, Region, Tree};
use mastiff_hw::frames::{Frames, Kind, ranges};
use mastiff_pgtable::MapError;

use super::{efi, image, mmu, reset};

/// Why there is no memory to work with.
pub(crate) enum MemoryError {
    Tree(PropError),
    Map(MapError),
    NotThere(u64),
    None,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => write!(f, "cannot tell where memory is: {error}"),
            Self::Map(error) => write!(f, "cannot map memory: {error}"),
            Self::NotThere(at) => write!(
                f,
                "no memory at {at:#x}: the device tree's /memory nodes claim more than there is"
            ),
            Self::None => f.write_str(
                "no memory to work with: the device tree's /memory nodes have none that is not set aside",
            ),
        }
    }
}

fn range(region: Region) -> PhysRange {
    PhysRange {
        start: PhysAddr(region.base),
        len: region.size,
    }
}

// x0 an address; x2 comes back as the exception handler left it where a load from
// there is an abort.
global_asm!(
    ".global memory_probe",
    "memory_probe:",
    "ldr x0, [x0]",
    "ret",
);

unsafe extern "C" {
    static memory_probe: u8;
}

/// Whether an exception at `elr` is the answer that there is no memory.
pub(crate) fn is_probe(elr: u64) -> bool {
    elr == (&raw const memory_probe).addr() as u64
}

/// Whether something answers at `at`, as far as the bus tells.
fn answers(at: u64) -> bool {
    let abort: u64;
    // SAFETY: a load from what is mapped as memory; the handler of the exception, if
    // it comes to that, changes x2.
    unsafe {
        asm!(
            "bl memory_probe",
            inout("x0") at => _,
            inout("x2") 0u64 => abort,
            out("x30") _,
            options(nostack),
        );
    }
    abort == 0
}

/// What RAM there is, by whoever knows best.
fn ram(tree: &Tree, left: Option<PhysRange>) -> Result<Vec<PhysRange>, MemoryError> {
    // Firmware that runs on beside us says what it keeps, in a map of its own.
    let ram = efi::memory();
    if !ram.is_empty() {
        return Ok(ram);
    }
    let memory_of = |tree: &Tree| match tree.memory() {
        Ok(memory) => Ok(memory.into_iter().map(range).collect::<Vec<_>>()),
        Err(error) => Err(MemoryError::Tree(error)),
    };
    if let Some(left) = left {
        mmu::map_ram(ranges::frames_touched(&left)).map_err(MemoryError::Map)?;
        // SAFETY: just mapped, and nobody writes it before this is done with it.
        let blob =
            unsafe { core::slice::from_raw_parts(left.start.0 as *const u8, left.len as usize) };
        match Tree::parse(blob) {
            Ok(machine) => return memory_of(&machine),
            Err(error) => warn!("the machine's own tree: {error} (at {:#x})", left.start.0),
        }
    }
    memory_of(tree)
}

/// Maps RAM and hands it to the frame allocator.
pub(crate) fn set_up(tree: &Tree, blob: PhysRange) -> Result<(), MemoryError> {
    let left = reset::left_tree().map(image::range);
    let ram = ram(tree, left)?;
    let set_aside = tree.reserved().map_err(MemoryError::Tree)?;

    // Mapped already, or not to be mapped at all.
    let unmapped = set_aside.iter().filter(|reserved| reserved.no_map());
    let holes = unmapped.map(|reserved| range(reserved.region));
    let holes = holes.chain([image::whole(), blob]).chain(left);
    let holes: Vec<_> = holes.collect();
    let holes = ranges::merged(holes.iter().map(ranges::frames_touched));
    for zone in ranges::merged(ram.iter().map(ranges::frames_within)) {
        for piece in ranges::without(zone, &holes) {
            let last = piece.end * PAGE - 8;
            mmu::map_ram(piece).map_err(MemoryError::Map)?;
            // The allocator starts at the high end: better told than run into.
            if !answers(last) {
                return Err(MemoryError::NotThere(last));
            }
        }
    }

    let reserved = set_aside.iter().map(|reserved| range(reserved.region));
    let reserved = reserved.chain([image::whole(), blob]);
    let reserved: Vec<_> = reserved.collect();
    // SAFETY: all RAM but the image, the blob and what must not be mapped was just
    // mapped for reading and writing, and nothing but these is in use.
    let frames = unsafe { Frames::install(&ram, &reserved) };
    match frames.of_kind(Kind::Free) {
        0 => Err(MemoryError::None),
        _ => Ok(()),
    }
}

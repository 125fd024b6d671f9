//! From the tree's memory nodes to frames: what is RAM, what of it is mapped, what
//! of it is ours.

use alloc::vec::Vec;
use core::fmt;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_dt::{PropError, Region, Tree};
use mastiff_hw::frames::{Frames, Kind, ranges};
use mastiff_pgtable::MapError;

use super::{image, mmu};

/// Why there is no memory to work with.
pub(crate) enum MemoryError {
    Tree(PropError),
    Map(MapError),
    None,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => write!(f, "cannot tell where memory is: {error}"),
            Self::Map(error) => write!(f, "cannot map memory: {error}"),
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

/// Maps RAM and hands it to the frame allocator.
pub(crate) fn set_up(tree: &Tree, blob: PhysRange) -> Result<(), MemoryError> {
    let ram: Vec<_> = tree.memory().map_err(MemoryError::Tree)?;
    let ram: Vec<_> = ram.into_iter().map(range).collect();
    let set_aside = tree.reserved().map_err(MemoryError::Tree)?;

    // Mapped already, or not to be mapped at all.
    let unmapped = set_aside.iter().filter(|reserved| reserved.no_map());
    let holes = unmapped.map(|reserved| range(reserved.region));
    let holes = holes.chain([image::whole(), blob]);
    let holes: Vec<_> = holes.collect();
    let holes = ranges::merged(holes.iter().map(ranges::frames_touched));
    for zone in ranges::merged(ram.iter().map(ranges::frames_within)) {
        for piece in ranges::without(zone, &holes) {
            mmu::map_ram(piece).map_err(MemoryError::Map)?;
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

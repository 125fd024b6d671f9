//! Memory as the CPU sees it, wherever that is: to find out whether somebody else got
//! there.

use alloc::vec::Vec;
use core::ops::Range;

use mastiff_core::addr::{PAGE, PhysAddr};
use mastiff_hw::frames::{Kind, frames};

use super::image;

/// How many pages of each kind are places.
const OF_A_KIND: usize = 2;

/// The parts of the image that can be read.
fn parts() -> [(&'static str, Range<u64>); 6] {
    let [stack, ..] = image::stacks();
    [
        (
            "the kernel's text",
            image::image_base()..image::rodata_start(),
        ),
        ("its constants", image::rodata_start()..image::data_start()),
        ("its data", image::data_start()..image::data_end()),
        ("its stack", stack.memory),
        (
            "its page tables",
            image::tables_start()..image::tables_end(),
        ),
        ("its heap", image::heap_start()..image::heap_end()),
    ]
}

/// A place for each use that the kernel has for memory, with what is used there.
pub fn places() -> Vec<(&'static str, PhysAddr)> {
    let parts = parts().into_iter().filter(|(_, part)| !part.is_empty());
    let mut places: Vec<_> = parts
        .map(|(name, part)| (name, PhysAddr(used(part))))
        .collect();
    for (kind, name) in [
        (Kind::Pages, "a driver's buffers"),
        (Kind::Table, "an IOMMU's tables"),
        (Kind::Free, "free memory"),
    ] {
        places.extend(pages(kind).take(OF_A_KIND).map(|at| (name, at)));
    }
    places
}

/// The first 64 bytes of a range that are not all zeroes, or its start.
fn used(part: Range<u64>) -> u64 {
    let mut cells = part.clone().step_by(64);
    let mut bytes = [0; 64];
    let found =
        cells.find(|&at| peek(PhysAddr(at), &mut bytes) && bytes.iter().all(|&byte| byte != 0));
    found.unwrap_or(part.start)
}

fn pages(kind: Kind) -> impl Iterator<Item = PhysAddr> {
    let all = frames().into_iter().flat_map(move |frames| {
        let (first, last) = frames.span();
        let pages = (first.0..last.0).step_by(PAGE as usize);
        pages.filter(move |&pa| frames.kind(pa) == Some(kind))
    });
    all.map(PhysAddr)
}

/// Copies memory out; `false` where there is none, or none that the kernel has mapped
/// as such.
pub fn peek(at: PhysAddr, to: &mut [u8]) -> bool {
    let Some(end) = at.0.checked_add(to.len() as u64) else {
        return false;
    };
    let within = |part: &Range<u64>| part.start <= at.0 && end <= part.end;
    let ours = || {
        let frames = frames();
        let mut pages = (at.0 / PAGE..end.div_ceil(PAGE)).map(|page| page * PAGE);
        pages.all(|pa| {
            let kind = frames.and_then(|frames| frames.kind(pa));
            kind.is_some_and(|kind| kind != Kind::Reserved)
        })
    };
    if !parts().iter().any(|(_, part)| within(part)) && !ours() {
        return false;
    }
    for (offset, byte) in to.iter_mut().enumerate() {
        // SAFETY: parts of the image and frames that the allocator manages are mapped as
        // normal memory for as long as the kernel runs. Whoever owns the byte does not
        // change it now: this CPU is the only one that runs, and it is here; what a
        // device changes under it is why the access is volatile.
        *byte = unsafe { ((at.0 as usize + offset) as *const u8).read_volatile() };
    }
    true
}

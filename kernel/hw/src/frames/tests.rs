//! Frames over memory of the test's own, with holes, limits and odd edges.

use super::*;
use std::alloc::{Layout, alloc};
use std::vec;

const MIB: u64 = 1 << 20;

/// `bytes` of memory at a multiple of 2 MiB; the allocator keeps it for ever.
fn ram(bytes: u64) -> PhysRange {
    let layout = Layout::from_size_align(bytes as usize, 2 * MIB as usize).unwrap();
    // SAFETY: the size is not zero.
    let start = unsafe { alloc(layout) } as u64;
    assert_ne!(start, 0);
    PhysRange {
        start: PhysAddr(start),
        len: bytes,
    }
}

fn part(of: PhysRange, offset: u64, len: u64) -> PhysRange {
    PhysRange {
        start: of.start.add(offset),
        len,
    }
}

fn frames_of(ram: &[PhysRange], reserved: &[PhysRange]) -> Frames {
    // SAFETY: the memory was allocated for this and is used by nobody else.
    unsafe { Frames::new(ram, reserved) }
}

#[test]
fn what_is_reserved_is_never_handed_out() {
    let all = ram(8 * MIB);
    let holes = [
        part(all, 0, 123),
        part(all, MIB + 1, 4095),
        part(all, MIB + 4096, 8192),
        part(all, 7 * MIB, MIB + 5),
    ];
    let frames = frames_of(&[all], &holes);
    let total = frames.of_kind(Kind::Free) + frames.of_kind(Kind::Reserved);
    assert_eq!(total, all.len / PAGE);
    let mut seen = 0;
    while let Some(at) = frames.take(Request::ONE, Kind::Pages) {
        let end = at.0 + PAGE;
        for hole in holes {
            assert!(end <= hole.start.0 || hole.start.0 + hole.len <= at.0);
        }
        assert_eq!(frames.kind(at.0), Some(Kind::Pages));
        seen += 1;
    }
    assert_eq!(frames.of_kind(Kind::Free), 0);
    assert_eq!(frames.of_kind(Kind::Pages), seen);
    // 1 + 1 + 2 + 256 frames are reserved, and two for the metadata of 2048.
    assert_eq!(seen, total - 260 - frames_of_metadata(&frames, all));
}

/// Reserved frames that no hole explains.
fn frames_of_metadata(frames: &Frames, all: PhysRange) -> u64 {
    (0..all.len / PAGE)
        .filter(|frame| frames.kind(all.start.0 + frame * PAGE) == Some(Kind::Reserved))
        .count() as u64
        - 260
}

#[test]
fn ranges_that_overlap_or_are_no_pages_become_whole_frames() {
    let all = ram(4 * MIB);
    let frames = frames_of(&[part(all, 2 * MIB, 2 * MIB), part(all, 100, 3 * MIB)], &[]);
    assert_eq!(frames.span().0, all.start.add(4096));
    assert_eq!(frames.span().1, all.start.add(4 * MIB - 1));
    assert!(frames.overlaps(part(all, 4095, 2)));
    assert!(!frames.overlaps(part(all, 0, 4096)));
    assert!(!frames.overlaps(part(all, MIB, 0)));
    assert_eq!(frames.kind(all.start.0), None);
}

#[test]
fn limits_and_alignment_hold_over_zones() {
    let (a, b) = (ram(4 * MIB), ram(4 * MIB));
    let (low, high) = if a.start < b.start { (a, b) } else { (b, a) };
    let frames = frames_of(&[high, low], &[]);
    let limit = low.start.0 + MIB - 1;
    let request = Request {
        count: 3,
        align: 0x4_0000,
        limit,
    };
    let at = frames.take(request, Kind::Pages).unwrap();
    assert!(at.0.is_multiple_of(0x4_0000) && at.0 + 3 * PAGE - 1 <= limit);
    let anywhere = frames.take(Request::ONE, Kind::Pages).unwrap();
    assert!(anywhere >= high.start, "low memory is spared");
    let nowhere = Request {
        limit: low.start.0 - 1,
        ..request
    };
    assert_eq!(frames.take(nowhere, Kind::Pages), None);
}

#[test]
fn given_back_twice_is_caught() {
    let frames = frames_of(&[ram(4 * MIB)], &[]);
    let at = frames.take(Request::new(4), Kind::Heap).unwrap();
    frames.give(at, 4, Kind::Heap);
    let again = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
        frames.give(at, 4, Kind::Heap);
    }));
    assert!(again.is_err());
}

#[test]
fn quarantined_frames_stay_away() {
    let frames = frames_of(&[ram(4 * MIB)], &[]);
    let free = frames.of_kind(Kind::Free);
    let at = frames.take(Request::new(16), Kind::Pages).unwrap();
    frames.retag(at, 16, Kind::Pages, Kind::Quarantined);
    assert_eq!(frames.of_kind(Kind::Quarantined), 16);
    assert_eq!(frames.of_kind(Kind::Pages), 0);
    let mut rest = vec![];
    while let Some(page) = frames.take(Request::ONE, Kind::Pages) {
        assert!(page < at || page >= at.add(16 * PAGE));
        rest.push(page);
    }
    assert_eq!(rest.len() as u64, free - 16);
}

#[test]
fn a_zone_too_small_for_its_metadata_is_left_out() {
    let all = ram(2 * MIB);
    let frames = frames_of(&[all], &[part(all, 0, 2 * MIB)]);
    assert_eq!(frames.of_kind(Kind::Free), 0);
    assert_eq!(frames.take(Request::ONE, Kind::Heap), None);
}

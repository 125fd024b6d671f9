//! One range of RAM with its metadata, and the arithmetic of ranges that leads to
//! it.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};

use mastiff_core::addr::{PAGE, PhysRange};
use spin::Mutex;

use super::Kind;
use super::buddy::{self, Buddy};
use crate::cpu;

pub(super) struct Zone {
    pub(super) first: u64,
    pub(super) end: u64,
    /// A [`Kind`] per frame.
    kinds: &'static [AtomicU8],
    buddy: Mutex<Buddy<'static>>,
}

/// The frames that lie in `range` as a whole.
pub(super) fn frames_within(range: &PhysRange) -> Range<u64> {
    let end = range.start.0.saturating_add(range.len);
    range.start.0.div_ceil(PAGE)..end / PAGE
}

/// The frames that `range` has a byte in.
pub(super) fn frames_touched(range: &PhysRange) -> Range<u64> {
    let end = range.start.0.saturating_add(range.len);
    match range.len {
        0 => 0..0,
        _ => range.start.0 / PAGE..end.div_ceil(PAGE),
    }
}

/// Sorted, without overlap or empty ranges, neighbours joined.
pub(super) fn merged(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// What of `range` is in none of `holes`, which are [`merged`].
pub(super) fn without<'h>(
    range: Range<u64>,
    holes: &'h [Range<u64>],
) -> impl Iterator<Item = Range<u64>> + 'h {
    let end = range.end;
    let mut at = range.start;
    let last = end..end;
    holes
        .iter()
        .filter(move |&hole| hole.end > range.start && hole.start < range.end)
        .cloned()
        .chain([last])
        .filter_map(move |hole| {
            let free = at..hole.start.min(end);
            at = hole.end;
            (!free.is_empty()).then_some(free)
        })
}

impl Zone {
    /// The zone of `frames`, whose metadata goes into its highest free stretch that
    /// is long enough; `None` if none is.
    ///
    /// # Safety
    /// As for [`super::Frames::new`], for these frames.
    pub(super) unsafe fn new(frames: Range<u64>, holes: &[Range<u64>]) -> Option<Self> {
        let count = usize::try_from(frames.end - frames.start).ok()?;
        let words = buddy::words(frames.start, frames.end);
        let bytes = (words * 8 + count).next_multiple_of(PAGE as usize);
        let needed = bytes as u64 / PAGE;
        let metadata = without(frames.clone(), holes)
            .filter(|free| free.end - free.start >= needed)
            .last()
            .map(|free| free.end - needed..free.end)?;

        let at = (metadata.start * PAGE) as usize as *mut u8;
        // SAFETY: the frames are free RAM that the caller gave up, mapped where they
        // are; nothing else was made from them, so the two slices are unique. Zeroes
        // are valid words and valid atomics.
        let (storage, kinds) = unsafe {
            cpu::zero_pages(at, bytes);
            let storage = core::slice::from_raw_parts_mut(at.cast::<u64>(), words);
            let kinds = at.add(words * 8).cast::<AtomicU8>();
            (storage, core::slice::from_raw_parts(kinds, count))
        };

        let mut taken = Vec::from(holes);
        taken.push(metadata);
        let taken = merged(taken.into_iter());
        let mut buddy = Buddy::new(frames.start, frames.end, storage);
        for free in without(frames.clone(), &taken) {
            buddy.put(free.start, free.end);
        }
        let zone = Self {
            first: frames.start,
            end: frames.end,
            kinds,
            buddy: Mutex::new(buddy),
        };
        for hole in taken {
            let start = hole.start.clamp(zone.first, zone.end);
            let end = hole.end.clamp(zone.first, zone.end);
            zone.set(start, end - start, Kind::Reserved);
        }
        Some(zone)
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.first
    }

    pub(super) fn free(&self) -> u64 {
        self.buddy.lock().free()
    }

    #[inline]
    pub(super) fn kind(&self, frame: u64) -> Option<Kind> {
        let index = frame.checked_sub(self.first)?;
        let kind = self.kinds.get(index as usize)?.load(Ordering::Relaxed);
        Kind::ALL.get(usize::from(kind)).copied()
    }

    pub(super) fn take(&self, count: u64, align: u64, limit: u64, kind: Kind) -> Option<u64> {
        let first = self.buddy.lock().take(count, align, limit)?;
        self.set(first, count, kind);
        Some(first)
    }

    pub(super) fn give(&self, first: u64, count: u64, kind: Kind) {
        self.retag(first, count, kind, Kind::Free);
        self.buddy.lock().put(first, first + count);
    }

    pub(super) fn retag(&self, first: u64, count: u64, from: Kind, to: Kind) {
        let wrong = self
            .slice(first, count)
            .iter()
            .position(|kind| kind.load(Ordering::Relaxed) != from as u8);
        if let Some(index) = wrong {
            let frame = first + index as u64;
            let at = frame * PAGE;
            panic!("frame {at:#x} is {:?}, not {from:?}", self.kind(frame));
        }
        self.set(first, count, to);
    }

    fn set(&self, first: u64, count: u64, kind: Kind) {
        for slot in self.slice(first, count) {
            slot.store(kind as u8, Ordering::Relaxed);
        }
    }

    fn slice(&self, first: u64, count: u64) -> &[AtomicU8] {
        let start = (first - self.first) as usize;
        &self.kinds[start..start + count as usize]
    }
}

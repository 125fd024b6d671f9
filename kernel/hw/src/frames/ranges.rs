//! The arithmetic of ranges that leads from a tree's regions to frames that are
//! free. Ranges here are of frame numbers.

use alloc::vec::Vec;
use core::ops::Range;

use mastiff_core::addr::{PAGE, PhysRange};

/// The frames that lie in `range` as a whole.
pub fn frames_within(range: &PhysRange) -> Range<u64> {
    let end = range.start.0.saturating_add(range.len);
    range.start.0.div_ceil(PAGE)..end / PAGE
}

/// The frames that `range` has a byte in.
pub fn frames_touched(range: &PhysRange) -> Range<u64> {
    let end = range.start.0.saturating_add(range.len);
    match range.len {
        0 => 0..0,
        _ => range.start.0 / PAGE..end.div_ceil(PAGE),
    }
}

/// Sorted, without overlap or empty ranges, neighbours joined.
pub fn merged(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
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
pub fn without<'h>(
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

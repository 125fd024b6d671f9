//! The addresses of one domain. A free range is a power of two in size and as
//! aligned, kept on a stack for its size; what was never used lies above a bump
//! pointer. So allocating and freeing are a pop and a push, with no search,
//! however many ranges are out, and nothing is ever moved. Only when a window is used up are free ranges
//! split, and then merged.
//!
//! Windows end where some member's addresses end (its DMA mask), so that whether
//! an address is low enough is asked of a window, never of a range.

mod stack;

use alloc::vec::Vec;

use self::stack::Stack;
use crate::addr::{Iova, PAGE};
use crate::error::Fault;
use crate::iommu::{Hint, Reserved};

/// Sizes from one page to 2^36 pages: 48-bit addresses.
pub(crate) const CLASSES: usize = 37;
/// Bytes that were never handed out and that a CPU takes at once, of small ranges.
const BATCH: u64 = 16 * PAGE;

/// A range that must never be handed out, `first..=last`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Hole {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
}

impl From<&Reserved> for Hole {
    fn from(region: &Reserved) -> Self {
        Self {
            first: region.first,
            last: region.last,
        }
    }
}

/// A range of addresses: its first one, and what the domain knew of it when it was
/// mapped last.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Where it begins.
    pub iova: Iova,
    /// Where it is in the domain's tables.
    pub hint: Hint,
}

impl Slot {
    /// A range of which nothing is known.
    #[inline]
    pub(crate) fn new(start: u64) -> Self {
        Self {
            iova: Iova(start),
            hint: Hint::default(),
        }
    }
}

/// The free and used addresses of a domain.
pub struct IovaSpace {
    // Ascending; few: as many as there are holes and different masks.
    windows: Vec<Window>,
}

struct Window {
    first: u64,
    last: u64,
    // First address that was never handed out; past `last` when all were.
    fresh: u64,
    free: [Stack; CLASSES],
}

impl IovaSpace {
    /// All addresses from the second page to `last`: address 0 is never handed
    /// out, it is what a device uses that was never programmed.
    pub fn new(last: u64) -> Self {
        // Whole pages, and sums that cannot overflow.
        let last = last.min((1 << 48) - 1);
        let mut windows = Vec::with_capacity(2);
        if let Some(last) = page_end(last)
            && last > PAGE
        {
            windows.push(Window::new(PAGE, last));
        }
        let mut space = Self { windows };
        // Most masters that are limited are so to 32 bits; the others start above,
        // so that there is room below for one that joins the group later.
        space.split_at(u64::from(u32::MAX));
        space
    }

    /// Hands out `len` bytes, aligned to their size rounded up to a power of two,
    /// all of it at or below `limit`; the highest window that fits comes first,
    /// to leave low addresses to those that need them.
    pub fn alloc(&mut self, len: u64, limit: u64) -> Result<Slot, Fault> {
        let class = class(len);
        if class >= CLASSES {
            return Err(Fault::OutOfIova { bytes: len, limit });
        }
        let steps: [fn(&mut Window, usize) -> Option<Slot>; 3] =
            [Window::take, Window::split, Window::merge_and_split];
        for step in steps {
            for window in self.windows.iter_mut().rev() {
                if window.last <= limit
                    && let Some(slot) = step(window, class)
                {
                    return Ok(slot);
                }
            }
        }
        Err(Fault::OutOfIova { bytes: len, limit })
    }

    /// Takes back what `alloc` gave for `len` bytes.
    pub fn free(&mut self, slot: Slot, len: u64) {
        self.free_one(slot, class(len));
    }

    fn free_one(&mut self, slot: Slot, class: usize) {
        let (first, last) = (slot.iova.0, slot.iova.0 + (PAGE << class) - 1);
        let mut windows = self.windows.iter_mut().rev();
        match windows.find(|window| window.first <= first) {
            Some(window) if last <= window.last => window.free[class].push(slot),
            // Windows have come to end within it.
            _ => self.give(first, last),
        }
    }

    /// The first and the last address of the highest window.
    pub(crate) fn highest(&self) -> Option<(u64, u64)> {
        let window = self.windows.last()?;
        Some((window.first, window.last))
    }

    /// Moves up to `most` free ranges of a class in the highest window to `shelf`. Where
    /// there are none, some that were never handed out, of which `near` is known.
    pub(crate) fn take_some(
        &mut self,
        class: usize,
        most: usize,
        near: Hint,
        shelf: &mut Vec<Slot>,
    ) {
        let Some(window) = self.windows.last_mut() else {
            return;
        };
        let free = most.min(window.free[class].len());
        shelf.extend((0..free).map_while(|_| window.free[class].pop()));
        if free > 0 {
            return;
        }
        let batch = ((BATCH / PAGE) >> class.min(63)).max(1);
        let from = shelf.len();
        for _ in 0..batch {
            let Some(slot) = window.take(class) else {
                break;
            };
            shelf.push(Slot { hint: near, ..slot });
        }
        // The lowest is to go first.
        shelf[from..].reverse();
    }

    /// Takes back free ranges of a class.
    pub(crate) fn give_some(&mut self, class: usize, slots: impl Iterator<Item = Slot>) {
        slots.for_each(|slot| self.free_one(slot, class));
    }

    /// Makes sure that a window ends at `limit`.
    pub fn split_at(&mut self, limit: u64) {
        let Some(limit) = page_end(limit) else { return };
        let Some(at) = self
            .windows
            .iter()
            .position(|window| window.first <= limit && limit < window.last)
        else {
            return;
        };
        let old = self.windows.remove(at);
        let mut low = Window::new(old.first, limit);
        let mut high = Window::new(limit + 1, old.last);
        low.fresh = old.fresh.min(limit + 1);
        high.fresh = old.fresh.max(limit + 1);
        self.windows.insert(at, high);
        self.windows.insert(at, low);
        for (class, mut slots) in old.free.into_iter().enumerate() {
            while let Some(slot) = slots.pop() {
                let start = slot.iova.0;
                self.give(start, start + (PAGE << class) - 1);
            }
        }
    }

    /// Cuts ranges out that belong to somebody else. Fails where part of one was
    /// handed out already; nothing is cut out then.
    pub fn exclude(&mut self, holes: &[Hole]) -> Result<(), Fault> {
        let whole = |hole: &Hole| {
            let end = hole.last.checked_add(PAGE)?;
            let first = hole.first & !(PAGE - 1);
            Some((first, (end & !(PAGE - 1)) - 1))
        };
        let inside = |window: &Window, (first, last)| window.first >= first && window.last <= last;
        for (first, last) in holes.iter().filter_map(whole) {
            if first > 0 {
                self.split_at(first - 1);
            }
            self.split_at(last);
            let mut windows = self.windows.iter();
            if windows.any(|window| inside(window, (first, last)) && !window.is_unused()) {
                return Err(Fault::BadRange {
                    iova: Iova(first),
                    len: last - first + 1,
                    why: "a reserved range is in use already",
                });
            }
        }
        for hole in holes.iter().filter_map(whole) {
            self.windows.retain(|window| !inside(window, hole));
        }
        Ok(())
    }

    /// Puts `first..=last` on the stacks of the windows that it lies in.
    #[inline(never)]
    fn give(&mut self, mut first: u64, last: u64) {
        for window in &mut self.windows {
            if first > last {
                return;
            }
            if first >= window.first && first <= window.last {
                window.give(first, last.min(window.last));
                first = window.last + 1;
            }
        }
    }
}

impl Window {
    fn new(first: u64, last: u64) -> Self {
        Self {
            first,
            last,
            fresh: first,
            free: core::array::from_fn(|_| Stack::default()),
        }
    }

    fn is_unused(&self) -> bool {
        let mut free = 0;
        for (class, slots) in self.free.iter().enumerate() {
            free += (PAGE << class) * slots.len() as u64;
        }
        self.fresh - self.first == free
    }

    /// From the stack of this size, or fresh.
    fn take(&mut self, class: usize) -> Option<Slot> {
        if let Some(slot) = self.free[class].pop() {
            return Some(slot);
        }
        let size = PAGE << class;
        let start = self.fresh.checked_add(size - 1)? & !(size - 1);
        let end = start.checked_add(size)?;
        if end - 1 > self.last {
            return None;
        }
        let gap = self.fresh;
        self.fresh = end;
        if gap < start {
            self.give(gap, start - 1);
        }
        Some(Slot::new(start))
    }

    /// From a larger free range; what is left of it goes back.
    fn split(&mut self, class: usize) -> Option<Slot> {
        let larger = (class + 1..CLASSES).find(|&class| self.free[class].len() > 0)?;
        let start = self.free[larger].pop()?.iova.0;
        self.give(start + (PAGE << class), start + (PAGE << larger) - 1);
        Some(Slot::new(start))
    }

    /// The slow path: neighbours become one range again.
    fn merge_and_split(&mut self, class: usize) -> Option<Slot> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (class, slots) in self.free.iter_mut().enumerate() {
            while let Some(slot) = slots.pop() {
                let start = slot.iova.0;
                ranges.push((start, start + (PAGE << class)));
            }
        }
        ranges.sort_unstable();
        let mut merged: Option<(u64, u64)> = None;
        for (start, end) in ranges {
            merged = match merged {
                Some((first, last)) if last == start => Some((first, end)),
                Some((first, last)) => {
                    self.give(first, last - 1);
                    Some((start, end))
                }
                None => Some((start, end)),
            };
        }
        match merged {
            // The free end of the window is fresh again.
            Some((first, end)) if end == self.fresh => self.fresh = first,
            Some((first, end)) => self.give(first, end - 1),
            None => {}
        }
        self.take(class).or_else(|| self.split(class))
    }

    /// Cuts `first..=last` into aligned powers of two.
    fn give(&mut self, first: u64, last: u64) {
        let (mut start, end) = (first / PAGE, last / PAGE + 1);
        while start < end {
            let aligned = start.trailing_zeros();
            let fits = (end - start).ilog2();
            let class = (aligned.min(fits) as usize).min(CLASSES - 1);
            self.free[class].push(Slot::new(start * PAGE));
            start += 1 << class;
        }
    }
}

/// The class of a length in bytes: of none, and of one that is too long, no class.
#[inline(always)]
pub(crate) fn class(len: u64) -> usize {
    // The bits of the number of the last page: none of page 0, n of the 2^n-th.
    let last = len.wrapping_sub(1) / PAGE;
    (u64::BITS - last.leading_zeros()) as usize
}

/// The last address of the last whole page at or below `last`.
fn page_end(last: u64) -> Option<u64> {
    match last.checked_add(1) {
        Some(end) => (end & !(PAGE - 1)).checked_sub(1),
        None => Some(u64::MAX),
    }
}

#[cfg(test)]
mod tests;

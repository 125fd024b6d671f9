//! The kernel's heap: arenas of a first-fit allocator, a new one from the frame
//! allocator whenever the others have no room. The first arena lies within the
//! image, so that the device tree can be read before anybody knows where RAM is.
//!
//! Handlers of interrupts run in ordinary context, and exception context does not
//! allocate, so the lock need not mask interrupts.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use linked_list_allocator::Heap;
use mastiff_core::addr::PAGE;
use spin::Mutex;

use crate::frames::{Kind, Request, frames};

/// How many arenas there can be.
const ARENAS: usize = 32;
/// What an arena usually has at least.
const STEP: usize = 8 << 20;

/// The global allocator.
pub struct KernelHeap(Mutex<Arenas>);

struct Arenas {
    heaps: [Heap; ARENAS],
    used: usize,
}

impl Default for KernelHeap {
    fn default() -> Self {
        Self::new()
    }
}

impl KernelHeap {
    /// A heap without memory.
    pub const fn new() -> Self {
        Self(Mutex::new(Arenas {
            heaps: [const { Heap::empty() }; ARENAS],
            used: 0,
        }))
    }

    /// Adds an arena.
    ///
    /// # Safety
    /// `len` bytes at `start` are mapped, writable, nobody else's, and for ever.
    pub unsafe fn add(&self, start: *mut u8, len: usize) {
        // SAFETY: passed on to the caller.
        unsafe { self.0.lock().add(start, len) };
    }

    /// Bytes in use, and bytes in all.
    pub fn usage(&self) -> (usize, usize) {
        let arenas = self.0.lock();
        let heaps = &arenas.heaps[..arenas.used];
        heaps.iter().fold((0, 0), |(used, size), heap| {
            (used + heap.used(), size + heap.size())
        })
    }
}

impl Arenas {
    /// # Safety
    /// As for [`KernelHeap::add`].
    unsafe fn add(&mut self, start: *mut u8, len: usize) {
        if let Some(heap) = self.heaps.get_mut(self.used) {
            // SAFETY: passed on to the caller; this one was not used before.
            unsafe { heap.init(start, len) };
            self.used += 1;
        }
    }

    fn take(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        // The newest has the most room.
        let heaps = self.heaps[..self.used].iter_mut().rev();
        heaps
            .into_iter()
            .find_map(|heap| heap.allocate_first_fit(layout).ok())
    }

    /// Takes an arena in which `layout` fits from the frames.
    fn grow(&mut self, layout: Layout) -> Option<()> {
        if self.used == ARENAS {
            return None;
        }
        let frames = frames()?;
        let have = self.heaps[..self.used].iter().map(Heap::size).sum();
        let (at, bytes) = arena_sizes(layout, have).find_map(|bytes| {
            let request = Request::new(bytes as u64 / PAGE);
            Some((frames.take(request, Kind::Heap)?, bytes))
        })?;
        // SAFETY: frames that were just handed to us, and are never given back.
        unsafe { self.add(at.0 as *mut u8, bytes) };
        Some(())
    }
}

/// Sizes of arenas to try for `layout`, where there are `have` bytes already: as
/// much again, so that the slots last; else a usual one; else what it takes.
fn arena_sizes(layout: Layout, have: usize) -> impl Iterator<Item = usize> {
    // The worst of alignment, and the header of a hole on either side of it.
    let overhead = layout.align() + 64;
    let least = layout.size().checked_add(overhead + PAGE as usize - 1);
    let least = least.map(|bytes| bytes & !(PAGE as usize - 1));
    least.into_iter().flat_map(move |least| {
        let usual = least.max(STEP);
        [usual.max(have & !(PAGE as usize - 1)), usual, least]
    })
}

// SAFETY: what `Heap` hands out is within memory that was given to it, fits the
// layout, and overlaps nothing else that is handed out; `dealloc` returns a block to
// the heap that its address lies in.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arenas = self.0.lock();
        let block = arenas.take(layout).or_else(|| {
            arenas.grow(layout)?;
            arenas.take(layout)
        });
        block.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let mut arenas = self.0.lock();
        let used = arenas.used;
        let owner = arenas.heaps[..used]
            .iter_mut()
            .find(|heap| heap.bottom() <= at && at < heap.top());
        if let (Some(heap), Some(block)) = (owner, NonNull::new(at)) {
            // SAFETY: the caller's: it came from `alloc` with this layout.
            unsafe { heap.deallocate(block, layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn arenas_double_or_are_as_big_as_needed() {
        let sizes = |size, align, have| {
            let layout = Layout::from_size_align(size, align).unwrap();
            arena_sizes(layout, have).collect::<Vec<_>>()
        };
        assert_eq!(sizes(100, 8, 0), [STEP, STEP, 4096]);
        assert_eq!(sizes(100, 8, 5 * STEP + 1), [5 * STEP, STEP, 4096]);
        assert_eq!(sizes(STEP, 8, 0), [STEP + 4096; 3]);
        assert_eq!(sizes(5000, 65536, 0)[2], 73728);
        assert_eq!(sizes(isize::MAX as usize - 4095, 4096, 0).len(), 3);
    }

    #[test]
    fn blocks_return_to_their_arena() {
        let heap = KernelHeap::new();
        let arena = || std::boxed::Box::leak(std::vec![0u64; 512].into_boxed_slice());
        // SAFETY: leaked memory, used for nothing else.
        unsafe {
            heap.add(arena().as_mut_ptr().cast(), 4096);
            heap.add(arena().as_mut_ptr().cast(), 4096);
        }
        let layout = Layout::from_size_align(1000, 16).unwrap();
        // SAFETY: layouts are not empty, and each block is given back once.
        unsafe {
            let blocks: Vec<_> = (0..6).map(|_| heap.alloc(layout)).collect();
            assert!(blocks.iter().all(|block| !block.is_null()));
            assert!(heap.usage().0 >= 6000);
            let too_much = Layout::from_size_align(4096, 8).unwrap();
            // There are no frames to grow from here.
            assert!(heap.alloc(too_much).is_null());
            blocks
                .into_iter()
                .for_each(|block| heap.dealloc(block, layout));
        }
        assert_eq!(heap.usage(), (0, 8192));
    }
}

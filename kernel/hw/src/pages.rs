//! Memory that a device may share: owned frames, reached by address and never by a
//! Rust reference, since the device may change them at any time.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mastiff_core::addr::{PAGE, PhysAddr};
use mastiff_core::error::Fault;
use mastiff_core::platform::PageRequest;

use crate::cpu;
use crate::frames::{Frames, Kind, Request};

/// Physically contiguous frames of one owner.
pub struct Pages {
    frames: &'static Frames,
    pa: PhysAddr,
    len: usize,
}

impl Pages {
    /// Takes them. They hold what their last user left in them.
    pub fn take(frames: &'static Frames, request: PageRequest) -> Result<Self, Fault> {
        let count = request.bytes.div_ceil(PAGE).max(1);
        let wanted = Request {
            count,
            align: request.align,
            limit: request.limit,
        };
        match frames.take(wanted, Kind::Pages) {
            Some(pa) => Ok(Self {
                frames,
                pa,
                len: (count * PAGE) as usize,
            }),
            None => Err(Fault::OutOfMemory {
                bytes: request.bytes,
                limit: request.limit,
            }),
        }
    }

    /// Parks them: a device may still write to them.
    pub fn quarantine(self) {
        let count = self.len as u64 / PAGE;
        self.frames
            .retag(self.pa, count, Kind::Pages, Kind::Quarantined);
        core::mem::forget(self);
    }

    /// Where `len` bytes at `offset` are.
    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        if len > self.len || offset > self.len - len {
            refuse(self.pa, self.len, offset, len);
        }
        (self.pa.0 as usize + offset) as *mut u8
    }

    /// Where a word at `offset` is.
    #[inline(always)]
    fn word<T>(&self, offset: usize) -> *mut T {
        if !offset.is_multiple_of(size_of::<T>()) {
            refuse(self.pa, self.len, offset, size_of::<T>());
        }
        self.at(offset, size_of::<T>()).cast()
    }

    /// Where two words at `offset` are.
    #[inline(always)]
    fn pair(&self, offset: usize) -> *mut u64 {
        if !offset.is_multiple_of(8) {
            refuse(self.pa, self.len, offset, 16);
        }
        self.at(offset, 16).cast()
    }
}

/// By value, so that looking at pages does not force them into memory.
#[cold]
#[inline(never)]
fn refuse(pa: PhysAddr, all: usize, offset: usize, len: usize) -> ! {
    panic!("access of {len} bytes at {offset:#x} in pages {pa}+{all:#x}")
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.frames
            .give(self.pa, self.len as u64 / PAGE, Kind::Pages);
    }
}

impl mastiff_core::platform::Pages for Pages {
    #[inline(always)]
    fn pa(&self) -> PhysAddr {
        self.pa
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn load32(&self, offset: usize) -> u32 {
        // SAFETY: in bounds and aligned; frames are mapped where they are, and what
        // is in them is only ever reached through raw accesses like this one.
        unsafe { AtomicU32::from_ptr(self.word(offset)) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn store32(&self, offset: usize, value: u32) {
        // SAFETY: as for `load32`.
        unsafe { AtomicU32::from_ptr(self.word(offset)) }.store(value, Ordering::Relaxed);
    }

    #[inline]
    fn load64(&self, offset: usize) -> u64 {
        // SAFETY: as for `load32`.
        unsafe { AtomicU64::from_ptr(self.word(offset)) }.load(Ordering::Relaxed)
    }

    #[inline]
    fn store64(&self, offset: usize, value: u64) {
        // SAFETY: as for `load32`.
        unsafe { AtomicU64::from_ptr(self.word(offset)) }.store(value, Ordering::Relaxed);
    }

    #[inline]
    fn store_pair(&self, offset: usize, values: [u64; 2]) {
        let pair: *mut u64 = self.pair(offset);
        // SAFETY: as for `load32`, both of them.
        unsafe {
            AtomicU64::from_ptr(pair).store(values[0], Ordering::Relaxed);
            AtomicU64::from_ptr(pair.add(1)).store(values[1], Ordering::Relaxed);
        }
    }

    #[inline]
    fn store_quad(&self, offset: usize, values: [u64; 4]) {
        if !offset.is_multiple_of(8) {
            refuse(self.pa, self.len, offset, 32);
        }
        let words: *mut u64 = self.at(offset, 32).cast();
        for (index, value) in values.into_iter().enumerate() {
            // SAFETY: as for `load32`, all of them.
            unsafe { AtomicU64::from_ptr(words.add(index)).store(value, Ordering::Relaxed) };
        }
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: in bounds; `to` is ours alone, so it is no part of the pages.
        unsafe { cpu::copy(to.as_mut_ptr(), from, to.len()) }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: in bounds; a reference never points into the pages.
        unsafe { cpu::copy(to, from.as_ptr(), from.len()) }
    }

    fn fill(&self, offset: usize, len: usize, byte: u8) {
        let at = self.at(offset, len);
        let page = PAGE as usize;
        if byte == 0 && offset.is_multiple_of(page) && len.is_multiple_of(page) {
            // SAFETY: in bounds, whole pages, and frames are normal, cacheable memory.
            return unsafe { cpu::zero_pages(at, len) };
        }
        // SAFETY: in bounds.
        unsafe { cpu::fill(at, len, byte) }
    }

    #[inline(always)]
    fn clean(&self, offset: usize, len: usize) {
        // SAFETY: in bounds, and frames are normal memory.
        unsafe { cpu::clean(self.at(offset, len), len) }
    }

    #[inline(always)]
    fn invalidate(&self, offset: usize, len: usize) {
        // SAFETY: as for `clean`.
        unsafe { cpu::clean_invalidate(self.at(offset, len), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mastiff_core::addr::PhysRange;
    use mastiff_core::platform::Pages as _;
    use std::alloc::{Layout, alloc};
    use std::boxed::Box;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn frames() -> &'static Frames {
        let layout = Layout::from_size_align(1 << 20, PAGE as usize).unwrap();
        // SAFETY: the size is not zero.
        let start = PhysAddr(unsafe { alloc(layout) } as u64);
        let len = 1 << 20;
        // SAFETY: allocated for this, never freed.
        Box::leak(Box::new(unsafe {
            Frames::new(&[PhysRange { start, len }], &[])
        }))
    }

    #[test]
    fn words_and_copies_stay_within_the_pages() {
        let pages = Pages::take(frames(), PageRequest::new(5000)).unwrap();
        assert_eq!(pages.len(), 8192);
        pages.fill(0, 8192, 0xa5);
        pages.store32(8188, 0x1234_5678);
        pages.store_pair(8176, [1, 2]);
        assert_eq!((pages.load64(8176), pages.load64(8184)), (1, 2));
        pages.store_quad(8160, [3, 4, 5, 6]);
        assert_eq!(
            [0, 8, 16, 24].map(|at| pages.load64(8160 + at)),
            [3, 4, 5, 6]
        );
        pages.fill(8160, 32, 0xa5);
        pages.store32(8188, 0x1234_5678);
        pages.store64(0, u64::MAX);
        pages.write(7, b"abc");
        let mut bytes = [0; 4];
        pages.read(6, &mut bytes);
        assert_eq!(&bytes, b"\xffabc");
        assert_eq!(pages.load32(8188), 0x1234_5678);
        assert_eq!(pages.load64(8184) as u32, 0xa5a5_a5a5);
        pages.clean(1, 8191);
        pages.invalidate(0, 0);
        pages.read(8192, &mut []);

        let refused = |access: &dyn Fn()| catch_unwind(AssertUnwindSafe(access)).is_err();
        assert!(refused(&|| _ = pages.load32(8192)));
        assert!(refused(&|| _ = pages.load64(4)));
        assert!(refused(&|| _ = pages.load64(8188)));
        assert!(refused(&|| pages.store_pair(8184, [0, 0])));
        assert!(refused(&|| pages.store_pair(4, [0, 0])));
        assert!(refused(&|| pages.store_quad(8168, [0; 4])));
        assert!(refused(&|| pages.store_quad(4, [0; 4])));
        assert!(refused(&|| pages.write(8190, b"abc")));
        assert!(refused(&|| pages.fill(usize::MAX, 2, 0)));
    }

    #[test]
    fn frames_come_back_unless_quarantined() {
        let frames = frames();
        let free = frames.of_kind(Kind::Free);
        let kept = Pages::take(frames, PageRequest::new(1)).unwrap();
        let parked = Pages::take(frames, PageRequest::new(3 * PAGE)).unwrap();
        drop(kept);
        parked.quarantine();
        assert_eq!(frames.of_kind(Kind::Free), free - 3);
        assert_eq!(frames.of_kind(Kind::Quarantined), 3);
        assert_eq!(frames.of_kind(Kind::Pages), 0);
        let limit = 0x1000;
        let refused = Pages::take(frames, PageRequest::new(1).limit(limit)).err();
        assert_eq!(refused, Some(Fault::OutOfMemory { bytes: 1, limit }));
    }
}

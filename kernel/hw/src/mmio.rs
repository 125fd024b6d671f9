//! Device registers: every access is checked against the window, then done as one
//! instruction.

use mastiff_core::addr::PhysRange;
use mastiff_core::platform::Mmio;

use crate::cpu;

/// A mapped window of registers.
#[derive(Debug)]
pub struct Window {
    base: usize,
    len: usize,
}

impl Window {
    /// The window over `range`.
    ///
    /// # Safety
    /// `range` is mapped as device memory where it is physically, for ever, and
    /// holds registers: nothing that Rust knows of as memory.
    pub unsafe fn new(range: PhysRange) -> Self {
        Self {
            base: range.start.0 as usize,
            len: range.len as usize,
        }
    }

    /// Where `size` bytes at `offset` are.
    #[inline(always)]
    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        let inside = size <= self.len && offset <= self.len - size;
        if !inside || !(self.base + offset).is_multiple_of(size) {
            self.refuse(offset, size);
        }
        (self.base + offset) as *mut u8
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, offset: usize, size: usize) -> ! {
        let Self { base, len } = *self;
        panic!("register access of {size} bytes at {offset:#x} in window {base:#x}+{len:#x}")
    }
}

macro_rules! accesses {
    ($($read:ident, $write:ident, $load:ident, $store:ident: $type:ty;)*) => {$(
        #[inline]
        fn $read(&self, offset: usize) -> $type {
            // SAFETY: `at` has checked bounds and alignment; the window is mapped.
            unsafe { cpu::$load(self.at(offset, size_of::<$type>())) }
        }

        #[inline]
        fn $write(&self, offset: usize, value: $type) {
            // SAFETY: as for reading.
            unsafe { cpu::$store(self.at(offset, size_of::<$type>()), value) }
        }
    )*};
}

impl Mmio for Window {
    fn len(&self) -> usize {
        self.len
    }

    accesses! {
        read8, write8, load8, store8: u8;
        read16, write16, load16, store16: u16;
        read32, write32, load32, store32: u32;
        read64, write64, load64, store64: u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mastiff_core::addr::PhysAddr;
    use std::panic::catch_unwind;

    fn window(len: u64) -> Window {
        let words = std::boxed::Box::leak(std::boxed::Box::new([0u64; 4]));
        let start = PhysAddr(words.as_mut_ptr() as u64);
        // SAFETY: leaked memory of at least `len` bytes, used as the window only.
        unsafe { Window::new(PhysRange { start, len }) }
    }

    #[test]
    fn widths_and_offsets() {
        let window = window(32);
        window.write64(8, 0x1122_3344_5566_7788);
        assert_eq!(window.read32(8), 0x5566_7788);
        assert_eq!(window.read16(14), 0x1122);
        window.write8(15, 0xab);
        assert_eq!(window.read8(15), 0xab);
        window.write16(0, 0xbeef);
        window.write32(4, 0xcafe_f00d);
        assert_eq!(window.read64(0), 0xcafe_f00d_0000_beef);
    }

    #[test]
    fn outside_or_misaligned_panics() {
        for (offset, size) in [
            (32, 1),
            (29, 4),
            (2, 4),
            (usize::MAX, 1),
            (usize::MAX - 3, 8),
        ] {
            let caught = catch_unwind(|| match size {
                1 => u64::from(window(32).read8(offset)),
                4 => u64::from(window(32).read32(offset)),
                _ => window(32).read64(offset),
            });
            assert!(caught.is_err(), "{size} bytes at {offset:#x}");
        }
        assert!(catch_unwind(|| window(4).read64(0)).is_err());
    }
}

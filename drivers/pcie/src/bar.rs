//! Base address registers: finding out what a function wants (PCIe Base 7.5.1.2.1)
//! and telling it what it got.

use alloc::vec::Vec;

use crate::config::{BAR0, Config};

/// Bit 0 of a BAR: I/O instead of memory.
const IO: u32 = 1 << 0;
/// Bits 2:1: how wide a memory BAR is.
const WIDTH: u32 = 3 << 1;
const WIDTH_64: u32 = 2 << 1;
/// Bit 3: reads have no side effects.
const PREFETCH: u32 = 1 << 3;
/// What of a memory BAR is not address.
const FLAGS: u64 = 0xf;

/// A memory window that a function wants. I/O is left out: nothing here uses it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Its number; a 64-bit BAR uses the next one too.
    pub index: usize,
    /// Its size and alignment, a power of two.
    pub size: u64,
    /// Whether it takes addresses above 4 GiB.
    pub wide: bool,
    /// Whether reads have no side effects.
    pub prefetch: bool,
}

/// What a function with `count` BARs wants. The function must not decode memory
/// meanwhile: its BARs hold nonsense in between.
pub fn wanted(config: &Config, count: usize) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut index = 0;
    while index < count {
        let low = probe(config, index);
        let wide = low & (IO | WIDTH) == WIDTH_64;
        if wide && index + 1 == count {
            // Its upper half would be a register that is no BAR.
            break;
        }
        let high = if wide {
            probe(config, index + 1)
        } else {
            u32::MAX
        };
        bars.extend(decode(index, low, high));
        index += if wide { 2 } else { 1 };
    }
    bars
}

/// The bits of a BAR that can be set.
fn probe(config: &Config, index: usize) -> u32 {
    let offset = BAR0 + 4 * index;
    let before = config.read32(offset);
    config.write32(offset, u32::MAX);
    let writable = config.read32(offset);
    config.write32(offset, before);
    writable
}

/// What the bits that can be set mean.
fn decode(index: usize, low: u32, high: u32) -> Option<Bar> {
    let wide = low & (IO | WIDTH) == WIDTH_64;
    let absent = !wide && low & !(FLAGS as u32) == 0;
    if low & IO != 0 || absent {
        return None;
    }
    let mask = (u64::from(high) << 32 | u64::from(low)) & !FLAGS;
    let size = mask.wrapping_neg();
    if !size.is_power_of_two() {
        // Holes in the mask, or no bit at all: nothing that can be placed.
        return None;
    }
    Some(Bar {
        index,
        size,
        wide,
        prefetch: low & PREFETCH != 0,
    })
}

/// Tells the function where on the bus its window is.
pub fn place(config: &Config, bar: Bar, address: u64) {
    let offset = BAR0 + 4 * bar.index;
    config.write32(offset, address as u32);
    if bar.wide {
        config.write32(offset + 4, (address >> 32) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bar(index: usize, size: u64, wide: bool, prefetch: bool) -> Option<Bar> {
        Some(Bar {
            index,
            size,
            wide,
            prefetch,
        })
    }

    #[test]
    fn what_functions_answer() {
        let none = u32::MAX;
        assert_eq!(
            decode(0, 0xfff0_0000, none),
            bar(0, 0x10_0000, false, false)
        );
        assert_eq!(decode(0, 0xffff_c004, none), bar(0, 0x4000, true, false));
        assert_eq!(decode(2, 0xffff_f00c, none), bar(2, 0x1000, true, true));
        assert_eq!(
            decode(2, 0x0000_000c, 0xffff_fffe),
            bar(2, 1 << 33, true, true)
        );
        assert_eq!(decode(0, 0x0000_0004, none), bar(0, 1 << 32, true, false));
        assert_eq!(decode(0, 0xffff_ff01, none), None, "I/O");
        assert_eq!(decode(0, 0, none), None, "not there");
        assert_eq!(decode(0, 0xffff_fff0, none), bar(0, 16, false, false));
        assert_eq!(decode(0, 0xf0f0_0000, none), None, "holes in the mask");
    }

    proptest! {
        #[test]
        fn any_answer_is_a_power_of_two_or_nothing(low: u32, high: u32) {
            if let Some(bar) = decode(0, low, high) {
                prop_assert!(bar.size.is_power_of_two() && bar.size >= 16);
            }
        }
    }
}

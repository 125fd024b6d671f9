//! A translation table walk written from the architecture's pseudocode
//! (DDI 0487 §D8.2 translation process, §D8.3 descriptor formats; shared
//! pseudocode AArch64.S1Walk), knowing nothing of the crate under test. It reads
//! published memory only, and rejects what hardware would.

use super::TestMem;

/// What the walker is told by TCR/CD and TTBR.
#[derive(Clone, Copy)]
pub struct Regime {
    /// log2 of the granule.
    pub granule: u32,
    pub t0sz: u32,
    pub output_bits: u32,
    pub ttb: u64,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Fault {
    /// The address is beyond T0SZ, or a descriptor is invalid.
    Translation(u32),
    /// An address in TTBR or a descriptor exceeds the output size.
    AddressSize(u32),
    AccessFlag(u32),
}

/// A successful walk: output address, log2 of the leaf's size, log2 of what a TLB may
/// keep of it, and the leaf without the hint that says so.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Hit {
    pub pa: u64,
    pub size_bits: u32,
    pub kept_bits: u32,
    pub descriptor: u64,
}

/// Bit 52 (DDI 0487 §D8.7.1).
const CONTIGUOUS: u64 = 1 << 52;

/// log2 of the number of contiguous leaves, from the manual's table.
fn group_bits(granule: u32, level: u32) -> u32 {
    match (granule, level) {
        (12, 1..=3) => 4,
        (14, 2) => 5,
        (14, 3) => 7,
        (16, 2 | 3) => 5,
        _ => panic!("no contiguous leaves at level {level}"),
    }
}

/// What a TLB may keep for the leaf at `index`: all of its group, if each of them says
/// the same with the next address. Anything else is misprogrammed. Comparing each with
/// the ends is enough, since tests look at each.
fn kept(mem: &TestMem, granule: u32, level: u32, table: u64, index: usize) -> u32 {
    let leaf = mem.walker_reads(table, index);
    let low = granule + (granule - 3) * (3 - level);
    if leaf & CONTIGUOUS == 0 {
        return low;
    }
    let bits = group_bits(granule, level);
    let first = index >> bits << bits;
    let base = leaf - ((index - first) as u64) * (1 << low);
    assert_eq!(bits_of_address(base, low + bits), 0, "a misaligned group");
    for member in [0, (1 << bits) - 1] {
        let raw = mem.walker_reads(table, first + member);
        let expected = base + ((member as u64) << low);
        assert_eq!(raw, expected, "member {member} of a group at level {level}");
    }
    low + bits
}

fn bits_of_address(descriptor: u64, below: u32) -> u64 {
    descriptor & ((1 << below) - 1) & !0xfff & ((1 << 48) - 1)
}

fn bits(value: u64, high: u32, low: u32) -> u64 {
    value >> low & ((1 << (high - low + 1)) - 1)
}

pub fn translate(mem: &TestMem, regime: Regime, va: u64) -> Result<Hit, Fault> {
    let g = regime.granule;
    let stride = g - 3;
    let ia_size = 64 - regime.t0sz;
    if va >> ia_size != 0 {
        return Err(Fault::Translation(0));
    }
    // The start level is the lowest one whose entries, all together, reach the
    // top of the input space.
    let mut level = 3;
    while g + stride * (4 - level) < ia_size {
        level -= 1;
    }
    let mut table = regime.ttb;
    if table >> regime.output_bits != 0 {
        return Err(Fault::AddressSize(0));
    }
    let mut top = ia_size - 1;
    loop {
        let low = g + stride * (3 - level);
        let index = bits(va, top, low) as usize;
        let descriptor = mem.walker_reads(table, index);
        let leaf = match (descriptor & 0b11, level) {
            (0b11, 3) => true,
            (0b11, _) => false,
            (0b01, 2) => true,
            (0b01, 1) if g == 12 => true,
            _ => return Err(Fault::Translation(level)),
        };
        let aligned = if leaf { low } else { g };
        let address = bits(descriptor, 47, aligned) << aligned;
        if address >> regime.output_bits != 0 {
            return Err(Fault::AddressSize(level));
        }
        // RES0 in blocks: the output address bits below the block's size, down
        // to bit 12 (nT, bit 16, is FEAT_BBM's and 0 here too).
        assert!(
            !leaf || low == 12 || bits(descriptor, low - 1, 12) == 0,
            "RES0 bits set in {descriptor:#x} at level {level}"
        );
        if leaf {
            if bits(descriptor, 10, 10) == 0 {
                return Err(Fault::AccessFlag(level));
            }
            return Ok(Hit {
                pa: address | bits(va, low - 1, 0),
                size_bits: low,
                kept_bits: kept(mem, g, level, table, index),
                descriptor: descriptor & !CONTIGUOUS,
            });
        }
        table = address;
        top = low - 1;
        level += 1;
    }
}

//! Attributes of stage 2 leaf descriptors, as pure functions on their bits.
//!
//! Stage 2 knows neither privilege nor ASIDs: what it decodes is what masters get,
//! `user` and not `global`. Its memory types are in the descriptor itself, without
//! a MAIR.
//!
//! Layout: DDI 0487 §D8.3.1 (stage 2 block and page descriptors), §D8.4.2 (S2AP),
//! §D8.6.5 (MemAttr without FEAT_S2FWB).

use crate::geometry::{Geometry, Stage};
use crate::stage1::{self, Access, Attrs, Exec, Memory, Shareability};

/// MemAttr, bits [5:2].
const MEMORY_SHIFT: u32 = 2;
const DEVICE_NGNRE: u64 = 0b0001;
const NON_CACHEABLE: u64 = 0b0101;
const WRITE_BACK: u64 = 0b1111;
/// S2AP, bits [7:6]: readable, writable.
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
/// SH, bits [9:8].
const SHAREABILITY_SHIFT: u32 = 8;
/// AF, bit 10.
const ACCESSED: u64 = 1 << 10;
/// XN[1], bit 54: no execution by anybody.
const EXECUTE_NEVER: u64 = 1 << 54;

/// Every bit of a leaf that is neither output address nor type.
const ATTRIBUTES: u64 = 0xffc | 0xffff << 48;

/// The attribute bits of a block or page descriptor, access flag set.
#[inline]
pub const fn encode(attrs: Attrs) -> u64 {
    let memory = match attrs.memory {
        Memory::Normal => WRITE_BACK,
        Memory::NonCacheable => NON_CACHEABLE,
        Memory::Device => DEVICE_NGNRE,
    };
    let mut bits = ACCESSED
        | READ
        | memory << MEMORY_SHIFT
        | (attrs.shareability as u64) << SHAREABILITY_SHIFT;
    if matches!(attrs.access, Access::ReadWrite) {
        bits |= WRITE;
    }
    if matches!(attrs.exec, Exec::Never) {
        bits |= EXECUTE_NEVER;
    }
    bits
}

/// The attributes of a leaf descriptor, or `None` where it holds something that
/// [`encode`] never makes.
pub const fn decode(descriptor: u64) -> Option<Attrs> {
    let memory = match descriptor >> MEMORY_SHIFT & 0b1111 {
        WRITE_BACK => Memory::Normal,
        NON_CACHEABLE => Memory::NonCacheable,
        DEVICE_NGNRE => Memory::Device,
        _ => return None,
    };
    let shareability = match descriptor >> SHAREABILITY_SHIFT & 0b11 {
        0b00 => Shareability::Non,
        0b10 => Shareability::Outer,
        0b11 => Shareability::Inner,
        _ => return None,
    };
    let attrs = Attrs {
        access: if descriptor & WRITE == 0 {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        },
        exec: if descriptor & EXECUTE_NEVER == 0 {
            Exec::Kernel
        } else {
            Exec::Never
        },
        memory,
        shareability,
        user: true,
        global: false,
    };
    if encode(attrs) == descriptor & ATTRIBUTES {
        Some(attrs)
    } else {
        None
    }
}

impl Geometry {
    /// The attribute bits of a leaf of these tables.
    #[inline]
    pub(crate) const fn encode(&self, attrs: Attrs) -> u64 {
        match self.stage {
            Stage::One => stage1::encode(attrs),
            Stage::Two => encode(attrs),
        }
    }

    /// The attributes of a leaf of these tables.
    pub(crate) const fn decode(&self, descriptor: u64) -> Option<Attrs> {
        match self.stage {
            Stage::One => stage1::decode(descriptor),
            Stage::Two => decode(descriptor),
        }
    }
}

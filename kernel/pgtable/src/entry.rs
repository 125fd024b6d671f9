//! One descriptor: its type and its address, by level.
//!
//! DDI 0487 §D8.3.1: bit 0 valid; bit 1 tells a table (levels 0 to 2) or a page
//! (level 3) from a block. Addresses end at bit 47 here.

use crate::geometry::{Geometry, LAST_LEVEL};
use crate::mem::Kind;
use crate::stage1::Attrs;

const TYPE: u64 = 0b11;
const BLOCK: u64 = 0b01;
const TABLE_OR_PAGE: u64 = 0b11;

/// Bit 55, which hardware ignores in table descriptors: the entry itself has
/// been published. Until it is set, a walker that does not snoop may not see the
/// table yet, and whoever comes across the entry publishes it first.
const PUBLISHED: u64 = 1 << 55;

/// Bit 52: with its neighbours, as many as [`Geometry::contiguous`] says, it maps one
/// contiguous range, which a walker may keep as one (DDI 0487 §D8.7.1).
pub(crate) const CONTIGUOUS: u64 = 1 << 52;

const ADDRESS: u64 = (1 << 48) - 1;

/// What hardware makes of one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A translation fault, reserved encodings included.
    Invalid,
    /// The next level's table.
    Table {
        /// Where it is.
        pa: u64,
    },
    /// A leaf above the last level.
    Block {
        /// The output address of its first byte.
        pa: u64,
        /// `None` where the bits are not ones this crate writes.
        attrs: Option<Attrs>,
    },
    /// A leaf at the last level.
    Page {
        /// The output address of its first byte.
        pa: u64,
        /// `None` where the bits are not ones this crate writes.
        attrs: Option<Attrs>,
    },
}

impl Entry {
    /// Decodes `raw`, read from a table at `level`.
    pub const fn decode(geometry: &Geometry, level: u8, raw: u64) -> Self {
        let pa = raw & ADDRESS & !(geometry.granule.size() - 1);
        let attributes = raw & !CONTIGUOUS;
        match (raw & TYPE, level) {
            (TABLE_OR_PAGE, LAST_LEVEL) => Self::Page {
                pa,
                attrs: geometry.decode(attributes),
            },
            (TABLE_OR_PAGE, _) => Self::Table { pa },
            // A block's size does not depend on whether we would make one, only
            // on whether the format has one there.
            (BLOCK, 1 | 2) if has_block(geometry, level) => Self::Block {
                pa: raw & ADDRESS & !(geometry.span(level) - 1),
                attrs: geometry.decode(attributes),
            },
            _ => Self::Invalid,
        }
    }
}

const fn has_block(geometry: &Geometry, level: u8) -> bool {
    let all = Geometry {
        blocks: true,
        ..*geometry
    };
    all.leaf_at(level)
}

/// The descriptor of a leaf at `level`.
#[inline]
pub(crate) const fn leaf(level: u8, pa: u64, attributes: u64) -> u64 {
    pa | attributes | leaf_type(level)
}

/// The lowest two bits of a leaf at `level`.
#[inline]
pub(crate) const fn leaf_type(level: u8) -> u64 {
    if level == LAST_LEVEL {
        TABLE_OR_PAGE
    } else {
        BLOCK
    }
}

/// The leaves at `level`: those of it that stand alone, or whatever they go with.
#[inline]
pub(crate) const fn leaves(level: u8, alone: bool) -> Kind {
    Kind {
        mask: if alone { TYPE | CONTIGUOUS } else { TYPE },
        bits: leaf_type(level),
    }
}

/// Whether the leaf `raw` is one of several that belong together.
pub(crate) const fn is_contiguous(raw: u64) -> bool {
    raw & CONTIGUOUS != 0
}

/// The descriptor of a table whose entry nobody has published yet.
pub(crate) const fn table(pa: u64) -> u64 {
    pa | TABLE_OR_PAGE
}

/// The same entry, now that it has been published.
pub(crate) const fn published(raw: u64) -> u64 {
    raw | PUBLISHED
}

/// The table that `raw`, from above the last level, points to.
#[inline]
pub(crate) const fn child(raw: u64) -> Option<u64> {
    if raw & TYPE == TABLE_OR_PAGE {
        Some(raw & ADDRESS & !TYPE_AND_IGNORED)
    } else {
        None
    }
}

/// Whether every walker is sure to see the entry of a table.
pub(crate) const fn is_published(raw: u64) -> bool {
    raw & PUBLISHED != 0
}

/// Bits [11:0] of a table descriptor: type and ignored ones.
const TYPE_AND_IGNORED: u64 = 0xfff;

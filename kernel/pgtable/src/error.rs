//! Why a table refused: each names the address and what to do about it.

use core::fmt;

use crate::geometry::Geometry;

/// A refused `new`, `map` or `unmap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// Sizes that no walker takes.
    Unsupported(Geometry),
    /// A range of no bytes.
    Empty {
        /// Where it starts.
        va: u64,
    },
    /// An address or length that is not a multiple of the page size.
    Misaligned {
        /// The offending number.
        value: u64,
        /// The page size.
        page: u64,
    },
    /// The range leaves the input address space, or wraps.
    InputRange {
        /// Where it starts.
        va: u64,
        /// Its length.
        len: u64,
        /// Size of the space.
        bits: u32,
    },
    /// The target leaves the output address space, or wraps.
    OutputRange {
        /// Where it starts.
        pa: u64,
        /// Its length.
        len: u64,
        /// Size of the space.
        bits: u32,
    },
    /// Something is mapped there already.
    Occupied {
        /// The first address in the way.
        va: u64,
    },
    /// Nothing is mapped there.
    NotMapped {
        /// The first address without a mapping.
        va: u64,
    },
    /// Part of a block, or of leaves that are marked as contiguous, would be
    /// unmapped, which would split it.
    PartOfBlock {
        /// Where it starts.
        va: u64,
        /// Its size.
        size: u64,
    },
    /// No memory for a table.
    OutOfTables {
        /// The address whose table was to be made.
        va: u64,
    },
    /// The memory for a table is not where a walker could read it: misaligned,
    /// or beyond the output address space.
    BadTable {
        /// Where it is.
        pa: u64,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unsupported(geometry) => write!(
                f,
                "tables of {} input and {} output bits: use 25 to {} and 32 to 48",
                geometry.input_bits,
                geometry.output_bits,
                geometry.most_input_bits()
            ),
            Self::Empty { va } => write!(f, "range of 0 bytes at {va:#x}: give a length"),
            Self::Misaligned { value, page } => {
                write!(f, "{value:#x} is not a multiple of the page size {page:#x}")
            }
            Self::InputRange { va, len, bits } => write!(
                f,
                "{len:#x} bytes at {va:#x} leave the {bits}-bit input space: map lower"
            ),
            Self::OutputRange { pa, len, bits } => write!(
                f,
                "{len:#x} bytes at {pa:#x} leave the {bits}-bit output space: the walker cannot reach them"
            ),
            Self::Occupied { va } => write!(f, "{va:#x} is mapped already: unmap it first"),
            Self::NotMapped { va } => {
                write!(f, "{va:#x} is not mapped: unmap only what was mapped")
            }
            Self::PartOfBlock { va, size } => write!(
                f,
                "{va:#x} starts a block of {size:#x} bytes: unmap all of it, blocks are not split"
            ),
            Self::OutOfTables { va } => {
                write!(f, "no memory for the table that {va:#x} needs: free some")
            }
            Self::BadTable { pa } => write!(
                f,
                "the table memory at {pa:#x} is misaligned or out of the walker's reach: allocate lower"
            ),
        }
    }
}

impl core::error::Error for MapError {}

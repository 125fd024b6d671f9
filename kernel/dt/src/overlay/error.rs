//! What can be wrong with an overlay, in one line that says where. Strings of the
//! overlay are not repeated in it: they could be of any length, or break the line.

use crate::error::{BlobError, PropError};
use alloc::string::String;
use core::fmt;

/// An overlay that cannot be applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OverlayError {
    /// It is no well-formed blob, or the result would be too large for one.
    Blob(BlobError),
    /// A property of the overlay makes no sense.
    Property(PropError),
    /// No fragment in it: it is no overlay.
    NoFragment,
    /// A fragment has neither `target` nor `target-path`.
    NoTarget {
        /// The fragment.
        fragment: String,
    },
    /// The tree has no node where a fragment is to go.
    UnknownTarget {
        /// The fragment.
        fragment: String,
    },
    /// The tree has no such symbol, or the symbol's node has no phandle.
    UnknownSymbol {
        /// The label.
        symbol: String,
    },
    /// An entry of `__fixups__` that does not lead to four bytes of a property.
    BadFixup {
        /// The label that it is for.
        symbol: String,
        /// Which entry.
        entry: usize,
    },
    /// `__local_fixups__` names four bytes that the overlay does not have, or that
    /// are no phandle of a node that it adds.
    BadLocalFixup {
        /// The node that is named.
        node: String,
        /// The property.
        property: String,
        /// Where in its value, in bytes.
        offset: u32,
    },
    /// An entry of `__symbols__` names no node of the overlay.
    BadSymbol {
        /// The label.
        symbol: String,
    },
    /// The result would be nested deeper than 63 levels.
    TooDeep {
        /// The node of the overlay that is too deep.
        node: String,
    },
    /// No numbers are left for the overlay's phandles.
    NoPhandles,
}

impl fmt::Display for OverlayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("overlay: ")?;
        match self {
            Self::Blob(error) => error.fmt(f),
            Self::Property(error) => error.fmt(f),
            Self::NoFragment => f.write_str("it has no fragment with an __overlay__"),
            Self::NoTarget { fragment } => {
                write!(f, "{fragment} has neither target nor target-path")
            }
            Self::UnknownTarget { fragment } => {
                write!(f, "the tree has no node where {fragment} is to go")
            }
            Self::UnknownSymbol { symbol } => write!(
                f,
                "the tree has no node with a phandle for the symbol {symbol}; compile it with dtc -@"
            ),
            Self::BadFixup { symbol, entry } => write!(
                f,
                "__fixups__: {symbol}: entry {entry} leads to no four bytes of a property"
            ),
            Self::BadLocalFixup {
                node,
                property,
                offset,
            } => write!(
                f,
                "__local_fixups__: {node}: {property}: no phandle of the overlay at byte {offset:#x}"
            ),
            Self::BadSymbol { symbol } => {
                write!(f, "__symbols__: {symbol} names no node of the overlay")
            }
            Self::TooDeep { node } => write!(f, "{node} would be deeper than 63 levels"),
            Self::NoPhandles => f.write_str("no numbers are left for its phandles"),
        }
    }
}

impl core::error::Error for OverlayError {}

impl From<BlobError> for OverlayError {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

impl From<PropError> for OverlayError {
    fn from(error: PropError) -> Self {
        Self::Property(error)
    }
}

//! What can be wrong with a tree: [`BlobError`] for a blob that breaks the
//! format, [`PropError`] for a property that breaks its binding. Both carry
//! where they happened and print as one line.

use alloc::string::String;
use core::fmt;

/// A blob that is not a well-formed flattened device tree (chapter 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobError {
    /// Where in the blob, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub kind: BlobErrorKind,
}

/// The blocks that the header points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// Memory reservation block (5.3).
    Reservation,
    /// Structure block (5.4).
    Structure,
    /// Strings block (5.5).
    Strings,
}

/// Which rule of the format a blob breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlobErrorKind {
    /// The buffer cannot even hold a header.
    TooShort {
        /// Bytes given.
        have: usize,
    },
    /// Not a device tree at all.
    BadMagic {
        /// The first word found.
        found: u32,
    },
    /// A version of the format that we cannot read.
    BadVersion {
        /// The blob's version.
        version: u32,
        /// The oldest version that it claims to be compatible with.
        compatible: u32,
    },
    /// The header's total size is too small for a header or absurdly large.
    BadSize {
        /// The size claimed.
        totalsize: u32,
    },
    /// The buffer ends before the blob does.
    Truncated {
        /// The size claimed by the header.
        totalsize: u32,
        /// Bytes given.
        have: usize,
    },
    /// A block does not lie within the blob.
    OutOfBounds(Block),
    /// A block does not start on the alignment that it needs.
    Misaligned(Block),
    /// A block ends in the middle of something.
    UnexpectedEnd(Block),
    /// A word that is no token.
    BadToken {
        /// The word found.
        found: u32,
    },
    /// A property's name lies outside the strings block, or is not terminated
    /// there.
    StringOutOfBlock {
        /// Its offset in the strings block.
        name: u32,
    },
    /// A node's or property's name has bytes that are not printable ASCII. Names
    /// end up in one-line messages, which they must not be able to break.
    NotPrintable,
    /// A node other than the root has an empty name, or one with a `/`.
    BadName,
    /// A property that belongs to no node.
    PropertyOutsideNode,
    /// A property after a child of the same node (5.4.2 wants them before).
    PropertyAfterChild,
    /// Nodes nest deeper than 63 levels.
    TooDeep,
    /// An end of a node that was never begun.
    UnbalancedEnd,
    /// The end of the tree while nodes are still open.
    OpenNodes {
        /// How many.
        open: usize,
    },
    /// No node at all.
    NoRoot,
    /// A second node beside the root.
    SecondRoot,
    /// There is no memory for the tables that the tree would fill.
    TooLarge {
        /// The size of the table that there was no room for.
        bytes: usize,
    },
    /// The token reader saw another tree than the validator. A bug in one of
    /// them; the tree cannot be trusted.
    ReaderDisagrees,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Block::Reservation => "memory reservation block",
            Block::Structure => "structure block",
            Block::Strings => "strings block",
        })
    }
}

impl fmt::Display for BlobErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use BlobErrorKind::*;
        match *self {
            TooShort { have } => write!(f, "{have} bytes are too short for a header"),
            BadMagic { found } => write!(f, "magic is {found:#010x}, not 0xd00dfeed"),
            BadVersion {
                version,
                compatible,
            } => write!(
                f,
                "version {version} (compatible with {compatible}), but only 16 and 17 are understood"
            ),
            BadSize { totalsize } => write!(f, "total size of {totalsize} bytes makes no sense"),
            Truncated { totalsize, have } => {
                write!(f, "the blob has {totalsize} bytes, only {have} are here")
            }
            OutOfBounds(block) => write!(f, "the {block} is not inside the blob"),
            Misaligned(block) => write!(f, "the {block} is misaligned"),
            UnexpectedEnd(block) => write!(f, "the {block} ends in the middle of an item"),
            BadToken { found } => write!(f, "{found:#x} is no token"),
            StringOutOfBlock { name } => {
                write!(f, "property name at {name:#x} is not in the strings block")
            }
            NotPrintable => f.write_str("a name is not printable ASCII"),
            BadName => f.write_str("a node's name is empty or has a '/'"),
            PropertyOutsideNode => f.write_str("a property outside of any node"),
            PropertyAfterChild => f.write_str("a property after a child node"),
            TooDeep => f.write_str("nodes nest deeper than 63 levels"),
            UnbalancedEnd => f.write_str("a node ends that was not begun"),
            OpenNodes { open } => write!(f, "the tree ends with {open} nodes still open"),
            NoRoot => f.write_str("there is no root node"),
            SecondRoot => f.write_str("there is a second root node"),
            TooLarge { bytes } => write!(
                f,
                "too large: no room for a table of {bytes} bytes; leave nodes and data out"
            ),
            ReaderDisagrees => f.write_str("reader and validator disagree about the tree"),
        }
    }
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "broken device tree at byte {:#x}: {}",
            self.offset, self.kind
        )
    }
}

impl core::error::Error for BlobError {}

/// A property that is missing or that breaks its binding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PropError {
    /// Path of the node.
    pub node: String,
    /// Name of the property.
    pub property: String,
    /// Which cell of it, counted from 0, where one can be blamed.
    pub cell: Option<usize>,
    /// What is wrong.
    pub kind: PropErrorKind,
}

/// What is wrong with a property. Other nodes are named by their paths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PropErrorKind {
    /// The property is needed and absent.
    MissingProperty,
    /// The value is not a whole number of cells.
    NotCells {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The value must be exactly one cell.
    NotOneCell {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The value ends within an entry.
    Truncated {
        /// Cells that the entry still needs.
        need: usize,
        /// Cells that are left.
        left: usize,
    },
    /// Entries of no cells at all cannot be counted.
    EmptyEntries,
    /// An address or size of more cells than are understood.
    TooManyCells {
        /// How many.
        cells: u32,
    },
    /// A number that does not fit into 64 bits.
    TooLarge,
    /// An address range that wraps around the end of the address space.
    WrapsAround {
        /// Its first address.
        base: u64,
    },
    /// A phandle that no node has.
    DanglingPhandle(u32),
    /// A phandle that several nodes have.
    AmbiguousPhandle(u32),
    /// The node referred to does not say how many cells its references have.
    ProviderWithout {
        /// The node referred to.
        provider: String,
        /// The `#...-cells` property that it lacks.
        property: &'static str,
    },
    /// A bus on the way to the CPU has no `ranges`: what is behind it cannot be
    /// addressed.
    NoRanges {
        /// The bus.
        bus: String,
    },
    /// No entry of a bus's `ranges` covers the whole region.
    NotInRanges {
        /// First address, as the bus sees it.
        base: u64,
        /// Size of the region.
        size: u64,
        /// The bus.
        bus: String,
    },
    /// `dma-ranges` of the buses combine to too many windows.
    TooManyWindows,
    /// No interrupt parent, neither in the node nor above it.
    NoInterruptParent,
    /// The nexus has no `interrupt-map` entry for this interrupt.
    NotInInterruptMap {
        /// The nexus.
        nexus: String,
    },
    /// `interrupt-map`s that lead to each other.
    InterruptLoop {
        /// The nexus at which we gave up.
        nexus: String,
    },
    /// An `iommu-map` or `msi-map` entry for several IDs, but with more than
    /// one output cell, so that nothing says which of them counts up.
    AmbiguousOutput {
        /// How many output cells.
        cells: u32,
    },
}

impl fmt::Display for PropErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use PropErrorKind::*;
        match self {
            MissingProperty => f.write_str("is missing"),
            NotCells { bytes } => write!(f, "{bytes} bytes are no whole number of cells"),
            NotOneCell { bytes } => write!(f, "must be one cell, but has {bytes} bytes"),
            Truncated { need, left } => {
                write!(f, "entry is cut off: {left} of {need} cells are there")
            }
            EmptyEntries => f.write_str("entries of no cells cannot be counted"),
            TooManyCells { cells } => write!(f, "{cells} cells for one number are too many"),
            TooLarge => f.write_str("number does not fit into 64 bits"),
            WrapsAround { base } => {
                write!(f, "range at {base:#x} wraps around the address space")
            }
            DanglingPhandle(phandle) => write!(f, "phandle {phandle:#x} names no node"),
            AmbiguousPhandle(phandle) => write!(f, "phandle {phandle:#x} names several nodes"),
            ProviderWithout { provider, property } => {
                write!(f, "refers to {provider}, which has no {property}")
            }
            NoRanges { bus } => write!(f, "cannot be addressed: {bus} has no ranges"),
            NotInRanges { base, size, bus } => {
                write!(f, "{base:#x}+{size:#x} is not in the ranges of {bus}")
            }
            TooManyWindows => f.write_str("combines to too many DMA windows"),
            NoInterruptParent => f.write_str("no interrupt parent here or above"),
            NotInInterruptMap { nexus } => {
                write!(f, "the interrupt-map of {nexus} has no entry for it")
            }
            InterruptLoop { nexus } => write!(f, "the interrupt-map of {nexus} goes in circles"),
            AmbiguousOutput { cells } => {
                write!(f, "maps several IDs to {cells} cells; give each an entry")
            }
        }
    }
}

impl fmt::Display for PropError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.property)?;
        if let Some(cell) = self.cell {
            write!(f, "[{cell}]")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl core::error::Error for PropError {}

//! Validated, typed view of a flattened device tree.
//!
//! Everything else in the kernel learns about the machine from here, and a
//! bootloader's blob is input like any other: it can be truncated, corrupt or
//! hostile. So there are two steps, and each has its own kind of error.
//!
//! 1. [`Tree::parse`] checks the blob once, completely, and copies what it
//!    describes into an owned, immutable, indexed [`Tree`]. A broken blob is a
//!    [`BlobError`]: what is wrong, at which byte.
//! 2. [`Node`]'s accessors decode properties on demand. A property that makes
//!    no sense is a [`PropError`]: which node, which property, which cell, what
//!    is wrong. It concerns that one device; the rest of the tree stays usable.
//!
//! The `fdt` crate reads tokens for step 1, but only behind our own validator
//! (`blob`): on a blob that breaks the format's rules it panics, and it loses
//! the nodes that follow an `FDT_NOP`. The decoding of cells (`ranges`,
//! `dma-ranges`, `interrupt-map`, `iommu-map`, references with arguments) is
//! ours.
//!
//! Chapter numbers in comments refer to the Devicetree Specification, v0.4.
//!
//! ```
//! use mastiff_dt::build::TreeBuilder;
//! use mastiff_dt::Tree;
//!
//! let blob = TreeBuilder::new()
//!     .node("iommu@9050000", |n| n.phandle(1).u32("#iommu-cells", 1))
//!     .node("dma@a000000", |n| n.cells("iommus", &[1, 0x42]))
//!     .blob();
//! let tree = Tree::parse(&blob)?;
//! let master = tree.find("/dma").unwrap();
//! let behind = &master.iommus().unwrap()[0];
//! assert_eq!(tree.node(behind.iommu).path(), "/iommu@9050000");
//! assert_eq!(behind.cells, [0x42]);
//! # Ok::<(), mastiff_dt::BlobError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod blob;
pub mod build;
mod chosen;
mod cpu;
mod dma;
mod error;
mod idmap;
mod interrupt;
mod memory;
mod node;
mod overlay;
mod prop;
mod reference;
mod supplier;
mod tables;
mod tree;

pub use address::{Range, RawRegion, Region};
pub use cpu::Cpu;
pub use dma::{DmaWindow, DmaWindows};
pub use error::{BlobError, BlobErrorKind, Block, PropError, PropErrorKind};
pub use idmap::{IdMap, IdRange, IdTarget};
pub use interrupt::InterruptSpec;
pub use memory::{Mapping, Reserved};
pub use node::{Node, Status};
pub use overlay::OverlayError;
pub use prop::Prop;
pub use reference::IommuRef;
pub use supplier::{SupplierClass, SupplierEdge};
pub use tree::{NodeId, Tree};

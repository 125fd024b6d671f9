//! Makes blobs, so that tests of any crate can say which tree they are about
//! without a device tree compiler.
//!
//! ```
//! use mastiff_dt::build::TreeBuilder;
//!
//! let blob = TreeBuilder::new()
//!     .u32("#address-cells", 2)
//!     .u32("#size-cells", 2)
//!     .node("uart@9000000", |n| {
//!         n.compatible(&["arm,pl011", "arm,primecell"])
//!             .reg(&[(0x900_0000, 0x1000)])
//!             .phandle(7)
//!     })
//!     .blob();
//! assert_eq!(mastiff_dt::Tree::blob_len(&blob), Ok(blob.len()));
//! ```

use crate::blob::{BEGIN_NODE, END, END_NODE, HEADER, MAGIC, PROP};
use crate::error::BlobError;
use crate::tree::Tree;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// A tree in the making. Properties and children are added to the node at work:
/// the root, or within the closure of [`TreeBuilder::node`] that node.
#[derive(Default)]
pub struct TreeBuilder {
    current: Parts,
    strings: Vec<u8>,
    string_offsets: BTreeMap<String, u32>,
    reservations: Vec<(u64, u64)>,
}

/// What a node consists of so far. Kept apart, since a blob has all properties
/// before the first child.
#[derive(Default)]
struct Parts {
    props: Vec<u8>,
    children: Vec<u8>,
}

fn push(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_be_bytes());
}

fn push_padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

impl TreeBuilder {
    /// An empty root node.
    pub fn new() -> TreeBuilder {
        TreeBuilder::default()
    }

    /// A child named `name`, with what `content` adds to it.
    pub fn node(mut self, name: &str, content: impl FnOnce(Self) -> Self) -> Self {
        let outer = core::mem::take(&mut self.current);
        let mut built = content(self);
        let inner = core::mem::replace(&mut built.current, outer);
        inner.append_as(name, &mut built.current.children);
        built
    }

    /// A property of any bytes.
    pub fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        let offset = match self.string_offsets.get(name) {
            Some(&offset) => offset,
            None => {
                let offset = self.strings.len() as u32;
                self.strings.extend_from_slice(name.as_bytes());
                self.strings.push(0);
                self.string_offsets.insert(name.to_owned(), offset);
                offset
            }
        };
        let props = &mut self.current.props;
        push(props, PROP);
        push(props, value.len() as u32);
        push(props, offset);
        push_padded(props, value);
        self
    }

    /// A property without a value.
    pub fn flag(self, name: &str) -> Self {
        self.bytes(name, &[])
    }

    /// A property of cells.
    pub fn cells(self, name: &str, cells: &[u32]) -> Self {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &value)
    }

    /// A property of one cell.
    pub fn u32(self, name: &str, cell: u32) -> Self {
        self.cells(name, &[cell])
    }

    /// A property of strings.
    pub fn strings(self, name: &str, list: &[&str]) -> Self {
        let mut value = Vec::new();
        for text in list {
            value.extend_from_slice(text.as_bytes());
            value.push(0);
        }
        self.bytes(name, &value)
    }

    /// A property of one string.
    pub fn string(self, name: &str, text: &str) -> Self {
        self.strings(name, &[text])
    }

    /// `compatible`.
    pub fn compatible(self, models: &[&str]) -> Self {
        self.strings("compatible", models)
    }

    /// `reg` of (address, size), two cells each.
    pub fn reg(self, regions: &[(u64, u64)]) -> Self {
        let numbers = regions.iter().flat_map(|&(base, size)| [base, size]);
        let value: Vec<u8> = numbers.flat_map(|number| number.to_be_bytes()).collect();
        self.bytes("reg", &value)
    }

    /// `phandle`.
    pub fn phandle(self, phandle: u32) -> Self {
        self.u32("phandle", phandle)
    }

    /// An entry of the memory reservation block.
    pub fn reserve(mut self, base: u64, size: u64) -> Self {
        self.reservations.push((base, size));
        self
    }

    /// The blob.
    pub fn blob(self) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        for (base, size) in self.reservations.into_iter().chain([(0, 0)]) {
            out.extend_from_slice(&base.to_be_bytes());
            out.extend_from_slice(&size.to_be_bytes());
        }
        let structure = out.len() as u32;
        self.current.append_as("", &mut out);
        push(&mut out, END);
        let strings = out.len() as u32;
        out.extend_from_slice(&self.strings);
        let total = out.len() as u32;
        let header = [
            MAGIC,
            total,
            structure,
            strings,
            HEADER as u32,
            17,
            16,
            0,
            total - strings,
            strings - structure,
        ];
        for (bytes, word) in out.chunks_exact_mut(4).zip(header) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        out
    }

    /// The tree, parsed.
    pub fn tree(self) -> Result<Tree, BlobError> {
        Tree::parse(&self.blob())
    }
}

impl Parts {
    fn append_as(&self, name: &str, out: &mut Vec<u8>) {
        push(out, BEGIN_NODE);
        let mut terminated = name.as_bytes().to_vec();
        terminated.push(0);
        push_padded(out, &terminated);
        out.extend_from_slice(&self.props);
        out.extend_from_slice(&self.children);
        push(out, END_NODE);
    }
}

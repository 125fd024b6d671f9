//! How a tree's tables come to be: node by node in the order of their numbers, each
//! with its properties, into exactly the room that was asked for before. A tree may
//! be larger than the memory that there is this early, which is no reason to crash.

use crate::blob::{self, Checked};
use crate::error::{BlobError, BlobErrorKind};
use crate::tree::{NodeId, NodeRecord, PropRecord, Tree};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use fdt::Fdt;

/// How much room a tree takes.
pub(crate) struct Room {
    /// Bytes of names.
    pub text: usize,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of properties.
    pub props: usize,
    /// Bytes of values.
    pub values: usize,
}

/// The tables of a tree in the making.
pub(crate) struct Tables {
    text: String,
    nodes: Vec<NodeRecord>,
    props: Vec<PropRecord>,
    values: Vec<u8>,
    phandles: Vec<(u32, NodeId)>,
}

impl Tables {
    pub fn new(room: &Room) -> Result<Self, BlobError> {
        let text = blob::table::<u8>(room.text)?;
        Ok(Self {
            // Empty, and so text.
            text: String::from_utf8(text).unwrap_or_default(),
            nodes: blob::table(room.nodes + 1)?,
            props: blob::table(room.props + 1)?,
            values: blob::table(room.values)?,
            phandles: Vec::new(),
        })
    }

    /// Adds text that names may be part of, and says where it starts.
    pub fn text(&mut self, text: &str) -> u32 {
        let at = self.text.len() as u32;
        self.text.push_str(text);
        at
    }

    /// Begins the next node. Its name is `len` bytes of the text at `name`.
    pub fn node(&mut self, name: u32, len: u32, parent: u32) {
        self.nodes.push(NodeRecord {
            name,
            name_len: len,
            parent,
            child: 0,
            sibling: 0,
            props: self.props.len() as u32,
        });
    }

    /// Adds a property to the node that was begun last.
    pub fn prop(&mut self, name: u32, len: u32, value: &[u8]) {
        self.props.push(PropRecord {
            name,
            name_len: len,
            value: self.values.len() as u32,
        });
        self.values.extend_from_slice(value);
        let name = &self.text[name as usize..][..len as usize];
        if let ("phandle" | "linux,phandle", &[a, b, c, d]) = (name, value) {
            let node = NodeId(self.nodes.len() as u32 - 1);
            self.phandles.push((u32::from_be_bytes([a, b, c, d]), node));
        }
    }

    /// The tree.
    pub fn finish(mut self, reservations: Box<[(u64, u64)]>) -> Tree {
        // From the last to the first, so that each list is in order.
        for number in (1..self.nodes.len()).rev() {
            let parent = self.nodes[number].parent as usize;
            self.nodes[number].sibling = self.nodes[parent].child;
            self.nodes[parent].child = number as u32;
        }
        // What ends the last lists.
        let end = self.text.len() as u32;
        self.node(end, 0, 0);
        self.prop(0, 0, &[]);
        // A node may say the same under both names.
        self.phandles.sort_unstable();
        self.phandles.dedup();
        let mut tree = Tree {
            nodes: self.nodes.into(),
            props: self.props.into(),
            text: self.text.into(),
            values: self.values.into(),
            phandles: self.phandles.into(),
            reservations,
            mapped: Box::default(),
        };
        tree.mapped = tree.mapped_regions().map(|node| node.id()).collect();
        tree
    }
}

/// The tree of a blob that passed: parents by the validator, names and values by
/// `fdt`.
pub(crate) fn read(checked: &Checked) -> Result<Tree, BlobError> {
    let tables = Tables::new(&Room {
        text: checked.strings.len() + checked.names,
        nodes: checked.parents.len(),
        props: checked.props,
        values: checked.values,
    })?;
    fill(checked, tables).ok_or(BlobError {
        offset: 0,
        kind: BlobErrorKind::ReaderDisagrees,
    })
}

/// `None` if `fdt` saw other nodes or properties than the validator.
fn fill(checked: &Checked, mut tables: Tables) -> Option<Tree> {
    let canonical = &checked.canonical[..];
    let fdt = Fdt::new(canonical).ok()?;
    let strings = &canonical[checked.strings.clone()];
    tables.text(core::str::from_utf8(strings).ok()?);
    let mut reader = fdt.all_nodes();
    for (&parent, node) in checked.parents.iter().zip(&mut reader) {
        let name = tables.text(node.name);
        tables.node(name, node.name.len() as u32, parent);
        for prop in node.properties() {
            // `fdt` hands out slices of the strings block; where they start
            // saves a copy of every name.
            let name = prop.name.as_ptr().addr() - strings.as_ptr().addr();
            tables.prop(name as u32, prop.name.len() as u32, prop.value);
        }
    }
    let complete =
        tables.nodes.len() == checked.parents.len() && tables.props.len() == checked.props;
    if !complete || reader.next().is_some() {
        return None;
    }
    let reservations = fdt
        .memory_reservations()
        .map(|entry| (entry.address().addr() as u64, entry.size() as u64));
    Some(tables.finish(reservations.collect()))
}

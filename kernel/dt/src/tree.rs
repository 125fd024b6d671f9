//! The owned tree: flat tables in tree order, filled once from a checked blob,
//! and the look-ups by path, alias and phandle.
//!
//! Nodes are numbered in tree order, so a subtree is a range of numbers: the
//! first child of `n` is `n + 1`, the next sibling is where `n`'s subtree ends.
//! That makes every walk linear, where `fdt`'s own `children()` scans whole
//! subtrees again at each level.

use crate::blob::{self, Checked};
use crate::error::{BlobError, BlobErrorKind, PropErrorKind};
use crate::node::Node;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use fdt::Fdt;

/// Names a node of one tree. Numbers follow tree order; the root is 0.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// Its place in tree order, for tables with an entry per node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A device tree: owned, immutable, checked.
pub struct Tree {
    /// One record per node, and a last one that ends the last node's lists.
    pub(crate) nodes: Box<[NodeRecord]>,
    /// One record per property, and a last one that ends the last value.
    pub(crate) props: Box<[PropRecord]>,
    /// The strings block, then the nodes' names. All ASCII.
    pub(crate) text: Box<str>,
    /// The properties' values, one after another.
    pub(crate) values: Box<[u8]>,
    /// By phandle; several nodes may have the same in a wrong tree.
    phandles: Box<[(u32, NodeId)]>,
    /// The memory reservation block.
    pub(crate) reservations: Box<[(u64, u64)]>,
}

/// A node's place in the tables. Its properties go on until the next record's.
pub(crate) struct NodeRecord {
    pub name: u32,
    pub name_len: u32,
    pub parent: u32,
    /// Number of the first node after this subtree.
    pub end: u32,
    pub props: u32,
}

/// A property's place in the tables. Its value goes on until the next record's.
pub(crate) struct PropRecord {
    pub name: u32,
    pub name_len: u32,
    pub value: u32,
}

impl Tree {
    /// Checks `blob` and copies what it describes. `blob` may be longer than
    /// the tree in it.
    pub fn parse(blob: &[u8]) -> Result<Tree, BlobError> {
        let checked = blob::check(blob)?;
        let tables = Tables::new(&checked)?;
        fill(&checked, tables).ok_or(BlobError {
            offset: 0,
            kind: BlobErrorKind::ReaderDisagrees,
        })
    }

    /// The size of the blob at the start of `blob`, from its header alone:
    /// enough to know how much memory to look at, before [`Tree::parse`].
    pub fn blob_len(blob: &[u8]) -> Result<usize, BlobError> {
        blob::total_size(blob).map(|size| size as usize)
    }

    /// The root node.
    pub fn root(&self) -> Node<'_> {
        self.node(NodeId(0))
    }

    /// The node with this number.
    ///
    /// # Panics
    /// If `id` is of another, larger tree.
    pub fn node(&self, id: NodeId) -> Node<'_> {
        assert!(
            id.index() + 1 < self.nodes.len(),
            "{id:?} is of another tree"
        );
        Node { tree: self, id }
    }

    /// All nodes, in tree order.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> + Clone {
        let count = self.nodes.len() as u32 - 1;
        (0..count).map(|number| Node {
            tree: self,
            id: NodeId(number),
        })
    }

    /// The node at `path`: a full path, or one that starts with an alias. A unit
    /// address may be left out where only one node is meant without it (2.2.3).
    pub fn find(&self, path: &str) -> Option<Node<'_>> {
        match path.strip_prefix('/') {
            Some(below_root) => self.root().descend(below_root),
            None => {
                let (alias, rest) = path.split_once('/').unwrap_or((path, ""));
                let target = self.root().child("aliases")?.prop(alias)?.as_str()?;
                self.root()
                    .descend(target.strip_prefix('/')?)?
                    .descend(rest)
            }
        }
    }

    /// The one node that has this phandle.
    pub fn by_phandle(&self, phandle: u32) -> Option<Node<'_>> {
        self.resolve(phandle).ok()
    }

    /// The one node that has this phandle, or what is wrong with it. Were the
    /// first of several taken, a master could end up behind the wrong IOMMU.
    pub(crate) fn resolve(&self, phandle: u32) -> Result<Node<'_>, PropErrorKind> {
        let first = self.phandles.partition_point(|entry| entry.0 < phandle);
        let mut found = self.phandles[first..]
            .iter()
            .take_while(|entry| entry.0 == phandle);
        match (found.next(), found.next()) {
            (None, _) => Err(PropErrorKind::DanglingPhandle(phandle)),
            (Some(&(_, id)), None) => Ok(self.node(id)),
            (Some(_), Some(_)) => Err(PropErrorKind::AmbiguousPhandle(phandle)),
        }
    }
}

impl core::fmt::Debug for Tree {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Tree of {} nodes", self.nodes.len() - 1)
    }
}

/// The tables of a tree, empty, each with exactly the room that it takes: making
/// slices of them then takes no more.
struct Tables {
    text: Vec<u8>,
    nodes: Vec<NodeRecord>,
    props: Vec<PropRecord>,
    values: Vec<u8>,
}

impl Tables {
    fn new(checked: &Checked) -> Result<Self, BlobError> {
        Ok(Self {
            text: blob::table(checked.strings.len() + checked.names)?,
            nodes: blob::table(checked.extents.len() + 1)?,
            props: blob::table(checked.props + 1)?,
            values: blob::table(checked.values)?,
        })
    }
}

/// Fills the tables: parents and extents from the validator, names and values
/// by `fdt`. `None` if `fdt` saw other nodes or properties than the validator.
fn fill(checked: &Checked, tables: Tables) -> Option<Tree> {
    let canonical = &checked.canonical[..];
    let fdt = Fdt::new(canonical).ok()?;
    let strings = &canonical[checked.strings.clone()];
    let Tables {
        text,
        mut nodes,
        mut props,
        mut values,
    } = tables;
    // Empty, and so text.
    let mut text = String::from_utf8(text).ok()?;
    text.push_str(core::str::from_utf8(strings).ok()?);
    let mut phandles = Vec::new();

    let mut reader = fdt.all_nodes();
    for (extent, node) in checked.extents.iter().zip(&mut reader) {
        let id = NodeId(nodes.len() as u32);
        nodes.push(NodeRecord {
            name: text.len() as u32,
            name_len: node.name.len() as u32,
            parent: extent.parent,
            end: extent.end,
            props: props.len() as u32,
        });
        text.push_str(node.name);
        for prop in node.properties() {
            // `fdt` hands out slices of the strings block; where they start
            // saves a copy of every name.
            let name = prop.name.as_ptr().addr() - strings.as_ptr().addr();
            props.push(PropRecord {
                name: name as u32,
                name_len: prop.name.len() as u32,
                value: values.len() as u32,
            });
            values.extend_from_slice(prop.value);
            if let ("phandle" | "linux,phandle", &[a, b, c, d]) = (prop.name, prop.value) {
                phandles.push((u32::from_be_bytes([a, b, c, d]), id));
            }
        }
    }
    let complete = nodes.len() == checked.extents.len() && props.len() == checked.props;
    if !complete || reader.next().is_some() {
        return None;
    }
    nodes.push(NodeRecord {
        name: text.len() as u32,
        name_len: 0,
        parent: 0,
        end: nodes.len() as u32,
        props: props.len() as u32,
    });
    props.push(PropRecord {
        name: 0,
        name_len: 0,
        value: values.len() as u32,
    });
    // A node may say the same under both names.
    phandles.sort_unstable();
    phandles.dedup();
    let reservations = fdt
        .memory_reservations()
        .map(|entry| (entry.address().addr() as u64, entry.size() as u64));
    Some(Tree {
        nodes: nodes.into(),
        props: props.into(),
        text: text.into(),
        values: values.into(),
        phandles: phandles.into(),
        reservations: reservations.collect(),
    })
}

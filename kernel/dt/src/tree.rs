//! The owned tree: flat tables in tree order, filled once from a checked blob,
//! and the look-ups by path, alias and phandle.
//!
//! Nodes are numbered in tree order, and those that an overlay adds come after all
//! others, so that a number means the same node before and after. Each knows its
//! first child and its next sibling. That makes every walk linear, where `fdt`'s own
//! `children()` scans whole subtrees again at each level.

use crate::blob;
use crate::error::{BlobError, PropErrorKind};
use crate::node::Node;
use crate::tables;
use alloc::boxed::Box;

/// Names a node of one tree, and of every tree that overlays make of it. Numbers
/// follow tree order, and then the order in which nodes were added; the root is 0.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// Its number, for tables with an entry per node.
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
    pub(crate) phandles: Box<[(u32, NodeId)]>,
    /// The memory reservation block.
    pub(crate) reservations: Box<[(u64, u64)]>,
    /// The regions with `iommu-addresses`: few, and asked for once for every master.
    pub(crate) mapped: Box<[NodeId]>,
}

/// A node's place in the tables. Its properties go on until the next record's.
pub(crate) struct NodeRecord {
    pub name: u32,
    pub name_len: u32,
    pub parent: u32,
    /// The first child and the next sibling; 0, which is neither's, for none.
    pub child: u32,
    pub sibling: u32,
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
        tables::read(&blob::check(blob)?)
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

    /// All nodes, in the order of their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> + Clone {
        (0..self.count()).map(|number| Node {
            tree: self,
            id: NodeId(number),
        })
    }

    /// The node of this number, which there must be.
    pub(crate) fn numbered(&self, number: u32) -> Node<'_> {
        self.node(NodeId(number))
    }

    /// The node of this number, if there is one.
    pub(crate) fn get(&self, number: u32) -> Option<Node<'_>> {
        (number < self.count()).then(|| self.numbered(number))
    }

    /// How many nodes there are.
    pub(crate) fn count(&self) -> u32 {
        self.nodes.len() as u32 - 1
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

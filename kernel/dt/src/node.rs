//! A node: its place in the tree, its properties, and the answers that need no
//! decoding of cells. What buses, interrupts, DMA and suppliers are about stands
//! in the modules of those names.

use crate::error::{PropError, PropErrorKind};
use crate::prop::Prop;
use crate::tree::{NodeId, PropRecord, Tree};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// A node of a tree.
#[derive(Copy, Clone)]
pub struct Node<'t> {
    pub(crate) tree: &'t Tree,
    pub(crate) id: NodeId,
}

/// Whether a device is to be used (2.3.4).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// It is.
    Enabled,
    /// It is not: its own or an ancestor's `status` says so.
    Disabled {
        /// The nearest node whose `status` is neither absent nor `okay`.
        by: NodeId,
    },
}

impl Status {
    /// Whether the device is to be used.
    pub fn is_enabled(self) -> bool {
        self == Status::Enabled
    }
}

impl<'t> Node<'t> {
    /// Its number.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The tree it belongs to.
    pub fn tree(&self) -> &'t Tree {
        self.tree
    }

    /// Its name with the unit address; the root's is `/`.
    pub fn name(&self) -> &'t str {
        let record = &self.tree.nodes[self.id.index()];
        &self.tree.text[record.name as usize..][..record.name_len as usize]
    }

    /// Its name without the unit address.
    pub fn base_name(&self) -> &'t str {
        let name = self.name();
        name.split_once('@').map_or(name, |(base, _)| base)
    }

    /// Its full path.
    pub fn path(&self) -> String {
        if self.parent().is_none() {
            return "/".to_owned();
        }
        let mut names: Vec<_> = self.ancestors().map(|node| node.name()).collect();
        // The root is the empty string before the first slash.
        if let Some(root) = names.last_mut() {
            *root = "";
        }
        names.reverse();
        names.join("/")
    }

    /// The node that it hangs under; none for the root.
    pub fn parent(&self) -> Option<Node<'t>> {
        let parent = NodeId(self.tree.nodes[self.id.index()].parent);
        (parent != self.id).then_some(Node {
            tree: self.tree,
            id: parent,
        })
    }

    /// The node itself, its parent, and so on up to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Node<'t>> + use<'t> {
        core::iter::successors(Some(*self), Node::parent)
    }

    /// Whether `node` is this one or hangs under it.
    pub fn holds(&self, node: Node<'_>) -> bool {
        node.ancestors().any(|node| node == *self)
    }

    /// The nodes right below it, in tree order; those that overlays added last.
    pub fn children(&self) -> impl Iterator<Item = Node<'t>> + use<'t> {
        let tree = self.tree;
        let node = move |number| {
            let id = NodeId(number);
            (number != 0).then_some(Node { tree, id })
        };
        let first = node(tree.nodes[self.id.index()].child);
        core::iter::successors(first, move |last| node(tree.nodes[last.id.index()].sibling))
    }

    /// The child of this name, the unit address left out where that is
    /// unambiguous.
    pub fn child(&self, name: &str) -> Option<Node<'t>> {
        if let Some(exact) = self.children().find(|child| child.name() == name) {
            return Some(exact);
        }
        let mut alike = self.children().filter(|child| child.base_name() == name);
        match (alike.next(), alike.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// The node at a path relative to this one.
    pub(crate) fn descend(self, path: &str) -> Option<Node<'t>> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(self, |node, name| node.child(name))
    }

    /// All its properties, in the blob's order.
    pub fn props(&self) -> impl Iterator<Item = Prop<'t>> + use<'t> {
        let node = *self;
        node.records()
            .windows(2)
            .map(move |records| node.read(records))
    }

    /// The property of this name.
    pub fn prop(&self, name: &str) -> Option<Prop<'t>> {
        // Nearly all names differ in length already.
        let len = name.len();
        let mut alike = self
            .records()
            .windows(2)
            .filter(|records| records[0].name_len as usize == len);
        alike.find_map(|records| Some(self.read(records)).filter(|prop| prop.name == name))
    }

    /// What the tables have of its properties, and the place where the last one ends.
    fn records(&self) -> &'t [PropRecord] {
        let first = self.tree.nodes[self.id.index()].props as usize;
        let last = self.tree.nodes[self.id.index() + 1].props as usize;
        &self.tree.props[first..=last]
    }

    /// The first of two properties that follow one another.
    fn read(&self, records: &[PropRecord]) -> Prop<'t> {
        let tree = self.tree;
        Prop {
            node: *self,
            name: &tree.text[records[0].name as usize..][..records[0].name_len as usize],
            value: &tree.values[records[0].value as usize..records[1].value as usize],
        }
    }

    /// Where the value of one of its properties is among all values of the tree.
    pub(crate) fn value_at(&self, prop: &Prop<'_>) -> usize {
        prop.value.as_ptr().addr() - self.tree.values.as_ptr().addr()
    }

    /// Whether it has a property of this name.
    pub fn has(&self, name: &str) -> bool {
        self.prop(name).is_some()
    }

    /// The property of this name, which must be there.
    pub fn required(&self, name: &str) -> Result<Prop<'t>, PropError> {
        let missing = || self.error(name, PropErrorKind::MissingProperty);
        self.prop(name).ok_or_else(missing)
    }

    /// The property of this name as one cell, if it is there.
    pub fn cell(&self, name: &str) -> Result<Option<u32>, PropError> {
        self.prop(name).map(|prop| prop.as_u32()).transpose()
    }

    /// An error about a property of this node.
    pub(crate) fn error(&self, property: &str, kind: PropErrorKind) -> PropError {
        PropError {
            node: self.path(),
            property: property.to_owned(),
            cell: None,
            kind,
        }
    }

    /// Its phandle, if anything is meant to refer to it.
    pub fn phandle(&self) -> Option<u32> {
        let prop = self
            .prop("phandle")
            .or_else(|| self.prop("linux,phandle"))?;
        prop.as_u32().ok()
    }

    /// What it is compatible with, the most specific first.
    pub fn compatible(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let prop = self.prop("compatible");
        prop.into_iter().flat_map(|prop| prop.strings())
    }

    /// Whether it is compatible with `model`.
    pub fn is_compatible(&self, model: &str) -> bool {
        self.compatible().any(|compatible| compatible == model)
    }

    /// Whether it and all that it hangs under are enabled.
    pub fn status(&self) -> Status {
        let off = |node: &Node<'t>| match node.prop("status") {
            None => false,
            Some(status) => !matches!(status.as_str(), Some("okay" | "ok")),
        };
        match self.ancestors().find(off) {
            Some(node) => Status::Disabled { by: node.id },
            None => Status::Enabled,
        }
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.tree, other.tree) && self.id == other.id
    }
}

impl core::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.path())
    }
}

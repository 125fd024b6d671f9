//! Nodes by parent and name. A walk over a node's children for each node that is
//! merged into it would take hours for a tree that means harm.

use crate::tree::Tree;
use alloc::collections::BTreeMap;

pub(super) struct Names<'t>(BTreeMap<(u32, &'t str), u32>);

impl<'t> Names<'t> {
    /// Those of a tree. Of two of the same name the first counts.
    pub fn of(tree: &'t Tree) -> Self {
        let mut names = Self(BTreeMap::new());
        for node in tree.nodes().skip(1) {
            if let Some(parent) = node.parent() {
                names.add(parent.id().0, node.name(), node.id().0);
            }
        }
        names
    }

    pub fn add(&mut self, parent: u32, name: &'t str, node: u32) {
        self.0.entry((parent, name)).or_insert(node);
    }

    pub fn child(&self, parent: u32, name: &str) -> Option<u32> {
        self.0.get(&(parent, name)).copied()
    }

    /// The node of a full path.
    pub fn find(&self, path: &str) -> Option<u32> {
        let below_root = path.strip_prefix('/')?;
        let mut names = below_root.split('/').filter(|name| !name.is_empty());
        names.try_fold(0, |node, name| self.child(node, name))
    }
}

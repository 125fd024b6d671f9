//! A table with a place for every node of the tree. Nodes are numbered, so a look-up
//! takes the same time however many there are; a tree that grows makes it grow.

use alloc::vec::Vec;

use mastiff_dt::NodeId;

pub(crate) struct ByNode<T> {
    places: Vec<Option<T>>,
}

impl<T> Default for ByNode<T> {
    fn default() -> Self {
        Self { places: Vec::new() }
    }
}

impl<T> ByNode<T> {
    pub fn get(&self, node: NodeId) -> Option<&T> {
        self.places.get(node.index())?.as_ref()
    }

    /// The node's place, whatever is there.
    pub fn place(&mut self, node: NodeId) -> &mut Option<T> {
        if node.index() >= self.places.len() {
            self.places.resize_with(node.index() + 1, || None);
        }
        &mut self.places[node.index()]
    }

    /// What is there, in the order of the nodes.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }
}

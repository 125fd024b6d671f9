//! The CPUs (Devicetree Specification §3.8, and the binding `arm/cpus`): which there
//! are, by what an Arm CPU knows itself by, and how each is brought to run.

use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::tree::Tree;

/// A CPU's node.
#[derive(Copy, Clone, Debug)]
pub struct Cpu<'t> {
    node: Node<'t>,
}

impl Tree {
    /// The CPUs, in the tree's order, but those that are broken. One whose status is
    /// *disabled* is at rest until its enable method wakes it, as all but one are.
    pub fn cpus(&self) -> impl Iterator<Item = Cpu<'_>> {
        let parent = self.root().child("cpus");
        let nodes = parent.into_iter().flat_map(|parent| parent.children());
        nodes.filter_map(|node| {
            let text = |name| node.prop(name).and_then(|prop| prop.as_str());
            let failed = text("status").is_some_and(|status| status.starts_with("fail"));
            (text("device_type") == Some("cpu") && !failed).then_some(Cpu { node })
        })
    }
}

impl<'t> Cpu<'t> {
    /// The node.
    pub fn node(&self) -> Node<'t> {
        self.node
    }

    /// `reg`: the affinity fields of its MPIDR_EL1, in their places there.
    pub fn affinity(&self) -> Result<u64, PropError> {
        let entries = self.node.reg_raw()?;
        let first = entries.first().map(|entry| entry.base);
        let none = PropErrorKind::Truncated { need: 1, left: 0 };
        first.map_or_else(|| Err(self.node.required("reg")?.error(None, none)), Ok)
    }

    /// How it is brought to run, such as `psci`.
    pub fn enable_method(&self) -> Option<&'t str> {
        self.node.prop("enable-method")?.as_str()
    }
}

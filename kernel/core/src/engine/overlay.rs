//! Overlays at run time: the tree is exchanged for one with more in it, what is new is
//! discovered, and those devices are tried again whose fate the overlay can change.
//! Everybody else is left alone, and a device that is bound stays as it is.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::{Node, NodeId, PropErrorKind, Status, Tree};

use super::Engine;
use super::device::{Binding, Device, DeviceId, State};
use crate::error::Fault;
use crate::platform::Platform;

/// The nodes that a device may have been waiting for: those that the overlay brought
/// or changed, and those of devices that are tried again because of that.
struct Touched {
    changed: BTreeSet<NodeId>,
    retried: BTreeSet<NodeId>,
}

impl Touched {
    fn has_changed(&self, node: Node<'_>) -> bool {
        let mut above = node.ancestors();
        above.any(|node| self.changed.contains(&node.id()))
    }

    fn has(&self, node: Node<'_>) -> bool {
        let mut above = node.ancestors();
        self.has_changed(node) || above.any(|node| self.retried.contains(&node.id()))
    }
}

impl<P: Platform> Engine<P> {
    /// Applies an overlay. One that is wrong changes nothing. What it brings is
    /// discovered and tried; tried again is what it changes and is not bound, and who
    /// waited for such a thing or failed by it. A device that is bound and that it
    /// disables is unbound; other changes to it count when it is bound again.
    pub fn overlay(&mut self, blob: &[u8]) -> Result<(), Fault> {
        self.awake()?;
        let before = self.context.clone();
        let tree = before
            .tree
            .overlay(blob)
            .map_err(|error| Fault::Overlay(Box::new(error)))?;
        let mut touched = Touched {
            changed: tree.changes(&before.tree).into_iter().collect(),
            retried: BTreeSet::new(),
        };
        self.context = Arc::new(before.with_tree(tree));
        self.end_disabled(&touched);
        let again = self.concerned(&mut touched);
        for &id in &again {
            self.describe(id);
        }
        let found = self.discover_more();
        // What is new first: most of the others are there because of it.
        for ids in [found, again] {
            for id in self.by_driver(&ids) {
                self.enqueue(id);
            }
        }
        self.run();
        Ok(())
    }

    /// Unbinds what is disabled now.
    fn end_disabled(&mut self, touched: &Touched) {
        let context = self.context.clone();
        for id in self.ids() {
            let device = &self.devices[id.index()];
            let Some(node) = device.node.map(|node| context.tree.node(node)) else {
                continue;
            };
            if !matches!(device.state, State::Bound) || !touched.has_changed(node) {
                continue;
            }
            if let Status::Disabled { .. } = node.status() {
                self.release(id);
                self.describe(id);
                self.settle(id);
            } else {
                log::info!("{}: bound as the tree was before the overlay", device.name);
            }
        }
    }

    /// The devices that are not bound and whose fate may be another now.
    fn concerned(&self, touched: &mut Touched) -> Vec<DeviceId> {
        let mut concerned = BTreeSet::new();
        loop {
            let is_more =
                |id: &DeviceId| !concerned.contains(id) && self.is_concerned(*id, touched);
            let more: Vec<DeviceId> = self.ids().filter(is_more).collect();
            if more.is_empty() {
                return concerned.into_iter().collect();
            }
            for id in more {
                touched.retried.extend(self.devices[id.index()].node);
                concerned.insert(id);
            }
        }
    }

    fn is_concerned(&self, id: DeviceId, touched: &Touched) -> bool {
        let device = &self.devices[id.index()];
        let tree = &self.context.tree;
        let place = device.node.or_else(|| self.bus_node(device));
        let own = || place.is_some_and(|node| touched.has_changed(tree.node(node)));
        match &device.state {
            State::Bound | State::Gone => false,
            State::Waiting(dependency) => own() || touched.has(tree.node(dependency.node)),
            State::Failed(fault) => own() || names(fault, tree, touched),
            State::Unclaimed | State::Disabled => own(),
        }
    }

    /// Adds the devices that the tree has now and had not before.
    fn discover_more(&mut self) -> Vec<DeviceId> {
        let context = self.context.clone();
        let mut all = Vec::new();
        self.discover(context.tree.root(), None, &mut all);
        let has_nodes = |binding: &Binding<P>| binding.has_nodes;
        let is_bus = |device: &Device<P>| device.binding.as_deref().is_some_and(has_nodes);
        let buses: Vec<DeviceId> = self
            .ids()
            .filter(|id| is_bus(&self.devices[id.index()]))
            .collect();
        for bus in buses {
            let mut found = Vec::new();
            if let Some(node) = self.devices[bus.index()].node {
                self.discover(context.tree.node(node), Some(bus), &mut found);
            }
            self.put_on(bus, &found);
            all.extend(found);
        }
        all
    }
}

/// Whether a fault blames one of these nodes.
fn names(fault: &Fault, tree: &Tree, touched: &Touched) -> bool {
    let is_touched = |path: &str| tree.find(path).is_some_and(|node| touched.has(node));
    match fault {
        Fault::Tree(error) => {
            let other = match &error.kind {
                PropErrorKind::DanglingPhandle(phandle) => tree
                    .by_phandle(*phandle)
                    .is_some_and(|node| touched.has(node)),
                PropErrorKind::ProviderWithout { provider: path, .. }
                | PropErrorKind::NotInInterruptMap { nexus: path }
                | PropErrorKind::InterruptLoop { nexus: path } => is_touched(path),
                _ => false,
            };
            other || is_touched(&error.node)
        }
        Fault::Supplier { supplier: path, .. }
        | Fault::Refused { iommu: path, .. }
        | Fault::HalfBehind { iommu: path, .. } => is_touched(path),
        Fault::Cycle { path } => path.split(" -> ").any(is_touched),
        _ => false,
    }
}

//! What all hosts do once their configuration space can be reached: publish what was
//! found, and keep it for as long as the host is bound.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::bus::{BusFunction, Child};
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;
use mastiff_dt::{InterruptSpec, Node, PropError, Range};

use crate::assign::{Placed, assign};
use crate::function::{Function, Shared};
use crate::scan::{Bus, Found};
use crate::window::{self, Pools};

/// The host's functions, for as long as it is bound.
pub struct Functions<P: Platform> {
    // What is behind a bridge comes before it.
    all: Vec<Arc<Function<P>>>,
}

impl<P: Platform> Functions<P> {
    /// Gives everything on the root bus and behind it its place in the host's `ranges`,
    /// and publishes it.
    pub fn publish(
        probe: &mut Probe<'_, P>,
        node: Node<'_>,
        ranges: &[Range],
        root: Bus,
    ) -> Result<Self, Fault> {
        let shared = Arc::new(Shared {
            apertures: window::apertures(ranges),
            memory: node.child_dma_ranges()?,
        });
        let platform = probe.platform();
        let mut all = Vec::new();
        assign(
            root,
            &mut Pools::new(ranges),
            false,
            &mut |found, placed| {
                let (child, function) = describe(platform, node, &shared, found, placed);
                probe.publish_child(child);
                all.push(function);
            },
        );
        Ok(Self { all })
    }

    /// Nothing masters the bus any more.
    pub fn quiesce(&self) {
        for function in &self.all {
            function.set_master(false);
        }
    }

    /// Gets ready to lose everything.
    pub fn suspend(&self) {
        self.quiesce();
        self.all.iter().for_each(|function| function.suspend());
    }

    /// Brings everything back as it was.
    pub fn resume(&self) {
        let from_the_root = self.all.iter().rev();
        from_the_root.for_each(|function| function.resume());
    }
}

impl<P: Platform> Drop for Functions<P> {
    fn drop(&mut self) {
        self.quiesce();
    }
}

/// First and last bus number, as the tree has them.
pub fn bus_range(node: Node<'_>) -> Result<Option<(u8, u8)>, Fault> {
    let Some(prop) = node.prop("bus-range") else {
        return Ok(None);
    };
    match prop.as_cells()?[..] {
        [first @ 0..=255, last @ 0..=255] if first <= last => Ok(Some((first as u8, last as u8))),
        ref other => Err(Fault::invalid(format!(
            "`bus-range` is {other:?}, not a first and a last bus of 0 to 255"
        ))),
    }
}

/// A function as the core knows it.
fn describe<P: Platform>(
    platform: &P,
    host_node: Node<'_>,
    shared: &Arc<Shared>,
    found: Found,
    placed: Placed,
) -> (Child, Arc<Function<P>>) {
    log::debug!(
        "{}: {:04x}:{:04x} class {:06x}, requester {:#06x}",
        found.bdf,
        found.id.vendor,
        found.id.device,
        found.id.class,
        found.requester
    );
    let shares = found
        .shares
        .map(|first| format!("{}/{first}", host_node.path()));
    if let Some(first) = &shares {
        log::debug!("{}: not isolated from {first}", found.bdf);
    }
    let function = Arc::new(Function::new(
        platform,
        shared,
        &found,
        placed,
        interrupt(host_node, &found),
    ));
    let child = Child {
        name: format!("{}", found.bdf).into_boxed_str(),
        node: found.node,
        pci: found.id,
        requesters: vec![found.requester.into()],
        isolation: shares.map(String::into_boxed_str),
        function: function.clone(),
    };
    (child, function)
}

/// The wired interrupt of a function: what its own node says, else what its pin is
/// wired to on the root bus.
fn interrupt(host: Node<'_>, found: &Found) -> Result<Option<InterruptSpec>, PropError> {
    if let Some(node) = found.node.map(|id| host.tree().node(id))
        && let Some(first) = node.interrupts()?.into_iter().next()
    {
        return Ok(Some(first));
    }
    match found.pin {
        Some(pin) => host.pci_interrupt(pin.from.phys_hi(), pin.pin.into()),
        None => Ok(None),
    }
}

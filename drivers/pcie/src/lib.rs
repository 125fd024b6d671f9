//! Generic PCI Express host (`pci-host-ecam-generic`): configuration space in
//! memory, everything else from the tree.
//!
//! The probe finds every function, gives it its place in the host's windows, and
//! publishes it to the core as a device. From then on this crate is what the core
//! asks for what only the bus can do: BARs, message and wired interrupts, and the
//! bus master switch. That switch is off from the first look at a function until
//! the core has attached its streams, whatever firmware left behind.
//!
//! Layout: [`address`] and [`config`] name things, `bar` and `window` are the
//! arithmetic of BARs and windows, `scan` finds, `access` tells who is
//! isolated from whom, `assign` places, `function` and
//! `message` serve the core afterwards.
//!
//! Why not `pci_types`: its access trait consists of `unsafe fn`s, which a crate
//! without unsafe code cannot implement, and what remains are register names.
//!
//! Functions that can reach each other past the IOMMU share a group: access control
//! (PCIe's ACS) is turned on wherever it is, and what it does not keep apart is named
//! to the core. A root complex is taken to send nothing across between its ports and
//! its own devices (it may, PCIe Base 1.3.1, but says so nowhere).
//!
//! Not here: I/O space, hot plug, SR-IOV, ARI, resizable BARs.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod access;
pub mod address;
mod assign;
mod bar;
pub mod config;
mod express;
mod function;
mod message;
mod scan;
mod window;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::addr::PhysRange;
use mastiff_core::bus::{BusFunction, Child};
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::{Mmio, Platform};
use mastiff_core::probe::Probe;
use mastiff_dt::{InterruptSpec, Node, PropError};

use assign::{Placed, assign};
use function::{Function, Host};
use scan::{BUS_SPACE, Found, Scanner};
use window::Pools;

/// The driver.
pub struct Pcie;

const MATCHES: &[Match] = &[Match::compatible("pci-host-ecam-generic")];

impl<P: Platform> Driver<P> for Pcie {
    fn name(&self) -> &'static str {
        "pcie"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        let ecam = probe.window(0)?;
        let (first, last) = bus_range(node, ecam)?;
        let ranges = window::of_host(node)?;
        let host = Arc::new(Host {
            apertures: window::apertures(&ranges),
            memory: node.child_dma_ranges()?,
        });
        let root = Scanner::new(probe, ecam.start, first, last).scan(node)?;
        let platform = probe.platform();
        let mut functions = Vec::new();
        assign(
            root,
            &mut Pools::new(&ranges),
            false,
            &mut |found, placed| {
                let (child, function) = publish(platform, node, &host, found, placed);
                probe.publish_child(child);
                functions.push(function);
            },
        );
        Ok(Box::new(PcieHost { functions }))
    }
}

/// The host, for as long as it is bound.
struct PcieHost<P: Platform> {
    // What is behind a bridge comes before it.
    functions: Vec<Arc<Function<P>>>,
}

impl<P: Platform> Bound for PcieHost<P> {
    fn quiesce(&self) {
        for function in &self.functions {
            function.set_master(false);
        }
    }

    fn suspend(&self) -> Result<(), Fault> {
        self.quiesce();
        self.functions
            .iter()
            .for_each(|function| function.suspend());
        Ok(())
    }

    fn resume(&self) -> Result<(), Fault> {
        let from_the_root = self.functions.iter().rev();
        from_the_root.for_each(|function| function.resume());
        Ok(())
    }
}

impl<P: Platform> Drop for PcieHost<P> {
    fn drop(&mut self) {
        self.quiesce();
    }
}

/// First and last bus number. Configuration space starts with the first one's
/// (`host-generic-pci.yaml` in the devicetree bindings) and must cover them all.
fn bus_range(node: Node<'_>, ecam: PhysRange) -> Result<(u8, u8), Fault> {
    let buses = ecam.len / BUS_SPACE;
    if buses == 0 {
        return Err(Fault::WindowTooSmall {
            index: 0,
            have: ecam.len,
            need: BUS_SPACE,
        });
    }
    let Some(prop) = node.prop("bus-range") else {
        return Ok((0, (buses - 1).min(255) as u8));
    };
    match prop.as_cells()?[..] {
        [first @ 0..=255, last @ 0..=255] if first <= last => {
            let need = u64::from(last - first + 1) * BUS_SPACE;
            if ecam.len < need {
                return Err(Fault::WindowTooSmall {
                    index: 0,
                    have: ecam.len,
                    need,
                });
            }
            Ok((first as u8, last as u8))
        }
        ref other => Err(Fault::invalid(format!(
            "`bus-range` is {other:?}, not a first and a last bus of 0 to 255"
        ))),
    }
}

/// Makes a function known to the core.
fn publish<P: Platform>(
    platform: &P,
    host_node: Node<'_>,
    host: &Arc<Host>,
    found: Found<P::Mmio>,
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
        host,
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
fn interrupt<M: Mmio>(
    host: Node<'_>,
    found: &Found<M>,
) -> Result<Option<InterruptSpec>, PropError> {
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

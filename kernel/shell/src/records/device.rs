//! Devices, drivers and the tree.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::engine::{Cause, Device, DmaSetup, Engine, State, Waited};
use mastiff_core::platform::Platform;
use serde::Serialize;

use super::{isolation, name_at};

/// One device.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceRecord {
    /// Its path.
    pub name: Box<str>,
    /// What its node is compatible with, or its PCI identity.
    pub compatible: Vec<String>,
    /// The driver for it.
    pub driver: Option<&'static str>,
    /// Its state.
    pub state: &'static str,
    /// Whether it is bound and suspended.
    pub suspended: bool,
    /// Tries by the engine.
    pub attempts: u32,
    /// How often its driver was entered.
    pub probes: u32,
    /// What it has waited for.
    pub waited: Vec<WaitedRecord>,
    /// From the device to the root cause, where it waits or failed.
    pub cause: Vec<CauseRecord>,
    /// The IOMMU that it is behind.
    pub iommu: Option<String>,
    /// Its StreamIDs there.
    pub streams: Vec<u32>,
    /// The group that shares its domain: the group's first stream.
    pub group: Option<String>,
    /// `dma`, `identity`, `blocked`, `none`.
    pub domain: &'static str,
    /// What policy decided about it.
    pub decision: Option<String>,
    /// Its place in the order of binding.
    pub order: Option<u32>,
}

/// A supplier that a device waited for.
#[derive(Clone, Debug, Serialize)]
pub struct WaitedRecord {
    /// Path of the supplier.
    pub on: String,
    /// What it supplies.
    pub class: String,
    /// The property that asks for it.
    pub property: Box<str>,
}

/// A link of the chain to the root cause.
#[derive(Clone, Debug, Serialize)]
pub struct CauseRecord {
    /// The device.
    pub device: Box<str>,
    /// What is the matter with it.
    pub reason: String,
}

/// Why a device is where it is.
#[derive(Clone, Debug, Serialize)]
pub struct WhyRecord {
    /// The device.
    pub device: Box<str>,
    /// The driver for it.
    pub driver: Option<&'static str>,
    /// Its state.
    pub state: &'static str,
    /// What it has waited for.
    pub waited: Vec<WaitedRecord>,
    /// From the device to the root cause, where it is not bound.
    pub cause: Vec<CauseRecord>,
    /// What policy decided about it.
    pub decision: Option<String>,
}

/// One node of the device tree.
#[derive(Clone, Debug, Serialize)]
pub struct NodeRecord {
    /// Its path.
    pub path: String,
    /// Whether neither it nor a node above it is disabled.
    pub enabled: bool,
    /// Its properties, in the tree's order.
    pub properties: Vec<PropertyRecord>,
}

/// One property.
#[derive(Clone, Debug, Serialize)]
pub struct PropertyRecord {
    /// Its name.
    pub name: String,
    /// Its value as the source of a tree writes it; none for a flag.
    pub value: Option<String>,
}

/// One driver of the image.
#[derive(Clone, Debug, Serialize)]
pub struct DriverRecord {
    /// Its name.
    pub name: &'static str,
    /// `registered`, `late` or `skipped`.
    pub state: &'static str,
    /// Devices that are bound to it.
    pub bound: usize,
}

impl DeviceRecord {
    /// What is known of a device.
    pub fn new<P: Platform>(engine: &Engine<P>, device: &Device<P>) -> Self {
        let tree = &engine.context().tree;
        let group = match device.dma() {
            DmaSetup::None | DmaSetup::Direct | DmaSetup::Managed { .. } => None,
            DmaSetup::Group(info) => info
                .streams
                .first()
                .map(|(node, id)| format!("{}:{id}", name_at(engine, *node))),
        };
        let compatible = match (&device.child, device.node) {
            (Some(child), _) => Vec::from([format!(
                "pci{:04x},{:04x}",
                child.pci.vendor, child.pci.device
            )]),
            (None, Some(node)) => listed(tree.node(node).compatible()),
            (None, None) => Vec::new(),
        };
        let cause = match device.state {
            State::Waiting(_) | State::Failed(_) => causes(engine, device),
            _ => Vec::new(),
        };
        Self {
            name: device.name.clone(),
            compatible,
            driver: engine.driver_of(device),
            state: device.state.name(),
            suspended: engine.is_suspended() && device.bound().is_some(),
            attempts: device.attempts,
            probes: device.probes,
            waited: waited(engine, &device.waited),
            cause,
            iommu: device
                .streams
                .first()
                .map(|stream| name_at(engine, stream.iommu)),
            streams: device.streams.iter().map(|stream| stream.id.0).collect(),
            group,
            domain: isolation::domain(engine.context(), device),
            decision: device.decision(),
            order: device.order(),
        }
    }
}

/// So many bytes of `compatible` are shown. Real ones have a few hundred at most; one of
/// megabytes is a tree that means harm, and would hold a console up for minutes. The
/// engine looks at all of it.
const MOST_COMPATIBLE: usize = 2048;

/// The strings, as far as there is room for them; what was left out is said in a last one.
fn listed<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut room = MOST_COMPATIBLE;
    let mut shown = Vec::new();
    let mut left_out = 0;
    for text in texts {
        match room.checked_sub(text.len() + 1) {
            Some(rest) if left_out == 0 => {
                room = rest;
                shown.push(text.into());
            }
            _ => left_out += 1,
        }
    }
    if left_out > 0 {
        shown.push(format!("... {left_out} more, too long to show"));
    }
    shown
}

impl WhyRecord {
    /// Why a device is where it is.
    pub fn new<P: Platform>(engine: &Engine<P>, device: &Device<P>) -> Self {
        Self {
            device: device.name.clone(),
            driver: engine.driver_of(device),
            state: device.state.name(),
            waited: waited(engine, &device.waited),
            cause: causes(engine, device),
            decision: device.decision(),
        }
    }
}

impl From<Cause> for CauseRecord {
    fn from(cause: Cause) -> Self {
        Self {
            device: cause.device,
            reason: cause.reason,
        }
    }
}

fn causes<P: Platform>(engine: &Engine<P>, device: &Device<P>) -> Vec<CauseRecord> {
    let causes = engine.causes_of(device);
    causes.into_iter().map(Into::into).collect()
}

fn waited<P: Platform>(engine: &Engine<P>, waited: &[Waited]) -> Vec<WaitedRecord> {
    waited
        .iter()
        .map(|waited| WaitedRecord {
            on: name_at(engine, waited.dependency.node),
            class: waited.dependency.class.to_string(),
            property: waited.property.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::{MOST_COMPATIBLE, listed};

    #[test]
    fn what_is_too_long_is_left_out_and_counted() {
        assert_eq!(listed(["a,b", "c,d"].into_iter()), ["a,b", "c,d"]);
        let long = "x".repeat(2_000_000);
        let mark = |n| format!("... {n} more, too long to show");
        assert_eq!(listed(["a", &long, "b"].into_iter()), ["a".into(), mark(2)]);
        let many = listed((0..100_000).map(|_| "vendor,device"));
        assert_eq!(many.len(), MOST_COMPATIBLE / 14 + 1);
        assert_eq!(many.last(), Some(&mark(100_000 - MOST_COMPATIBLE / 14)));
    }
}

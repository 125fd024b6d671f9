//! The probe story: why a device is where it is, as a chain from the device to the
//! root cause.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::device::{DeviceId, DmaSetup, State};
use super::{Device, Engine};
use crate::error::{Absence, Dependency, Fault};
use crate::platform::Platform;

/// A link of the chain: a device (or a tree node that is none), and what is the
/// matter with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cause {
    /// Its name.
    pub device: Box<str>,
    /// What is the matter.
    pub reason: String,
}

impl<P: Platform> Engine<P> {
    /// Why a device of this name waits or failed, down to the root; empty for one
    /// that is bound.
    pub fn why(&self, name: &str) -> Result<Vec<Cause>, Fault> {
        let id = self.require(name)?;
        Ok(self.causes(id))
    }

    /// The chain of a device.
    pub fn causes_of(&self, device: &Device<P>) -> Vec<Cause> {
        match self.find_exact(&device.name) {
            Some(id) => self.causes(id),
            None => Vec::new(),
        }
    }

    pub(super) fn causes(&self, id: DeviceId) -> Vec<Cause> {
        let mut chain = Vec::new();
        let mut path: Vec<DeviceId> = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let device = &self.devices[id.index()];
            if let Some(start) = path.iter().position(|&seen| seen == id) {
                chain.push(Cause {
                    device: device.name.clone(),
                    reason: format!("in a cycle: {}", self.path_of(&path[start..])),
                });
                return chain;
            }
            path.push(id);
            let Some(reason) = self.reason(device) else {
                return chain;
            };
            chain.push(Cause {
                device: device.name.clone(),
                reason,
            });
            next = self.blamed(device);
        }
        chain
    }

    /// What is the matter with a device itself.
    fn reason(&self, device: &Device<P>) -> Option<String> {
        match &device.state {
            State::Bound => None,
            State::Waiting(dependency) => Some(self.waiting(device, *dependency)),
            State::Failed(fault) => Some(fault.to_string()),
            State::Disabled => Some(Absence::Disabled.to_string()),
            State::Gone => Some(String::from("its bus is not bound")),
            State::Unclaimed => Some(match device.matched {
                None => Absence::NoDriver.to_string(),
                Some(matched) if self.drivers.is_skipped(matched.driver) => {
                    Absence::Skipped.to_string()
                }
                Some(matched) if self.drivers.is_registered(matched.driver) => {
                    String::from("not bound; `bind` tries it")
                }
                Some(matched) => format!(
                    "its driver {} is held back; `driver add` registers it",
                    self.drivers.get(matched.driver).name()
                ),
            }),
        }
    }

    fn waiting(&self, device: &Device<P>, dependency: Dependency) -> String {
        let property = device
            .waited
            .iter()
            .find(|waited| waited.dependency == dependency)
            .map_or("", |waited| &waited.property);
        format!(
            "waits for {} {} ({property})",
            dependency.class,
            self.context.path(dependency.node)
        )
    }

    /// The device that another one's trouble comes from.
    fn blamed(&self, device: &Device<P>) -> Option<DeviceId> {
        match &device.state {
            State::Waiting(dependency) => self.provider(dependency.node),
            State::Failed(Fault::Supplier { supplier: node, .. })
            | State::Failed(Fault::Refused { iommu: node, .. })
            | State::Failed(Fault::HalfBehind { iommu: node, .. }) => {
                let node = self.context.tree.find(node)?;
                self.provider(node.id())
            }
            _ => None,
        }
    }
}

/// The chain on one line.
pub(super) fn one_line(causes: &[Cause]) -> String {
    let mut text = String::new();
    for cause in causes {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&cause.device);
        text.push_str(": ");
        text.push_str(&cause.reason);
    }
    text
}

/// How a device's DMA travels, as an addition to the line that says it is bound.
pub(super) fn dma_words(setup: &DmaSetup) -> String {
    match setup {
        DmaSetup::None => String::new(),
        DmaSetup::Direct => String::from(", direct DMA"),
        DmaSetup::Managed { .. } => String::from(", its driver manages its IOMMU"),
        DmaSetup::Group(info) => {
            let kind = if info.identity {
                "identity domain"
            } else {
                "DMA domain"
            };
            let mut text = format!(", {kind}");
            for (index, (_, stream)) in info.streams.iter().enumerate() {
                let lead = if index == 0 { ", stream" } else { "," };
                text.push_str(&format!("{lead} {stream}"));
            }
            text
        }
    }
}

//! Cycles: devices that wait for each other can wait for ever, so they are found
//! when nothing else can be tried. Where one of them could do without what it waits
//! for, the cycle is broken there; else all of them fail, with the path.
//!
//! A PHY that has a clock or a reset from the controller that it serves can do without
//! at its probe: it is the controller that starts it, when it is ready to. Trees are
//! full of these (Rockchip's eMMC PHY has the card clock of its SDHCI controller,
//! Qualcomm's UFS PHY the reset of its UFS controller).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_dt::SupplierClass;

use super::Engine;
use super::device::{DeviceId, State};
use crate::error::Fault;
use crate::platform::Platform;

impl<P: Platform> Engine<P> {
    /// Breaks or fails every cycle among the waiting devices; says whether there was
    /// one, and so whether there is something to try again.
    pub(super) fn end_cycles(&mut self) -> bool {
        let cycles = self.cycles();
        for cycle in &cycles {
            self.end_cycle(cycle);
        }
        !cycles.is_empty()
    }

    fn end_cycle(&mut self, cycle: &[DeviceId]) {
        let path = self.path_of(cycle);
        let followers = cycle.iter().cycle().skip(1);
        for (&id, &next) in cycle.iter().zip(followers) {
            let State::Waiting(dependency) = self.devices[id.index()].state else {
                continue;
            };
            // Where its driver asked for it all the same, it cannot.
            let broken = self.devices[id.index()].broken.contains(&dependency);
            let can = || self.can_do_without(id, dependency) || self.is_phy_of(id, next);
            if !broken && can() {
                let device = &mut self.devices[id.index()];
                log::warn!(
                    "{}: goes without its {}, to break the cycle {path}",
                    device.name,
                    dependency.class
                );
                device.broken.push(dependency);
                self.enqueue(id);
                return;
            }
        }
        // All of them first: none shall be tried again because another failed.
        for &id in cycle {
            let path = path.clone().into_boxed_str();
            self.devices[id.index()].state = State::Failed(Fault::Cycle { path });
        }
        for &id in cycle {
            let path = path.clone().into_boxed_str();
            self.fail(id, Fault::Cycle { path });
        }
    }

    /// Whether the one is the PHY that the other waits for.
    fn is_phy_of(&self, phy: DeviceId, user: DeviceId) -> bool {
        match self.devices[user.index()].state {
            State::Waiting(dependency) => {
                dependency.class == SupplierClass::Phy
                    && self.provider(dependency.node) == Some(phy)
            }
            _ => false,
        }
    }

    /// Every waiting device waits for one other, so following that either ends or
    /// comes round: each device is passed once.
    fn cycles(&self) -> Vec<Vec<DeviceId>> {
        let mut seen = vec![None; self.devices.len()];
        let mut cycles = Vec::new();
        for start in self.ids() {
            let mut path = Vec::new();
            let mut next = Some(start);
            while let Some(id) = next {
                match seen[id.index()] {
                    Some(walk) if walk == start => {
                        let from = path.iter().position(|&passed| passed == id);
                        cycles.push(path.split_off(from.unwrap_or(0)));
                        break;
                    }
                    Some(_) => break,
                    None => {}
                }
                let State::Waiting(dependency) = self.devices[id.index()].state else {
                    break;
                };
                seen[id.index()] = Some(start);
                path.push(id);
                next = self.provider(dependency.node);
            }
        }
        cycles
    }

    /// `a -> b -> a`.
    pub(super) fn path_of(&self, cycle: &[DeviceId]) -> String {
        let mut text = String::new();
        for id in cycle.iter().chain(cycle.first()) {
            if !text.is_empty() {
                text.push_str(" -> ");
            }
            text.push_str(&self.devices[id.index()].name);
        }
        text
    }
}

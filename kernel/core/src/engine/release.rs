//! The opposite of an attempt: ending a binding, everything that depends on it
//! first; and suspending and resuming all of them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Engine;
use super::device::{Binding, DeviceId, State, Waited};
use super::streams::keys;
use super::suppliers::Resolved;
use crate::console::Console;
use crate::error::Fault;
use crate::platform::Platform;

impl<P: Platform> Engine<P> {
    /// Unbinds a device, everything that uses it first. Who used a service of it
    /// waits for it from now on.
    pub(super) fn release(&mut self, id: DeviceId) {
        // Depth first without recursion: a chain may be thousands long.
        let mut stack: Vec<(DeviceId, Option<(DeviceId, Waited)>)> = Vec::from([(id, None)]);
        while let Some(&(top, _)) = stack.last() {
            let user = self.devices[top.index()].users.pop_first();
            match user {
                Some(user) if self.is_bound(user) => {
                    stack.push((user, self.reason_to_wait(user, top)));
                }
                Some(_) => {}
                None => {
                    let reason = stack.pop().and_then(|(_, reason)| reason);
                    self.take_down(top);
                    if let Some((on, waited)) = reason {
                        self.devices[top.index()].wait_for(waited);
                        self.devices[on.index()].waiters.push(top);
                    }
                }
            }
        }
    }

    fn is_bound(&self, id: DeviceId) -> bool {
        matches!(self.devices[id.index()].state, State::Bound)
    }

    /// What a user will wait for once its supplier is gone; nothing if it is gone with
    /// it, being on it.
    fn reason_to_wait(&self, user: DeviceId, on: DeviceId) -> Option<(DeviceId, Waited)> {
        let device = &self.devices[user.index()];
        if device.bus == Some(on) {
            return None;
        }
        let mut uses = device.binding.as_ref()?.uses.iter();
        let &(_, dependency) = uses.find(|(supplier, _)| *supplier == on)?;
        let property = self.property(device, dependency);
        let waited = Waited {
            dependency,
            property,
        };
        Some((on, waited))
    }

    /// Ends a binding: the device is stopped, then cut off on its bus, then its
    /// driver's state goes (buffers are unmapped, synced and freed while the
    /// mapping machinery stands), then its streams are aborted, then what was on for
    /// it goes off.
    fn take_down(&mut self, id: DeviceId) {
        let Some(binding) = self.devices[id.index()].binding.take() else {
            return;
        };
        let Binding {
            state,
            setup,
            published,
            uses,
            children,
            ..
        } = *binding;
        self.announce_console(id, None);
        let device = &self.devices[id.index()];
        let platform = &self.context.platform;
        let driver = device
            .matched
            .map(|matched| self.drivers.get(matched.driver));
        platform.at_work(driver.map(|driver| (&*device.name, driver.name())));
        state.quiesce();
        setup.grant.stop();
        for dependency in published {
            self.context.registry.remove(dependency);
        }
        drop(state);
        drop(setup);
        platform.at_work(None);
        let device = &mut self.devices[id.index()];
        device.state = State::Unclaimed;
        self.context
            .streams
            .note(&keys(&device.streams), &device.name, None);
        log::debug!("{}: unbound", device.name);
        for (supplier, _) in uses {
            self.devices[supplier.index()].users.remove(&id);
        }
        self.forget_children(id, &children);
    }

    /// What was on a bus is gone with it. Who waited for it waits for the bus, which may
    /// fail, or have something else on it, when it is bound again.
    fn forget_children(&mut self, bus: DeviceId, children: &[DeviceId]) {
        for &child in children {
            let waiters = core::mem::take(&mut self.devices[child.index()].waiters);
            self.devices[bus.index()].waiters.extend(waiters);
            let device = &mut self.devices[child.index()];
            self.context
                .streams
                .forget(&keys(&device.streams), &device.name);
            device.state = State::Gone;
            // Who asks again whether the tree has a device there is to be told no.
            if let (Some(node), Some(_)) = (device.node, device.child.take()) {
                *self.by_node.place(node) = None;
            }
        }
    }

    /// Tells the hook of the console that the tree chose that it came or goes.
    pub(super) fn announce_console(&self, id: DeviceId, console: Option<Arc<dyn Console>>) {
        if let Some((node, hook)) = self.console
            && self.devices[id.index()].node == Some(node)
        {
            hook(console);
        }
    }

    /// The bound devices, suppliers first: the order of binding.
    fn in_order(&self) -> Vec<DeviceId> {
        let mut bound: Vec<(u32, DeviceId)> = self
            .ids()
            .filter_map(|id| Some((self.devices[id.index()].order()?, id)))
            .collect();
        bound.sort_unstable();
        bound.into_iter().map(|(_, id)| id).collect()
    }

    /// Suspends every device, users first: each is quiesced and cut off on its bus,
    /// then what was on for it goes off. If one refuses, those that are suspended
    /// already are resumed.
    pub fn suspend(&mut self) -> Result<(), Fault> {
        if self.suspended {
            return Err(Fault::invalid("the devices are suspended already"));
        }
        self.suspended = true;
        for group in self.context.streams.groups() {
            group.mappings().flush();
        }
        let order = self.in_order();
        for (done, &id) in order.iter().rev().enumerate() {
            let device = &mut self.devices[id.index()];
            let Some(binding) = &mut device.binding else {
                continue;
            };
            if let Err(fault) = binding.state.suspend() {
                log::error!("{}: {fault}; resuming the others", device.name);
                let suspended = &order[order.len() - done..];
                self.resume_these(suspended);
                return Err(fault);
            }
            binding.setup.grant.stop();
            while binding.setup.on.pop().is_some() {}
        }
        Ok(())
    }

    /// Resumes every device, suppliers first. One that does not come back is unbound,
    /// and so are its users; the others go on.
    pub fn resume(&mut self) -> Result<(), Fault> {
        if !self.suspended {
            return Err(Fault::invalid("the devices are not suspended"));
        }
        let order = self.in_order();
        match self.resume_these(&order) {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    fn resume_these(&mut self, order: &[DeviceId]) -> Option<Fault> {
        self.suspended = false;
        let mut first = None;
        for &id in order {
            // One of its suppliers may not have come back.
            if !self.is_bound(id) {
                continue;
            }
            if let Err(fault) = self.resume_one(id) {
                self.release(id);
                self.fail(id, fault.clone());
                first.get_or_insert(fault);
            }
        }
        self.run();
        first
    }

    fn resume_one(&mut self, id: DeviceId) -> Result<(), Fault> {
        let mut on = Vec::new();
        if let Resolved::Ready(needs) = self.resolve(id) {
            self.turn_on(&needs.switches, &mut on)?;
        }
        let Some(binding) = &mut self.devices[id.index()].binding else {
            return Ok(());
        };
        binding.setup.on = on;
        binding.setup.grant.restart();
        binding.state.resume()
    }
}

//! The probe engine: a worklist, and waiters behind the device they wait for.
//!
//! A device is tried when its driver is registered, and again only when a supplier
//! that it waited for was settled (bound, or known never to come). Each wait uses
//! up one edge of the supplier graph, so there are at most as many attempts as
//! devices and edges together, in whatever order drivers are listed or nodes
//! stand in the tree; the end follows from the graph, never from a timeout.
//!
//! One attempt, in this order: suppliers, then DMA (mask and windows from the
//! tree, never from an earlier attempt), then the driver's probe, then commit.
//! Each step is a value whose drop undoes it, so a failure anywhere takes back
//! what this attempt set up and nothing else.

mod attempt;
mod context;
mod cycles;
mod device;
mod drivers;
mod overlay;
mod release;
mod story;
mod streams;
mod suppliers;
mod table;

pub use context::Context;
pub use device::{Device, DeviceId, DmaSetup, State, Stream, Waited};
pub use drivers::DriverInfo;
pub use story::Cause;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::{Node, NodeId, Tree};

use crate::console::Console;
use crate::driver::Driver;
use crate::error::Fault;
use crate::platform::Platform;
use crate::policy::Policy;
use drivers::Drivers;
use suppliers::Supply;
use table::ByNode;

/// Buses without registers of their own, and nodes of many functions: what is in them
/// are devices as if they stood at the root (devicetree specification §4.5). The node
/// itself is a device as well if it says that it is something else besides.
const TRANSPARENT: [&str; 3] = ["simple-bus", "simple-mfd", "arm,amba-bus"];

/// Children of the root below which nothing is a device, `compatible` or not
/// (devicetree specification §3.5, §3.6, §3.8).
const NO_DEVICES: [&str; 3] = ["reserved-memory", "chosen", "cpus"];

/// All devices and what is known of them.
pub struct Engine<P: Platform> {
    context: Arc<Context<P>>,
    drivers: Drivers<P>,
    devices: Vec<Device<P>>,
    by_node: ByNode<DeviceId>,
    // Those that buses found. What is in the tree is found by its path there: the
    // names of a hundred thousand devices are not to be compared with each other.
    by_name: BTreeMap<Box<str>, DeviceId>,
    queue: VecDeque<DeviceId>,
    bound_so_far: u32,
    suspended: bool,
    overrides: Vec<Override>,
    console: Option<(NodeId, ConsoleHook)>,
}

/// A device that is to have a certain driver.
struct Override {
    device: Box<str>,
    driver: usize,
    /// The devices of this name so far: none has the driver if there are several.
    known: Vec<DeviceId>,
    /// Whether the driver is for the device.
    fits: bool,
}

/// Told when the console's device is bound, and, with nothing, when it is unbound.
pub type ConsoleHook = fn(Option<Arc<dyn Console>>);

impl<P: Platform> Engine<P> {
    /// An engine over the devices of `tree`, with the board's drivers. Nothing is
    /// tried yet.
    pub fn new(
        platform: P,
        tree: Tree,
        policy: Policy,
        drivers: &[&'static dyn Driver<P>],
    ) -> Self {
        let context = Arc::new(Context::new(platform, tree, policy));
        let mut engine = Self {
            context: context.clone(),
            drivers: Drivers::new(drivers),
            devices: Vec::new(),
            by_node: ByNode::default(),
            by_name: BTreeMap::new(),
            queue: VecDeque::new(),
            bound_so_far: 0,
            suspended: false,
            overrides: Vec::new(),
            console: None,
        };
        engine.discover(context.tree.root(), None, &mut Vec::new());
        engine
    }

    /// Adds the devices below `node`, which are on the bus `on`, if any. A node without
    /// `compatible` only holds others together.
    fn discover(&mut self, node: Node<'_>, on: Option<DeviceId>, found: &mut Vec<DeviceId>) {
        let is_root = node.parent().is_none();
        for node in node.children() {
            if is_root && NO_DEVICES.contains(&node.name()) {
                continue;
            }
            let is_transparent = |model: &str| TRANSPARENT.contains(&model);
            let is_device = node.compatible().any(|model| !is_transparent(model));
            let is_opaque = is_device && !node.compatible().any(is_transparent);
            if is_device && self.device_of(node.id()).is_none() {
                let before = self.by_node.get(node.id()).copied();
                let id = before.unwrap_or_else(|| self.add(node.path().into_boxed_str()));
                *self.by_node.place(node.id()) = Some(id);
                let device = &mut self.devices[id.index()];
                device.node = Some(node.id());
                device.bus = on;
                self.describe(id);
                found.push(id);
            }
            if !is_opaque {
                self.discover(node, on, found);
            }
        }
    }

    fn add(&mut self, name: Box<str>) -> DeviceId {
        let id = DeviceId(self.devices.len() as u32);
        self.devices.push(Device::new(name));
        id
    }

    /// Looks at what a device is and which driver is for it, as if it were new.
    fn describe(&mut self, id: DeviceId) {
        let device = &mut self.devices[id.index()];
        let node = device.node.map(|node| self.context.tree.node(node));
        device.state = match node.map(|node| node.status()) {
            Some(mastiff_dt::Status::Disabled { .. }) => State::Disabled,
            _ => State::Unclaimed,
        };
        let pci = device.child.as_ref().map(|child| child.pci);
        for wanted in &mut self.overrides {
            if device.is_called(&wanted.device) && !wanted.known.contains(&id) {
                wanted.known.push(id);
            }
        }
        let mut overrides = self.overrides.iter_mut();
        device.matched = match overrides.find(|wanted| *wanted.known == [id]) {
            None => self.drivers.find(node, pci),
            Some(wanted) => {
                let matched = self.drivers.find_in(wanted.driver, node, pci);
                wanted.fits = matched.is_some();
                matched
            }
        };
        device.broken.clear();
        self.note_streams(id);
    }

    /// The device that a node describes, while it is there.
    fn device_of(&self, node: NodeId) -> Option<DeviceId> {
        let id = *self.by_node.get(node)?;
        (!matches!(self.devices[id.index()].state, State::Gone)).then_some(id)
    }

    /// Has a device bound by this driver, which is one of several for it
    /// (`driver.override=`). The device is named in full, or by the end of its name if
    /// no other has the same. To be said before [`start`](Self::start).
    pub fn override_driver(&mut self, device: &str, driver: &str) -> Result<(), Fault> {
        let driver = self.drivers.position(driver)?;
        let is_called = |id: &DeviceId| self.devices[id.index()].is_called(device);
        let known: Vec<DeviceId> = self.ids().filter(is_called).collect();
        self.overrides.push(Override {
            device: device.into(),
            driver,
            known: known.clone(),
            fits: false,
        });
        for id in known {
            self.describe(id);
        }
        Ok(())
    }

    /// What of the overrides came to nothing, one line each.
    pub fn failed_overrides(&self) -> Vec<String> {
        let overrides = self.overrides.iter();
        overrides
            .filter_map(|wanted| {
                let device = &wanted.device;
                let what = match *wanted.known {
                    [] => format!("no device {device}"),
                    [_] if wanted.fits => return None,
                    [_] => {
                        let driver = self.drivers.get(wanted.driver).name();
                        format!("driver {driver} is not for {device}")
                    }
                    [one, other, ..] => format!(
                        "{device} may be {} or {}; give the full name",
                        self.devices[one.index()].name,
                        self.devices[other.index()].name
                    ),
                };
                Some(format!("driver.override: {what}"))
            })
            .collect()
    }

    /// Has the console of a node handed over as soon as its device is bound.
    pub fn on_console(&mut self, node: NodeId, hook: ConsoleHook) {
        self.console = Some((node, hook));
    }

    /// Tries every device that a registered driver is for, in the order of the
    /// board's list, and all that follows from it.
    pub fn start(&mut self) {
        let all: Vec<DeviceId> = self.ids().collect();
        for id in self.by_driver(&all) {
            self.enqueue(id);
        }
        self.run();
    }

    /// The driver for a device, if it may be tried now.
    fn claimable(&self, id: DeviceId) -> Option<usize> {
        let device = &self.devices[id.index()];
        let matched = device.matched?;
        (matches!(device.state, State::Unclaimed) && self.drivers.is_registered(matched.driver))
            .then_some(matched.driver)
    }

    /// Queues the devices that a driver is for, in the order of the board's list,
    /// ahead of what is queued already.
    fn queue_first(&mut self, ids: &[DeviceId]) {
        for id in self.by_driver(ids).into_iter().rev() {
            self.enqueue_first(id);
        }
    }

    /// Those of the devices that may be tried, in the order of the board's list.
    fn by_driver(&self, ids: &[DeviceId]) -> Vec<DeviceId> {
        let mut claimable: Vec<(usize, DeviceId)> = ids
            .iter()
            .filter_map(|&id| Some((self.claimable(id)?, id)))
            .collect();
        claimable.sort_unstable();
        claimable.into_iter().map(|(_, id)| id).collect()
    }

    fn enqueue(&mut self, id: DeviceId) {
        let device = &mut self.devices[id.index()];
        if !device.queued {
            device.queued = true;
            self.queue.push_back(id);
        }
    }

    fn enqueue_first(&mut self, id: DeviceId) {
        let device = &mut self.devices[id.index()];
        if !device.queued {
            device.queued = true;
            self.queue.push_front(id);
        }
    }

    /// Works until nothing can be tried any more.
    fn run(&mut self) {
        loop {
            while let Some(id) = self.queue.pop_front() {
                self.devices[id.index()].queued = false;
                self.attempt(id);
            }
            if !self.end_cycles() {
                return;
            }
        }
    }

    /// A device's fate is known: whoever waited for it is tried next, ahead of what is
    /// queued already. A chain is then one story, and what there is to know of it is
    /// still in the caches.
    fn settle(&mut self, id: DeviceId) {
        let mut waiters = core::mem::take(&mut self.devices[id.index()].waiters);
        waiters.retain(|&waiter| self.is_woken(waiter, id));
        for waiter in waiters.into_iter().rev() {
            self.enqueue_first(waiter);
        }
    }

    /// Whether a device that waited is to be tried, now that this one is settled. Where
    /// that is a bus, and what was waited for turned out to be on it, it goes on waiting
    /// for the device there.
    fn is_woken(&mut self, waiter: DeviceId, settled: DeviceId) -> bool {
        // It may have been settled otherwise meanwhile: by hand, or with a cycle.
        let State::Waiting(dependency) = self.devices[waiter.index()].state else {
            return false;
        };
        match self.supply(dependency) {
            Supply::Pending(on) if on != settled => {
                self.devices[on.index()].waiters.push(waiter);
                false
            }
            _ => true,
        }
    }

    /// Registers a driver that was held back, and tries its devices.
    pub fn add_driver(&mut self, name: &str) -> Result<(), Fault> {
        self.awake()?;
        let driver = self.drivers.register(name)?;
        let devices: Vec<DeviceId> = self
            .ids()
            .filter(|&id| self.claimable(id) == Some(driver))
            .collect();
        for id in devices {
            self.enqueue(id);
        }
        self.run();
        Ok(())
    }

    /// Takes a driver back: its devices are unbound, what uses them first, and wait
    /// for [`add_driver`](Self::add_driver).
    pub fn remove_driver(&mut self, name: &str) -> Result<(), Fault> {
        self.awake()?;
        let driver = self.drivers.position(name)?;
        self.drivers.hold(name)?;
        for id in self.ids() {
            let device = &mut self.devices[id.index()];
            let its = device
                .matched
                .is_some_and(|matched| matched.driver == driver);
            match device.state {
                State::Bound if its => self.release(id),
                // Nobody is to try it when what it waits for comes, and it is to be
                // tried when the driver is back.
                State::Waiting(_) | State::Failed(_) if its => device.state = State::Unclaimed,
                _ => {}
            }
        }
        Ok(())
    }

    /// Tries everything again that is not bound and that a registered driver is for.
    pub fn rescan(&mut self) -> Result<(), Fault> {
        self.awake()?;
        for id in self.ids() {
            let device = &mut self.devices[id.index()];
            if matches!(device.state, State::Failed(_)) {
                device.state = State::Unclaimed;
            }
        }
        let all: Vec<DeviceId> = self.ids().collect();
        for id in self.by_driver(&all) {
            self.enqueue(id);
        }
        self.run();
        Ok(())
    }

    fn awake(&self) -> Result<(), Fault> {
        match self.suspended {
            true => Err(Fault::invalid("the devices are suspended; `resume` first")),
            false => Ok(()),
        }
    }

    /// Whether the devices are suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Holds a driver back until [`add_driver`](Self::add_driver).
    pub fn hold_driver(&mut self, name: &str) -> Result<(), Fault> {
        self.drivers.hold(name)
    }

    /// Leaves a driver out of this boot, as if the image did not have it.
    pub fn skip_driver(&mut self, name: &str) -> Result<(), Fault> {
        self.drivers.skip(name)
    }

    /// Tries a device that is not bound.
    pub fn bind(&mut self, name: &str) -> Result<(), Fault> {
        self.awake()?;
        let id = self.require(name)?;
        let device = &self.devices[id.index()];
        match &device.state {
            State::Bound => return Err(Fault::invalid("it is bound already")),
            State::Disabled => return Err(Fault::invalid("the tree disables it")),
            State::Gone => return Err(Fault::invalid("its bus is not bound")),
            _ => {}
        }
        match device.matched {
            Some(matched) if self.drivers.is_registered(matched.driver) => {}
            Some(_) => return Err(Fault::invalid("its driver is not registered")),
            None => return Err(Fault::invalid("no driver in this image is for it")),
        }
        self.enqueue(id);
        self.run();
        match &self.devices[id.index()].state {
            State::Bound => Ok(()),
            State::Failed(fault) => Err(fault.clone()),
            _ => {
                let causes = self.causes(id);
                Err(Fault::invalid(story::one_line(&causes)))
            }
        }
    }

    /// Takes a device from its driver, after everything that depends on it.
    pub fn unbind(&mut self, name: &str) -> Result<(), Fault> {
        self.awake()?;
        let id = self.require(name)?;
        if !matches!(self.devices[id.index()].state, State::Bound) {
            return Err(Fault::invalid("it is not bound"));
        }
        self.release(id);
        Ok(())
    }

    /// Every device that exists now, in the order of discovery.
    pub fn devices(&self) -> impl Iterator<Item = &Device<P>> {
        self.devices
            .iter()
            .filter(|device| !matches!(device.state, State::Gone))
    }

    /// The device of this name.
    pub fn device(&self, name: &str) -> Option<&Device<P>> {
        self.find(name).map(|id| &self.devices[id.index()])
    }

    /// The device that a node describes, which a bus may have found under another name.
    pub fn device_at(&self, node: NodeId) -> Option<&Device<P>> {
        self.device_of(node).map(|id| &self.devices[id.index()])
    }

    /// A device by its name or by the end of it, if that is unambiguous: `00:01.0`.
    fn find(&self, name: &str) -> Option<DeviceId> {
        if let Some(id) = self.find_exact(name) {
            return Some(id);
        }
        let mut ending = self.ids().filter(|id| {
            let device = &self.devices[id.index()];
            !matches!(device.state, State::Gone) && device.is_called(name)
        });
        let id = ending.next()?;
        ending.next().is_none().then_some(id)
    }

    /// The device of this very name.
    fn find_exact(&self, name: &str) -> Option<DeviceId> {
        let in_tree = || {
            let node = self.context.tree.find(name)?;
            let id = *self.by_node.get(node.id())?;
            (*self.devices[id.index()].name == *name).then_some(id)
        };
        self.by_name.get(name).copied().or_else(in_tree)
    }

    fn require(&self, name: &str) -> Result<DeviceId, Fault> {
        self.find(name).ok_or_else(|| {
            let mut what = String::from("no device ");
            what.push_str(name);
            what.push_str("; `devices` lists them");
            Fault::invalid(what)
        })
    }

    /// The drivers of this image.
    pub fn drivers(&self) -> Vec<DriverInfo> {
        self.drivers.list()
    }

    /// The name of the driver that is for a device.
    pub fn driver_of(&self, device: &Device<P>) -> Option<&'static str> {
        device
            .matched
            .map(|matched| self.drivers.get(matched.driver).name())
    }

    /// What all attempts share: tree, services, streams, faults.
    pub fn context(&self) -> &Arc<Context<P>> {
        &self.context
    }

    fn ids(&self) -> impl Iterator<Item = DeviceId> + use<P> {
        (0..self.devices.len() as u32).map(DeviceId)
    }
}

impl<P: Platform> Drop for Engine<P> {
    fn drop(&mut self) {
        // Consumers before suppliers, as at any unbind.
        for id in self.ids().collect::<Vec<_>>() {
            if matches!(self.devices[id.index()].state, State::Bound) {
                self.release(id);
            }
        }
    }
}

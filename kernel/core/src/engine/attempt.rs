//! One attempt to bind a device, and its opposite. What an attempt sets up lives
//! in values on this file's stack until it is committed to the device's record;
//! on any failure they are dropped, in reverse.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::DmaWindows;

use super::device::{DeviceId, Matched, State, Waited};
use super::suppliers::{Resolved, Route, Supply, keys};
use super::{Engine, story};
use crate::console::Console;
use crate::dma::{Dma, Hole, Lease, Path};
use crate::driver::{Bound, DmaMode};
use crate::error::{Absence, Dependency, Fault, ProbeError};
use crate::iommu::{Group, Joining};
use crate::platform::Platform;
use crate::probe::{Probe, Staged};

/// What a successful attempt leaves.
struct Success<P: Platform> {
    bound: Box<dyn Bound>,
    lease: Option<Lease<P>>,
    staged: Staged,
}

impl<P: Platform> Engine<P> {
    /// Tries a device once, and settles or parks it.
    pub(super) fn attempt(&mut self, id: DeviceId) {
        let Some(matched) = self.devices[id.index()].matched else {
            return;
        };
        if matches!(self.devices[id.index()].state, State::Bound | State::Gone) {
            return;
        }
        self.devices[id.index()].attempts += 1;
        match self.devices_streams(id) {
            Ok(()) => {}
            Err(fault) => return self.fail(id, fault),
        }
        match self.resolve(id) {
            Resolved::Fail(fault) => self.fail(id, fault),
            Resolved::Wait(on, waited) => self.wait(id, on, waited),
            Resolved::Ready {
                route,
                uses,
                decision,
            } => {
                if let Some(decision) = &decision {
                    log::warn!("policy: {}: {decision}", self.devices[id.index()].name);
                }
                self.devices[id.index()].decision = decision;
                match self.probe(id, matched, route) {
                    Ok(success) => self.commit(id, success, uses),
                    Err(ProbeError::Fail(fault)) => self.fail(id, fault),
                    Err(ProbeError::Defer(dependency)) => self.deferred(id, dependency),
                }
            }
        }
    }

    fn devices_streams(&mut self, id: DeviceId) -> Result<(), Fault> {
        let device = &self.devices[id.index()];
        let streams = self.streams_of(device)?;
        self.context
            .streams
            .note(&keys(&streams), &device.name, None);
        self.devices[id.index()].streams = streams;
        Ok(())
    }

    /// The driver asked for something that is not there. It may have come while
    /// the driver was on its way back, so the supplier is looked at afresh.
    fn deferred(&mut self, id: DeviceId, dependency: Dependency) {
        match self.supply(dependency) {
            Supply::Ready => self.enqueue(id),
            Supply::Pending(on) => {
                let property = "asked for by its driver";
                self.wait(
                    id,
                    on,
                    Waited {
                        dependency,
                        property,
                    },
                );
            }
            Supply::Never(why) => {
                let supplier = self.context.path(dependency.node);
                let class = dependency.class;
                self.fail(
                    id,
                    Fault::Supplier {
                        supplier,
                        class,
                        why,
                    },
                );
            }
        }
    }

    fn wait(&mut self, id: DeviceId, on: DeviceId, waited: Waited) {
        if on == id {
            let supplier = self.context.path(waited.dependency.node);
            let class = waited.dependency.class;
            let why = Absence::Cycle;
            return self.fail(
                id,
                Fault::Supplier {
                    supplier,
                    class,
                    why,
                },
            );
        }
        let device = &mut self.devices[id.index()];
        log::info!(
            "{}: waits for {} {} ({})",
            device.name,
            waited.dependency.class,
            self.context.tree.node(waited.dependency.node).path(),
            waited.property
        );
        device.state = State::Waiting(waited.dependency);
        if !device.waited.contains(&waited) {
            device.waited.push(waited);
        }
        self.waiters.entry(on).or_default().push(id);
    }

    fn fail(&mut self, id: DeviceId, fault: Fault) {
        let device = &mut self.devices[id.index()];
        log::warn!("{}: {fault}", device.name);
        device.state = State::Failed(fault);
        self.settle(id);
    }

    fn probe(
        &mut self,
        id: DeviceId,
        matched: Matched,
        route: Route,
    ) -> Result<Success<P>, ProbeError> {
        let driver = self.drivers.get(matched.driver);
        let context = self.context.clone();
        let (lease, dma) = match matched.dma {
            DmaMode::None => (None, None),
            DmaMode::Core => {
                let (lease, dma) = self.configure_dma(id, route)?;
                (Some(lease), Some(dma))
            }
        };
        self.devices[id.index()].probes += 1;
        let device = &self.devices[id.index()];
        context
            .streams
            .note(&keys(&device.streams), &device.name, Some(driver.name()));
        let mut probe = Probe {
            context: &context,
            name: &device.name,
            node: device.node,
            child: device.child.as_ref(),
            bus: self.bus_node(device),
            lease: lease.as_ref(),
            dma,
            staged: Staged::default(),
        };
        context
            .platform
            .at_work(Some((&device.name, driver.name())));
        let result = driver.probe(&mut probe);
        context.platform.at_work(None);
        let staged = probe.staged;
        match result {
            Ok(bound) => Ok(Success {
                bound,
                lease,
                staged,
            }),
            Err(error) => {
                // What was staged goes before the DMA that it may hold on to.
                drop(staged);
                context
                    .streams
                    .note(&keys(&device.streams), &device.name, None);
                Err(error)
            }
        }
    }

    /// Sets up the device's DMA from the tree, as if it were the first time.
    fn configure_dma(&self, id: DeviceId, route: Route) -> Result<(Lease<P>, Dma<P>), Fault> {
        let device = &self.devices[id.index()];
        let tree = &self.context.tree;
        let bus = self.bus_node(device).map(|node| tree.node(node));
        let node = device.node.map(|node| tree.node(node));
        let windows: DmaWindows = match (bus, node) {
            (Some(bus), _) => bus.child_dma_ranges()?,
            (None, Some(node)) => node.dma_ranges()?,
            (None, None) => return Err(Fault::invalid("a device without node or bus")),
        };
        let coherent = node.or(bus).is_some_and(|node| node.dma_coherent());
        let function = device.child.as_ref().map(|child| child.function.clone());
        let holes: Vec<Hole> = function
            .iter()
            .flat_map(|function| function.apertures())
            .map(|(first, last)| Hole { first, last })
            .collect();
        let path = match route {
            Route::Direct => Path::Direct(windows),
            Route::Behind(behind) => {
                let joining = Joining {
                    device: &device.name,
                    behind: &behind,
                    identity: self.context.policy.passthrough,
                    holes: &holes,
                };
                let group = Group::join(&self.context.streams, &joining)?;
                if group.is_identity() {
                    Path::Identity(group, windows)
                } else {
                    Path::Translated(group, windows)
                }
            }
        };
        let platform = &self.context.platform;
        Ok(Lease::grant(
            platform,
            &device.name,
            path,
            coherent,
            function,
        ))
    }

    fn commit(&mut self, id: DeviceId, success: Success<P>, uses: Vec<Dependency>) {
        let Success {
            bound,
            lease,
            staged,
        } = success;
        let Staged { services, children } = staged;
        let order = self.bound_so_far;
        self.bound_so_far += 1;
        self.announce_console(id, bound.console());
        let device = &mut self.devices[id.index()];
        device.bound = Some(bound);
        device.lease = lease;
        device.uses = uses;
        device.order = Some(order);
        device.state = State::Bound;
        let driver = device
            .matched
            .map_or("", |matched| self.drivers.get(matched.driver).name());
        log::info!(
            "{}: bound by {driver}{}",
            device.name,
            story::dma_words(&device.dma())
        );
        for (node, service) in services {
            let class = service.class();
            let dependency = Dependency { node, class };
            device.published.push(dependency);
            self.context.registry.insert(dependency, service);
        }
        let bus_name = device.name.clone();
        self.settle(id);
        let found: Vec<DeviceId> = children
            .into_iter()
            .map(|child| {
                let name = format!("{bus_name}/{}", child.name).into_boxed_str();
                let child_id = self.add(name, |device| {
                    device.node = child.node;
                    device.bus = Some(id);
                    device.child = Some(child);
                });
                if let Some(node) = self.devices[child_id.index()].node {
                    self.by_node.insert(node, child_id);
                }
                child_id
            })
            .collect();
        self.note_streams_of(&found);
        // Children come next, before what was queued already: a bus and what is on
        // it are one story.
        let mut first: Vec<(usize, DeviceId)> = found
            .into_iter()
            .filter_map(|id| Some((self.claimable(id)?, id)))
            .collect();
        first.sort_unstable();
        for &(_, id) in first.iter().rev() {
            let device = &mut self.devices[id.index()];
            if !device.queued {
                device.queued = true;
                self.queue.push_front(id);
            }
        }
    }

    /// Tells the hook of the console that the tree chose that it came or goes.
    fn announce_console(&self, id: DeviceId, console: Option<Arc<dyn Console>>) {
        if let Some((node, hook)) = self.console
            && self.devices[id.index()].node == Some(node)
        {
            hook(console);
        }
    }

    /// Unbinds a device, everything that uses it first.
    pub(super) fn release(&mut self, id: DeviceId) {
        let consumers: Vec<(DeviceId, Option<Dependency>)> = self
            .ids()
            .filter_map(|other| self.depends(other, id).map(|how| (other, how)))
            .collect();
        for (consumer, dependency) in consumers {
            if !matches!(self.devices[consumer.index()].state, State::Bound) {
                continue;
            }
            self.release(consumer);
            if let Some(dependency) = dependency {
                self.devices[consumer.index()].state = State::Waiting(dependency);
                self.waiters.entry(id).or_default().push(consumer);
            }
        }
        self.take_down(id);
        let gone: Vec<DeviceId> = self
            .ids()
            .filter(|&child| self.devices[child.index()].bus == Some(id))
            .collect();
        for child in gone {
            let device = &mut self.devices[child.index()];
            self.context
                .streams
                .forget(&keys(&device.streams), &device.name);
            device.state = State::Gone;
            device.child = None;
            if let Some(node) = device.node {
                self.by_node.remove(&node);
            }
        }
    }

    /// How a bound device depends on another: by a service of it, or (`None`
    /// inside) by being on it.
    fn depends(&self, other: DeviceId, on: DeviceId) -> Option<Option<Dependency>> {
        let device = &self.devices[other.index()];
        if !matches!(device.state, State::Bound) || other == on {
            return None;
        }
        if device.bus == Some(on) {
            return Some(None);
        }
        let published = &self.devices[on.index()].published;
        let used = device.uses.iter().find(|used| published.contains(used));
        used.map(|dependency| Some(*dependency))
    }

    /// Ends a binding: the device is stopped, then cut off on its bus, then its
    /// driver's state goes (buffers are unmapped, synced and freed while the
    /// mapping machinery stands), then its streams are aborted.
    fn take_down(&mut self, id: DeviceId) {
        self.announce_console(id, None);
        let device = &mut self.devices[id.index()];
        let bound = device.bound.take();
        let lease = device.lease.take();
        let platform = &self.context.platform;
        let driver = device
            .matched
            .map(|matched| self.drivers.get(matched.driver));
        platform.at_work(driver.map(|driver| (&*device.name, driver.name())));
        if let Some(bound) = &bound {
            bound.quiesce();
        }
        if let Some(lease) = &lease {
            lease.stop();
        }
        for dependency in core::mem::take(&mut device.published) {
            self.context.registry.remove(dependency);
        }
        drop(bound);
        drop(lease);
        platform.at_work(None);
        device.uses.clear();
        device.order = None;
        device.state = State::Unclaimed;
        self.context
            .streams
            .note(&keys(&device.streams), &device.name, None);
        log::info!("{}: unbound", device.name);
    }
}

//! One attempt to bind a device. What it sets up lives in values on this file's
//! stack until it is committed to the device's record; on any failure they are
//! dropped, in reverse.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use mastiff_dt::{DmaWindows, NodeId};

use super::device::{Binding, DeviceId, Grant, ManagedGrant, Matched, Setup, State, Waited};
use super::streams::keys;
use super::suppliers::{Needs, Resolved, Route, Supply};
use super::{Engine, story};
use crate::addr::{Iova, PAGE, PhysAddr};
use crate::bus::Child;
use crate::dma::{Dma, Hole, Lease, Path};
use crate::driver::{Bound, DmaMode};
use crate::error::{Absence, Dependency, Fault, ProbeError};
use crate::iommu::{Behind, Group, Identity, Joining, Managed, ManagedInner};
use crate::platform::Platform;
use crate::probe::{Probe, Service, Staged};
use crate::supply::On;

/// What a successful attempt leaves.
struct Success<P: Platform> {
    bound: Box<dyn Bound>,
    setup: Setup<P>,
    staged: Staged,
}

/// The halves of the device's DMA that the driver gets.
enum Handed<P: Platform> {
    None,
    Dma(Dma<P>),
    Managed(Managed<P>),
}

impl<P: Platform> Engine<P> {
    /// Tries a device once, and settles or parks it.
    pub(super) fn attempt(&mut self, id: DeviceId) {
        let device = &mut self.devices[id.index()];
        let Some(matched) = device.matched else {
            return;
        };
        if matches!(device.state, State::Bound | State::Gone | State::Disabled) {
            return;
        }
        device.attempts += 1;
        let streams = match self.streams_of(&self.devices[id.index()]) {
            Ok(streams) => streams,
            Err(fault) => return self.fail(id, fault),
        };
        let device = &mut self.devices[id.index()];
        self.context
            .streams
            .note(&keys(&streams), &device.name, None);
        device.streams = streams;
        match self.resolve(id) {
            Resolved::Fail(fault) => self.fail(id, fault),
            Resolved::Wait(on, waited) => self.wait(id, on, waited),
            Resolved::Ready(needs) => {
                let device = &mut self.devices[id.index()];
                for decision in &needs.decisions {
                    if !device.decisions.contains(decision) {
                        log::warn!("policy: {}: {decision}", device.name);
                    }
                }
                device.decisions.clone_from(&needs.decisions);
                match self.probe(id, matched, &needs) {
                    Ok(success) => self.commit(id, success, needs.uses),
                    Err(ProbeError::Fail(fault)) => self.fail(id, fault),
                    Err(ProbeError::Defer(dependency)) => self.deferred(id, dependency),
                }
            }
        }
    }

    /// The driver asked for something that is not there. It may have come while
    /// the driver was on its way back, so the supplier is looked at afresh.
    fn deferred(&mut self, id: DeviceId, dependency: Dependency) {
        match self.supply(dependency) {
            Supply::Ready => self.enqueue(id),
            Supply::Pending(on) => {
                let property = "asked for by its driver".into();
                let waited = Waited {
                    dependency,
                    property,
                };
                self.wait(id, on, waited);
            }
            Supply::Never(why) => {
                let fault = self.absent(dependency, why);
                self.fail(id, fault);
            }
        }
    }

    fn wait(&mut self, id: DeviceId, on: DeviceId, waited: Waited) {
        if on == id {
            let fault = self.absent(waited.dependency, Absence::Cycle);
            return self.fail(id, fault);
        }
        let device = &mut self.devices[id.index()];
        log::info!(
            "{}: waits for {} {} ({})",
            device.name,
            waited.dependency.class,
            self.context.path(waited.dependency.node),
            waited.property
        );
        device.wait_for(waited);
        self.devices[on.index()].waiters.push(id);
    }

    pub(super) fn fail(&mut self, id: DeviceId, fault: Fault) {
        let device = &mut self.devices[id.index()];
        log::warn!("{}: {fault}", device.name);
        device.state = State::Failed(fault);
        self.settle(id);
    }

    fn probe(
        &mut self,
        id: DeviceId,
        matched: Matched,
        needs: &Needs,
    ) -> Result<Success<P>, ProbeError> {
        let driver = self.drivers.get(matched.driver);
        let context = self.context.clone();
        let mut setup = Setup::none();
        self.turn_on(&needs.switches, &mut setup.on)?;
        let handed = self.configure_dma(id, matched.dma, &needs.route, &mut setup)?;
        let (dma, managed) = match handed {
            Handed::None => (None, None),
            Handed::Dma(dma) => (Some(dma), None),
            Handed::Managed(managed) => (None, Some(managed)),
        };
        self.devices[id.index()].probes += 1;
        let device = &self.devices[id.index()];
        let streams = keys(&device.streams);
        context
            .streams
            .note(&streams, &device.name, Some(driver.name()));
        let Setup { grant, claims, on } = &mut setup;
        let mut probe = Probe {
            context: &context,
            name: &device.name,
            node: device.node,
            child: device.child.as_deref(),
            bus: self.bus_node(device),
            lease: match grant {
                Grant::Core(lease) => Some(lease),
                _ => None,
            },
            dma,
            managed,
            held: on,
            claims,
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
                setup,
                staged,
            }),
            Err(error) => {
                // What was staged goes before the DMA that it may hold on to.
                drop(staged);
                context.streams.note(&streams, &device.name, None);
                Err(error)
            }
        }
    }

    /// Turns on what a device needs, in order.
    pub(super) fn turn_on(
        &self,
        switches: &[(Dependency, Vec<u32>)],
        on: &mut Vec<On>,
    ) -> Result<(), Fault> {
        for (dependency, cells) in switches {
            match self.context.find(*dependency) {
                Some(Service::Switches(_, provider)) => on.push(provider.switch(cells)?.hold()?),
                // It is there and there is nothing to turn on.
                Some(_) => {}
                None => return Err(self.absent(*dependency, Absence::NotASupplier)),
            }
        }
        Ok(())
    }

    /// Sets up the device's DMA from the tree, as if it were the first time.
    fn configure_dma(
        &self,
        id: DeviceId,
        mode: DmaMode,
        route: &Route,
        setup: &mut Setup<P>,
    ) -> Result<Handed<P>, Fault> {
        let device = &self.devices[id.index()];
        let platform = &self.context.platform;
        let function = device.child.as_ref().map(|child| child.function.clone());
        match (mode, route) {
            (DmaMode::None, _) => Ok(Handed::None),
            (DmaMode::Managed, Route::Direct) => Err(Fault::invalid(
                "its driver manages an IOMMU by itself, and it is behind none",
            )),
            (DmaMode::Managed, Route::Behind(behind)) => {
                check_streams(behind)?;
                let streams = &self.context.streams;
                let isolation = device.isolation();
                let reservation =
                    streams.reserve(&keys(&device.streams), isolation, &device.name)?;
                // The IOMMU binding: how many address spaces the device tells apart.
                let bits = match device.node {
                    Some(node) => self.context.tree.node(node).cell("pasid-num-bits")?,
                    None => None,
                };
                let inner = ManagedInner::new(
                    platform,
                    &device.name,
                    behind.clone(),
                    function,
                    bits.unwrap_or(0),
                );
                setup.grant = Grant::Managed(ManagedGrant {
                    inner: inner.clone(),
                    _reservation: reservation,
                });
                Ok(Handed::Managed(Managed { inner }))
            }
            (DmaMode::Core, route) => {
                let windows = self.windows(id)?;
                let path = match route {
                    Route::Direct => Path::Direct(windows),
                    Route::Behind(behind) => self.join(id, behind, windows)?,
                };
                let coherent = self.is_coherent(id);
                let (lease, dma) = Lease::grant(platform, &device.name, path, coherent, function);
                setup.grant = Grant::Core(lease);
                Ok(Handed::Dma(dma))
            }
        }
    }

    /// What the buses between the device and memory let through.
    fn windows(&self, id: DeviceId) -> Result<DmaWindows, Fault> {
        let device = &self.devices[id.index()];
        let tree = &self.context.tree;
        match (&device.child, self.bus_node(device), device.node) {
            (Some(_), Some(bus), _) => Ok(tree.node(bus).child_dma_ranges()?),
            (_, _, Some(node)) => Ok(tree.node(node).dma_ranges()?),
            _ => Err(Fault::invalid("a device without node or bus")),
        }
    }

    fn is_coherent(&self, id: DeviceId) -> bool {
        let device = &self.devices[id.index()];
        let node = device.node.or(self.bus_node(device));
        node.is_some_and(|node| self.context.tree.node(node).dma_coherent())
    }

    /// Makes the device a member of its group.
    fn join(&self, id: DeviceId, behind: &[Behind], windows: DmaWindows) -> Result<Path, Fault> {
        let device = &self.devices[id.index()];
        let child = device.child.as_deref();
        let mut holes: Vec<Hole> = child
            .into_iter()
            .flat_map(|child| child.function.apertures())
            .map(|(first, last)| Hole { first, last })
            .collect();
        let pages = behind.iter().map(|behind| behind.iommu.limits().page);
        let kept = self.kept(id, pages.max().unwrap_or(PAGE), &mut holes)?;
        let joining = Joining {
            device: &device.name,
            behind,
            identity: self.context.policy.passthrough,
            cpus: self.context.platform.cpus(),
            lazy: self.context.lazy(),
            holes: &holes,
            kept: &kept,
            isolation: device.isolation(),
        };
        let group = Group::join(&self.context.streams, &joining)?;
        Ok(if group.is_identity() {
            Path::Identity(group, windows)
        } else {
            Path::Translated(group, windows)
        })
    }

    /// What firmware mapped for the device and it uses already; its addresses are
    /// holes to everybody else.
    fn kept(&self, id: DeviceId, page: u64, holes: &mut Vec<Hole>) -> Result<Vec<Identity>, Fault> {
        let Some(node) = self.devices[id.index()].node else {
            return Ok(Vec::new());
        };
        let tree = &self.context.tree;
        let mut kept = Vec::new();
        for mapping in tree.iommu_mappings(tree.node(node))? {
            let last = mapping.iova + (mapping.size - 1);
            let first = mapping.iova & !(page - 1);
            holes.push(Hole { first, last });
            if let Some(cpu) = mapping.cpu {
                if (mapping.iova ^ cpu) & (page - 1) != 0 {
                    return Err(Fault::BadRange {
                        iova: Iova(mapping.iova),
                        len: mapping.size,
                        why: "firmware's mapping cannot be made of whole pages of the IOMMU",
                    });
                }
                kept.push(Identity {
                    iova: Iova(first),
                    pa: PhysAddr(cpu & !(page - 1)),
                    len: (last | (page - 1)) - first + 1,
                });
            }
        }
        Ok(kept)
    }

    fn commit(&mut self, id: DeviceId, success: Success<P>, uses: Vec<(DeviceId, Dependency)>) {
        let Success {
            bound,
            setup,
            staged,
        } = success;
        let Staged {
            services,
            children,
            nodes,
        } = staged;
        let order = self.bound_so_far;
        self.bound_so_far += 1;
        for (supplier, _) in &uses {
            self.devices[supplier.index()].users.insert(id);
        }
        self.announce_console(id, bound.console());
        let device = &mut self.devices[id.index()];
        let dependency = |(node, service): &(NodeId, Service)| Dependency {
            node: *node,
            class: service.class(),
        };
        device.binding = Some(Box::new(Binding {
            state: bound,
            setup,
            published: services.iter().map(dependency).collect(),
            uses,
            order,
            children: Vec::new(),
            has_nodes: nodes,
        }));
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
            self.context.registry.insert(dependency, service);
        }
        let found = self.populate(id, children, nodes);
        self.settle(id);
        // What is on it comes next, before what was queued already: a bus and its
        // devices are one story.
        self.queue_first(&found);
    }

    /// Adds the devices that are on a bus: those that it found, and those that the
    /// tree has below it.
    fn populate(&mut self, id: DeviceId, children: Vec<Child>, nodes: bool) -> Vec<DeviceId> {
        let mut found = Vec::new();
        for child in children {
            let name = format!("{}/{}", self.devices[id.index()].name, child.name);
            let child_id = match self.by_name.get(&*name) {
                Some(&known) => known,
                None => {
                    let new = self.add(name.clone().into_boxed_str());
                    self.by_name.insert(name.into_boxed_str(), new);
                    new
                }
            };
            if let Some(node) = child.node {
                *self.by_node.place(node) = Some(child_id);
            }
            let device = &mut self.devices[child_id.index()];
            device.node = child.node;
            device.bus = Some(id);
            device.child = Some(Box::new(child));
            self.describe(child_id);
            found.push(child_id);
        }
        if let (true, Some(node)) = (nodes, self.devices[id.index()].node) {
            let context = self.context.clone();
            self.discover(context.tree.node(node), Some(id), &mut found);
        }
        self.put_on(id, &found);
        found
    }

    /// These devices are on this bus, and go with it.
    pub(super) fn put_on(&mut self, bus: DeviceId, found: &[DeviceId]) {
        let bus = &mut self.devices[bus.index()];
        bus.users.extend(found);
        if let Some(binding) = &mut bus.binding {
            binding.children.extend(found);
        }
    }
}

/// The streams of a device whose driver attaches them later must exist now.
fn check_streams(behind: &[Behind]) -> Result<(), Fault> {
    for behind in behind {
        let streams = behind.iommu.limits().streams;
        let beyond = behind
            .streams
            .iter()
            .find(|stream| u64::from(stream.0) >= streams);
        if let Some(&stream) = beyond {
            return Err(Fault::StreamOutOfRange { stream, streams });
        }
    }
    Ok(())
}

//! What all attempts share: the machine, the tree, the services that bound devices
//! published, who owns which stream, and what masters did wrong.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_dt::{DmaWindow, DmaWindows, NodeId, Tree};
use spin::Mutex;

use super::table::ByNode;
use crate::chores::Chores;
use crate::claims::Claims;
use crate::dma::{Dma, Path};
use crate::error::{Dependency, Fault, ProbeError};
use crate::iommu::{Behind, FaultLog, Group, Iommu, Joining, Streams};
use crate::platform::Platform;
use crate::policy::Policy;
use crate::probe::Service;

/// What all attempts share.
pub struct Context<P: Platform> {
    /// The machine.
    pub platform: P,
    /// The device tree.
    pub tree: Tree,
    /// The rules of this boot.
    pub policy: Policy,
    /// Who owns which stream.
    pub streams: Arc<Streams>,
    /// What masters did wrong.
    pub faults: Arc<FaultLog>,
    /// Who has which registers.
    pub claims: Arc<Claims>,
    pub(crate) registry: Arc<Registry>,
}

impl<P: Platform> Context<P> {
    pub(crate) fn new(platform: P, tree: Tree, policy: Policy) -> Self {
        let streams = Arc::new(Streams::default());
        Self {
            platform,
            tree,
            policy,
            faults: Arc::new(FaultLog::new(streams.clone())),
            streams,
            claims: Arc::default(),
            registry: Arc::default(),
        }
    }

    /// The same with another tree, in which the nodes of this one have their numbers.
    pub(crate) fn with_tree(&self, tree: Tree) -> Self {
        Self {
            platform: self.platform.clone(),
            tree,
            policy: self.policy,
            streams: self.streams.clone(),
            faults: self.faults.clone(),
            claims: self.claims.clone(),
            registry: self.registry.clone(),
        }
    }

    /// A service is not there: the engine decides whether that is for now.
    pub(crate) fn missing(&self, dependency: Dependency) -> ProbeError {
        ProbeError::Defer(dependency)
    }

    /// The IOMMU at a node, if it is bound.
    pub fn iommu(&self, node: NodeId) -> Option<Arc<dyn Iommu>> {
        let class = mastiff_dt::SupplierClass::Iommu;
        match self.registry.get(Dependency { node, class }) {
            Some(Service::Iommu(iommu)) => Some(iommu),
            _ => None,
        }
    }

    /// The capability to do DMA as nobody: addresses and tables like any group's at
    /// the IOMMU of this node, which no stream goes through. What mappings cost is
    /// measured with it.
    pub fn rehearsal(&self, node: NodeId) -> Result<Dma<P>, Fault> {
        let iommu = self.iommu(node).ok_or(Fault::Revoked)?;
        let behind = Behind {
            node,
            iommu,
            streams: Vec::new(),
        };
        let joining = Joining {
            device: "nobody",
            behind: &[behind],
            identity: self.policy.passthrough,
            cpus: self.platform.cpus(),
            lazy: self.lazy(),
            holes: &[],
            kept: &[],
            isolation: None,
        };
        let group = Group::join(&self.streams, &joining)?;
        let windows = DmaWindows(vec![DmaWindow::EVERYTHING]);
        let path = if group.is_identity() {
            Path::Identity(group, windows)
        } else {
            Path::Translated(group, windows)
        };
        Ok(Dma::of_nobody(&self.platform, path))
    }

    /// Where unmapping is put off, if it may be.
    pub(crate) fn lazy(&self) -> Option<&Chores> {
        let chores = self.platform.irqs().chores();
        self.policy.lazy.then_some(chores)
    }

    /// Every bound IOMMU.
    pub fn iommus(&self) -> Vec<(NodeId, Arc<dyn Iommu>)> {
        let services = self.services().into_iter();
        services
            .filter_map(|(dependency, service)| match service {
                Service::Iommu(iommu) => Some((dependency.node, iommu)),
                _ => None,
            })
            .collect()
    }

    /// The service that a node supplies, if it is there. A node may stand for a part
    /// of the device that supplies it (a regulator of a power controller, a group of
    /// pins), so those above it are asked too.
    pub fn find(&self, dependency: Dependency) -> Option<Service> {
        self.look(dependency, Service::clone)
    }

    /// Whether it is there.
    pub(crate) fn has(&self, dependency: Dependency) -> bool {
        self.look(dependency, |_| ()).is_some()
    }

    fn look<T>(&self, dependency: Dependency, take: impl Fn(&Service) -> T) -> Option<T> {
        let class = dependency.class;
        let services = self.registry.services.lock();
        let node = self.tree.node(dependency.node);
        node.ancestors().find_map(|node| {
            let node = node.id();
            services.get(Dependency { node, class }).map(&take)
        })
    }

    /// Every committed service.
    pub fn services(&self) -> Vec<(Dependency, Service)> {
        let services = self.registry.services.lock();
        services.0.iter().flatten().cloned().collect()
    }
}

/// The committed services.
#[derive(Default)]
pub(crate) struct Registry {
    services: Mutex<Services>,
}

/// By node, what it supplies: few things, and one of each class.
#[derive(Default)]
struct Services(ByNode<Vec<(Dependency, Service)>>);

impl Services {
    fn get(&self, dependency: Dependency) -> Option<&Service> {
        let of_node = self.0.get(dependency.node)?;
        let mut same = of_node.iter().filter(|(known, _)| *known == dependency);
        same.next().map(|(_, service)| service)
    }

    fn take(&mut self, dependency: Dependency) -> Option<Service> {
        let of_node = self.0.place(dependency.node).as_mut()?;
        let at = of_node.iter().position(|(known, _)| *known == dependency)?;
        Some(of_node.remove(at).1)
    }
}

impl Registry {
    pub fn get(&self, dependency: Dependency) -> Option<Service> {
        self.services.lock().get(dependency).cloned()
    }

    pub fn insert(&self, dependency: Dependency, service: Service) {
        let mut services = self.services.lock();
        let before = services.take(dependency);
        let of_node = services.0.place(dependency.node);
        let of_node = of_node.get_or_insert_default();
        let at = of_node.partition_point(|(known, _)| *known < dependency);
        of_node.reserve_exact(1); // most supply one thing
        of_node.insert(at, (dependency, service));
        drop(services);
        drop(before);
    }

    pub fn remove(&self, dependency: Dependency) {
        let service = self.services.lock().take(dependency);
        // Dropped without the lock: it may own a lot.
        drop(service);
    }
}

//! Whom a device needs, and whether they will come. Resolved by the core before
//! the driver is called, from the tree and the bus alone.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_dt::{IdMap, NodeId, Status, SupplierClass};

use super::device::{Device, DeviceId, Matched, State, Waited};
use super::{Context, Engine};
use crate::driver::DmaMode;
use crate::error::{Absence, Dependency, Fault};
use crate::iommu::Behind;
use crate::platform::Platform;
use crate::policy::MissingIommu;

/// What a device does without a supplier.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Need {
    /// Waits while it may come; policy decides what becomes of a master when it
    /// won't.
    ByPolicy,
    /// Waits while it may come, fails when it won't.
    Mandatory,
    /// Waits while it may come, goes on without it when it won't: the driver asks
    /// for it and knows whether it can do without.
    Optional,
}

/// The classes of suppliers, in one table, after their bindings: a device without its
/// clock or power does nothing; without its interrupt it can be polled, without a DMA
/// engine it can be fed by the CPU, pins and cells are usually as firmware left them.
/// A driver may say of more that its devices can do without.
fn need(class: SupplierClass) -> Need {
    match class {
        SupplierClass::Iommu => Need::ByPolicy,
        SupplierClass::Clock
        | SupplierClass::PowerDomain
        | SupplierClass::Reset
        | SupplierClass::Regulator
        | SupplierClass::Phy
        | SupplierClass::Parent => Need::Mandatory,
        SupplierClass::Interrupt
        | SupplierClass::Msi
        | SupplierClass::Gpio
        | SupplierClass::Dma
        | SupplierClass::Mailbox
        | SupplierClass::Nvmem
        | SupplierClass::Pinctrl => Need::Optional,
    }
}

/// The order in which a device's switches are turned on: power before clocks, and out
/// of reset only with both.
const SWITCHED: [SupplierClass; 4] = [
    SupplierClass::PowerDomain,
    SupplierClass::Regulator,
    SupplierClass::Clock,
    SupplierClass::Reset,
];

/// Whether a supplier is there.
pub(super) enum Supply {
    Ready,
    /// It may still come: settling this device decides.
    Pending(DeviceId),
    Never(Absence),
}

/// How a master's transactions will travel.
pub(super) enum Route {
    /// Untranslated.
    Direct,
    /// Through these.
    Behind(Vec<Behind>),
}

/// Everything that a device needs, when all of it is there.
pub(super) struct Needs {
    pub route: Route,
    pub uses: Vec<(DeviceId, Dependency)>,
    pub decisions: Vec<String>,
    /// What to turn on, in order: who supplies it, and its specifier there.
    pub switches: Vec<(Dependency, Vec<u32>)>,
}

/// What one look at a device's suppliers gives.
pub(super) enum Resolved {
    Ready(Needs),
    Wait(DeviceId, Waited),
    Fail(Fault),
}

/// An edge of the graph.
struct Edge<'t> {
    dependency: Dependency,
    property: &'t str,
    cells: Vec<u32>,
    need: Need,
}

impl<P: Platform> Engine<P> {
    /// The tree node of the bus that a device is on.
    pub(super) fn bus_node(&self, device: &Device<P>) -> Option<NodeId> {
        self.devices[device.bus?.index()].node
    }

    /// Looks at everything that a device needs.
    pub(super) fn resolve(&self, id: DeviceId) -> Resolved {
        match self.look(id) {
            Ok(needs) => Resolved::Ready(needs),
            Err(other) => other,
        }
    }

    /// The same; what ends the look early is the error.
    fn look(&self, id: DeviceId) -> Result<Needs, Resolved> {
        let device = &self.devices[id.index()];
        let mut uses = Vec::new();
        let (route, mut decisions) = self.route(device, &mut uses)?;
        let mut switches = Vec::new();
        let edges = self.edges(device).map_err(Resolved::Fail)?;
        uses.reserve_exact(edges.len());
        for edge in edges {
            let Edge {
                dependency,
                property,
                cells,
                need,
            } = edge;
            if device.broken.contains(&dependency) {
                continue;
            }
            match self.supply(dependency) {
                Supply::Ready => {
                    uses.extend(self.use_of(dependency));
                    if SWITCHED.contains(&dependency.class) {
                        switches.push((dependency, cells));
                    }
                }
                Supply::Pending(on) => {
                    let property = property.into();
                    let waited = Waited {
                        dependency,
                        property,
                    };
                    return Err(Resolved::Wait(on, waited));
                }
                Supply::Never(Absence::NoDriver) if self.is_left_on(dependency.node) => {
                    let supplier = self.context.path(dependency.node);
                    let class = dependency.class;
                    let text = format!("{class} {supplier} was left on by firmware");
                    // A device may have many clocks of one controller.
                    if !decisions.contains(&text) {
                        decisions.push(text);
                    }
                }
                Supply::Never(why) if need == Need::Mandatory => {
                    return Err(Resolved::Fail(self.absent(dependency, why)));
                }
                Supply::Never(_) => {}
            }
        }
        let turn = |class| SWITCHED.iter().position(|&known| known == class);
        switches.sort_by_key(|(dependency, _)| turn(dependency.class));
        Ok(Needs {
            route,
            uses,
            decisions,
            switches,
        })
    }

    /// How the device's transactions will travel, and what policy had to decide.
    fn route(
        &self,
        device: &Device<P>,
        uses: &mut Vec<(DeviceId, Dependency)>,
    ) -> Result<(Route, Vec<String>), Resolved> {
        let mut behind: Vec<Behind> = Vec::new();
        let mut decisions: Vec<String> = Vec::new();
        let mut missing = None;
        for stream in &device.streams {
            if !device.is_master() {
                break;
            }
            if let Some(known) = behind.iter_mut().find(|known| known.node == stream.iommu) {
                known.streams.push(stream.id);
                continue;
            }
            let dependency = Dependency {
                node: stream.iommu,
                class: SupplierClass::Iommu,
            };
            let why = match (self.supply(dependency), self.context.iommu(stream.iommu)) {
                (Supply::Ready, Some(iommu)) => {
                    uses.extend(self.use_of(dependency));
                    behind.push(Behind {
                        node: stream.iommu,
                        iommu,
                        streams: Vec::from([stream.id]),
                    });
                    continue;
                }
                // To say that one is ready does not make one.
                (Supply::Ready, None) => Absence::NotASupplier,
                (Supply::Pending(on), _) => {
                    let waited = Waited {
                        dependency,
                        property: stream.property.into(),
                    };
                    return Err(Resolved::Wait(on, waited));
                }
                (Supply::Never(why), _) => why,
            };
            let reason = self.without_iommu(device, stream.iommu, why);
            let reason = reason.map_err(Resolved::Fail)?;
            // It may have many streams there.
            if !decisions.contains(&reason) {
                decisions.push(reason);
            }
            missing = Some((stream.iommu, why));
        }
        match (behind.is_empty(), missing) {
            (true, _) => Ok((Route::Direct, decisions)),
            (false, None) => {
                let is_core = |matched: Matched| matched.dma == DmaMode::Core;
                if self.context.policy.passthrough && device.matched.is_some_and(is_core) {
                    decisions.push("identity domain by iommu.passthrough=1".into());
                }
                Ok((Route::Behind(behind), decisions))
            }
            (false, Some((iommu, why))) => Err(Resolved::Fail(Fault::HalfBehind {
                iommu: self.context.path(iommu),
                why,
            })),
        }
    }

    /// What becomes of a master whose IOMMU will not come. `Ok` says why it may do
    /// DMA all the same.
    fn without_iommu(
        &self,
        device: &Device<P>,
        iommu: NodeId,
        why: Absence,
    ) -> Result<String, Fault> {
        let policy = self.context.policy.missing_iommu_of(&device.name);
        let path = self.context.path(iommu);
        match (why, policy) {
            (Absence::Disabled, _) => Ok(format!("direct DMA: the tree disables its IOMMU {path}")),
            (_, MissingIommu::Direct) => Ok(format!(
                "direct DMA by iommu.missing=direct: its IOMMU {path} will not come ({why})"
            )),
            (Absence::Failed, MissingIommu::Refuse) => Err(Fault::Supplier {
                supplier: path,
                class: SupplierClass::Iommu,
                why,
            }),
            (_, MissingIommu::Refuse) => Err(Fault::Refused { iommu: path, why }),
        }
    }

    /// The edges other than those to IOMMUs. One that is malformed fails the device
    /// where it is mandatory; else it is no edge, and the driver gets the error when
    /// it asks for the thing.
    fn edges(&self, device: &Device<P>) -> Result<Vec<Edge<'_>>, Fault> {
        let tree = &self.context.tree;
        let mut edges = Vec::new();
        if let (Some(child), Some(bus)) = (&device.child, self.bus_node(device)) {
            let mut push = |node, class, property| {
                edges.push(Edge {
                    dependency: Dependency { node, class },
                    property,
                    cells: Vec::new(),
                    need: need(class),
                });
            };
            if let Ok(Some(spec)) = child.function.interrupt() {
                push(spec.controller, SupplierClass::Interrupt, "interrupt-map");
            }
            for &requester in &child.requesters {
                if let Ok(Some(target)) = tree.node(bus).map_id(IdMap::Msi, requester) {
                    push(target.target, SupplierClass::Msi, "msi-map");
                }
            }
        }
        let Some(node) = device.node.map(|node| tree.node(node)) else {
            return Ok(edges);
        };
        let spared = device.matched.map_or(&[][..], |matched| {
            self.drivers.get(matched.driver).optional()
        });
        for edge in node.suppliers() {
            // The function's own interrupt, if it has a node, was asked for above.
            let wired = edge.class == SupplierClass::Interrupt && device.child.is_some();
            if edge.class == SupplierClass::Iommu || wired {
                continue;
            }
            let need = match need(edge.class) {
                _ if spared.contains(&edge.class) => Need::Optional,
                need => need,
            };
            match edge.target {
                Ok(node) => edges.push(Edge {
                    dependency: Dependency {
                        node,
                        class: edge.class,
                    },
                    property: edge.property,
                    cells: edge.cells,
                    need,
                }),
                Err(error) if need == Need::Mandatory => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(edges)
    }

    /// The property by which a device asks for something.
    pub(super) fn property(&self, device: &Device<P>, dependency: Dependency) -> Box<str> {
        let streams = device.streams.iter();
        let stream = (dependency.class == SupplierClass::Iommu)
            .then(|| {
                streams
                    .clone()
                    .find(|stream| stream.iommu == dependency.node)
            })
            .flatten();
        if let Some(stream) = stream {
            return stream.property.into();
        }
        let edges = self.edges(device).unwrap_or_default().into_iter();
        let mut same = edges.filter(|edge| edge.dependency == dependency);
        same.next().map_or("", |edge| edge.property).into()
    }

    /// Whether a supplier is there, may come, or never will.
    pub(super) fn supply(&self, dependency: Dependency) -> Supply {
        if self.context.has(dependency) {
            return Supply::Ready;
        }
        let node = self.context.tree.node(dependency.node);
        if let Status::Disabled { .. } = node.status() {
            return Supply::Never(Absence::Disabled);
        }
        let Some(id) = self.provider(dependency.node) else {
            return Supply::Never(Absence::NotADevice);
        };
        let device = &self.devices[id.index()];
        match &device.state {
            State::Waiting(_) => Supply::Pending(id),
            State::Bound => Supply::Never(Absence::NotASupplier),
            State::Failed(_) => Supply::Never(Absence::Failed),
            State::Disabled => Supply::Never(Absence::Disabled),
            State::Gone => Supply::Never(Absence::NotADevice),
            State::Unclaimed => match device.matched {
                None => Supply::Never(Absence::NoDriver),
                Some(matched) if self.drivers.is_skipped(matched.driver) => {
                    Supply::Never(Absence::Skipped)
                }
                Some(_) => Supply::Pending(id),
            },
        }
    }

    /// Whether a device could do without what it waits for.
    pub(super) fn can_do_without(&self, id: DeviceId, dependency: Dependency) -> bool {
        let edges = self.edges(&self.devices[id.index()]).unwrap_or_default();
        let mut same = edges
            .iter()
            .filter(|edge| edge.dependency == dependency)
            .peekable();
        same.peek().is_some() && same.all(|edge| edge.need == Need::Optional)
    }

    /// The fault of a device whose supplier will not come.
    pub(super) fn absent(&self, dependency: Dependency, why: Absence) -> Fault {
        Fault::Supplier {
            supplier: self.context.path(dependency.node),
            class: dependency.class,
            why,
        }
    }

    /// The board says that firmware left it on.
    fn is_left_on(&self, node: NodeId) -> bool {
        let node = self.context.tree.node(node);
        let left_on = self.context.policy.left_on;
        node.ancestors()
            .any(|node| left_on.iter().any(|known| node.is_compatible(known)))
    }

    fn use_of(&self, dependency: Dependency) -> Option<(DeviceId, Dependency)> {
        Some((self.provider(dependency.node)?, dependency))
    }

    /// The device that supplies what a node stands for: the node's own, or that of
    /// the nearest node above (the frames of an interrupt controller).
    pub(super) fn provider(&self, node: NodeId) -> Option<DeviceId> {
        let node = self.context.tree.node(node);
        node.ancestors().find_map(|node| self.device_of(node.id()))
    }
}

impl<P: Platform> Context<P> {
    /// The path of a node, for messages.
    pub(super) fn path(&self, node: NodeId) -> Box<str> {
        self.tree.node(node).path().into_boxed_str()
    }
}

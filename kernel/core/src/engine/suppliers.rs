//! Whom a device needs, and whether they will come. Resolved by the core before
//! the driver is called, from the tree and the bus alone.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_dt::{IdMap, NodeId, Status, SupplierClass};

use super::device::{Device, DeviceId, State, Stream, Waited};
use super::{Context, Engine};
use crate::addr::StreamId;
use crate::error::{Absence, Dependency, Fault};
use crate::iommu::Behind;
use crate::platform::Platform;
use crate::policy::MissingIommu;

/// What a device does without a supplier.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Need {
    /// Policy decides what becomes of a master without its IOMMU.
    ByPolicy,
    /// Waits while it may come, goes on without it when it won't: the driver asks
    /// for it and knows whether it can do without.
    Optional,
    /// No driver can ask for it yet, so nothing waits for it.
    Unused,
}

/// The classes of suppliers, in one table.
fn need(class: SupplierClass) -> Need {
    match class {
        SupplierClass::Iommu => Need::ByPolicy,
        SupplierClass::Interrupt | SupplierClass::Msi => Need::Optional,
        _ => Need::Unused,
    }
}

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

/// What one look at a device's suppliers gives.
pub(super) enum Resolved {
    Ready {
        route: Route,
        uses: Vec<Dependency>,
        decision: Option<String>,
    },
    Wait(DeviceId, Waited),
    Fail(Fault),
}

/// An edge that is enforced.
struct Edge {
    dependency: Dependency,
    property: &'static str,
}

impl<P: Platform> Engine<P> {
    /// Where the device's streams are, from its own node or its bus's map; its own
    /// `iommus` wins over the map.
    pub(super) fn streams_of(&self, device: &Device<P>) -> Result<Vec<Stream>, Fault> {
        let tree = &self.context.tree;
        let mut streams = Vec::new();
        let mut push = |iommu, cells: &[u32], property| -> Result<(), Fault> {
            let id = stream_id(cells)?;
            let stream = Stream {
                iommu,
                id,
                property,
            };
            // An alias may give the same stream twice.
            if !streams.contains(&stream) {
                streams.push(stream);
            }
            Ok(())
        };
        let own = device.node.map(|node| tree.node(node));
        if let Some(node) = own
            && node.has("iommus")
        {
            for reference in node.iommus()? {
                push(reference.iommu, &reference.cells, "iommus")?;
            }
            return Ok(streams);
        }
        if let (Some(child), Some(bus)) = (&device.child, self.bus_node(device)) {
            for &requester in &child.requesters {
                if let Some(target) = tree.node(bus).map_id(IdMap::Iommu, requester)? {
                    push(target.target, &target.cells, "iommu-map")?;
                }
            }
        }
        Ok(streams)
    }

    /// The tree node of the bus that a device is on.
    pub(super) fn bus_node(&self, device: &Device<P>) -> Option<NodeId> {
        self.devices[device.bus?.index()].node
    }

    /// Tells the fault log who is behind every stream that can be told now, bound
    /// or not: a master that nobody drives can still be hostile.
    pub(super) fn note_streams_of(&mut self, ids: &[DeviceId]) {
        for &id in ids {
            let device = &self.devices[id.index()];
            if matches!(device.state, State::Gone | State::Disabled) {
                continue;
            }
            let Ok(streams) = self.streams_of(device) else {
                continue; // said when, and if, the device is tried
            };
            self.context
                .streams
                .note(&keys(&streams), &device.name, None);
            self.devices[id.index()].streams = streams;
        }
    }

    /// Looks at everything that a device needs.
    pub(super) fn resolve(&self, id: DeviceId) -> Resolved {
        let device = &self.devices[id.index()];
        let master = device.is_master();
        let mut behind: Vec<Behind> = Vec::new();
        let mut uses = Vec::new();
        let mut decision = None;
        let mut direct = false;
        for stream in device.streams.iter().filter(|_| master) {
            let dependency = Dependency {
                node: stream.iommu,
                class: SupplierClass::Iommu,
            };
            if uses.contains(&dependency) {
                add_stream(&mut behind, stream);
                continue;
            }
            match self.supply(dependency) {
                Supply::Ready => {
                    let Some(iommu) = self.context.iommu(stream.iommu) else {
                        continue;
                    };
                    uses.push(dependency);
                    behind.push(Behind {
                        node: stream.iommu,
                        iommu,
                        streams: Vec::from([stream.id]),
                    });
                }
                Supply::Pending(on) => {
                    let property = stream.property;
                    return Resolved::Wait(
                        on,
                        Waited {
                            dependency,
                            property,
                        },
                    );
                }
                Supply::Never(why) => match self.without_iommu(stream.iommu, why) {
                    Ok(reason) => {
                        decision = Some(reason);
                        direct = true;
                    }
                    Err(fault) => return Resolved::Fail(fault),
                },
            }
        }
        if direct && !behind.is_empty() {
            return Resolved::Fail(Fault::invalid(
                "one of its IOMMUs is there and another will not come: no address would suit both",
            ));
        }
        for Edge {
            dependency,
            property,
        } in self.edges(device)
        {
            match self.supply(dependency) {
                Supply::Ready => uses.push(dependency),
                Supply::Pending(on) => {
                    return Resolved::Wait(
                        on,
                        Waited {
                            dependency,
                            property,
                        },
                    );
                }
                Supply::Never(_) => {}
            }
        }
        let route = if behind.is_empty() {
            Route::Direct
        } else {
            Route::Behind(behind)
        };
        Resolved::Ready {
            route,
            uses,
            decision,
        }
    }

    /// What becomes of a master whose IOMMU will not come. `Ok` says why it may do
    /// DMA all the same.
    fn without_iommu(&self, iommu: NodeId, why: Absence) -> Result<String, Fault> {
        let path = self.context.tree.node(iommu).path();
        match (why, self.context.policy.missing_iommu) {
            (Absence::Disabled, _) => Ok(format!("direct DMA: the tree disables its IOMMU {path}")),
            (_, MissingIommu::Direct) => Ok(format!(
                "direct DMA by iommu.missing=direct: its IOMMU {path} will not come ({why})"
            )),
            (Absence::Failed, MissingIommu::Refuse) => Err(Fault::Supplier {
                supplier: path.into_boxed_str(),
                class: SupplierClass::Iommu,
                why,
            }),
            (_, MissingIommu::Refuse) => Err(Fault::Refused {
                iommu: path.into_boxed_str(),
                why,
            }),
        }
    }

    /// The enforced edges other than those to IOMMUs. What is malformed is no edge:
    /// the driver gets the error when it asks for the thing.
    fn edges(&self, device: &Device<P>) -> Vec<Edge> {
        let tree = &self.context.tree;
        let mut edges = Vec::new();
        let mut push = |node, class, property| {
            let dependency = Dependency { node, class };
            edges.push(Edge {
                dependency,
                property,
            });
        };
        if let (Some(child), Some(bus)) = (&device.child, self.bus_node(device)) {
            if let Ok(Some(spec)) = child.function.interrupt() {
                push(spec.controller, SupplierClass::Interrupt, "interrupt-map");
            }
            for &requester in &child.requesters {
                if let Ok(Some(target)) = tree.node(bus).map_id(IdMap::Msi, requester) {
                    push(target.target, SupplierClass::Msi, "msi-map");
                }
            }
        } else if let Some(node) = device.node {
            for edge in tree.node(node).suppliers() {
                let (class, Ok(target)) = (edge.class, edge.target) else {
                    continue;
                };
                if need(class) == Need::Optional {
                    push(target, class, property_of(class));
                }
            }
        }
        edges
    }

    /// Whether a supplier is there, may come, or never will.
    pub(super) fn supply(&self, dependency: Dependency) -> Supply {
        if self.context.registry.get(dependency).is_some() {
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

    /// The device that supplies what a node stands for: the node's own, or that of
    /// the nearest node above (the frames of an interrupt controller).
    pub(super) fn provider(&self, node: NodeId) -> Option<DeviceId> {
        let node = self.context.tree.node(node);
        node.ancestors()
            .find_map(|node| self.by_node.get(&node.id()).copied())
    }
}

impl<P: Platform> Context<P> {
    /// The path of a node, for messages.
    pub(super) fn path(&self, node: NodeId) -> Box<str> {
        self.tree.node(node).path().into_boxed_str()
    }
}

/// The streams as the registry of owners keys them.
pub(super) fn keys(streams: &[Stream]) -> Vec<(NodeId, StreamId)> {
    streams
        .iter()
        .map(|stream| (stream.iommu, stream.id))
        .collect()
}

/// A specifier of an IOMMU as a StreamID: none means that the IOMMU cannot tell
/// its masters apart.
fn stream_id(cells: &[u32]) -> Result<StreamId, Fault> {
    match cells {
        [] => Ok(StreamId(0)),
        [id] => Ok(StreamId(*id)),
        _ => Err(Fault::invalid(format!(
            "an IOMMU specifier of {} cells: one StreamID is understood",
            cells.len()
        ))),
    }
}

fn add_stream(behind: &mut [Behind], stream: &Stream) {
    if let Some(behind) = behind.iter_mut().find(|behind| behind.node == stream.iommu) {
        behind.streams.push(stream.id);
    }
}

fn property_of(class: SupplierClass) -> &'static str {
    match class {
        SupplierClass::Msi => "msi-parent",
        _ => "interrupts",
    }
}

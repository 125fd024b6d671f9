//! The engine's record of a device: one state machine, and the history that the
//! probe story is told from.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_dt::NodeId;

use crate::addr::StreamId;
use crate::bus::Child;
use crate::dma::Lease;
use crate::driver::{Bound, DmaMode};
use crate::error::{Dependency, Fault};
use crate::iommu::GroupInfo;
use crate::platform::Platform;

/// A device's place in the engine.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceId(pub(super) u32);

impl DeviceId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a device stands.
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// It is tried again when this arrives, or is known never to.
    Waiting(Dependency),
    /// Its driver has it.
    Bound,
    /// Its last attempt failed.
    Failed(Fault),
    /// No registered driver is for it, or none has tried it yet.
    Unclaimed,
    /// The tree disables it.
    Disabled,
    /// Its bus is not bound.
    Gone,
}

impl State {
    /// The name that records use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::Bound => "bound",
            Self::Failed(_) => "failed",
            Self::Unclaimed | Self::Gone => "unclaimed",
            Self::Disabled => "disabled",
        }
    }
}

/// A supplier that a device has waited for.
#[derive(Clone, PartialEq, Debug)]
pub struct Waited {
    /// What was missing.
    pub dependency: Dependency,
    /// The property that asks for it.
    pub property: &'static str,
}

/// A stream of a device, with where the tree says so.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Stream {
    /// The IOMMU.
    pub iommu: NodeId,
    /// The StreamID there.
    pub id: StreamId,
    /// `iommus` or `iommu-map`.
    pub property: &'static str,
}

/// The driver for a device.
#[derive(Copy, Clone, Debug)]
pub(super) struct Matched {
    /// Its place in the board's list.
    pub driver: usize,
    /// What it wants for the device's DMA.
    pub dma: DmaMode,
}

/// How a device's DMA is set up.
#[derive(Clone, Debug)]
pub enum DmaSetup {
    /// None: it is no master, or not bound.
    None,
    /// Untranslated.
    Direct,
    /// Through a group's domain.
    Group(GroupInfo),
}

/// What is known of a device.
pub struct Device<P: Platform> {
    /// Its path in the tree, and below that its name on its bus.
    pub name: Box<str>,
    /// The node that describes it.
    pub node: Option<NodeId>,
    /// What it says it is, on a bus that asks.
    pub child: Option<Child>,
    /// Where it stands.
    pub state: State,
    /// Tries by the engine.
    pub attempts: u32,
    /// How often its driver was entered.
    pub probes: u32,
    /// What it has waited for.
    pub waited: Vec<Waited>,
    /// Its streams, as of the last attempt.
    pub streams: Vec<Stream>,
    /// What policy decided about it, and why.
    pub decision: Option<String>,
    /// Its place in the order of binding.
    pub order: Option<u32>,
    pub(super) bus: Option<DeviceId>,
    pub(super) matched: Option<Matched>,
    pub(super) queued: bool,
    // Dropped in this order at an unbind, see `release`.
    pub(super) bound: Option<Box<dyn Bound>>,
    pub(super) lease: Option<Lease<P>>,
    pub(super) published: Vec<Dependency>,
    pub(super) uses: Vec<Dependency>,
}

impl<P: Platform> Device<P> {
    pub(super) fn new(name: Box<str>) -> Self {
        Self {
            name,
            node: None,
            child: None,
            state: State::Unclaimed,
            attempts: 0,
            probes: 0,
            waited: Vec::new(),
            streams: Vec::new(),
            decision: None,
            order: None,
            bus: None,
            matched: None,
            queued: false,
            bound: None,
            lease: None,
            published: Vec::new(),
            uses: Vec::new(),
        }
    }

    /// The state that its driver keeps, while it is bound.
    pub fn bound(&self) -> Option<&dyn Bound> {
        self.bound.as_deref()
    }

    /// How its DMA is set up.
    pub fn dma(&self) -> DmaSetup {
        match &self.lease {
            None => DmaSetup::None,
            Some(lease) => match lease.group() {
                None => DmaSetup::Direct,
                Some(group) => DmaSetup::Group(group.info()),
            },
        }
    }

    /// The group that it is in.
    pub fn group(&self) -> Option<&crate::iommu::Group> {
        self.lease.as_ref()?.group().map(|group| &**group)
    }

    /// Whether its driver declares it a bus master.
    pub fn is_master(&self) -> bool {
        self.matched
            .is_some_and(|matched| matched.dma != DmaMode::None)
    }
}

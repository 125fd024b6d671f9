//! The engine's record of a device: one state machine, and the history that the
//! probe story is told from.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::NodeId;

use crate::addr::{Iova, StreamId};
use crate::bus::Child;
use crate::claims::Claim;
use crate::dma::Lease;
use crate::driver::{Bound, DmaMode};
use crate::error::{Dependency, Fault};
use crate::iommu::{GroupInfo, ManagedInner, Reservation, WalkStep};
use crate::platform::Platform;
use crate::supply::On;

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
    pub property: Box<str>,
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
    /// By its driver, which has attached a space of its own or not.
    Managed {
        /// Whether it has.
        attached: bool,
    },
}

/// The core's half of a device's DMA. Dropping it ends the device's DMA.
pub(super) enum Grant<P: Platform> {
    None,
    Core(Lease<P>),
    Managed(ManagedGrant<P>),
}

/// The core's half where a driver manages its IOMMU by itself. The streams abort
/// before anybody else can have them.
pub(super) struct ManagedGrant<P: Platform> {
    pub inner: Arc<ManagedInner<P>>,
    pub _reservation: Reservation,
}

impl<P: Platform> Drop for ManagedGrant<P> {
    fn drop(&mut self) {
        self.inner.revoke();
    }
}

impl<P: Platform> Grant<P> {
    /// Stops the device on its bus ahead of the rest.
    pub fn stop(&self) {
        match self {
            Self::None => {}
            Self::Core(lease) => lease.stop(),
            Self::Managed(managed) => managed.inner.stop(),
        }
    }

    /// Lets the device through on its bus again, as far as its streams go anywhere.
    pub fn restart(&self) {
        match self {
            Self::None => {}
            Self::Core(lease) => lease.restart(),
            Self::Managed(managed) => managed.inner.restart(),
        }
    }
}

/// What an attempt sets up before the driver's probe, in the order that it is taken
/// down.
pub(super) struct Setup<P: Platform> {
    pub grant: Grant<P>,
    pub claims: Vec<Claim>,
    pub on: Vec<On>,
}

impl<P: Platform> Setup<P> {
    pub fn none() -> Self {
        Self {
            grant: Grant::None,
            claims: Vec::new(),
            on: Vec::new(),
        }
    }
}

impl<P: Platform> Drop for Setup<P> {
    fn drop(&mut self) {
        self.grant = Grant::None;
        self.claims.clear();
        // What was turned on last goes off first.
        while self.on.pop().is_some() {}
    }
}

/// What a device has while it is bound.
pub(super) struct Binding<P: Platform> {
    /// The state that its driver keeps.
    pub state: Box<dyn Bound>,
    /// What the core set up for it.
    pub setup: Setup<P>,
    /// Its services.
    pub published: Box<[Dependency]>,
    /// Whose services it uses.
    pub uses: Vec<(DeviceId, Dependency)>,
    /// Its place in the order of binding.
    pub order: u32,
    /// What is on it.
    pub children: Vec<DeviceId>,
    /// Whether the nodes below its own are devices on it.
    pub has_nodes: bool,
}

/// What is known of a device. A machine may have many, and most lie idle or bound:
/// what only some have is behind a pointer.
pub struct Device<P: Platform> {
    /// Its path in the tree, and below that its name on its bus.
    pub name: Box<str>,
    /// The node that describes it.
    pub node: Option<NodeId>,
    /// What it says it is, on a bus that asks.
    pub child: Option<Box<Child>>,
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
    pub(super) decisions: Vec<String>,
    pub(super) bus: Option<DeviceId>,
    pub(super) matched: Option<Matched>,
    pub(super) queued: bool,
    // Who is to be looked at again once this one is settled.
    pub(super) waiters: Vec<DeviceId>,
    // Who uses its services or is on it.
    pub(super) users: BTreeSet<DeviceId>,
    pub(super) binding: Option<Box<Binding<P>>>,
    // Edges that a cycle was broken at: it does without these.
    pub(super) broken: Vec<Dependency>,
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
            decisions: Vec::new(),
            bus: None,
            matched: None,
            queued: false,
            waiters: Vec::new(),
            users: BTreeSet::new(),
            binding: None,
            broken: Vec::new(),
        }
    }

    /// Whether this is its name, or the end of it: `00:01.0`.
    pub(super) fn is_called(&self, name: &str) -> bool {
        *self.name == *name || self.name.rsplit('/').next() == Some(name)
    }

    /// It waits from now on.
    pub(super) fn wait_for(&mut self, waited: Waited) {
        self.state = State::Waiting(waited.dependency);
        if !self.waited.contains(&waited) {
            self.waited.reserve_exact(1); // most wait for one or two
            self.waited.push(waited);
        }
    }

    /// What policy decided about it, on one line.
    pub fn decision(&self) -> Option<String> {
        (!self.decisions.is_empty()).then(|| self.decisions.join("; "))
    }

    /// The state that its driver keeps, while it is bound.
    pub fn bound(&self) -> Option<&dyn Bound> {
        Some(&*self.binding.as_ref()?.state)
    }

    /// Its place in the order of binding, while it is bound.
    pub fn order(&self) -> Option<u32> {
        Some(self.binding.as_ref()?.order)
    }

    /// The core's half of its DMA.
    fn grant(&self) -> &Grant<P> {
        match &self.binding {
            Some(binding) => &binding.setup.grant,
            None => &Grant::None,
        }
    }

    /// How its DMA is set up.
    pub fn dma(&self) -> DmaSetup {
        match self.grant() {
            Grant::None => DmaSetup::None,
            Grant::Core(lease) => match lease.group() {
                None => DmaSetup::Direct,
                Some(group) => DmaSetup::Group(group.info()),
            },
            Grant::Managed(managed) => DmaSetup::Managed {
                attached: managed.inner.is_attached(),
            },
        }
    }

    /// The spaces that its driver has attached.
    pub fn spaces(&self) -> Vec<GroupInfo> {
        match self.grant() {
            Grant::Managed(managed) => managed.inner.infos(),
            _ => Vec::new(),
        }
    }

    /// Every level of the walk for an address, through whatever the device's DMA goes
    /// through; `None` where that is no page table.
    pub fn walk(&self, iova: Iova) -> Option<Vec<WalkStep>> {
        match self.grant() {
            Grant::None => None,
            Grant::Core(lease) => {
                let group = lease.group()?;
                (!group.is_identity()).then(|| group.walk(iova))
            }
            Grant::Managed(managed) => Some(managed.inner.walk(iova)),
        }
    }

    /// The group that it is in.
    pub fn group(&self) -> Option<&crate::iommu::Group> {
        match self.grant() {
            Grant::Core(lease) => lease.group().map(|group| &**group),
            _ => None,
        }
    }

    /// What devices that it is not isolated from have in common with it.
    pub(super) fn isolation(&self) -> Option<&str> {
        self.child.as_ref()?.isolation.as_deref()
    }

    /// Whether its driver declares it a bus master.
    pub fn is_master(&self) -> bool {
        self.matched
            .is_some_and(|matched| matched.dma != DmaMode::None)
    }

    /// What is held on for it, by name.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        let on = self.binding.iter().flat_map(|binding| &binding.setup.on);
        on.map(|on| on.switch().name())
    }
}

//! The instance: everything that one SMMU consists of, and the way commands take.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use mastiff_core::addr::{StreamId, SubstreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Domain, EntryDump, FaultLog, Iommu, Limits, ParentDomain, Status};
use mastiff_dt::NodeId;
use mastiff_pgtable::{Geometry, Stage};
use spin::Mutex;

use crate::attach::Streams;
use crate::bind::Machine;
use crate::domain::{Context, IdentityDomain, Lower, PagingDomain, Parent, Tags};
use crate::features::Features;
use crate::interrupts::Messages;
use crate::memory::Reach;
use crate::queue::{CommandQueue, EventQueue, Extent};
use crate::spec::{Access, Command};
use crate::storm::Storms;
use crate::stream_table::{Shape, StreamTable};
use crate::substreams;
use crate::window::Window;

/// How far an instance has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// It has not been told of any memory.
    New,
    /// It has, but does not take commands.
    Told,
    /// It takes commands; translation is not on yet, or not any more.
    Commands,
    /// It translates.
    Running,
    /// Translation is off and everything aborts: nothing is left to invalidate.
    Stopped,
    /// The same, and it will be back: everything is invalidated then.
    Suspended,
    /// What the hardware does is not known.
    Failed,
}

/// What tree and policy say of how it is to be set up.
pub(crate) struct Wishes {
    /// The highest StreamID that it has to know.
    pub highest: StreamId,
    /// Bytes of a page, if somebody cares.
    pub granule: Option<u64>,
}

/// Who the instance is, for messages and for the fault log.
pub(crate) struct Identity {
    pub node: NodeId,
    pub name: Box<str>,
    pub faults: Arc<FaultLog>,
}

pub(crate) struct Smmu<P: Machine> {
    pub platform: P,
    pub identity: Identity,
    pub features: Features,
    /// The tables that domains are made of.
    pub geometry: Geometry,
    /// The tables that nested domains are made on, if there are both stages.
    pub below: Option<Geometry>,
    /// log2 of the granule, where there is range invalidation.
    pub range_granule: Option<u32>,
    pub reach: Reach,
    pub window: Arc<Window<P>>,
    pub commands: CommandQueue<P>,
    pub events: Mutex<EventQueue<P>>,
    pub streams: Mutex<Streams<P>>,
    pub asids: Mutex<Tags>,
    pub vmids: Mutex<Tags>,
    pub storms: Mutex<Storms>,
    /// Held from reading the active errors until they are acknowledged.
    pub errors: Mutex<()>,
    pub counters: Counters,
    /// How it interrupts by message, if it does.
    pub messages: Mutex<Messages>,
    /// The interrupt by which the rest of a long queue of events is called for.
    pub event_irq: AtomicU32,
    /// What CR0 was last told.
    pub enables: AtomicU32,
    state: AtomicU8,
}

/// What is counted for people.
#[derive(Default)]
pub(crate) struct Counters {
    pub domains: Counter,
    pub events: Counter,
    pub errors: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<P: Machine> Smmu<P> {
    /// Takes all memory that the instance needs. The hardware is not touched.
    pub fn new(
        platform: P,
        identity: Identity,
        window: Arc<Window<P>>,
        features: Features,
        coherent: bool,
        wishes: Wishes,
    ) -> Result<Self, Fault> {
        let reach = Reach::new(&features, coherent);
        let commands = CommandQueue::new(&platform, window.clone(), &reach, &features)?;
        let events = EventQueue::new(&platform, window.clone(), &reach, features.events_log2)?;
        let table = StreamTable::new(&platform, Shape::new(&features, wishes.highest), &reach)?;
        let geometry = features.geometry(features.stage(), wishes.granule);
        let below = features.geometry(Stage::Two, wishes.granule);
        let asids = Tags::new("ASID", features.asid_bits);
        let vmids = Tags::new("VMID", features.vmid_bits);
        Ok(Self {
            platform,
            identity,
            features,
            geometry,
            below: features.nests().then_some(below),
            range_granule: features.ranges.then_some(geometry.granule.bits()),
            reach,
            window,
            commands,
            events: Mutex::new(events),
            streams: Mutex::new(Streams::new(table)),
            asids: Mutex::new(asids),
            vmids: Mutex::new(vmids),
            storms: Mutex::new(Storms::new()),
            errors: Mutex::new(()),
            counters: Counters::default(),
            messages: Mutex::new(Messages::default()),
            event_irq: AtomicU32::new(0),
            enables: AtomicU32::new(0),
            state: AtomicU8::new(State::New as u8),
        })
    }

    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// How the hardware accesses tables and queues.
    pub fn access(&self) -> Access {
        if self.reach.coherent {
            Access::Coherent
        } else {
            Access::NonCoherent
        }
    }

    #[inline]
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::New,
            1 => State::Told,
            2 => State::Commands,
            3 => State::Running,
            4 => State::Stopped,
            5 => State::Suspended,
            _ => State::Failed,
        }
    }

    pub fn enter(&self, state: State) {
        if state == State::Failed {
            self.reach.set_unstoppable();
        }
        self.state.store(state as u8, Ordering::Release);
    }

    pub fn require_running(&self) -> Result<(), Fault> {
        match self.state() {
            State::Running => Ok(()),
            _ => Err(self.not_running()),
        }
    }

    #[cold]
    pub fn not_running(&self) -> Fault {
        match self.state() {
            State::Failed => Fault::Device {
                during: "use of the SMMU",
                status: "it failed and no longer takes commands",
                code: 0,
            },
            State::Suspended => Fault::invalid("the SMMU is suspended"),
            _ => Fault::Revoked,
        }
    }

    /// Starts a batch of commands.
    #[inline]
    pub fn batch(&self) -> Batch<'_, P> {
        let skipped = self.commands.skipped();
        Batch {
            smmu: self,
            skipped,
            first: Cell::new(u64::MAX),
        }
    }

    /// Commands and a sync.
    pub fn run<const N: usize>(&self, commands: [Command; N]) -> Result<(), Fault> {
        self.batch().sync(N, commands.into_iter())
    }
}

/// Commands that are completed together.
pub(crate) struct Batch<'a, P: Machine> {
    smmu: &'a Smmu<P>,
    skipped: u64,
    // Where its first command is, once there is one.
    first: Cell<u64>,
}

impl<'a, P: Machine> Batch<'a, P> {
    #[inline]
    pub fn smmu(&self) -> &'a Smmu<P> {
        self.smmu
    }

    /// Has the hardware execute commands at some time.
    pub fn push(&self, count: usize, commands: impl Iterator<Item = Command>) -> Result<(), Fault> {
        let smmu = self.smmu;
        match smmu.state() {
            State::Commands | State::Running => {
                let extent = smmu
                    .commands
                    .push(count, commands, || smmu.serve_errors())?;
                self.first.set(self.first.get().min(extent.first));
                Ok(())
            }
            State::Stopped | State::Suspended => Ok(()),
            _ => Err(smmu.not_running()),
        }
    }

    /// Has the hardware execute commands, and returns when these and all earlier
    /// ones of the batch are complete. While translation is off there is nothing
    /// that they would be about.
    #[inline]
    pub fn sync(&self, count: usize, commands: impl Iterator<Item = Command>) -> Result<(), Fault> {
        let smmu = self.smmu;
        let extent = match smmu.state() {
            State::Commands | State::Running => smmu
                .commands
                .sync(count, commands, || smmu.serve_errors())?,
            State::Stopped | State::Suspended => return Ok(()),
            _ => return Err(smmu.not_running()),
        };
        if smmu.commands.skipped() == self.skipped {
            return Ok(());
        }
        self.check(extent)
    }

    /// The same for a batch of one command.
    #[inline(always)]
    pub fn sync_one(&self, command: Command) -> Result<(), Fault> {
        let smmu = self.smmu;
        if smmu.state() != State::Running {
            return self.sync(1, core::iter::once(command));
        }
        let extent = smmu.commands.sync_one(command, || smmu.serve_errors())?;
        if smmu.commands.skipped() == self.skipped {
            return Ok(());
        }
        self.check(extent)
    }

    /// Commands were refused meanwhile: whether one of them was of this batch. The
    /// others' batches are none the worse.
    #[cold]
    fn check(&self, last: Extent) -> Result<(), Fault> {
        let first = self.first.get().min(last.first);
        let extent = Extent { first, ..last };
        match self.smmu.commands.refused(self.skipped, extent) {
            None => Ok(()),
            Some(command) => Err(Fault::Device {
                during: command.name(),
                status: "CERROR_ILL: the SMMU refused the command",
                code: command.0[0],
            }),
        }
    }
}

/// What the rest of the kernel sees of an instance.
pub(crate) struct Published<P: Machine>(pub Arc<Smmu<P>>);

impl<P: Machine> Iommu for Published<P> {
    fn limits(&self) -> Limits {
        let shape = self.0.streams.lock().table.shape();
        Limits {
            aperture: (1 << self.0.geometry.input_bits) - 1,
            streams: shape.streams(),
            page: self.0.geometry.granule.size(),
        }
    }

    fn paging_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        self.0.require_running()?;
        let context = Context::new(self.0.clone())?;
        Ok(Arc::new(PagingDomain(Arc::new(context))))
    }

    fn parent_domain(&self) -> Result<Arc<dyn ParentDomain>, Fault> {
        self.0.require_running()?;
        let parent = Parent::new(self.0.clone())?;
        Ok(Arc::new(Lower(Arc::new(parent))))
    }

    fn identity_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        self.0.require_running()?;
        Ok(Arc::new(IdentityDomain(self.0.clone())))
    }

    fn block(&self, stream: StreamId) -> Result<(), Fault> {
        self.0.block(stream)
    }

    fn substreams(&self) -> u64 {
        substreams::limit(&self.0.features)
    }

    fn block_substream(&self, stream: StreamId, substream: SubstreamId) -> Result<(), Fault> {
        self.0.block_substream(stream, substream)
    }

    fn status(&self) -> Status {
        self.0.status()
    }

    fn live_streams(&self) -> Vec<StreamId> {
        self.0.streams.lock().live()
    }

    fn describe(&self, stream: StreamId) -> Result<EntryDump, Fault> {
        self.0.describe(stream)
    }
}

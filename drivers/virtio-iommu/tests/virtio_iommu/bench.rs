//! A machine whose functions are behind a virtio-iommu on their own bus.

use std::sync::Arc;

use mastiff_core::addr::{Iova, PhysAddr, StreamId};
use mastiff_core::driver::{DmaTest, Driver, Way};
use mastiff_core::engine::{Device, Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Domain, FaultRecord, Iommu, Permission};
use mastiff_core::platform::{PageRequest, Platform};
use mastiff_dt::build::TreeBuilder;
use mastiff_edu::Edu;
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::{BusError, Shared};
use mastiff_testkit::edu::SimEdu;
use mastiff_testkit::pci::{PciMachine, SimBus, SimPci};
use mastiff_virtio_iommu::VirtioIommu;

use crate::model::{Kind, Layout, SLOT, SimViommu, Tables, Translator, lock};

pub const HOST: &str = "/pcie@10000000";
pub const NAME: &str = "/pcie@10000000/00:03.0";
pub const EDU: &str = "/pcie@10000000/00:02.0";
/// A stream that no device of the bench has, for tests that play the master.
pub const STREAM: StreamId = StreamId(0x100);

const VIOMMU: u32 = 9;
/// Masters first: an order that happens to be right would hide a wrong one.
const DRIVERS: [&'static dyn Driver<Sim>; 3] = [&Edu, &Pcie, &VirtioIommu];

pub struct Bench {
    pub sim: Sim,
    pub model: Shared<SimViommu>,
    pub engine: Engine<Sim>,
    machine: PciMachine,
}

fn function_node(node: TreeBuilder) -> TreeBuilder {
    node.compatible(&["virtio,pci-iommu", "pci1af4,1057"])
        .phandle(VIOMMU)
        .u32("#iommu-cells", 1)
        .cells("reg", &[u32::from(SLOT) << 11, 0, 0, 0, 0])
}

/// The host's node as QEMU has it: the IOMMU's own requester is in no entry.
fn own_left_out(host: TreeBuilder) -> TreeBuilder {
    let own = u32::from(SLOT) << 3;
    let (next, rest) = (own + 1, 0x1_0000 - own - 1);
    host.cells("iommu-map", &[0, VIOMMU, 0, own, next, VIOMMU, next, rest])
        .node("virtio_iommu@3,0", function_node)
}

/// One that says that the IOMMU is behind itself.
pub fn own_in_the_map(host: TreeBuilder) -> TreeBuilder {
    host.cells("iommu-map", &[0, VIOMMU, 0, 0x1_0000])
        .node("virtio_iommu@3,0", function_node)
}

/// Memory is elsewhere for functions than for the CPU.
pub fn memory_elsewhere(host: TreeBuilder) -> TreeBuilder {
    own_left_out(host).cells(
        "dma-ranges",
        &[2 << 24, 0, 0, 0, 0x4000_0000, 0, 0x400_0000],
    )
}

/// What a bench differs in.
pub struct Setup {
    pub layout: Layout,
    /// The host's node.
    pub tree: fn(TreeBuilder) -> TreeBuilder,
    pub prepare: Box<dyn FnOnce(&mut SimViommu)>,
    pub before: Box<dyn FnOnce(&Sim)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            layout: Layout::Messages,
            tree: own_left_out,
            prepare: Box::new(|_| {}),
            before: Box::new(|_| {}),
        }
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::prepared(|_| {})
    }

    /// On a device that differs.
    pub fn prepared(prepare: impl FnOnce(&mut SimViommu) + 'static) -> Self {
        Self::set_up(Setup {
            prepare: Box::new(prepare),
            ..Setup::default()
        })
    }

    pub fn set_up(setup: Setup) -> Self {
        let (model, function) = SimViommu::function(setup.layout);
        let (_, edu) = SimEdu::function();
        let root = SimBus::new().with(2, 0, edu).with(SLOT, 0, function);
        let mut machine = PciMachine::new(root);
        machine.has_iommu = false;
        machine.extra = setup.tree;
        (setup.prepare)(&mut lock(&model));
        let translator = Translator(lock(&model).tables());
        let translator = Arc::new(std::sync::Mutex::new(translator));
        machine.sim.translate_by(0..=0xffff, translator);
        (setup.before)(&machine.sim);
        let engine = machine.boot(&DRIVERS);
        Self {
            sim: machine.sim.clone(),
            model,
            engine,
            machine,
        }
    }

    pub fn pci(&self) -> std::sync::MutexGuard<'_, SimPci> {
        lock(&self.machine.pci)
    }

    pub fn device(&self, name: &str) -> &Device<Sim> {
        self.engine.device(name).expect("it was found")
    }

    /// Why the IOMMU is not bound; nothing if it is.
    pub fn fault(&self) -> Option<Fault> {
        self.fault_of(NAME)
    }

    pub fn fault_of(&self, name: &str) -> Option<Fault> {
        match &self.device(name).state {
            State::Failed(fault) => Some(fault.clone()),
            State::Bound => None,
            other => panic!("{name} is {}", other.name()),
        }
    }

    pub fn edu(&self) -> &dyn DmaTest {
        let bound = self.device(EDU).bound().expect("edu is bound");
        bound.dma_test().expect("it can prove its DMA")
    }

    /// Sends edu to where nothing is mapped.
    pub fn stray(&self, at: Iova) {
        let bound = self.device(EDU).bound().expect("edu is bound");
        let hostile = bound.hostile().expect("it can be aimed");
        hostile.launch(Way::Read, at, 64).unwrap();
        hostile.land().unwrap();
    }

    pub fn iommu(&self) -> Arc<dyn Iommu> {
        let node = self.device(NAME).node.expect("it has a node");
        self.engine.context().iommu(node).expect("it is bound")
    }

    pub fn domain(&self) -> Arc<dyn Domain> {
        self.iommu().paging_domain().expect("there are domains")
    }

    /// A domain that [`STREAM`] goes through.
    pub fn attached(&self) -> Arc<dyn Domain> {
        let domain = self.domain();
        domain.attach(STREAM).expect("the device lets it");
        domain
    }

    /// A page that software holds, for as long as the test runs.
    pub fn page(&self) -> PhysAddr {
        let pa = self.sim.memory().alloc(PageRequest::new(0x1000));
        PhysAddr(pa.expect("there is memory"))
    }

    /// What comes of attaching [`STREAM`] to a new domain, which fails.
    pub fn attached_or_fault(&self) -> String {
        let attached = self.domain().attach(STREAM);
        attached.expect_err("it fails").to_string()
    }

    /// Maps a page for reading and writing.
    pub fn map(&self, domain: &Arc<dyn Domain>, iova: u64) -> PhysAddr {
        let pa = self.page();
        let mapped = domain.map(Iova(iova), pa, 0x1000, Permission::ReadWrite);
        mapped.expect("the device lets it");
        pa
    }

    pub fn read(&self, stream: StreamId, iova: u64) -> Result<(), BusError> {
        self.sim.port().read(stream.0, iova, &mut [0; 8])
    }

    pub fn write(&self, stream: StreamId, iova: u64) -> Result<(), BusError> {
        self.sim.port().write(stream.0, iova, &[1; 8])
    }

    pub fn change(&self, change: impl FnOnce(&mut SimViommu)) {
        change(&mut lock(&self.model));
    }

    pub fn look<T>(&self, look: impl FnOnce(&SimViommu) -> T) -> T {
        look(&lock(&self.model))
    }

    pub fn tables<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        let tables = lock(&self.model).tables();
        look(&mut lock(&tables))
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.look(|model| model.count(kind))
    }

    /// The device served everything that it was asked for.
    pub fn check_all_served(&self) {
        let refused = |model: &SimViommu| {
            let all = model.served.iter();
            all.copied()
                .filter(|&(_, status)| status != 0)
                .collect::<Vec<_>>()
        };
        assert_eq!(self.look(refused), []);
        assert_eq!(self.tables(|tables| tables.bypassed), 0);
    }

    /// Faults, after the interrupts that are on their way.
    pub fn faults(&self) -> Vec<FaultRecord> {
        self.sim.advance_us(10);
        self.sim.irqs().service();
        self.engine.context().faults.records()
    }

    /// Nothing of the bus is left.
    pub fn check_clean(&self) {
        assert_eq!(self.sim.windows(), 0);
        assert_eq!(self.sim.memory().live(), 0);
        assert_eq!(self.machine.msi.used().len(), 0);
    }
}

//! A simulated machine with an SMMU, and masters that the tests play themselves.

use std::sync::{Arc, Mutex, MutexGuard};

use mastiff_core::addr::{Iova, PAGE, PhysAddr, PhysRange, StreamId};
use mastiff_core::dma::Dma;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Domain, FaultRecord, Iommu, Permission};
use mastiff_core::platform::{Barrier, Mmio, PageRequest, Pages, Platform};
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::build::TreeBuilder;
use mastiff_smmuv3::Smmuv3;
use mastiff_testkit::bus::{BusError, Shared};
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::smmu::{Abort, Access, Features, Lines, Smmu, WINDOW};
use mastiff_testkit::{Sim, SimPages};

pub const BASE: u64 = 0x0905_0000;
pub const NAME: &str = "/smmuv3@9050000";

/// A frame for messages, and the first of its interrupts.
pub const DOORBELLS: u64 = 0x0802_0000;
pub const MESSAGE: u32 = 200;

/// Everything behind the SMMU that a test may play.
const STREAMS: std::ops::RangeInclusive<u32> = 0..=u32::MAX;

/// What the tree says of how the SMMU was built in, and how it really was.
pub struct Wiring {
    /// It snoops.
    pub coherent: bool,
    pub names: &'static [&'static str],
    pub interrupts: &'static [u32],
    pub lines: Lines,
    /// How many messages the controller has that it may interrupt by.
    pub messages: Option<u32>,
    pub policy: Policy,
}

/// What a test adds to the tree.
pub type AddNodes = Box<dyn FnOnce(TreeBuilder) -> TreeBuilder>;

impl Wiring {
    /// As on QEMU's `virt`.
    pub fn of(features: &Features) -> Self {
        Self {
            coherent: features.coherent,
            names: &["eventq", "priq", "cmdq-sync", "gerror"],
            interrupts: &[0, 74, 1, 0, 75, 1, 0, 76, 1, 0, 77, 1],
            lines: Lines::VIRT,
            messages: None,
            policy: Policy::default(),
        }
    }
}

pub struct Bench {
    pub sim: Sim,
    pub engine: Engine<Sim>,
    pub smmu: Shared<Smmu>,
}

impl Bench {
    /// A machine whose SMMU is bound.
    pub fn new(features: Features) -> Self {
        let bench = Self::tried(features, |_, _| {});
        assert_eq!(bench.fault(), None);
        bench
    }

    /// A machine whose SMMU takes so many steps for everything.
    pub fn slow(features: Features, steps: u32) -> Self {
        Self::tried(features, |_, smmu| smmu.set_latency(steps))
    }

    /// A machine whose SMMU was tried, after `prepare` had its way with it.
    pub fn tried(features: Features, prepare: impl FnOnce(&Sim, &mut Smmu)) -> Self {
        let wiring = Wiring::of(&features);
        Self::wired(features, wiring, prepare)
    }

    /// The same with a wiring of the test's choice.
    pub fn wired(
        features: Features,
        wiring: Wiring,
        prepare: impl FnOnce(&Sim, &mut Smmu),
    ) -> Self {
        Self::peopled(features, wiring, &[], |sim, smmu| {
            prepare(sim, smmu);
            Box::new(|tree| tree)
        })
    }

    /// The same with more drivers, and what `prepare` adds to the tree.
    pub fn peopled(
        features: Features,
        wiring: Wiring,
        others: &[&'static dyn Driver<Sim>],
        prepare: impl FnOnce(&Sim, &mut Smmu) -> AddNodes,
    ) -> Self {
        let sim = Sim::new();
        sim.memory().set_coherent(wiring.coherent);
        let smmu = Smmu::install(&sim, BASE, STREAMS, features, wiring.lines);
        let add_nodes = prepare(&sim, &mut smmu.lock().unwrap());
        let chip = sim.chip().clone();
        let publish = move || Service::Irq(chip.clone());
        let intc = FakeDriver::new(
            "intc",
            &[Match::compatible("test,intc")],
            vec![Do::Publish(Box::new(publish))],
            &Diary::default(),
        );
        let frame = sim.add_msi_frame(DOORBELLS, MESSAGE, wiring.messages.unwrap_or(0));
        let publish = move || Service::Msi(frame.clone());
        let frame = FakeDriver::new(
            "frame",
            &[Match::compatible("test,frame")],
            vec![Do::Publish(Box::new(publish))],
            &Diary::default(),
        );
        let ours: [&'static dyn Driver<Sim>; 3] = [&Smmuv3, intc, frame];
        let drivers = [&ours, others].concat();
        let tree = add_nodes(tree(&wiring)).tree().unwrap();
        let mut engine = Engine::new(sim.clone(), tree, wiring.policy, &drivers);
        engine.start();
        Self { sim, engine, smmu }
    }

    pub fn virt() -> Self {
        Self::new(Features::virt())
    }

    pub fn model(&self) -> MutexGuard<'_, Smmu> {
        self.smmu.lock().unwrap()
    }

    /// Why the SMMU is not bound, if it is not.
    pub fn fault(&self) -> Option<Fault> {
        match &self.engine.device(NAME).unwrap().state {
            State::Bound => None,
            State::Failed(fault) => Some(fault.clone()),
            _ => panic!("neither bound nor failed"),
        }
    }

    pub fn iommu(&self) -> Arc<dyn Iommu> {
        let iommus = self.engine.context().iommus();
        iommus.first().expect("a bound SMMU").1.clone()
    }

    pub fn domain(&self) -> Arc<dyn Domain> {
        self.iommu().paging_domain().unwrap()
    }

    /// A domain with `stream` in it.
    pub fn attached(&self, stream: u32) -> Arc<dyn Domain> {
        let domain = self.domain();
        domain.attach(StreamId(stream)).unwrap();
        domain
    }

    /// Pages, each of whose bytes is its page's number plus `seed`.
    pub fn pages(&self, count: u64, seed: u8) -> SimPages {
        let pages = self
            .sim
            .alloc_pages(PageRequest::new(count * PAGE))
            .unwrap();
        for page in 0..count {
            let (offset, page) = ((page * PAGE) as usize, page as u8);
            pages.fill(offset, PAGE as usize, seed.wrapping_add(page));
        }
        pages.clean(0, pages.len());
        self.sim.barrier(Barrier::Publish);
        pages
    }

    /// A register, read behind the driver's back.
    pub fn register(&self, offset: usize) -> u32 {
        let window = PhysRange {
            start: PhysAddr(BASE),
            len: WINDOW,
        };
        self.sim.map_mmio(window).unwrap().read32(offset)
    }

    /// One byte that `stream` reads.
    pub fn read(&self, stream: u32, iova: u64) -> Result<u8, BusError> {
        let mut byte = [0];
        self.sim.port().read(stream, iova, &mut byte)?;
        Ok(byte[0])
    }

    /// One byte that a substream of `stream` reads.
    pub fn read_as(&self, stream: u32, substream: u32, iova: u64) -> Result<u8, Abort> {
        let mut model = self.model();
        let pa = model.translate_as(stream, Some(substream), iova, Access::Read)?;
        drop(model);
        let mut byte = [0];
        self.sim.memory().device_read(pa, &mut byte);
        Ok(byte[0])
    }

    /// One byte that `stream` writes.
    pub fn write(&self, stream: u32, iova: u64, byte: u8) -> Result<(), BusError> {
        self.sim.port().write(stream, iova, &[byte])
    }

    /// Lets interrupts arrive and be served.
    pub fn serve(&self) {
        self.sim.advance_us(10);
        while self.sim.irqs().service() {
            self.sim.advance_us(10);
        }
    }

    /// The faults so far, oldest first.
    pub fn faults(&self) -> Vec<FaultRecord> {
        self.serve();
        self.engine.context().faults.records()
    }

    /// Frames that software holds.
    pub fn frames(&self) -> usize {
        self.sim.memory().live()
    }

    /// Commands and syncs that the hardware has consumed.
    pub fn consumed(&self) -> (u64, u64) {
        self.model().consumed()
    }
}

/// Maps pages read-write.
pub fn map(domain: &Arc<dyn Domain>, iova: u64, pages: &SimPages) {
    let len = pages.len() as u64;
    domain
        .map(Iova(iova), pages.pa(), len, Permission::ReadWrite)
        .unwrap();
}

/// Maps one page of RAM that belongs to nobody: for mappings that are not used.
pub fn map_at(domain: &Arc<dyn Domain>, iova: u64, pa: u64, len: u64) -> Result<(), Fault> {
    domain.map(Iova(iova), PhysAddr(pa), len, Permission::ReadWrite)
}

/// A bench with a master on stream 8, and its capability in the test's hands.
pub fn with_capability(features: Features) -> (Bench, Dma<Sim>) {
    with_capability_by(features, Policy::default(), 1)
}

/// The same by a policy, on a machine with so many CPUs.
pub fn with_capability_by(features: Features, policy: Policy, cpus: usize) -> (Bench, Dma<Sim>) {
    type Held = Arc<Mutex<Option<Dma<Sim>>>>;
    let held = Held::default();
    let keep = held.clone();
    let take = Do::Call(Box::new(move |probe| {
        *keep.lock().unwrap() = Some(probe.dma()?);
        Ok(())
    }));
    let master = FakeDriver::new(
        "master",
        &[Match::compatible("test,master").master()],
        vec![take],
        &Diary::default(),
    );
    let wiring = Wiring {
        policy,
        ..Wiring::of(&features)
    };
    let bench = Bench::peopled(features, wiring, &[master], |sim, _| {
        sim.set_cpus(cpus);
        Box::new(|tree| {
            tree.node("master@0", |n| {
                n.compatible(&["test,master"]).cells("iommus", &[2, 8])
            })
        })
    });
    let dma = held.lock().unwrap().take().expect("its probe was entered");
    (bench, dma)
}

fn tree(wiring: &Wiring) -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .u32("interrupt-parent", 1)
        .node("smmuv3@9050000", |n| {
            let mut n = n
                .compatible(&["arm,smmu-v3"])
                .reg(&[(BASE, WINDOW)])
                .phandle(2)
                .u32("#iommu-cells", 1);
            if !wiring.names.is_empty() {
                n = n
                    .strings("interrupt-names", wiring.names)
                    .cells("interrupts", wiring.interrupts);
            }
            if wiring.coherent {
                n = n.flag("dma-coherent");
            }
            if wiring.messages.is_some() {
                n = n.u32("msi-parent", 9);
            }
            n
        })
        .node("frame", |n| {
            n.compatible(&["test,frame"])
                .phandle(9)
                .flag("msi-controller")
        })
        .node("intc", |n| {
            n.compatible(&["test,intc"])
                .phandle(1)
                .u32("#interrupt-cells", 3)
                .flag("interrupt-controller")
        })
}

//! A small machine for tests of the core: one or two fake IOMMUs at fixed
//! addresses, masters that follow scripts, and everything that must be back to
//! where it was.

#![allow(dead_code, reason = "each test file uses its part of the bench")]

use std::sync::Arc;

use mastiff_core::addr::StreamId;
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Device, Engine};
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::fake_iommu::{Counts, FakeIommu};

pub const IOMMU: Match = Match::compatible("test,iommu");
pub const IOMMU2: Match = Match::compatible("test,iommu2");
pub const MASTER: Match = Match::compatible("test,master").master();

pub const IOMMU_PATH: &str = "/iommu@1000000";
pub const IOMMU2_PATH: &str = "/iommu@2000000";

pub struct Bench {
    pub sim: Sim,
    pub iommu: FakeIommu,
    pub iommu2: FakeIommu,
    pub diary: Diary,
}

/// What must be as before once a device is gone.
#[derive(PartialEq, Debug)]
pub struct Baseline {
    pages: usize,
    windows: usize,
    irqs: usize,
    domains: usize,
    attached: usize,
    mappings: usize,
    quarantined: usize,
}

impl Bench {
    pub fn new() -> Self {
        let sim = Sim::new();
        let iommu = FakeIommu::default();
        let iommu2 = FakeIommu::default();
        sim.translate_by(0..=0xff, iommu.translator());
        sim.translate_by(0x100..=0x1ff, iommu2.translator());
        Self {
            sim,
            iommu,
            iommu2,
            diary: Diary::default(),
        }
    }

    /// A driver that makes the first IOMMU available, after `before`.
    pub fn iommu_driver(&self, before: Vec<Do>) -> &'static FakeDriver {
        self.publisher("test-iommu", IOMMU, &self.iommu, before)
    }

    /// The same for the second.
    pub fn iommu2_driver(&self, before: Vec<Do>) -> &'static FakeDriver {
        self.publisher("test-iommu2", IOMMU2, &self.iommu2, before)
    }

    fn publisher(
        &self,
        name: &'static str,
        matches: Match,
        iommu: &FakeIommu,
        mut script: Vec<Do>,
    ) -> &'static FakeDriver {
        let iommu = iommu.clone();
        script.push(Do::Publish(Box::new(move || {
            Service::Iommu(iommu.instance())
        })));
        FakeDriver::new(name, &[matches], script, &self.diary)
    }

    /// A driver for the masters.
    pub fn master_driver(&self, script: Vec<Do>) -> &'static FakeDriver {
        FakeDriver::new("test-master", &[MASTER], script, &self.diary)
    }

    pub fn start(&self, tree: TreeBuilder, drivers: &[&'static dyn Driver<Sim>]) -> Engine<Sim> {
        self.start_with(tree, drivers, Policy::default(), |_| {})
    }

    pub fn start_with(
        &self,
        tree: TreeBuilder,
        drivers: &[&'static dyn Driver<Sim>],
        policy: Policy,
        before: impl FnOnce(&mut Engine<Sim>),
    ) -> Engine<Sim> {
        let tree = tree.tree().expect("the test's tree is sound");
        let mut engine = Engine::new(self.sim.clone(), tree, policy, drivers);
        before(&mut engine);
        engine.start();
        engine
    }

    pub fn counts(&self) -> Counts {
        self.iommu.counts()
    }

    pub fn baseline(&self) -> Baseline {
        let (one, two) = (self.iommu.counts(), self.iommu2.counts());
        Baseline {
            pages: self.sim.memory().live(),
            windows: self.sim.windows(),
            irqs: self.sim.chip().enabled().len(),
            domains: one.domains + two.domains,
            attached: one.attached + two.attached,
            mappings: one.mappings + two.mappings,
            quarantined: self.sim.memory().quarantined(),
        }
    }
}

pub fn base() -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
}

/// Adds the first IOMMU, phandle 1.
pub fn iommu(tree: TreeBuilder) -> TreeBuilder {
    tree.node("iommu@1000000", |n| {
        n.compatible(&["test,iommu"])
            .reg(&[(0x100_0000, 0x1000)])
            .u32("#iommu-cells", 1)
            .phandle(1)
    })
}

/// Adds the second IOMMU, phandle 2.
pub fn iommu2(tree: TreeBuilder) -> TreeBuilder {
    tree.node("iommu@2000000", |n| {
        n.compatible(&["test,iommu2"])
            .reg(&[(0x200_0000, 0x1000)])
            .u32("#iommu-cells", 1)
            .phandle(2)
    })
}

/// Adds a master with these `iommus`.
pub fn master(tree: TreeBuilder, name: &str, iommus: &[u32]) -> TreeBuilder {
    tree.node(name, |n| {
        let n = n.compatible(&["test,master"]).flag("dma-coherent");
        if iommus.is_empty() {
            n
        } else {
            n.cells("iommus", iommus)
        }
    })
}

pub fn state(engine: &Engine<Sim>, name: &str) -> &'static str {
    device(engine, name).state.name()
}

pub fn device<'e>(engine: &'e Engine<Sim>, name: &str) -> &'e Device<Sim> {
    engine
        .device(name)
        .unwrap_or_else(|| panic!("no device {name}"))
}

/// The chain of reasons, one string a link.
pub fn why(engine: &Engine<Sim>, name: &str) -> Vec<String> {
    let causes = engine.why(name).expect("the device is there");
    causes
        .into_iter()
        .map(|cause| format!("{}: {}", cause.device, cause.reason))
        .collect()
}

/// All orders of a few things.
pub fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![vec![]];
    }
    let mut all = vec![];
    for (index, item) in items.iter().enumerate() {
        let mut rest = items.to_vec();
        rest.remove(index);
        for mut tail in permutations(&rest) {
            tail.insert(0, item.clone());
            all.push(tail);
        }
    }
    all
}

pub fn streams(engine: &Engine<Sim>, name: &str) -> Vec<u32> {
    device(engine, name)
        .streams
        .iter()
        .map(|stream| stream.id.0)
        .collect()
}

pub fn id(stream: u32) -> StreamId {
    StreamId(stream)
}

pub type Shared<T> = Arc<std::sync::Mutex<T>>;

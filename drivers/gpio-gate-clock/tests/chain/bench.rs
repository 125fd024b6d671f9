//! A small machine in which an IOMMU needs a clock and a power domain, each switched
//! by a line of a GPIO controller, which needs a clock itself:
//!
//! ```text
//! apb ---> pl061 ---> domain (line 1) -.
//!   \        `------> gate (line 0) ----> iommu ---> master
//!    `-----------------^
//! ```

use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Device, Engine};
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::build::TreeBuilder;
use mastiff_fixed_clock::FixedClock;
use mastiff_gpio_gate_clock::GpioGateClock;
use mastiff_gpio_power_domain::GpioPowerDomain;
use mastiff_pl061::Pl061;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::fake_iommu::FakeIommu;
use mastiff_testkit::pl061::Pl061Model;

pub const APB: &str = "/apb";
pub const GPIO: &str = "/gpio@9030000";
pub const GATE: &str = "/gate";
pub const DOMAIN: &str = "/domain";
pub const IOMMU: &str = "/iommu";
pub const MASTER: &str = "/master";
pub const ALL: [&str; 6] = [APB, GPIO, GATE, DOMAIN, IOMMU, MASTER];

/// Phandles.
pub const TO_APB: u32 = 1;
pub const TO_GPIO: u32 = 2;
pub const TO_GATE: u32 = 3;
pub const TO_DOMAIN: u32 = 4;
pub const TO_IOMMU: u32 = 5;

/// Lines that are high when the chain is on.
pub const ON: u8 = 0b11;

const BASE: u64 = 0x0903_0000;

pub type Drivers = Vec<&'static dyn Driver<Sim>>;

pub struct Bench {
    pub sim: Sim,
    pub iommu: FakeIommu,
    pub gpio: Shared<Pl061Model>,
    pub diary: Diary,
}

/// What must be as before when everything is unbound.
#[derive(PartialEq, Debug)]
pub struct Baseline {
    pages: usize,
    windows: usize,
    domains: usize,
    attached: usize,
    mappings: usize,
    /// Of the chain's lines.
    driven: u8,
}

impl Bench {
    pub fn new() -> Self {
        let sim = Sim::new();
        let iommu = FakeIommu::default();
        sim.translate_by(0..=0xff, iommu.translator());
        let diary = Diary::default();
        let gpio = sim.add_device(BASE, 0x1000, Pl061Model::new(&diary));
        Self {
            sim,
            iommu,
            gpio,
            diary,
        }
    }

    /// The drivers, suppliers first.
    pub fn drivers(&self) -> Drivers {
        let iommu = self.iommu.clone();
        let publish = Do::Publish(Box::new(move || Service::Iommu(iommu.instance())));
        let iommu = FakeDriver::new(
            "iommu",
            &[Match::compatible("test,iommu")],
            vec![publish],
            &self.diary,
        );
        let master = FakeDriver::new(
            "master",
            &[Match::compatible("test,master").master()],
            vec![Do::Alloc(4096)],
            &self.diary,
        );
        vec![
            &FixedClock,
            &Pl061,
            &GpioGateClock,
            &GpioPowerDomain,
            iommu,
            master,
        ]
    }

    pub fn start(&self, tree: TreeBuilder, drivers: &Drivers) -> Engine<Sim> {
        let tree = tree.tree().expect("the test's tree is sound");
        let mut engine = Engine::new(self.sim.clone(), tree, Policy::default(), drivers);
        engine.start();
        engine
    }

    /// The whole chain, bound.
    pub fn chain(&self) -> Engine<Sim> {
        let engine = self.start(tree(), &self.drivers());
        for name in ALL {
            assert_eq!(state(&engine, name), "bound");
        }
        self.diary.take();
        engine
    }

    pub fn high(&self) -> u8 {
        self.gpio.lock().unwrap().high()
    }

    pub fn baseline(&self) -> Baseline {
        let counts = self.iommu.counts();
        Baseline {
            pages: self.sim.memory().live(),
            windows: self.sim.windows(),
            domains: counts.domains,
            attached: counts.attached,
            mappings: counts.mappings,
            driven: self.gpio.lock().unwrap().driven() & ON,
        }
    }
}

pub fn base() -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
}

pub fn apb(tree: TreeBuilder) -> TreeBuilder {
    tree.node("apb", |n| {
        n.compatible(&["fixed-clock"])
            .phandle(TO_APB)
            .u32("#clock-cells", 0)
            .u32("clock-frequency", 24_000_000)
    })
}

/// The GPIO controller, run by this clock.
pub fn gpio(tree: TreeBuilder, clock: u32) -> TreeBuilder {
    tree.node("gpio@9030000", |n| {
        n.compatible(&["arm,pl061", "arm,primecell"])
            .reg(&[(BASE, 0x1000)])
            .phandle(TO_GPIO)
            .flag("gpio-controller")
            .u32("#gpio-cells", 2)
            .cells("clocks", &[clock])
    })
}

/// The gate, with what else it has.
pub fn gate(tree: TreeBuilder, more: impl FnOnce(TreeBuilder) -> TreeBuilder) -> TreeBuilder {
    tree.node("gate", |n| {
        more(
            n.compatible(&["gpio-gate-clock"])
                .phandle(TO_GATE)
                .u32("#clock-cells", 0)
                .cells("clocks", &[TO_APB])
                .cells("enable-gpios", &[TO_GPIO, 0, 0]),
        )
    })
}

pub fn domain(tree: TreeBuilder) -> TreeBuilder {
    tree.node("domain", |n| {
        n.compatible(&["mastiff,gpio-power-domain"])
            .phandle(TO_DOMAIN)
            .u32("#power-domain-cells", 0)
            .cells("enable-gpios", &[TO_GPIO, 1, 0])
    })
}

pub fn iommu(tree: TreeBuilder) -> TreeBuilder {
    tree.node("iommu", |n| {
        n.compatible(&["test,iommu"])
            .phandle(TO_IOMMU)
            .u32("#iommu-cells", 1)
            .cells("clocks", &[TO_GATE])
            .cells("power-domains", &[TO_DOMAIN])
    })
}

pub fn master(tree: TreeBuilder) -> TreeBuilder {
    tree.node("master", |n| {
        n.compatible(&["test,master"])
            .flag("dma-coherent")
            .cells("iommus", &[TO_IOMMU, 7])
    })
}

/// The chain, suppliers first.
pub fn tree() -> TreeBuilder {
    let tree = gate(gpio(apb(base()), TO_APB), |n| n);
    master(iommu(domain(tree)))
}

pub fn state(engine: &Engine<Sim>, name: &str) -> &'static str {
    device(engine, name).state.name()
}

pub fn device<'e>(engine: &'e Engine<Sim>, name: &str) -> &'e Device<Sim> {
    engine
        .device(name)
        .unwrap_or_else(|| panic!("no device {name}"))
}

/// The chain of reasons, on one line.
pub fn why(engine: &Engine<Sim>, name: &str) -> String {
    let causes = engine.why(name).expect("the device is there");
    let lines: Vec<String> = causes
        .into_iter()
        .map(|cause| format!("{}: {}", cause.device, cause.reason))
        .collect();
    lines.join(" | ")
}

/// All orders of a few things.
pub fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![vec![]];
    }
    let mut all = vec![];
    for index in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(index);
        for mut tail in permutations(&rest) {
            tail.insert(0, first.clone());
            all.push(tail);
        }
    }
    all
}

//! How the engine's time grows with the number of devices: chains of a thousand, in
//! the order that makes everybody wait, and a master behind the IOMMU at every tenth
//! place. `cargo bench -p mastiff-core --bench scale` prints two times for each size,
//! the best of a few. *Cold*: as many trees as have the devices of the largest are
//! read, and then bound one after another, so that no size finds its devices in the
//! caches because there are few of them. *Warm*: one tree, bound again and again.
//!
//! Sizes given as arguments are run once each instead, for tools that count:
//! `valgrind --tool=callgrind --toggle-collect='*bind*' --cache-sim=yes`.

use std::fmt::Write;
use std::time::Duration;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::ProbeError;
use mastiff_core::policy::Policy;
use mastiff_core::probe::{Probe, Service};
use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{SupplierClass, Tree};
use mastiff_testkit::Sim;
use mastiff_testkit::fake_iommu::FakeIommu;
use rustix::time::{ClockId, clock_gettime};

const CHAIN: usize = 1000;
const SIZES: [usize; 5] = [1_000, 3_000, 10_000, 30_000, 100_000];
const MOST: usize = SIZES[SIZES.len() - 1];
/// Each size is measured so often, in turn with the others: what else the machine does
/// is then in all of them.
const ROUNDS: usize = 5;
/// How often the same small tree is bound again for the time with warm caches.
const REPEATS: usize = 20;

/// Takes everything in the tree.
struct Any;

struct Taken;

impl Bound for Taken {}

impl Driver<Sim> for Any {
    fn name(&self) -> &'static str {
        "any"
    }

    fn matches(&self) -> &'static [Match] {
        const MATCHES: &[Match] = &[
            Match::compatible("test,link"),
            Match::compatible("test,master").master(),
            Match::compatible("test,iommu"),
        ];
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, Sim>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        probe.publish(match node.has("#iommu-cells") {
            true => Service::Iommu(FakeIommu::default().instance()),
            false => Service::Ready(SupplierClass::Clock),
        })?;
        Ok(Box::new(Taken))
    }
}

/// Chains in which each device needs the next one, and the last needs nobody.
fn blob(devices: usize) -> Vec<u8> {
    let mut tree = TreeBuilder::new();
    let mut name = String::new();
    for device in 0..devices {
        name.clear();
        let _ = write!(name, "device@{device:x}");
        let phandle = device as u32 + 2;
        let is_last = device % CHAIN == CHAIN - 1;
        tree = tree.node(&name, |n| {
            let n = match device % 10 {
                0 => n
                    .compatible(&["test,master"])
                    .cells("iommus", &[1, device as u32 / 10]),
                _ => n.compatible(&["test,link"]),
            };
            let n = n.phandle(phandle).u32("#clock-cells", 0);
            if is_last {
                n
            } else {
                n.cells("clocks", &[phandle + 1])
            }
        });
    }
    let iommu = |n: TreeBuilder| {
        n.compatible(&["test,iommu"])
            .phandle(1)
            .u32("#iommu-cells", 1)
    };
    tree.node("iommu", iommu).blob()
}

/// What this thread has run for: the clock on the wall would count other work too.
fn now() -> Duration {
    let ran = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(ran.tv_sec as u64, ran.tv_nsec as u32)
}

/// Has everything bound. A function of its own, so that tools which count instead of
/// timing can be told to count this.
#[inline(never)]
fn bind(tree: Tree) -> Engine<Sim> {
    let mut engine = Engine::new(Sim::new(), tree, Policy::default(), &[&Any]);
    engine.start();
    engine
}

/// Every device is bound, after no more attempts than there are devices and edges.
fn check(engine: &Engine<Sim>, devices: usize) {
    let (mut attempts, mut edges) = (0, 0);
    for device in engine.devices() {
        assert_eq!(device.state, State::Bound, "{}", device.name);
        attempts += u64::from(device.attempts);
        edges += device.waited.len();
    }
    assert!(
        attempts <= (devices + 1 + edges) as u64,
        "{attempts} attempts"
    );
}

/// Time to bind the devices of `count` trees that are alike, one after another. All
/// were read before, and all engines stay until the end.
fn run(blob: &[u8], devices: usize, count: usize) -> Duration {
    let trees: Vec<Tree> = (0..count)
        .map(|_| Tree::parse(blob).expect("the tree is sound"))
        .collect();
    let mut engines = Vec::with_capacity(count);
    let begin = now();
    engines.extend(trees.into_iter().map(bind));
    let ran = now() - begin;
    for engine in &engines {
        check(engine, devices);
    }
    ran
}

/// The best times of a size, in nanoseconds for a device.
#[derive(Copy, Clone)]
struct Best {
    cold: f64,
    warm: f64,
}

impl Best {
    const NONE: Self = Self {
        cold: f64::INFINITY,
        warm: f64::INFINITY,
    };

    fn take(&mut self, devices: usize) {
        let blob = blob(devices);
        let count = (MOST / devices).max(1);
        let each = |time: Duration, trees: usize| time.as_nanos() as f64 / (trees * devices) as f64;
        self.cold = self.cold.min(each(run(&blob, devices, count), count));
        for _ in 0..count.min(REPEATS) {
            self.warm = self.warm.min(each(run(&blob, devices, 1), 1));
        }
    }
}

fn main() {
    let asked: Vec<usize> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    if !asked.is_empty() {
        for devices in asked {
            run(&blob(devices), devices, 1);
        }
        return;
    }
    let mut best = [Best::NONE; SIZES.len()];
    for _ in 0..ROUNDS {
        for (best, devices) in best.iter_mut().zip(SIZES) {
            best.take(devices);
        }
    }
    println!("bind, ns for a device: best of {ROUNDS}");
    println!(
        "{:>8} {:>8} {:>9} {:>8} {:>9}",
        "devices", "cold", "to first", "warm", "to first"
    );
    for (this, devices) in best.iter().zip(SIZES) {
        let cold = 100.0 * this.cold / best[0].cold;
        let warm = 100.0 * this.warm / best[0].warm;
        println!(
            "{devices:>8} {:>8.0} {cold:>8.0}% {:>8.0} {warm:>8.0}%",
            this.cold, this.warm
        );
    }
}

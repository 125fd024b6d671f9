//! How the engine's time grows with the number of devices: chains of a thousand, in
//! the order that makes everybody wait, and a master behind the IOMMU at every tenth
//! place. `cargo bench -p mastiff-core --bench scale` prints, for each size, the best
//! of a few runs. Sizes given as arguments are run once each instead, for tools that
//! count instructions: `valgrind --tool=callgrind --toggle-collect='*bind*'`.

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
/// Devices that are bound before the best time is taken.
const WORK: usize = 400_000;

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

/// Time to read the tree, and time to bind everything.
fn run(blob: &[u8], devices: usize) -> (Duration, Duration) {
    let begin = now();
    let tree = Tree::parse(blob).expect("the tree is sound");
    let parse = now() - begin;
    let begin = now();
    let engine = bind(tree);
    let bind = now() - begin;
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
    (parse, bind)
}

fn main() {
    let asked: Vec<usize> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let (sizes, work) = match asked.is_empty() {
        true => (&SIZES[..], WORK),
        false => (&asked[..], 0),
    };
    println!(
        "{:>8} {:>14} {:>14} {:>10}",
        "devices", "parse ns/dev", "bind ns/dev", "to first"
    );
    let mut first = None;
    for &devices in sizes {
        let blob = blob(devices);
        let runs = (0..(work / devices).clamp(1, 50)).map(|_| run(&blob, devices));
        let (parse, bind) = runs
            .reduce(|best, run| (best.0.min(run.0), best.1.min(run.1)))
            .expect("there is a run");
        let each = |time: Duration| time.as_nanos() as f64 / devices as f64;
        let first = *first.get_or_insert(each(bind));
        let ratio = 100.0 * each(bind) / first;
        println!(
            "{devices:>8} {:>14.0} {:>14.0} {ratio:>9.0}%",
            each(parse),
            each(bind)
        );
    }
}

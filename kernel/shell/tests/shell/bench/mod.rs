//! A small machine for boots: a fake IOMMU, masters that really do DMA through it,
//! a bus with a function on it, and a console that keeps what it was shown.

mod console;
mod disk;
mod function;
mod hostile;
mod master;
mod spaces;
mod tree;

use std::cell::RefCell;
use std::sync::Arc;

use mastiff_core::bus::{Child, PciId};
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::Engine;
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_core::supply::{AlwaysOn, Switch};
use mastiff_dt::SupplierClass;
use mastiff_dt::build::TreeBuilder;
use mastiff_shell::Shell;
use mastiff_shell::bootargs::BootArgs;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::fake_iommu::FakeIommu;

use console::Console;
pub use console::{Booted, all_records};
pub use disk::{BLOCK, BLOCKS, DIGEST, content};
use function::Function;
pub use master::Is;
use master::MasterDriver;
pub use tree::{base, iommu, master, tree};

pub const IOMMU: &str = "/iommu@1000000";
pub const DISK: &str = "/disk@1";
pub const ENGINE: &str = "/engine@2";

const DISKS: &[Match] = &[Match::compatible("test,disk").master()];
const ENGINES: &[Match] = &[Match::compatible("test,engine").master()];

/// The machine under the boots.
pub struct Bench {
    pub sim: Sim,
    pub iommu: FakeIommu,
    pub diary: Diary,
    pub instructions: Option<u64>,
    /// Instructions that a turn takes by the CPU's counter.
    pub turn: u64,
    /// Whether the console is there after each command typed, and after what is done
    /// about it.
    pub there: Vec<bool>,
    keys: Vec<u8>,
}

impl Bench {
    pub fn new() -> Self {
        let sim = Sim::new();
        let iommu = FakeIommu::default();
        sim.translate_by(0..=0xff, iommu.translator());
        Self {
            sim,
            iommu,
            diary: Diary::default(),
            instructions: None,
            turn: 2,
            there: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// What is typed at the prompt; ctrl-D follows.
    pub fn keys(mut self, keys: &[u8]) -> Self {
        self.keys = keys.into();
        self
    }

    /// A driver that makes the IOMMU available, and a clock with it.
    pub fn iommu_driver(&self) -> &'static dyn Driver<Sim> {
        let iommu = self.iommu.clone();
        let publish = Do::Publish(Box::new(move || Service::Iommu(iommu.instance())));
        let clock = || {
            let clock = Switch::with_rate("pll", Some(24_000_000), AlwaysOn);
            Service::Switches(SupplierClass::Clock, Arc::new(clock))
        };
        FakeDriver::new(
            "iommu",
            &[Match::compatible("test,iommu")],
            vec![publish, Do::Publish(Box::new(clock))],
            &self.diary,
        )
    }

    /// A driver for masters of this compatible.
    pub fn master(&self, name: &'static str, is: Is) -> &'static dyn Driver<Sim> {
        let matches = match name {
            "disk" => DISKS,
            _ => ENGINES,
        };
        Box::leak(Box::new(MasterDriver {
            name,
            matches,
            is,
            fake: self.iommu.clone(),
            sim: self.sim.clone(),
            diary: self.diary.clone(),
        }))
    }

    /// A driver for a bus with one function, for which there is no driver.
    pub fn bus_driver(&self) -> &'static dyn Driver<Sim> {
        let child = Do::Child(Box::new(|| Child {
            name: "00:01.0".into(),
            node: None,
            pci: PciId {
                vendor: 0x1234,
                device: 0xabcd,
                class: 0,
            },
            requesters: vec![8],
            isolation: None,
            function: Arc::new(Function),
        }));
        FakeDriver::new(
            "bus",
            &[Match::compatible("test,bus")],
            vec![child],
            &self.diary,
        )
    }

    /// Masters first, so that they have to wait.
    pub fn drivers(&self) -> Vec<&'static dyn Driver<Sim>> {
        vec![
            self.master("disk", Is::Disk),
            self.master("engine", Is::Engine),
            self.bus_driver(),
            self.iommu_driver(),
        ]
    }

    pub fn boot(&self, bootargs: &str) -> Booted {
        self.boot_with(tree(), &self.drivers(), bootargs)
    }

    /// Runs commands on the usual machine.
    pub fn run(&self, commands: &str) -> Booted {
        self.boot(&format!("run=\"{commands}\""))
    }

    pub fn boot_with(
        &self,
        tree: TreeBuilder,
        drivers: &[&'static dyn Driver<Sim>],
        bootargs: &str,
    ) -> Booted {
        let args = BootArgs::parse(bootargs, Policy::default());
        assert_eq!(args.warnings, [""; 0]);
        let tree = tree.tree().expect("the test's tree is sound");
        // Nobody but the kernel has a page with that in it.
        let page = self.sim.alloc_pages(PageRequest::new(4096));
        let page = page.expect("there is memory");
        page.fill(0, 4096, 0xc3);
        self.sim.barrier(Barrier::Publish);
        let mut engine = Engine::new(self.sim.clone(), tree, args.policy, drivers);
        args.start(&mut engine);
        let console = Console {
            keys: RefCell::new(self.keys.iter().copied().collect()),
            there: RefCell::new(self.there.iter().copied().collect()),
            instructions: self.instructions,
            turns: Some((self.sim.clone(), self.turn)),
            sim: Some((self.sim.clone(), page.pa())),
            ..Console::default()
        };
        let ending = Shell::new(engine, &console, &args).serve(args.run.as_deref());
        Booted {
            ending,
            shown: console.shown.into_inner(),
        }
    }
}

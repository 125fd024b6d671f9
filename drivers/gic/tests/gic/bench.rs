//! A simulated machine with the model of a GIC, a device with wired interrupts, and
//! a bus with two functions that signal by message. Everything is bound by the
//! engine from a tree, as on hardware.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::bus::{BusFunction, Child, PciId};
use mastiff_core::driver::{Driver, Match};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Interrupt;
use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{InterruptSpec, PropError, Tree};
use mastiff_gic::Gic;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};

use crate::its_model::{Its, PROCESSORS, Redistributor};
use crate::model::{Cpu, CpuFrame, Distributor, MPIDR, Model, MsiFrame};

pub const GICD: u64 = 0x0800_0000;
const GICC: u64 = 0x0801_0000;
pub const V2M: u64 = 0x0802_0000;
pub const ITS: u64 = 0x0808_0000;
pub const GICR: u64 = 0x080a_0000;
pub const GICR_LEN: u64 = 0x2_0000;

/// Aff3 to Aff0 of [`crate::model::MPIDR`], and of another CPU.
const HERE: u32 = 0x0102_0003;
const ELSEWHERE: u32 = 0;

/// What a function's bus was told.
#[derive(Clone, Default)]
pub struct Function(Arc<Mutex<Option<(u64, u32)>>>);

impl Function {
    /// Address and data of the function's message.
    pub fn message(&self) -> Option<(u64, u32)> {
        *self.0.lock().unwrap()
    }
}

impl BusFunction for Function {
    fn window(&self, index: usize) -> Result<PhysRange, Fault> {
        Err(Fault::NoWindow { index })
    }
    fn set_master(&self, _on: bool) {}
    fn messages(&self) -> u32 {
        1
    }
    fn set_message(&self, _index: u32, address: u64, data: u32) -> Result<(), Fault> {
        *self.0.lock().unwrap() = Some((address, data));
        Ok(())
    }
    fn clear_message(&self, _index: u32) {
        *self.0.lock().unwrap() = None;
    }
    fn interrupt(&self) -> Result<Option<InterruptSpec>, PropError> {
        Ok(None)
    }
    fn apertures(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }
    fn bus_address(&self, pa: PhysAddr) -> u64 {
        pa.0
    }
}

/// Interrupts, and how often any of them came.
#[derive(Clone, Default)]
pub struct Kept {
    pub interrupts: Arc<Mutex<Vec<Interrupt>>>,
    pub count: Arc<AtomicU32>,
}

impl Kept {
    fn take(self) -> Do {
        Do::Call(Box::new(move |probe| {
            let count = self.count.clone();
            let handler = move || {
                count.fetch_add(1, Ordering::SeqCst);
            };
            let interrupt = probe.interrupt(Arc::new(handler))?;
            self.interrupts.lock().unwrap().push(interrupt);
            Ok(())
        }))
    }
}

/// The machine.
pub struct Bench {
    pub sim: Sim,
    pub model: Model,
    /// Of the private half of another CPU.
    pub other: Model,
    pub diary: Diary,
    pub functions: [Function; 2],
    /// Where functions leave their interrupts, for tests that have something to do with
    /// them.
    pub kept: Option<Kept>,
    /// The machine, as the tree has it.
    pub machine: &'static str,
    /// The bus' `msi-map-mask`.
    pub mask: u32,
    pub its: Option<Shared<Its>>,
    pub redistributor: Option<Shared<Redistributor>>,
}

impl Bench {
    fn new(v3: bool) -> Self {
        let sim = Sim::new();
        // The bench has a controller of its own, which would be in the way.
        sim.irqs().set_chip(None);
        Self {
            sim,
            model: Model::new(v3),
            other: {
                let other = Model::new(v3);
                other.state().other = true;
                other
            },
            diary: Diary::default(),
            functions: Default::default(),
            kept: None,
            machine: "test,machine",
            mask: u32::MAX,
            its: None,
            redistributor: None,
        }
    }

    pub fn v2() -> Self {
        let bench = Self::new(false);
        let sim = &bench.sim;
        sim.add_device(GICD, 0x1000, Distributor(bench.model.clone()));
        sim.add_device(GICC, 0x1000, CpuFrame(bench.model.clone()));
        sim.add_device(V2M, 0x1000, MsiFrame(bench.model.clone()));
        bench
    }

    pub fn v3() -> Self {
        let mut bench = Self::new(true);
        let model = &bench.model;
        let sim = &bench.sim;
        sim.add_device(GICD, 0x1_0000, Distributor(model.clone()));
        let [number, another] = PROCESSORS;
        let other = Redistributor::new(bench.other.clone(), another, ELSEWHERE, false);
        sim.add_device(GICR, GICR_LEN, other);
        let redistributor = Redistributor::new(model.clone(), number, HERE, true);
        let redistributor = sim.add_device(GICR + GICR_LEN, GICR_LEN, redistributor);
        let its = Its::new([model.clone(), bench.other.clone()], redistributor.clone());
        bench.its = Some(sim.add_device(ITS, 0x2_0000, its));
        bench.redistributor = Some(redistributor);
        bench
    }

    /// The tree: the GIC as `describe` completes it, a wired device, and the bus.
    fn tree(&self, describe: impl FnOnce(TreeBuilder) -> TreeBuilder) -> Tree {
        TreeBuilder::new()
            .compatible(&[self.machine])
            .u32("#address-cells", 2)
            .u32("#size-cells", 2)
            .u32("interrupt-parent", 1)
            .node("intc@8000000", |n| {
                describe(
                    n.phandle(1)
                        .u32("#interrupt-cells", 3)
                        .u32("#address-cells", 2)
                        .u32("#size-cells", 2)
                        .flag("ranges")
                        .flag("interrupt-controller"),
                )
            })
            .node("wired", |n| {
                // A level, an edge, a private interrupt.
                n.compatible(&["test,wired"])
                    .cells("interrupts", &[0, 8, 4, 0, 9, 1, 1, 11, 4])
            })
            .node("bus", |n| {
                n.compatible(&["test,bus"])
                    .cells("msi-map", &[0, 2, 0, 0x1_0000])
                    .u32("msi-map-mask", self.mask)
            })
            .tree()
            .unwrap()
    }

    pub fn v2_tree(&self) -> Tree {
        self.v2_tree_with(|frame| frame)
    }

    /// With more said of the message frame.
    pub fn v2_tree_with(&self, frame: impl FnOnce(TreeBuilder) -> TreeBuilder) -> Tree {
        self.tree(|n| {
            n.compatible(&["arm,cortex-a15-gic"])
                .reg(&[(GICD, 0x1000), (GICC, 0x1000)])
                .node("v2m@8020000", |n| {
                    frame(
                        n.compatible(&["arm,gic-v2m-frame"])
                            .phandle(2)
                            .reg(&[(V2M, 0x1000)]),
                    )
                })
        })
    }

    pub fn v3_tree(&self) -> Tree {
        self.v3_tree_with(|gic| gic, |its| its)
    }

    /// With more said of the GIC and of its ITS.
    pub fn v3_tree_with(
        &self,
        gic: impl FnOnce(TreeBuilder) -> TreeBuilder,
        its: impl FnOnce(TreeBuilder) -> TreeBuilder,
    ) -> Tree {
        // Room for more CPUs than there are, as on QEMU.
        self.v3_tree_of(3 * GICR_LEN, gic, its)
    }

    /// With a region of that many bytes for redistributors.
    pub fn v3_tree_of(
        &self,
        redistributors: u64,
        gic: impl FnOnce(TreeBuilder) -> TreeBuilder,
        its: impl FnOnce(TreeBuilder) -> TreeBuilder,
    ) -> Tree {
        self.tree(|n| {
            gic(n
                .compatible(&["arm,gic-v3"])
                .reg(&[(GICD, 0x1_0000), (GICR, redistributors)])
                .node("its@8080000", |n| {
                    its(n
                        .compatible(&["arm,gic-v3-its"])
                        .phandle(2)
                        .u32("#msi-cells", 1)
                        .reg(&[(ITS, 0x2_0000)]))
                }))
        })
    }

    /// Binds everything that can be bound.
    pub fn start(&self, tree: Tree) -> Engine<Sim> {
        let mut engine = Engine::new(self.sim.clone(), tree, Policy::default(), &self.drivers());
        engine.start();
        engine
    }

    fn drivers(&self) -> [&'static dyn Driver<Sim>; 4] {
        let diary = &self.diary;
        let cpu = Box::leak(Box::new(Cpu {
            sim: self.sim.clone(),
            cpus: [
                (self.model.clone(), MPIDR),
                (self.other.clone(), u64::from(ELSEWHERE)),
            ],
        }));
        let wired = FakeDriver::new(
            "wired",
            &[Match::compatible("test,wired")],
            vec![Do::Irq(0), Do::Irq(1), Do::Irq(2)],
            diary,
        );
        // Bus 1 and bus 3: their DeviceIDs are in different second-level pages.
        let children = [(0x0100, "01:00.0"), (0x0310, "03:02.0")];
        let script = children.iter().zip(&self.functions);
        let script = script.map(|(&(requester, name), function)| {
            let function = function.clone();
            Do::Child(Box::new(move || Child {
                name: name.into(),
                node: None,
                pci: PciId {
                    vendor: 1,
                    device: 2,
                    class: 0,
                },
                requesters: vec![requester],
                isolation: None,
                function: Arc::new(function.clone()),
            }))
        });
        let bus = FakeDriver::new(
            "bus",
            &[Match::compatible("test,bus")],
            script.collect(),
            diary,
        );
        let function = FakeDriver::new(
            "function",
            &[Match::pci(1, 2).master()],
            match &self.kept {
                None => vec![Do::Interrupt],
                Some(kept) => vec![kept.clone().take()],
            },
            diary,
        );
        // In the order in which everything has to wait.
        [wired, bus, function, Box::leak(Box::new(Gic::new(cpu)))]
    }

    /// Has the CPU take interrupts as long as it is signalled any, and the kernel
    /// serve them; says whose handlers ran.
    pub fn interrupt(&self) -> Vec<String> {
        self.sim.advance_us(1);
        let hub = self.sim.irqs();
        for _ in 0..8 {
            if self.model.signals() {
                hub.take();
            }
        }
        assert!(!self.model.signals(), "an interrupt that is not quiet");
        hub.service();
        self.diary.take()
    }

    /// What `what` gives on another CPU.
    pub fn on_the_other_cpu<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let there = || {
            self.sim.be_cpu(1);
            what()
        };
        std::thread::scope(|scope| scope.spawn(there).join().unwrap())
    }

    /// Nothing is held, nothing is on.
    pub fn assert_clean(&self) {
        assert_eq!(self.sim.memory().live(), 0, "pages");
        assert_eq!(self.sim.windows(), 0, "register windows");
        assert!(self.sim.irqs().chip().is_none(), "the hub's chip");
        assert!(!self.model.state().cpu_on, "the CPU interface");
        if let Some(its) = &self.its {
            let its = its.lock().unwrap();
            assert!(its.ctlr == 0 || !its.touched, "the ITS");
        }
        for model in [&self.model, &self.other] {
            assert!(!model.state().lpis_on, "LPIs");
        }
    }
}

/// Why a device is not bound, or nothing.
pub fn fault(engine: &Engine<Sim>, name: &str) -> Option<Fault> {
    match &engine.device(name)?.state {
        State::Failed(fault) => Some(fault.clone()),
        _ => None,
    }
}

//! A machine around a PCI host, for tests of drivers of PCI functions: interrupt
//! controller, frame for messages, fake IOMMU, the tree that describes them, and
//! the engine over it.

use std::sync::Arc;

use mastiff_core::driver::Driver;
use mastiff_core::engine::Engine;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::build::TreeBuilder;

use super::bus::SimBus;
use super::designware::{SimDesignWare, Window};
use super::host::{PciPorts, SimPci};
use crate::bus::Shared;
use crate::fake_driver::FakeDriver;
use crate::fake_iommu::FakeIommu;
use crate::inject::Step;
use crate::irq::MsiFrame;
use crate::sim::Sim;

/// Configuration space.
pub const ECAM: u64 = 0x40_1000_0000;
/// The host, in the tree.
const HOST: &str = "/pcie@10000000";
/// The frame for message interrupts.
pub const MSI_FRAME: u64 = 0x802_0000;
const BUSES: u64 = 8;
const LOW: u64 = 0x1000_0000;
const LOW_LEN: u64 = 0x1000_0000;
const HIGH: u64 = 0x80_0000_0000;
const HIGH_LEN: u64 = 0x1_0000_0000;
const FIRST_PIN: u32 = 3;
const FIRST_MESSAGE: u32 = 80;
/// The DesignWare host's registers, its window on configuration space, its root bus, and
/// what is added to an address in a memory window on the way to the bus.
const REGISTERS: u64 = 0xa_4000_0000;
const REGISTERS_LEN: u64 = 0x40_0000;
const CONFIG: u64 = 0xf000_0000;
const CONFIG_LEN: u64 = 0x10_0000;
const ROOT_BUS: u8 = 0x20;
const TO_BUS: u64 = 0x1000_0000;

const GIC: u32 = 1;
const FRAME: u32 = 2;
const IOMMU: u32 = 3;

/// The machine. What a test wants otherwise it changes before [`boot`](Self::boot).
pub struct PciMachine {
    /// The machine below.
    pub sim: Sim,
    /// Host and functions.
    pub pci: Shared<SimPci>,
    /// The IOMMU that all functions are behind.
    pub iommu: FakeIommu,
    /// The frame for message interrupts.
    pub msi: Arc<MsiFrame>,
    /// Whether the tree has the IOMMU; without it DMA is direct.
    pub has_iommu: bool,
    /// Whether the tree has the frame; without it functions use their pins.
    pub has_msi: bool,
    /// What the host's node has besides, or instead.
    pub extra: fn(TreeBuilder) -> TreeBuilder,
    /// How far the buses' addresses are from the CPU's.
    to_bus: u64,
}

impl PciMachine {
    /// A machine whose root bus is this.
    pub fn new(root: SimBus) -> Self {
        Self::on(Sim::new(), root)
    }

    /// The same on a machine with other RAM.
    pub fn on(sim: Sim, root: SimBus) -> Self {
        let machine = Self::around(sim, root, 0, 0);
        let (sim, pci) = (&machine.sim, &machine.pci);
        sim.add_device(ECAM, BUSES << 20, PciPorts::ecam(pci));
        sim.add_device(LOW, LOW_LEN, PciPorts::memory(pci, LOW));
        sim.add_device(HIGH, HIGH_LEN, PciPorts::memory(pci, HIGH));
        machine
    }

    /// A machine whose host is a DesignWare one with so many regions, side by side or shown
    /// one by one.
    pub fn designware(
        root: SimBus,
        unrolled: bool,
        regions: usize,
    ) -> (Self, Shared<SimDesignWare>) {
        let mut machine = Self::around(Sim::new(), root, ROOT_BUS, TO_BUS);
        machine.extra = |host| {
            host.compatible(&["acme,pcie", "snps,dw-pcie"])
                .cells("bus-range", &[ROOT_BUS.into(), u32::from(ROOT_BUS) + 15])
                .reg(&[(REGISTERS, REGISTERS_LEN), (CONFIG, CONFIG_LEN)])
                .strings("reg-names", &["dbi", "config"])
        };
        let host = SimDesignWare::new(&machine.pci, unrolled, regions);
        let sim = &machine.sim;
        sim.share_device(REGISTERS, REGISTERS_LEN, host.clone());
        for (start, len) in [(CONFIG, CONFIG_LEN), (LOW, LOW_LEN), (HIGH, HIGH_LEN)] {
            sim.add_device(start, len, Window::new(&host, start));
        }
        (machine, host)
    }

    fn around(sim: Sim, root: SimBus, first_bus: u8, to_bus: u64) -> Self {
        let pins = [0, 1, 2, 3].map(|pin| 32 + FIRST_PIN + pin);
        let pci = SimPci::new(root, first_bus, pins);
        let msi = sim.add_msi_frame(MSI_FRAME, FIRST_MESSAGE, 16);
        Self {
            sim,
            pci,
            iommu: FakeIommu::default(),
            msi,
            has_iommu: true,
            has_msi: true,
            extra: |host| host,
            to_bus,
        }
    }

    /// Boots with these drivers and those of the machine itself.
    pub fn boot(&self, drivers: &[&'static dyn Driver<Sim>]) -> Engine<Sim> {
        if self.has_iommu {
            self.sim.translate_by(0..=0xffff, self.iommu.translator());
        }
        let (chip, frame, iommu) = (
            self.sim.chip().clone(),
            self.msi.clone(),
            self.iommu.clone(),
        );
        let own: [&'static dyn Driver<Sim>; 3] = [
            FakeDriver::publisher("sim-gic", "sim,gic", move || Service::Irq(chip.clone())),
            FakeDriver::publisher("sim-msi", "sim,msi", move || Service::Msi(frame.clone())),
            FakeDriver::publisher("sim-iommu", "sim,iommu", move || {
                Service::Iommu(iommu.instance())
            }),
        ];
        // The machine's own come last: what needs them has to wait.
        let drivers = [drivers, &own].concat();
        let tree = self.tree().tree().expect("the machine's tree is sound");
        let mut engine = Engine::new(self.sim.clone(), tree, Policy::default(), &drivers);
        engine.start();
        engine
    }

    /// Boots with the n-th of such steps failing, for every n that there is, and has the
    /// engine `act`; afterwards nothing may be left of anything.
    pub fn fail_at_every(
        steps: &[Step],
        machine: impl Fn() -> Self,
        drivers: &[&'static dyn Driver<Sim>],
        act: impl Fn(&Engine<Sim>),
    ) {
        for &step in steps {
            let mut n = 0;
            while machine().fail_at(step, n, drivers, &act) {
                n += 1;
            }
            assert!(n > 0, "{step:?} is never taken");
        }
    }

    /// The same for one step; whether it was reached.
    fn fail_at(
        &self,
        step: Step,
        n: u32,
        drivers: &[&'static dyn Driver<Sim>],
        act: impl Fn(&Engine<Sim>),
    ) -> bool {
        let injections = [self.sim.inject(), self.iommu.inject()];
        injections.iter().for_each(|inject| inject.fail(step, n));
        let mut engine = self.boot(drivers);
        act(&engine);
        let reached = !injections.iter().all(|inject| inject.is_armed(step));
        injections.iter().for_each(|inject| inject.disarm(step));
        // A host that failed is not bound.
        let _ = engine.unbind(HOST);
        let counts = self.iommu.counts();
        let kept = (counts.domains, counts.attached, counts.mappings);
        assert_eq!(kept, (0, 0, 0), "{step:?} {n}");
        assert_eq!(self.sim.windows(), 0, "{step:?} {n}");
        assert_eq!(self.sim.memory().live(), 0, "{step:?} {n}");
        assert_eq!(self.msi.used().len(), 0, "{step:?} {n}");
        assert!(self.sim.chip().enabled().is_empty(), "{step:?} {n}");
        reached
    }

    /// The tree, as QEMU's virt machine would give it.
    fn tree(&self) -> TreeBuilder {
        let map = |target: u32| [0, target, 0, 0x10000];
        TreeBuilder::new()
            .u32("#address-cells", 2)
            .u32("#size-cells", 2)
            .u32("interrupt-parent", GIC)
            .node(&HOST[1..], |host| {
                // Of two properties of one name the first counts: the test's.
                let mut host = ecam_host((self.extra)(host), BUSES)
                    .cells("ranges", &ranges(self.to_bus))
                    .cells("interrupt-map-mask", &[0x1800, 0, 0, 7])
                    .cells("interrupt-map", &interrupt_map());
                if self.has_iommu {
                    host = host.cells("iommu-map", &map(IOMMU));
                }
                if self.has_msi {
                    host = host.cells("msi-map", &map(FRAME));
                }
                host
            })
            .node("iommu@9050000", |n| {
                n.compatible(&["sim,iommu"])
                    .phandle(IOMMU)
                    .u32("#iommu-cells", 1)
            })
            .node("gic@8000000", |n| {
                n.compatible(&["sim,gic"])
                    .phandle(GIC)
                    .flag("interrupt-controller")
                    .u32("#interrupt-cells", 3)
            })
            .node("msi@8020000", |n| {
                n.compatible(&["sim,msi"])
                    .phandle(FRAME)
                    .flag("msi-controller")
            })
    }
}

/// What the node of a generic host has, but for its windows and its interrupts.
pub fn ecam_host(node: TreeBuilder, buses: u64) -> TreeBuilder {
    node.compatible(&["pci-host-ecam-generic"])
        .string("device_type", "pci")
        .u32("#address-cells", 3)
        .u32("#size-cells", 2)
        .u32("#interrupt-cells", 1)
        .reg(&[(ECAM, buses << 20)])
        .cells("bus-range", &[0, buses as u32 - 1])
        .flag("dma-coherent")
}

fn ranges(to_bus: u64) -> Vec<u32> {
    let range = |space: u32, at: u64, len: u64| {
        let bus = at + to_bus;
        [
            space << 24,
            (bus >> 32) as u32,
            bus as u32,
            (at >> 32) as u32,
            at as u32,
            (len >> 32) as u32,
            len as u32,
        ]
    };
    [range(2, LOW, LOW_LEN), range(3, HIGH, HIGH_LEN)].concat()
}

/// Pins turn with the device, four devices long.
fn interrupt_map() -> Vec<u32> {
    let mut map = Vec::new();
    for device in 0..4u32 {
        for pin in 1..=4u32 {
            let interrupt = FIRST_PIN + (device + pin - 1) % 4;
            map.extend([device << 11, 0, 0, pin, GIC, 0, interrupt, 4]);
        }
    }
    map
}

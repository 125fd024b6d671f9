//! QEMU's `virt` as far as the image's drivers go, with one IOMMU or another. Only the
//! interrupt controller is the test bench's: the GICs have machines of their own.

use std::sync::Arc;

use mastiff_core::engine::Engine;
use mastiff_core::policy::Policy;
use mastiff_core::probe::Service;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::SimDevice;
use mastiff_testkit::edu::SimEdu;
use mastiff_testkit::fake_driver::{Diary, FakeDriver};
use mastiff_testkit::fake_iommu::FakeIommu;
use mastiff_testkit::nvme::SimNvme;
use mastiff_testkit::pci::{ECAM, MSI_FRAME, PciPorts, SimBus, SimPci, ecam_host};
use mastiff_testkit::pl061::Pl061Model;
use mastiff_testkit::smmu::{Features, Lines, Smmu, WINDOW};
use mastiff_testkit::testdev::SimTestdev;

use crate::machine::{Machine, count, image};
use crate::viommu::{Layout, SLOT, SimViommu, Translator};

const SMMU: u64 = 0x0905_0000;
const UART: u64 = 0x0900_0000;
const GPIO: u64 = 0x0903_0000;
const PCI: u64 = 0x1000_0000;
const PCI_LEN: u64 = 0x1000_0000;
const BUSES: u64 = 4;
const DISK: usize = 64 << 10;

// Phandles.
const INTC: u32 = 1;
const FRAME: u32 = 2;
const IOMMU: u32 = 3;
const APB: u32 = 4;
const LINES: u32 = 5;
const GATE: u32 = 6;
const DOMAIN: u32 = 7;
const SUPPLY: u32 = 8;
const HALF: u32 = 9;

/// Which IOMMU the functions are behind.
#[derive(Copy, Clone, PartialEq)]
enum Behind {
    Smmu,
    Fake,
    Virtio,
}

pub fn with_smmu() -> Machine {
    machine(Behind::Smmu)
}

pub fn with_fake_iommu() -> Machine {
    machine(Behind::Fake)
}

pub fn with_virtio_iommu() -> Machine {
    machine(Behind::Virtio)
}

/// A UART that nothing arrives at and that takes everything.
struct Uart([u32; 0x400]);

impl SimDevice for Uart {
    fn read(&mut self, at: u64, _width: usize) -> u64 {
        const FLAGS: u64 = 0x18;
        const EMPTY: u64 = 0x90;
        match at {
            FLAGS => EMPTY,
            _ => self.0[at as usize / 4].into(),
        }
    }

    fn write(&mut self, at: u64, _width: usize, value: u64) {
        self.0[at as usize / 4] = value as u32;
    }
}

fn machine(behind: Behind) -> Machine {
    let sim = Sim::new();
    let diary = Diary::default();
    let (nvme, disk) = SimNvme::function(vec![0x5a; DISK]);
    let (_, edu) = SimEdu::function();
    let (_, managed) = SimEdu::function();
    let (_, testdev) = SimTestdev::function();
    let (all_bits, wide) = SimEdu::function();
    all_bits.lock().expect("nobody uses it yet").mask = u64::MAX;
    let mut root = SimBus::new()
        .with(1, 0, disk)
        .with(2, 0, edu)
        .with(4, 0, managed)
        .with(5, 0, testdev)
        .with(6, 0, wide);
    let mut fake = None;
    match behind {
        Behind::Smmu => {
            Smmu::install(&sim, SMMU, 0..=0xffff, Features::virt(), Lines::VIRT);
        }
        Behind::Fake => {
            let iommu = FakeIommu::default();
            sim.translate_by(0..=0xffff, iommu.translator());
            fake = Some(iommu);
        }
        Behind::Virtio => {
            let (model, function) = SimViommu::function(Layout::Messages);
            root = root.with(SLOT, 0, function);
            let tables = model.lock().expect("nobody uses it yet").tables();
            let translator = Arc::new(std::sync::Mutex::new(Translator(tables)));
            sim.translate_by(0..=0xffff, translator);
        }
    }
    let pci = SimPci::new(root, 0, [35, 36, 37, 38]);
    sim.add_device(ECAM, BUSES << 20, PciPorts::ecam(&pci));
    sim.add_device(PCI, PCI_LEN, PciPorts::memory(&pci, PCI));
    sim.add_device(UART, 0x1000, Uart([0; 0x400]));
    let gpio = sim.add_device(GPIO, 0x1000, Pl061Model::new(&diary));
    let frame = sim.add_msi_frame(MSI_FRAME, 80, 16);
    let mut drivers = image().to_vec();
    let chip = sim.chip().clone();
    let messages = frame.clone();
    drivers.push(FakeDriver::publisher("sim-intc", "sim,intc", move || {
        Service::Irq(chip.clone())
    }));
    drivers.push(FakeDriver::publisher("sim-msi", "sim,msi", move || {
        Service::Msi(messages.clone())
    }));
    if let Some(iommu) = fake.clone() {
        drivers.push(FakeDriver::publisher("sim-iommu", "sim,iommu", move || {
            Service::Iommu(iommu.instance())
        }));
    }
    let tree = tree(behind).tree().expect("the drill's tree is sound");
    let mut engine = Engine::new(sim.clone(), tree, Policy::default(), &drivers);
    for (device, driver) in [("00:04.0", "edu-managed"), ("00:06.0", "edu-wide")] {
        engine
            .override_driver(&format!("/pcie@10000000/{device}"), driver)
            .expect("the image has it");
    }
    engine.start();
    for device in engine.devices() {
        assert!(
            device.bound().is_some(),
            "{}: {:?}",
            device.name,
            device.state
        );
    }
    Machine {
        sim,
        engine,
        fake,
        held: Box::new(move || {
            vec![
                frame.used().len() as u64,
                count(&nvme, |nvme| nvme.is_enabled().into()),
                count(&gpio, |gpio| gpio.driven().into()),
                count(&gpio, |gpio| (gpio.high() & gpio.driven()).into()),
            ]
        }),
    }
}

fn tree(behind: Behind) -> TreeBuilder {
    let tree = TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .u32("interrupt-parent", INTC)
        .node("pcie@10000000", |host| pcie(host, behind));
    let tree = match behind {
        Behind::Smmu => tree.node("smmuv3@9050000", smmu),
        Behind::Fake => tree.node("iommu", |n| {
            n.compatible(&["sim,iommu"])
                .phandle(IOMMU)
                .u32("#iommu-cells", 1)
                .cells("clocks", &[GATE])
                .cells("power-domains", &[DOMAIN])
        }),
        Behind::Virtio => tree,
    };
    let tree = tree
        .node("uart@9000000", |n| {
            n.compatible(&["arm,pl011", "arm,primecell"])
                .reg(&[(UART, 0x1000)])
                .cells("interrupts", &[0, 1, 4])
                .cells("clocks", &[HALF, APB])
                .strings("clock-names", &["uartclk", "apb_pclk"])
        })
        .node("timer", |n| {
            n.compatible(&["arm,armv8-timer"])
                .cells("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4])
        });
    supplies(tree)
        .node("intc", |n| {
            n.compatible(&["sim,intc"])
                .phandle(INTC)
                .flag("interrupt-controller")
                .u32("#interrupt-cells", 3)
        })
        .node("msi", |n| {
            n.compatible(&["sim,msi"])
                .phandle(FRAME)
                .flag("msi-controller")
        })
}

fn smmu(node: TreeBuilder) -> TreeBuilder {
    node.compatible(&["arm,smmu-v3"])
        .reg(&[(SMMU, WINDOW)])
        .phandle(IOMMU)
        .u32("#iommu-cells", 1)
        .flag("dma-coherent")
        .strings(
            "interrupt-names",
            &["eventq", "priq", "cmdq-sync", "gerror"],
        )
        .cells("interrupts", &[0, 74, 1, 0, 75, 1, 0, 76, 1, 0, 77, 1])
        .cells("clocks", &[GATE])
        .cells("power-domains", &[DOMAIN])
}

/// Clocks, a power domain, a supply and what switches them.
fn supplies(tree: TreeBuilder) -> TreeBuilder {
    tree.node("gate", |n| {
        n.compatible(&["gpio-gate-clock"])
            .phandle(GATE)
            .u32("#clock-cells", 0)
            .cells("clocks", &[APB])
            .cells("enable-gpios", &[LINES, 0, 0])
    })
    .node("domain", |n| {
        n.compatible(&["mastiff,gpio-power-domain"])
            .phandle(DOMAIN)
            .u32("#power-domain-cells", 0)
            .cells("enable-gpios", &[LINES, 1, 0])
    })
    .node("supply", |n| {
        n.compatible(&["regulator-fixed"])
            .phandle(SUPPLY)
            .string("regulator-name", "slots")
            .cells("gpio", &[LINES, 2, 0])
            .flag("enable-active-high")
    })
    .node("half", |n| {
        n.compatible(&["fixed-factor-clock"])
            .phandle(HALF)
            .u32("#clock-cells", 0)
            .cells("clocks", &[APB])
            .u32("clock-mult", 1)
            .u32("clock-div", 2)
    })
    .node("gpio@9030000", |n| {
        n.compatible(&["arm,pl061", "arm,primecell"])
            .reg(&[(GPIO, 0x1000)])
            .phandle(LINES)
            .flag("gpio-controller")
            .u32("#gpio-cells", 2)
            .cells("clocks", &[APB])
            .string("clock-names", "apb_pclk")
    })
    .node("apb", |n| {
        n.compatible(&["fixed-clock"])
            .phandle(APB)
            .u32("#clock-cells", 0)
            .u32("clock-frequency", 24_000_000)
    })
}

fn pcie(host: TreeBuilder, behind: Behind) -> TreeBuilder {
    let range = [2 << 24, 0, PCI as u32, 0, PCI as u32, 0, PCI_LEN as u32];
    // INTA of every device: what edu-managed pulls.
    let mut pins = Vec::new();
    for device in 0..8u32 {
        pins.extend([device << 11, 0, 0, 1, INTC, 0, 3 + device % 4, 4]);
    }
    let host = ecam_host(host, BUSES)
        .cells("ranges", &range)
        .cells("msi-map", &[0, FRAME, 0, 0x1_0000])
        .cells("interrupt-map-mask", &[0x3800, 0, 0, 7])
        .cells("interrupt-map", &pins)
        .cells("vpcie3v3-supply", &[SUPPLY]);
    if behind != Behind::Virtio {
        return host.cells("iommu-map", &[0, IOMMU, 0, 0x1_0000]);
    }
    let own = u32::from(SLOT) << 3;
    let (next, rest) = (own + 1, 0x1_0000 - own - 1);
    host.cells("iommu-map", &[0, IOMMU, 0, own, next, IOMMU, next, rest])
        .node("virtio_iommu@3,0", |n| {
            n.compatible(&["virtio,pci-iommu", "pci1af4,1057"])
                .phandle(IOMMU)
                .u32("#iommu-cells", 1)
                .cells("reg", &[u32::from(SLOT) << 11, 0, 0, 0, 0])
        })
}

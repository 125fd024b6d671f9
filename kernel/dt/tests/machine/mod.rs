//! The tree that QEMU 10 makes for `virt,iommu=smmuv3,gic-version=3`, as far as
//! it matters here: same nodes, same order (consumers before their suppliers),
//! same values.

use mastiff_dt::build::TreeBuilder;

const GIC: u32 = 0x8002;
const ITS: u32 = 0x8003;
const SMMU: u32 = 0x8004;
const CLOCK: u32 = 0x8000;

fn spi(n: TreeBuilder, line: u32, trigger: u32) -> TreeBuilder {
    n.cells("interrupts", &[0, line, trigger])
}

/// A blob in the making, so that tests can add to it.
pub fn qemu_virt() -> TreeBuilder {
    let root = TreeBuilder::new()
        .u32("interrupt-parent", GIC)
        .string("model", "linux,dummy-virt")
        .u32("#size-cells", 2)
        .u32("#address-cells", 2)
        .compatible(&["linux,dummy-virt"])
        .node("memory@40000000", |n| {
            n.reg(&[(0x4000_0000, 0x800_0000)])
                .string("device_type", "memory")
        })
        .node("platform-bus@c000000", |n| {
            n.u32("interrupt-parent", GIC)
                .cells("ranges", &[0, 0, 0xc00_0000, 0x200_0000])
                .u32("#address-cells", 1)
                .u32("#size-cells", 1)
                .compatible(&["qemu,platform", "simple-bus"])
        });
    let root = (0..4u32).fold(root, |root, slot| {
        let base = 0xa00_0000 + slot * 0x200;
        root.node(&format!("virtio_mmio@{base:x}"), |n| {
            spi(n.flag("dma-coherent"), 16 + slot, 1)
                .reg(&[(base.into(), 0x200)])
                .compatible(&["virtio,mmio"])
        })
    });
    root.node("smmuv3@9050000", |n| {
        n.phandle(SMMU)
            .u32("#iommu-cells", 1)
            .flag("dma-coherent")
            .strings(
                "interrupt-names",
                &["eventq", "priq", "cmdq-sync", "gerror"],
            )
            .cells("interrupts", &[0, 74, 1, 0, 75, 1, 0, 76, 1, 0, 77, 1])
            .reg(&[(0x905_0000, 0x2_0000)])
            .compatible(&["arm,smmu-v3"])
    })
    .node("pcie@10000000", pcie)
    .node("pl011@9000000", |n| {
        spi(n, 1, 4)
            .strings("clock-names", &["uartclk", "apb_pclk"])
            .cells("clocks", &[CLOCK, CLOCK])
            .reg(&[(0x900_0000, 0x1000)])
            .compatible(&["arm,pl011", "arm,primecell"])
    })
    .node("intc@8000000", |n| {
        n.phandle(GIC)
            .compatible(&["arm,gic-v3"])
            .flag("ranges")
            .u32("#size-cells", 2)
            .u32("#address-cells", 2)
            .flag("interrupt-controller")
            .u32("#interrupt-cells", 3)
            .reg(&[(0x800_0000, 0x1_0000), (0x80a_0000, 0xf6_0000)])
            .node("its@8080000", |n| {
                n.phandle(ITS)
                    .reg(&[(0x808_0000, 0x2_0000)])
                    .u32("#msi-cells", 1)
                    .flag("msi-controller")
                    .compatible(&["arm,gic-v3-its"])
            })
    })
    .node("cpus", |n| {
        n.u32("#size-cells", 0)
            .u32("#address-cells", 1)
            .node("cpu@0", |n| {
                n.u32("reg", 0)
                    .compatible(&["arm,cortex-a72"])
                    .string("device_type", "cpu")
            })
    })
    .node("timer", |n| {
        n.cells("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4])
            .compatible(&["arm,armv8-timer", "arm,armv7-timer"])
    })
    .node("apb-pclk", |n| {
        n.phandle(CLOCK)
            .u32("clock-frequency", 24_000_000)
            .u32("#clock-cells", 0)
            .compatible(&["fixed-clock"])
    })
    .node("aliases", |n| n.string("serial0", "/pl011@9000000"))
    .node("chosen", |n| {
        n.string("stdout-path", "/pl011@9000000")
            .string("bootargs", "report=json")
    })
}

fn pcie(host: TreeBuilder) -> TreeBuilder {
    let mut wires = Vec::new();
    for device in 0..4 {
        for pin in 0..4 {
            let line = 3 + (device + pin) % 4;
            wires.extend([device << 11, 0, 0, pin + 1, GIC, 0, 0, 0, line, 4]);
        }
    }
    let io = [0x0100_0000, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000];
    let memory32 = [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000];
    let memory64 = [0x0300_0000, 0x80, 0, 0x80, 0, 0x80, 0];
    host.cells("interrupt-map-mask", &[0x1800, 0, 0, 7])
        .cells("interrupt-map", &wires)
        .u32("#interrupt-cells", 1)
        .cells("ranges", &[io, memory32, memory64].concat())
        .reg(&[(0x40_1000_0000, 0x1000_0000)])
        .cells("iommu-map", &[0, SMMU, 0, 0x1_0000])
        .cells("msi-map", &[0, ITS, 0, 0x1_0000])
        .flag("dma-coherent")
        .cells("bus-range", &[0, 0xff])
        .u32("linux,pci-domain", 0)
        .u32("#size-cells", 2)
        .u32("#address-cells", 3)
        .string("device_type", "pci")
        .compatible(&["pci-host-ecam-generic"])
}

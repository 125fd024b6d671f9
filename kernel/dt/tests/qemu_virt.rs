//! The machine that everyone boots first, read as the kernel reads it.

mod machine;

use mastiff_dt::{IdMap, Range, Region, SupplierClass, Tree};

fn tree() -> Tree {
    machine::qemu_virt().tree().unwrap()
}

#[test]
fn console_and_memory() {
    let tree = tree();
    assert_eq!(tree.stdout().unwrap().path(), "/pl011@9000000");
    assert_eq!(tree.bootargs(), "report=json");
    let region = Region {
        base: 0x4000_0000,
        size: 0x800_0000,
    };
    assert_eq!(tree.memory().unwrap(), [region]);
    assert!(tree.reserved().unwrap().is_empty());
}

#[test]
fn pci_host() {
    let tree = tree();
    let host = tree.find("/pcie@10000000").unwrap();
    assert_eq!(host.reg().unwrap()[0].base, 0x40_1000_0000);
    assert!(host.dma_coherent());
    assert!(host.child_dma_ranges().unwrap().is_unlimited());
    let memory = Range {
        space: 0x0200_0000,
        child: 0x1000_0000,
        cpu: 0x1000_0000,
        size: 0x2eff_0000,
    };
    assert_eq!(host.ranges().unwrap().unwrap()[1], memory);
    // 00:01.0
    let to = host.map_id(IdMap::Iommu, 8).unwrap().unwrap();
    assert_eq!(
        (tree.node(to.target).path(), to.cells),
        ("/smmuv3@9050000".into(), vec![8])
    );
    let to = host.map_id(IdMap::Msi, 8).unwrap().unwrap();
    assert_eq!(tree.node(to.target).path(), "/intc@8000000/its@8080000");
    let inta = host.pci_interrupt(1 << 11, 1).unwrap().unwrap();
    assert_eq!(tree.node(inta.controller).path(), "/intc@8000000");
    assert_eq!(inta.cells, [0, 4, 4]);
    assert!(host.suppliers().is_empty(), "its maps are its children's");
}

#[test]
fn who_needs_whom() {
    let tree = tree();
    let mut edges = Vec::new();
    for node in tree.nodes() {
        for edge in node.suppliers() {
            let target = tree.node(edge.target.unwrap());
            edges.push((node.base_name(), edge.class, target.base_name()));
        }
    }
    use SupplierClass::{Clock, Interrupt};
    let needs = |name| edges.iter().filter(move |edge| edge.0 == name);
    assert_eq!(needs("smmuv3").count(), 4);
    assert_eq!(needs("virtio_mmio").count(), 4);
    assert_eq!(needs("timer").count(), 4);
    let console: Vec<_> = needs("pl011").map(|edge| (edge.1, edge.2)).collect();
    assert_eq!(
        console,
        [
            (Clock, "apb-pclk"),
            (Clock, "apb-pclk"),
            (Interrupt, "intc")
        ]
    );
    assert_eq!(edges.len(), 15, "and nobody else needs anything");
}

#[test]
fn a_cpu_is_not_an_address() {
    let tree = tree();
    let cpu = tree.find("/cpus/cpu").unwrap();
    assert_eq!(cpu.reg_raw().unwrap()[0].base, 0);
    assert_eq!(
        cpu.reg().unwrap_err().to_string(),
        "/cpus/cpu@0: reg[0]: cannot be addressed: /cpus has no ranges"
    );
}

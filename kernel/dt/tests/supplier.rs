//! The edges of the probe engine's graph.

use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{SupplierClass, Tree};

/// Edges as lines: class, property, index, and the target's path or the error.
fn edges(tree: &Tree, path: &str) -> Vec<String> {
    let edges = tree.find(path).unwrap().suppliers().into_iter();
    let line = edges.map(|edge| {
        let target = match edge.target {
            Ok(id) => tree.node(id).path(),
            Err(error) => error.to_string(),
        };
        format!("{} {}[{}] {target}", edge.class, edge.property, edge.index)
    });
    line.collect()
}

/// One provider of everything, with two cells each, and one of nothing.
fn machine() -> TreeBuilder {
    let provider = |n: TreeBuilder| {
        let cells = [
            "iommu",
            "clock",
            "power-domain",
            "reset",
            "msi",
            "gpio",
            "phy",
            "dma",
            "mbox",
            "nvmem-cell",
        ];
        cells.iter().fold(n.phandle(1), |n, class| {
            n.u32(&format!("#{class}-cells"), 2)
        })
    };
    TreeBuilder::new()
        .node("all", provider)
        .node("bare", |n| n.phandle(2))
        .node("gic", |n| {
            n.phandle(3)
                .flag("interrupt-controller")
                .u32("#interrupt-cells", 1)
        })
}

#[test]
fn one_edge_for_every_kind_of_need() {
    let two = &[1, 0, 0, 1, 0, 0];
    let tree = machine()
        .node("dev", |n| {
            n.u32("interrupt-parent", 3)
                .cells("iommus", &[1, 7, 8])
                .cells("clocks", two)
                .cells("power-domains", &[1, 0, 0])
                .cells("resets", &[1, 0, 0])
                .cells("interrupts", &[5, 6])
                .cells("msi-parent", &[1, 0, 0])
                .cells("vdd-io-supply", &[2])
                .cells("cs-gpios", &[0, 1, 3, 0])
                .cells("reset-gpio", &[1, 3, 0])
                .cells("phys", &[1, 0, 0])
                .cells("dmas", &[1, 0, 0])
                .cells("mboxes", &[1, 0, 0])
                .cells("nvmem-cells", &[2, 1, 0, 0])
                .cells("pinctrl-0", &[2, 2])
                .cells("pinctrl-10", &[2])
        })
        .tree()
        .unwrap();
    assert_eq!(
        edges(&tree, "/dev"),
        [
            "iommu iommus[0] /all",
            "clock clocks[0] /all",
            "clock clocks[1] /all",
            "power-domain power-domains[0] /all",
            "reset resets[0] /all",
            "msi msi-parent[0] /all",
            "regulator vdd-io-supply[0] /bare",
            "gpio cs-gpios[1] /all",
            "gpio reset-gpio[0] /all",
            "phy phys[0] /all",
            "dma dmas[0] /all",
            "mailbox mboxes[0] /all",
            "nvmem nvmem-cells[0] /bare",
            "nvmem nvmem-cells[1] /all",
            "pinctrl pinctrl-0[0] /bare",
            "pinctrl pinctrl-0[1] /bare",
            "pinctrl pinctrl-10[0] /bare",
            "interrupt interrupts[0] /gic",
            "interrupt interrupts[1] /gic",
        ]
    );
}

#[test]
fn what_only_looks_like_a_need() {
    let tree = machine()
        .node("dev", |n| {
            n.u32("#clock-cells", 0)
                .string("clock-names", "bus")
                .string("pinctrl-names", "default")
                .cells("pinctrl-", &[2])
                .cells("snps,nr-gpios", &[32])
                .cells("nr-gpios", &[32])
                .cells("iommu-map", &[0, 1, 0, 0, 1])
                .cells("msi-map", &[0, 1, 0, 0, 1])
                .cells("interrupt-map", &[0, 0, 1, 3, 1])
                .u32("interrupt-parent", 3)
        })
        .node("hog", |n| n.flag("gpio-hog").cells("gpios", &[4, 0]))
        .tree()
        .unwrap();
    assert_eq!(edges(&tree, "/dev"), [""; 0]);
    assert_eq!(edges(&tree, "/hog"), [""; 0]);
}

#[test]
fn errors_name_both_nodes_and_end_the_list() {
    let tree = machine()
        .node("dangling", |n| n.cells("clocks", &[1, 0, 0, 99, 1, 0, 0]))
        .node("mute", |n| n.cells("resets", &[2, 0]))
        .node("cut", |n| n.cells("phys", &[1, 0]))
        .node("odd", |n| n.bytes("dmas", &[0, 0, 0]))
        .node("lost", |n| n.cells("interrupts-extended", &[3, 5, 77, 5]))
        .tree()
        .unwrap();
    assert_eq!(
        edges(&tree, "/dangling"),
        [
            "clock clocks[0] /all",
            "clock clocks[1] /dangling: clocks[3]: phandle 0x63 names no node",
        ]
    );
    assert_eq!(
        edges(&tree, "/mute"),
        ["reset resets[0] /mute: resets[0]: refers to /bare, which has no #reset-cells"]
    );
    assert_eq!(
        edges(&tree, "/cut"),
        ["phy phys[0] /cut: phys[1]: entry is cut off: 1 of 2 cells are there"]
    );
    assert_eq!(
        edges(&tree, "/odd"),
        ["dma dmas[0] /odd: dmas: 3 bytes are no whole number of cells"]
    );
    assert_eq!(
        edges(&tree, "/lost"),
        ["interrupt interrupts-extended[0] \
          /lost: interrupts-extended[2]: phandle 0x4d names no node"]
    );
}

#[test]
fn a_device_does_not_need_itself() {
    let tree = TreeBuilder::new()
        .u32("interrupt-parent", 3)
        .node("gic", |n| {
            n.phandle(3)
                .flag("interrupt-controller")
                .u32("#interrupt-cells", 1)
                .u32("interrupts", 9)
        })
        .tree()
        .unwrap();
    assert_eq!(edges(&tree, "/gic"), [""; 0]);
    assert_eq!(tree.find("/gic").unwrap().interrupts().unwrap().len(), 1);
}

#[test]
fn extended_interrupts_make_the_others_void() {
    let tree = machine()
        .node("dev", |n| {
            n.u32("interrupt-parent", 3)
                .cells("interrupts", &[1])
                .cells("interrupts-extended", &[3, 2])
        })
        .tree()
        .unwrap();
    assert_eq!(
        edges(&tree, "/dev"),
        ["interrupt interrupts-extended[0] /gic"]
    );
}

#[test]
fn classes_print_as_words() {
    assert_eq!(SupplierClass::PowerDomain.to_string(), "power-domain");
    assert_eq!(format!("{:>7}", SupplierClass::Parent), " parent");
}

//! Which interrupts devices have: inherited parents, extended interrupts,
//! nexuses, and PCI pins.

use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{PropErrorKind, Tree};

const GIC: u32 = 1;
const GPIO: u32 = 2;

fn controller(n: TreeBuilder, phandle: u32, cells: u32) -> TreeBuilder {
    n.phandle(phandle)
        .flag("interrupt-controller")
        .u32("#interrupt-cells", cells)
}

fn machine() -> TreeBuilder {
    TreeBuilder::new()
        .u32("interrupt-parent", GIC)
        .node("gic", |n| {
            controller(n, GIC, 3)
                .u32("#address-cells", 2)
                .cells("interrupts", &[1, 9, 4])
        })
        .node("gpio", |n| {
            controller(n, GPIO, 2).cells("interrupts", &[0, 7, 4])
        })
}

/// The interrupts of a node, as (controller's path, specifier).
fn interrupts(tree: &Tree, path: &str) -> Result<Vec<(String, Vec<u32>)>, PropErrorKind> {
    let all = tree.find(path).unwrap().interrupts();
    let all = all.map_err(|error| error.kind)?.into_iter();
    let with_path = all.map(|spec| (tree.node(spec.controller).path(), spec.cells));
    Ok(with_path.collect())
}

fn one(controller: &str, cells: &[u32]) -> Vec<(String, Vec<u32>)> {
    vec![(controller.to_owned(), cells.to_vec())]
}

#[test]
fn inherited_and_own_parents() {
    let tree = machine()
        .node("timer", |n| n.cells("interrupts", &[1, 13, 4, 1, 14, 4]))
        .node("bus", |bus| {
            bus.u32("interrupt-parent", GPIO)
                .node("button", |n| n.cells("interrupts", &[3, 1]))
                .node("uart", |n| {
                    n.u32("interrupt-parent", GIC)
                        .cells("interrupts", &[0, 1, 4])
                })
        })
        .node("none", |n| n)
        .tree()
        .unwrap();
    let timer = [one("/gic", &[1, 13, 4]), one("/gic", &[1, 14, 4])].concat();
    assert_eq!(interrupts(&tree, "/timer"), Ok(timer));
    assert_eq!(interrupts(&tree, "/bus/button"), Ok(one("/gpio", &[3, 1])));
    assert_eq!(interrupts(&tree, "/bus/uart"), Ok(one("/gic", &[0, 1, 4])));
    assert_eq!(interrupts(&tree, "/none"), Ok(vec![]));
}

/// A controller's children are its own, whatever the root says.
#[test]
fn a_controller_is_the_parent_of_what_is_below_it() {
    let tree = TreeBuilder::new()
        .u32("interrupt-parent", GIC)
        .node("gic", |n| controller(n, GIC, 3))
        .node("pmic", |n| {
            controller(n, 9, 1).node("rtc", |n| n.cells("interrupts", &[5]))
        })
        .tree()
        .unwrap();
    assert_eq!(interrupts(&tree, "/pmic/rtc"), Ok(one("/pmic", &[5])));
}

#[test]
fn extended_interrupts_take_precedence() {
    let tree = machine()
        .node("dev", |n| {
            n.cells("interrupts", &[0, 99, 4])
                .cells("interrupts-extended", &[GPIO, 5, 1, GIC, 0, 6, 4])
        })
        .tree()
        .unwrap();
    let both = [one("/gpio", &[5, 1]), one("/gic", &[0, 6, 4])].concat();
    assert_eq!(interrupts(&tree, "/dev"), Ok(both));
}

#[test]
fn broken_interrupts() {
    let tree = TreeBuilder::new()
        .node("gic", |n| controller(n, GIC, 3))
        .node("zero", |n| controller(n, 3, 0))
        .node("uart", |n| n.phandle(4))
        .node("orphan", |n| n.cells("interrupts", &[1]))
        .node("short", |n| {
            n.u32("interrupt-parent", GIC)
                .cells("interrupts", &[0, 1, 4, 0])
        })
        .node("dangling", |n| n.cells("interrupts-extended", &[8, 1]))
        .node("no-controller", |n| n.cells("interrupts-extended", &[4, 1]))
        .node("endless", |n| {
            n.u32("interrupt-parent", 3).cells("interrupts", &[1])
        })
        .tree()
        .unwrap();
    let error = |path| interrupts(&tree, path).unwrap_err();
    assert_eq!(error("/orphan"), PropErrorKind::NoInterruptParent);
    assert_eq!(
        error("/short"),
        PropErrorKind::Truncated { need: 3, left: 1 }
    );
    assert_eq!(error("/dangling"), PropErrorKind::DanglingPhandle(8));
    assert_eq!(error("/endless"), PropErrorKind::EmptyEntries);
    assert_eq!(
        tree.find("/no-controller")
            .unwrap()
            .interrupts()
            .unwrap_err()
            .to_string(),
        "/no-controller: interrupts-extended[0]: refers to /uart, which has no #interrupt-cells"
    );
}

/// QEMU's wiring: pins rotate with the device number, three bits of which count.
fn pci_host(host: TreeBuilder) -> TreeBuilder {
    let mut map = Vec::new();
    for device in 0..4 {
        for pin in 1..=4 {
            let line = (device + pin - 1) % 4;
            map.extend([device << 11, 0, 0, pin, GIC, 0, 0, 0, 3 + line, 4]);
        }
    }
    host.string("device_type", "pci")
        .u32("#address-cells", 3)
        .u32("#size-cells", 2)
        .u32("#interrupt-cells", 1)
        .cells("interrupt-map-mask", &[0x1800, 0, 0, 7])
        .cells("interrupt-map", &map)
}

#[test]
fn pci_pins() {
    let tree = machine()
        .node("pcie", |host| {
            pci_host(host).node("dev@2,1", |n| {
                n.cells("reg", &[0x1100, 0, 0, 0, 0])
                    .cells("interrupts", &[3])
            })
        })
        .node("plain", |n| n)
        .tree()
        .unwrap();
    let host = tree.find("/pcie").unwrap();
    let cells = |phys_hi, pin| {
        host.pci_interrupt(phys_hi, pin)
            .unwrap()
            .map(|spec| spec.cells)
    };
    assert_eq!(cells(0, 1), Some(vec![0, 3, 4]));
    assert_eq!(cells(0, 4), Some(vec![0, 6, 4]));
    assert_eq!(cells(3 << 11, 2), Some(vec![0, 3, 4]));
    // Bus and function, and all but two bits of the device, are masked out.
    assert_eq!(cells(5 << 16 | 7 << 11 | 3 << 8, 2), Some(vec![0, 3, 4]));
    assert_eq!(cells(0, 0), None);
    assert_eq!(cells(0, 5), None);
    let plain = tree.find("/plain").unwrap();
    assert_eq!(plain.pci_interrupt(0, 1), Ok(None));
    // A function that is in the tree asks the same nexus.
    assert_eq!(interrupts(&tree, "/pcie/dev"), Ok(one("/gic", &[0, 3, 4])));
}

#[test]
fn nexuses_in_a_row() {
    let nexus = |n: TreeBuilder, phandle, map: &[u32]| {
        n.phandle(phandle)
            .u32("#address-cells", 0)
            .u32("#interrupt-cells", 1)
            .cells("interrupt-map", map)
    };
    let tree = machine()
        .node("inner", |n| nexus(n, 10, &[1, 11, 7]))
        // The GIC has two address cells, which the entry must skip.
        .node("outer", |n| {
            nexus(n, 11, &[6, GIC, 0, 0, 0, 60, 4, 7, GIC, 0, 0, 0, 70, 1])
        })
        .node("loop", |n| nexus(n, 12, &[1, 12, 1]))
        .node("dev", |n| {
            n.u32("interrupt-parent", 10).u32("interrupts", 1)
        })
        .node("unmapped", |n| {
            n.u32("interrupt-parent", 10).u32("interrupts", 2)
        })
        .node("lost", |n| n.cells("interrupts-extended", &[12, 1]))
        .tree()
        .unwrap();
    assert_eq!(interrupts(&tree, "/dev"), Ok(one("/gic", &[0, 70, 1])));
    let nexus = "/inner".to_owned();
    let unmapped = PropErrorKind::NotInInterruptMap { nexus };
    assert_eq!(interrupts(&tree, "/unmapped"), Err(unmapped));
    let nexus = "/loop".to_owned();
    let lost = PropErrorKind::InterruptLoop { nexus };
    assert_eq!(interrupts(&tree, "/lost"), Err(lost));
}

#[test]
fn broken_interrupt_maps() {
    let tree = machine()
        .node("cut", |n| {
            n.u32("#interrupt-cells", 1)
                .cells("interrupt-map", &[0, 0, 1, GIC, 0, 0, 0, 0])
        })
        .node("dangling", |n| {
            n.u32("#interrupt-cells", 1)
                .cells("interrupt-map", &[0, 0, 1, 77, 0])
        })
        .node("huge", |n| {
            n.u32("#interrupt-cells", u32::MAX)
                .cells("interrupt-map", &[0; 16])
        })
        .tree()
        .unwrap();
    let error = |path| {
        let node = tree.find(path).unwrap();
        node.pci_interrupt(0, 1).unwrap_err().to_string()
    };
    assert_eq!(
        error("/dangling"),
        "/dangling: interrupt-map[3]: phandle 0x4d names no node"
    );
    assert_eq!(
        error("/cut"),
        "/cut: interrupt-map[6]: entry is cut off: 2 of 3 cells are there"
    );
    assert_eq!(
        error("/huge"),
        "/huge: interrupt-map[16]: entry is cut off: 0 of 1 cells are there"
    );
}

//! Finding one's way in a tree, and the answers that need no cells decoded.

use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{NodeId, PropErrorKind, Region, Status, Tree};

fn machine() -> Tree {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .node("soc", |soc| {
            soc.flag("ranges")
                .node("uart@1000", |n| {
                    n.compatible(&["vendor,uart-2", "vendor,uart"]).phandle(1)
                })
                .node("uart@2000", |n| n.string("status", "okay"))
                .node("dma@3000", |n| {
                    n.string("status", "disabled").node("channel", |n| n)
                })
        })
        .node("aliases", |n| {
            n.string("serial0", "/soc/uart@1000").string("bus", "/soc")
        })
        .node("chosen", |n| {
            n.string("bootargs", "loglevel=7 run=help")
                .string("stdout-path", "serial0:115200n8")
        })
        .tree()
        .unwrap()
}

fn path_of(tree: &Tree, path: &str) -> Option<String> {
    tree.find(path).map(|node| node.path())
}

#[test]
fn walks() {
    let tree = machine();
    let names = |node: mastiff_dt::Node<'_>| -> Vec<_> {
        node.children()
            .map(|child| child.name().to_owned())
            .collect()
    };
    assert_eq!(names(tree.root()), ["soc", "aliases", "chosen"]);
    let soc = tree.find("/soc").unwrap();
    assert_eq!(names(soc), ["uart@1000", "uart@2000", "dma@3000"]);
    assert_eq!(soc.parent(), Some(tree.root()));
    assert_eq!(tree.root().parent(), None);
    let order: Vec<_> = tree.nodes().map(|node| node.id().index()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn find_by_path() {
    let tree = machine();
    assert_eq!(path_of(&tree, "/").as_deref(), Some("/"));
    assert_eq!(path_of(&tree, "/soc/dma").as_deref(), Some("/soc/dma@3000"));
    assert_eq!(
        path_of(&tree, "/soc/uart@2000").as_deref(),
        Some("/soc/uart@2000")
    );
    assert_eq!(path_of(&tree, "/soc/uart"), None, "two of that name");
    assert_eq!(path_of(&tree, "/soc/uart@3000"), None);
    assert_eq!(path_of(&tree, "/soc/nothing"), None);
}

#[test]
fn find_by_alias() {
    let tree = machine();
    assert_eq!(path_of(&tree, "serial0").as_deref(), Some("/soc/uart@1000"));
    assert_eq!(path_of(&tree, "bus/dma").as_deref(), Some("/soc/dma@3000"));
    assert_eq!(path_of(&tree, "serial1"), None);
    assert_eq!(path_of(&tree, ""), None);
}

#[test]
fn phandles() {
    let tree = machine();
    let uart = tree.find("serial0").unwrap();
    assert_eq!(uart.phandle(), Some(1));
    assert_eq!(tree.by_phandle(1), Some(uart));
    assert_eq!(tree.by_phandle(2), None);

    let wrong = TreeBuilder::new()
        .node("a", |n| n.phandle(1).u32("linux,phandle", 1))
        .node("b", |n| n.phandle(2))
        .node("c", |n| n.u32("linux,phandle", 2))
        .node("user", |n| n.cells("foo-supply", &[2]))
        .tree()
        .unwrap();
    assert!(wrong.by_phandle(1).is_some(), "said twice by the same node");
    assert!(wrong.by_phandle(2).is_none(), "which of the two?");
    let edges = wrong.find("/user").unwrap().suppliers();
    let error = edges[0].target.clone().unwrap_err();
    assert_eq!(error.kind, PropErrorKind::AmbiguousPhandle(2));
}

#[test]
fn status_of_a_node_and_its_ancestors() {
    let tree = machine();
    let dma = tree.find("/soc/dma").unwrap();
    let by = dma.id();
    assert_eq!(tree.find("serial0").unwrap().status(), Status::Enabled);
    assert_eq!(
        tree.find("/soc/uart@2000").unwrap().status(),
        Status::Enabled
    );
    assert_eq!(dma.status(), Status::Disabled { by });
    let channel = dma.children().next().unwrap();
    assert_eq!(channel.status(), Status::Disabled { by });
    for (value, enabled) in [
        ("ok", true),
        ("fail", false),
        ("reserved", false),
        ("", false),
    ] {
        let tree = TreeBuilder::new().string("status", value).tree().unwrap();
        assert_eq!(tree.root().status().is_enabled(), enabled, "{value}");
    }
}

#[test]
fn compatible() {
    let tree = machine();
    let uart = tree.find("serial0").unwrap();
    let all: Vec<_> = uart.compatible().collect();
    assert_eq!(all, ["vendor,uart-2", "vendor,uart"]);
    assert!(uart.is_compatible("vendor,uart"));
    assert!(!uart.is_compatible("vendor"));
}

#[test]
fn properties() {
    let tree = TreeBuilder::new()
        .u32("one", 1)
        .bytes("odd", &[1, 2, 3])
        .cells("two", &[1, 2])
        .bytes("open", b"no end")
        .tree()
        .unwrap();
    let root = tree.root();
    let names: Vec<_> = root.props().map(|prop| prop.name()).collect();
    assert_eq!(names, ["one", "odd", "two", "open"]);
    assert_eq!(root.cell("one"), Ok(Some(1)));
    assert_eq!(root.cell("three"), Ok(None));
    assert_eq!(root.prop("two").unwrap().as_cells(), Ok(vec![1, 2]));
    assert_eq!(root.prop("open").unwrap().as_str(), None);
    assert_eq!(
        root.cell("two").unwrap_err().to_string(),
        "/: two: must be one cell, but has 8 bytes"
    );
    let odd = root.prop("odd").unwrap();
    assert_eq!(
        odd.as_cells().unwrap_err().to_string(),
        "/: odd: 3 bytes are no whole number of cells"
    );
    assert_eq!(
        root.required("four").unwrap_err().to_string(),
        "/: four: is missing"
    );
}

#[test]
fn chosen() {
    let tree = machine();
    assert_eq!(tree.bootargs(), "loglevel=7 run=help");
    assert_eq!(tree.stdout(), tree.find("/soc/uart@1000"));
    assert_eq!(tree.stdout_options(), Some("115200n8"));

    let plain = TreeBuilder::new()
        .node("uart@1", |n| n)
        .node("chosen", |n| n.string("stdout-path", "/uart@1"))
        .tree()
        .unwrap();
    assert_eq!(plain.stdout(), plain.find("/uart"));
    assert_eq!(plain.stdout_options(), None);
    assert_eq!(plain.bootargs(), "");
    let empty = TreeBuilder::new().tree().unwrap();
    assert_eq!(empty.stdout(), None);
    assert_eq!(empty.bootargs(), "");
}

#[test]
fn memory_and_what_of_it_is_reserved() {
    let memory = |n: TreeBuilder| n.string("device_type", "memory");
    let tree = TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .reserve(0x4000_0000, 0x1000)
        .node("memory@40000000", |n| {
            memory(n).reg(&[(0x4000_0000, 1 << 30)])
        })
        .node("memory@100000000", |n| {
            memory(n).reg(&[(1 << 32, 1 << 30), (2 << 32, 1 << 30)])
        })
        .node("memory@300000000", |n| {
            memory(n)
                .reg(&[(3 << 32, 1 << 30)])
                .string("status", "disabled")
        })
        .node("memory-controller@0", |n| n.reg(&[(0, 4096)]))
        .node("reserved-memory", |n| {
            n.u32("#address-cells", 2)
                .u32("#size-cells", 2)
                .flag("ranges")
                .node("tee@50000000", |n| {
                    n.reg(&[(0x5000_0000, 0x1000)]).flag("no-map")
                })
                .node("logo", |n| {
                    n.reg(&[(0x6000_0000, 0x2000), (0x6100_0000, 0x1000)])
                        .cells("iommu-addresses", &[1, 0, 0x6000_0000, 0, 0x2000])
                })
                .node("pool", |n| n.cells("size", &[0, 0x1000]))
                .node("off@0", |n| n.reg(&[(0, 1)]).string("status", "disabled"))
        })
        .tree()
        .unwrap();
    let region = |base, size| Region { base, size };
    assert_eq!(
        tree.memory().unwrap(),
        [
            region(0x4000_0000, 1 << 30),
            region(1 << 32, 1 << 30),
            region(2 << 32, 1 << 30)
        ]
    );
    let reserved = tree.reserved().unwrap();
    let facts: Vec<_> = reserved
        .iter()
        .map(|r| (r.name(), r.region.base, r.region.size, r.no_map()))
        .collect();
    assert_eq!(
        facts,
        [
            ("memreserve", 0x4000_0000, 0x1000, false),
            ("tee@50000000", 0x5000_0000, 0x1000, true),
            ("logo", 0x6000_0000, 0x2000, false),
            ("logo", 0x6100_0000, 0x1000, false),
        ]
    );
    assert_eq!(reserved[2].iommu_addresses().unwrap().bytes().len(), 20);
    assert!(reserved[1].iommu_addresses().is_none());
}

#[test]
fn memory_without_reg_is_an_error() {
    let tree = TreeBuilder::new()
        .node("memory", |n| n.string("device_type", "memory"))
        .tree()
        .unwrap();
    let error = tree.memory().unwrap_err();
    assert_eq!(error.to_string(), "/memory: reg: is missing");
}

/// Trees are shared between CPUs.
#[test]
fn is_send_and_sync() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&machine());
    shared(&machine().root().id());
    let _: NodeId = machine().root().id();
}

/// Nothing is quadratic: this ends at once, or not within anyone's patience.
#[test]
fn a_hundred_thousand_nodes() {
    const COUNT: u32 = 100_000;
    let siblings = (0..COUNT).fold(TreeBuilder::new(), |tree, i| {
        tree.node(&format!("n@{i:x}"), |n| {
            n.phandle(i + 1).u32("#clock-cells", 0).u32("clocks", i + 2)
        })
    });
    let tree = siblings.tree().unwrap();
    assert_eq!(tree.nodes().count(), COUNT as usize + 1);
    assert_eq!(tree.root().children().count(), COUNT as usize);
    let mut edges = 0;
    for node in tree.nodes() {
        assert!(node.status().is_enabled());
        edges += node
            .suppliers()
            .iter()
            .filter(|edge| edge.target.is_ok())
            .count();
    }
    assert_eq!(edges, COUNT as usize - 1, "the last one's clock is missing");

    // Deep rather than wide: 1,600 chains of 62.
    fn chain(tree: TreeBuilder, levels: u32) -> TreeBuilder {
        match levels {
            0 => tree,
            _ => tree.node("n", |n| chain(n, levels - 1)),
        }
    }
    let chains = (0..1600).fold(TreeBuilder::new(), |tree, _| chain(tree, 62));
    assert_eq!(chains.tree().unwrap().nodes().count(), 1600 * 62 + 1);
}

#[test]
fn cpus_by_what_they_are_woken_and_known_by() {
    let cpu = |n: TreeBuilder| n.string("device_type", "cpu");
    let tree = TreeBuilder::new()
        .node("cpus", |n| {
            n.u32("#address-cells", 2)
                .u32("#size-cells", 0)
                .node("cpu@0", |n| {
                    cpu(n).cells("reg", &[0, 0]).string("enable-method", "psci")
                })
                .node("cpu@100000101", |n| {
                    cpu(n)
                        .cells("reg", &[1, 0x101])
                        .string("status", "disabled")
                })
                .node("cpu@2", |n| {
                    cpu(n).cells("reg", &[0, 2]).string("status", "fail")
                })
                .node("cpu@3", |n| cpu(n).cells("reg", &[]))
                .node("cpu-map", |n| n)
        })
        .tree()
        .unwrap();
    let cpus: Vec<_> = tree.cpus().collect();
    let [first, resting, nowhere] = *cpus else {
        panic!("the broken one and the map are no CPUs: {cpus:?}");
    };
    assert_eq!(first.affinity(), Ok(0));
    assert_eq!(first.enable_method(), Some("psci"));
    assert_eq!(resting.affinity(), Ok(0x1_0000_0101));
    assert_eq!(resting.enable_method(), None);
    let error = nowhere.affinity().unwrap_err();
    assert_eq!(error.kind, PropErrorKind::Truncated { need: 1, left: 0 });
    assert_eq!(nowhere.node().path(), "/cpus/cpu@3");
}

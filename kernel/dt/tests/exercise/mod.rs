//! Everything that a tree can be asked, asked. Shared by the property tests and
//! the fuzz target: whatever the blob, nothing may panic, and what the answers
//! must agree on is asserted.

#![allow(dead_code, reason = "each test file uses its part")]

use mastiff_dt::{IdMap, Node, PropError, Tree};

/// Parses `blob`, and if it is a tree, calls every accessor on every node. Says
/// whether it was one.
pub fn exercise(blob: &[u8]) -> bool {
    let _ = Tree::blob_len(blob);
    let tree = match Tree::parse(blob) {
        Ok(tree) => tree,
        Err(error) => {
            one_line(&error.to_string());
            return false;
        }
    };
    exercise_tree(&tree);
    true
}

/// Calls every accessor on every node.
pub fn exercise_tree(tree: &Tree) {
    whole(tree);
    for node in tree.nodes() {
        place(tree, node);
        properties(tree, node);
        buses(node);
        references(tree, node);
    }
}

fn one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}

fn check<T>(result: Result<T, PropError>) -> Option<T> {
    result.map_err(|error| one_line(&error.to_string())).ok()
}

fn whole(tree: &Tree) {
    tree.bootargs();
    tree.stdout();
    tree.stdout_options();
    check(tree.memory());
    for reserved in check(tree.reserved()).into_iter().flatten() {
        reserved.name();
        reserved.no_map();
        reserved.iommu_addresses();
    }
    for cpu in tree.cpus() {
        check(cpu.affinity());
        cpu.enable_method();
    }
    for path in ["/", "//", "", "a", "serial0", "/soc/uart", "serial0/a"] {
        tree.find(path);
    }
}

/// Parents, children and paths must tell the same tree.
fn place(tree: &Tree, node: Node<'_>) {
    assert_eq!(tree.node(node.id()), node);
    for child in node.children() {
        assert_eq!(child.parent(), Some(node));
        assert!(child.id() > node.id());
    }
    match node.parent() {
        Some(parent) => assert!(parent.children().any(|child| child == node)),
        None => assert_eq!(node, tree.root()),
    }
    // Where siblings share a name, which the format does not allow, one hides
    // the other.
    if node.ancestors().all(has_its_name_alone) {
        assert_eq!(tree.find(&node.path()), Some(node));
    }
    assert!(node.ancestors().count() < 64);
    node.status();
    node.name();
    node.base_name();
}

fn has_its_name_alone(node: Node<'_>) -> bool {
    let siblings = node
        .parent()
        .into_iter()
        .flat_map(|parent| parent.children());
    siblings
        .filter(|sibling| sibling.name() == node.name())
        .count()
        <= 1
}

fn properties(tree: &Tree, node: Node<'_>) {
    for prop in node.props() {
        assert!(node.has(prop.name()));
        prop.as_str();
        prop.strings().count();
        check(prop.as_u32());
        check(prop.as_cells());
        prop.bytes();
    }
    node.compatible().count();
    node.is_compatible("vendor,device");
    let phandle = node.phandle().and_then(|phandle| tree.by_phandle(phandle));
    if let Some(found) = phandle {
        let same = found.phandle() == node.phandle();
        assert!(same || found.has("linux,phandle"), "a wrong index");
    }
}

fn buses(node: Node<'_>) {
    node.address_cells();
    node.size_cells();
    for region in check(node.reg()).into_iter().flatten() {
        assert!(u128::from(region.base) + u128::from(region.size) <= 1 << 64);
    }
    check(node.reg_raw());
    for range in check(node.ranges()).into_iter().flatten().flatten() {
        assert!(u128::from(range.cpu) + u128::from(range.size) <= 1 << 64);
    }
    for windows in [node.dma_ranges(), node.child_dma_ranges()] {
        let Some(windows) = check(windows) else {
            continue;
        };
        for window in &windows.0 {
            assert!(window.size > 0);
            assert!(u128::from(window.bus) + window.size <= 1 << 64);
            assert!(u128::from(window.cpu) + window.size <= 1 << 64);
            assert!(windows.to_bus(window.cpu, 1).is_some());
        }
        windows.is_unlimited();
        windows.to_bus(u64::MAX, u64::MAX);
    }
    node.dma_coherent();
}

fn references(tree: &Tree, node: Node<'_>) {
    for spec in check(node.interrupts()).into_iter().flatten() {
        tree.node(spec.controller);
    }
    check(node.interrupt_parent());
    for (phys_hi, pin) in [(0, 1), (0x800, 4), (u32::MAX, u32::MAX)] {
        check(node.pci_interrupt(phys_hi, pin));
    }
    for iommu in check(node.iommus()).into_iter().flatten() {
        tree.node(iommu.iommu);
    }
    for id in [0, 1, 8, 0xffff, u32::MAX] {
        for map in [IdMap::Iommu, IdMap::Msi] {
            check(node.map_id(map, id));
        }
    }
    for map in [IdMap::Iommu, IdMap::Msi] {
        check(node.id_mask(map));
        check(node.id_ranges(map));
    }
    for edge in node.suppliers() {
        one_line(&edge.class.to_string());
        assert!(node.has(edge.property));
        if let Ok(target) = edge.target {
            assert!(!node.holds(tree.node(target)), "it needs itself");
        }
        check(edge.target);
    }
}

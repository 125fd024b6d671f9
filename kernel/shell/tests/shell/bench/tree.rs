//! The trees of the boots, and the pieces that tests make others of.

use mastiff_dt::build::TreeBuilder;

pub fn base() -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
}

pub fn iommu(tree: TreeBuilder) -> TreeBuilder {
    tree.node("iommu@1000000", |n| {
        n.compatible(&["test,iommu"])
            .u32("#iommu-cells", 1)
            .phandle(1)
    })
}

pub fn master(tree: TreeBuilder, name: &str, kind: &str, iommus: &[u32]) -> TreeBuilder {
    tree.node(name, |n| {
        let n = n.compatible(&[kind]).flag("dma-coherent");
        match iommus {
            [] => n,
            iommus => n.cells("iommus", iommus),
        }
    })
}

/// An IOMMU, a disk and a DMA engine behind it, a bus behind it, something without
/// a driver and something disabled.
pub fn tree() -> TreeBuilder {
    let tree = iommu(base());
    let tree = master(tree, "disk@1", "test,disk", &[1, 5]);
    let tree = master(tree, "engine@2", "test,engine", &[1, 6]);
    tree.node("bus@3", |n| {
        n.compatible(&["test,bus"])
            .cells("iommu-map", &[0, 1, 0, 0x100])
    })
    .node("orphan@4", |n| n.compatible(&["test,orphan"]))
    .node("off@5", |n| {
        n.compatible(&["test,engine"]).string("status", "disabled")
    })
}

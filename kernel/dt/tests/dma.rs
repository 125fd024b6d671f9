//! What devices reach: `dma-ranges` of every bus on the way, and `dma-coherent`.

use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{DmaWindow, PropErrorKind, Tree};
use proptest::prelude::*;

/// A bus with one address and one size cell.
fn small_bus(n: TreeBuilder) -> TreeBuilder {
    n.u32("#address-cells", 1).u32("#size-cells", 1)
}

fn wide_root() -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
}

fn windows(tree: &Tree, path: &str) -> Vec<(u64, u64, u128)> {
    let windows = tree.find(path).unwrap().dma_ranges().unwrap();
    windows.0.iter().map(|w| (w.bus, w.cpu, w.size)).collect()
}

#[test]
fn dma_without_limits() {
    let tree = wide_root()
        .node("bus", |bus| bus.flag("dma-ranges").node("dev", |n| n))
        .tree()
        .unwrap();
    for path in ["/", "/bus", "/bus/dev"] {
        assert_eq!(windows(&tree, path), [(0, 0, 1 << 64)]);
        assert!(
            tree.find(path)
                .unwrap()
                .dma_ranges()
                .unwrap()
                .is_unlimited()
        );
    }
}

#[test]
fn dma_ranges_compose() {
    let tree = wide_root()
        .node("outer", |outer| {
            // Bus 0..1G is RAM at 2G, bus 1G..2G is RAM at 4G.
            let first = [0, 0, 0x8000_0000, 0x4000_0000];
            let second = [0x4000_0000, 1, 0, 0x4000_0000];
            outer
                .u32("#address-cells", 1)
                .u32("#size-cells", 1)
                .cells("dma-ranges", &[first, second].concat())
                .node("inner", |inner| {
                    // 0x1000.. is 0x3ffff000.. of the outer bus, across both.
                    small_bus(inner)
                        .cells("dma-ranges", &[0x1000, 0x3fff_f000, 0x2000])
                        .node("dev", |n| n)
                })
                .node("elsewhere", |bus| {
                    small_bus(bus)
                        .cells("dma-ranges", &[0, 0x9000_0000, 0x1000])
                        .node("dev", |n| n)
                })
        })
        .tree()
        .unwrap();
    assert_eq!(
        windows(&tree, "/outer/inner/dev"),
        [
            (0x1000, 0xbfff_f000, 0x1000),
            (0x2000, 0x1_0000_0000, 0x1000)
        ]
    );
    assert_eq!(windows(&tree, "/outer/elsewhere/dev"), []);

    let dev = tree.find("/outer/inner/dev").unwrap().dma_ranges().unwrap();
    assert!(!dev.is_unlimited());
    assert_eq!(dev.to_bus(0xbfff_f010, 0xff0), Some(0x1010));
    assert_eq!(dev.to_bus(0xbfff_f010, 0xff1), None, "not in one window");
    assert_eq!(dev.to_bus(0x1_0000_0fff, 1), Some(0x2fff));
    assert_eq!(dev.to_bus(0x1_0000_1000, 0), None);
}

#[test]
fn dma_ranges_up_to_the_whole_address_space() {
    // Three size cells can say 2^64; two addresses at the top must not wrap.
    let tree = wide_root()
        .node("all", |bus| {
            bus.u32("#address-cells", 2)
                .u32("#size-cells", 3)
                .cells("dma-ranges", &[0, 0, 0, 0, 1, 0, 0])
                .node("dev", |n| n)
        })
        .node("top", |bus| {
            bus.u32("#address-cells", 2)
                .u32("#size-cells", 2)
                .cells(
                    "dma-ranges",
                    &[0x8000_0000, 0, 0x8000_0000, 0, 0x8000_0000, 0],
                )
                .node("dev", |n| n)
        })
        .node("wraps", |bus| {
            bus.u32("#address-cells", 2)
                .u32("#size-cells", 2)
                .cells("dma-ranges", &[0x8000_0000, 0, 0, 0, 0x8000_0000, 1])
                .node("dev", |n| n)
        })
        .tree()
        .unwrap();
    assert_eq!(windows(&tree, "/all/dev"), [(0, 0, 1 << 64)]);
    assert_eq!(windows(&tree, "/top/dev"), [(1 << 63, 1 << 63, 1 << 63)]);
    let error = tree.find("/wraps/dev").unwrap().dma_ranges().unwrap_err();
    assert_eq!(error.kind, PropErrorKind::WrapsAround { base: 1 << 63 });
    assert_eq!(error.node, "/wraps");
}

#[test]
fn dma_of_a_pci_host_is_that_of_its_functions() {
    let tree = wide_root()
        .node("pcie", |host| {
            host.u32("#address-cells", 3)
                .u32("#size-cells", 2)
                .cells("dma-ranges", &[0x4300_0000, 0, 0, 0, 0, 1, 0])
        })
        .tree()
        .unwrap();
    let host = tree.find("/pcie").unwrap();
    assert!(host.dma_ranges().unwrap().is_unlimited());
    let window = DmaWindow {
        bus: 0,
        cpu: 0,
        size: 1 << 32,
    };
    assert_eq!(host.child_dma_ranges().unwrap().0, [window]);
}

#[test]
fn too_many_windows_are_an_error() {
    let many: Vec<u32> = (0..300).flat_map(|_| [0, 0, 0x1000]).collect();
    let tree = TreeBuilder::new()
        .u32("#address-cells", 1)
        .node("bus", |bus| {
            small_bus(bus).cells("dma-ranges", &many).node("dev", |n| n)
        })
        .tree()
        .unwrap();
    let error = tree.find("/bus/dev").unwrap().dma_ranges().unwrap_err();
    assert_eq!(error.kind, PropErrorKind::TooManyWindows);
}

#[test]
fn coherence_is_inherited_until_denied() {
    let tree = TreeBuilder::new()
        .flag("dma-coherent")
        .node("dev", |n| n)
        .node("bus", |bus| {
            bus.flag("dma-noncoherent")
                .node("dev", |n| n)
                .node("again", |n| n.flag("dma-coherent"))
                .node("both", |n| n.flag("dma-coherent").flag("dma-noncoherent"))
        })
        .tree()
        .unwrap();
    let coherent = |path| tree.find(path).unwrap().dma_coherent();
    assert!(coherent("/dev"));
    assert!(!coherent("/bus/dev"));
    assert!(coherent("/bus/again"));
    assert!(!coherent("/bus/both"));
    let silent = TreeBuilder::new().tree().unwrap();
    assert!(!silent.root().dma_coherent());
}

/// `dma-ranges` that do not overlap on the bus side: (gap before, parent, size).
fn windows_of_a_bus() -> impl Strategy<Value = Vec<(u32, u32, u32)>> {
    let window = (0..20u32, 0..100u32, 0..40u32);
    prop::collection::vec(window, 1..4).prop_map(|windows| {
        let mut next = 0;
        let place = |(gap, parent, size)| {
            let base = next + gap;
            next = base + size;
            (base, parent, size)
        };
        windows.into_iter().map(place).collect()
    })
}

proptest! {
    /// Composed windows say of each address what following it bus by bus says.
    #[test]
    fn like_going_bus_by_bus(buses in prop::collection::vec(windows_of_a_bus(), 0..4)) {
        fn nest(tree: TreeBuilder, buses: &[Vec<(u32, u32, u32)>]) -> TreeBuilder {
            match buses {
                [] => tree.node("dev", |n| n),
                [outer, inner @ ..] => tree.node("bus", |bus| {
                    let cells = outer.iter().flat_map(|&(a, b, c)| [a, b, c]);
                    let bus = small_bus(bus).cells("dma-ranges", &cells.collect::<Vec<_>>());
                    nest(bus, inner)
                }),
            }
        }
        let root = TreeBuilder::new().u32("#address-cells", 1);
        let tree = nest(root, &buses).tree().unwrap();
        let dev = tree.nodes().last().unwrap();
        let composed = dev.dma_ranges().unwrap();
        for address in 0..200u64 {
            // From the innermost bus outwards.
            let through = |address: u64, bus: &Vec<(u32, u32, u32)>| {
                bus.iter().find_map(|&(base, parent, size)| {
                    let offset = address.checked_sub(base.into())?;
                    (offset < size.into()).then_some(u64::from(parent) + offset)
                })
            };
            let expected = buses.iter().rev().try_fold(address, through);
            let got = composed.0.iter().find_map(|window| {
                let offset = address.checked_sub(window.bus)?;
                (u128::from(offset) < window.size).then(|| window.cpu + offset)
            });
            prop_assert_eq!(got, expected);
        }
    }
}

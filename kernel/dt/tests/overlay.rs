//! Overlays: what they add, what they change, what becomes of references, and that
//! nothing that is wrong with one harms anybody.

mod exercise;
mod machine;

use exercise::exercise_tree;
use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{BlobErrorKind, Node, OverlayError, Tree};
use proptest::prelude::*;

fn base() -> TreeBuilder {
    TreeBuilder::new()
        .node("soc", |n| {
            n.node("gic@1000", |n| n.phandle(1).u32("#interrupt-cells", 1))
                .node("dma@2000", |n| {
                    n.compatible(&["test,dma"]).string("status", "disabled")
                })
        })
        .node("__symbols__", |n| {
            n.string("gic", "/soc/gic@1000")
                .string("dma", "/soc/dma@2000")
                .string("lost", "/nowhere")
        })
}

/// An SMMU with an interrupt, below /soc, and a master behind it. `2` stands for the
/// SMMU in the overlay, and 0xffff_ffff for what `__fixups__` fills in.
fn smmu() -> TreeBuilder {
    TreeBuilder::new()
        .node("fragment@0", |n| {
            n.string("target-path", "/soc").node("__overlay__", |n| {
                n.node("smmu@3000", |n| {
                    n.phandle(2)
                        .u32("#iommu-cells", 1)
                        .cells("interrupts-extended", &[u32::MAX, 7])
                })
            })
        })
        .node("fragment@1", |n| {
            n.string("target-path", "/soc/dma@2000")
                .node("__overlay__", |n| {
                    n.cells("iommus", &[2, 0x42])
                        .string("status", "okay")
                        .flag("dma-coherent")
                })
        })
        .node("__symbols__", |n| {
            n.string("smmu", "/fragment@0/__overlay__/smmu@3000")
        })
        .node("__fixups__", |n| {
            n.string(
                "gic",
                "/fragment@0/__overlay__/smmu@3000:interrupts-extended:0",
            )
        })
        .node("__local_fixups__", |n| {
            n.node("fragment@1", |n| {
                n.node("__overlay__", |n| n.u32("iommus", 0))
            })
        })
}

fn apply(base: TreeBuilder, overlay: TreeBuilder) -> Result<Tree, OverlayError> {
    base.tree().unwrap().overlay(&overlay.blob())
}

fn only(fragment: impl FnOnce(TreeBuilder) -> TreeBuilder) -> TreeBuilder {
    TreeBuilder::new().node("fragment@0", fragment)
}

fn text<'t>(node: Node<'t>, name: &str) -> Option<&'t str> {
    node.prop(name)?.as_str()
}

#[test]
fn nodes_and_properties_are_merged_and_references_follow() {
    let before = base().tree().unwrap();
    let tree = before.overlay(&smmu().blob()).unwrap();
    let smmu = tree.find("/soc/smmu@3000").unwrap();
    let dma = tree.find("/soc/dma@2000").unwrap();
    let behind = &dma.iommus().unwrap()[0];
    assert_eq!((behind.iommu, &behind.cells[..]), (smmu.id(), &[0x42][..]));
    // The base's phandles end at 1.
    assert_eq!(smmu.phandle(), Some(2));
    let interrupt = &smmu.interrupts().unwrap()[0];
    assert_eq!(tree.node(interrupt.controller).name(), "gic@1000");
    assert!(dma.status().is_enabled() && dma.dma_coherent());
    assert_eq!(dma.compatible().collect::<Vec<_>>(), ["test,dma"]);
    // Replaced where it stood, and what is new after it in the overlay's order.
    let names: Vec<_> = dma.props().map(|prop| prop.name()).collect();
    assert_eq!(names, ["compatible", "status", "iommus", "dma-coherent"]);
    let symbols = tree.find("/__symbols__").unwrap();
    assert_eq!(text(symbols, "smmu"), Some("/soc/smmu@3000"));
    assert_eq!(text(symbols, "gic"), Some("/soc/gic@1000"));
}

#[test]
fn old_nodes_keep_their_numbers_and_changes_are_told() {
    let before = base().tree().unwrap();
    let tree = before.overlay(&smmu().blob()).unwrap();
    for node in before.nodes() {
        assert_eq!(tree.node(node.id()).path(), node.path());
    }
    let changes = tree.changes(&before);
    let paths: Vec<_> = changes.iter().map(|&id| tree.node(id).path()).collect();
    assert_eq!(paths, ["/soc/dma@2000", "/__symbols__", "/soc/smmu@3000"]);
    assert_eq!(tree.changes(&tree), []);
    let soc = tree.find("/soc").unwrap();
    let children: Vec<_> = soc.children().map(|node| node.name()).collect();
    assert_eq!(children, ["gic@1000", "dma@2000", "smmu@3000"]);
}

#[test]
fn overlays_build_on_each_other() {
    let tree = apply(base(), smmu()).unwrap();
    let more = only(|n| {
        n.u32("target", u32::MAX)
            .node("__overlay__", |n| n.flag("marked").phandle(9))
    })
    .node("fragment@1", |n| {
        n.u32("target", 9)
            .node("__overlay__", |n| n.u32("self", 9).flag("again"))
    })
    .node("__fixups__", |n| n.string("smmu", "/fragment@0:target:0"))
    .node("__local_fixups__", |n| {
        n.node("fragment@1", |n| {
            n.u32("target", 0).node("__overlay__", |n| n.u32("self", 0))
        })
    });
    let tree = tree.overlay(&more.blob()).unwrap();
    let smmu = tree.find("/soc/smmu@3000").unwrap();
    assert!(smmu.has("marked") && smmu.has("again"));
    // The phandle that it had stays, or who refers to it would lose it; and the
    // overlay's own reference is to that.
    assert_eq!(smmu.phandle(), Some(2));
    assert_eq!(smmu.cell("self"), Ok(Some(2)));
    let dma = tree.find("/soc/dma@2000").unwrap();
    assert_eq!(dma.iommus().unwrap()[0].iommu, smmu.id());
}

#[test]
fn a_tree_without_symbols_gets_some() {
    let overlay = only(|n| {
        n.string("target-path", "/").node("__overlay__", |n| {
            n.node("new", |n| n.node("inner", |n| n.phandle(1)))
        })
    });
    let overlay = overlay.node("__symbols__", |n| {
        n.string("inner", "/fragment@0/__overlay__/new/inner")
            .string("whole", "/fragment@0")
    });
    let tree = apply(TreeBuilder::new(), overlay).unwrap();
    let symbols = tree.find("/__symbols__").unwrap();
    assert_eq!(text(symbols, "inner"), Some("/new/inner"));
    assert!(!symbols.has("whole"));
}

#[test]
fn firmwares_mappings_come_too() {
    let overlay = only(|n| {
        n.string("target-path", "/reserved-memory")
            .node("__overlay__", |n| {
                n.node("buffer", |n| {
                    n.cells("iommu-addresses", &[1, 0, 0x1000, 0, 0x1000])
                })
            })
    });
    let base = TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
        .node("dma", |n| n.phandle(1))
        .node("reserved-memory", |n| n);
    let tree = apply(base, overlay).unwrap();
    let dma = tree.find("/dma").unwrap();
    assert_eq!(tree.iommu_mappings(dma).unwrap().len(), 1);
}

fn message(result: Result<Tree, OverlayError>) -> String {
    result.expect_err("it is wrong").to_string()
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let empty = |n: TreeBuilder| n.string("target-path", "/soc").node("__overlay__", |n| n);
    let cases = [
        (TreeBuilder::new(), "no fragment"),
        (
            only(|n| n.node("__overlay__", |n| n)),
            "/fragment@0 has neither",
        ),
        (
            only(|n| n.string("target-path", "/no").node("__overlay__", |n| n)),
            "no node where /fragment@0",
        ),
        (
            only(|n| n.u32("target", 9).node("__overlay__", |n| n)),
            "/fragment@0: target[0]: phandle 0x9 names no node",
        ),
        (
            only(|n| n.cells("target", &[1, 1]).node("__overlay__", |n| n)),
            "target: must be one cell",
        ),
        (
            only(empty).node("__fixups__", |n| {
                n.string("nope", "/fragment@0:target-path:0")
            }),
            "symbol nope",
        ),
        (
            only(empty).node("__fixups__", |n| {
                n.string("lost", "/fragment@0:target-path:0")
            }),
            "symbol lost",
        ),
        // Its node has no phandle.
        (
            only(empty).node("__fixups__", |n| {
                n.string("dma", "/fragment@0:target-path:0")
            }),
            "symbol dma",
        ),
        (
            only(empty).node("__fixups__", |n| {
                n.strings("gic", &["/fragment@0:target-path:0", "x"])
            }),
            "gic: entry 1",
        ),
        (
            only(empty).node("__fixups__", |n| {
                n.string("gic", "/fragment@0:target-path:2")
            }),
            "gic: entry 0",
        ),
        (
            only(empty).node("__fixups__", |n| {
                n.string("gic", "/fragment@0:target-path:18446744073709551615")
            }),
            "gic: entry 0",
        ),
        (
            only(empty).node("__fixups__", |n| n.flag("gic")),
            "gic: entry 0",
        ),
        (
            only(empty).node("__local_fixups__", |n| n.node("nowhere", |n| n.u32("x", 0))),
            "/__local_fixups__/nowhere: x: no phandle",
        ),
        (
            only(empty).node("__local_fixups__", |n| {
                n.node("fragment@0", |n| n.u32("target-path", 0))
            }),
            "/fragment@0: target-path: no phandle of the overlay at byte 0x0",
        ),
        (
            only(empty).node("__local_fixups__", |n| n.bytes("x", &[1])),
            "1 bytes are no whole number of cells",
        ),
        (
            only(empty).node("__symbols__", |n| n.string("s", "/fragment@7")),
            "s names no node",
        ),
        (
            only(|n| {
                n.string("target-path", "/").node("__overlay__", |n| {
                    n.node("a", |n| n.phandle(5)).node("b", |n| n.phandle(5))
                })
            }),
            "phandle 0x5 names several nodes",
        ),
    ];
    for (overlay, expected) in cases {
        let said = message(apply(base(), overlay));
        assert!(said.contains(expected), "{said} instead of {expected}");
        assert!(
            said.starts_with("overlay: ") && !said.contains('\n'),
            "{said}"
        );
    }
}

#[test]
fn phandles_run_out() {
    let full = base().node("last", |n| n.phandle(u32::MAX - 1));
    assert_eq!(apply(full, smmu()).unwrap_err(), OverlayError::NoPhandles);
}

#[test]
fn nothing_gets_deeper_than_a_blob_may_be() {
    fn nested(n: TreeBuilder, levels: usize) -> TreeBuilder {
        match levels {
            0 => n,
            _ => n.node("a", |n| nested(n, levels - 1)),
        }
    }
    let deep = |levels| {
        only(|n| {
            n.string("target-path", "/soc/gic@1000")
                .node("__overlay__", |n| nested(n, levels))
        })
    };
    assert!(apply(base(), deep(60)).is_ok());
    let said = message(apply(base(), deep(61)));
    assert!(said.contains("deeper than 63 levels"), "{said}");
}

#[test]
fn a_broken_blob_is_told_with_its_offset() {
    let tree = base().tree().unwrap();
    let blob = smmu().blob();
    let Err(OverlayError::Blob(error)) = tree.overlay(&blob[..100]) else {
        panic!("it is cut off");
    };
    assert!(matches!(error.kind, BlobErrorKind::Truncated { .. }));
    assert_eq!(error.offset, 4);
}

/// An overlay that adds nodes to any of a few places, some of them the same.
fn overlay() -> impl Strategy<Value = Vec<u8>> {
    let paths = ["/", "/soc", "/soc/gic@1000", "/new", "/soc/new/inner"];
    let names = ["soc", "new", "inner", "gic@1000", "dma@2000"];
    let fragment = (
        prop::sample::select(paths.to_vec()),
        prop::sample::select(names.to_vec()),
        0..4u32,
        0..4u32,
        any::<bool>(),
    );
    prop::collection::vec(fragment, 1..5).prop_map(|fragments| {
        let mut overlay = TreeBuilder::new();
        let mut fixups = Vec::new();
        for (number, (path, name, phandle, refers, fix)) in fragments.into_iter().enumerate() {
            let fragment = format!("fragment@{number}");
            fixups.extend(fix.then(|| fragment.clone()));
            overlay = overlay.node(&fragment, |n| {
                n.string("target-path", path).node("__overlay__", |n| {
                    n.u32("refers", refers).node(name, |n| n.phandle(phandle))
                })
            });
        }
        let overlay = overlay.node("__local_fixups__", |n| {
            fixups.iter().fold(n, |n, fragment| {
                n.node(fragment, |n| n.node("__overlay__", |n| n.u32("refers", 0)))
            })
        });
        overlay.blob()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What comes out is a tree, in which what was there is where it was.
    #[test]
    fn any_overlay_gives_a_tree_or_a_line(overlays in prop::collection::vec(overlay(), 1..3)) {
        let mut tree = base().tree().unwrap();
        for overlay in overlays {
            match tree.overlay(&overlay) {
                Ok(next) => {
                    for node in tree.nodes() {
                        let same = next.node(node.id());
                        prop_assert_eq!(same.path(), node.path());
                        prop_assert!(node.props().all(|prop| same.has(prop.name())));
                        let had = node.phandle();
                        prop_assert!(had.is_none() || same.phandle() == had);
                    }
                    exercise_tree(&next);
                    tree = next;
                }
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }

    #[test]
    fn damage_does_no_harm(places in prop::collection::vec((0.0..1.0, any::<u8>()), 1..8)) {
        let mut blob = smmu().blob();
        for (place, byte) in places {
            let at = (place * blob.len() as f64) as usize;
            blob[at] = byte;
        }
        let tree = base().tree().unwrap();
        match tree.overlay(&blob) {
            Ok(tree) => exercise_tree(&tree),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn any_tree_as_an_overlay(byte in any::<u8>(), at in 0..8000usize) {
        let machine = machine::qemu_virt();
        let mut blob = machine.blob();
        let at = at % blob.len();
        blob[at] = byte;
        let _ = base().tree().unwrap().overlay(&blob);
    }
}

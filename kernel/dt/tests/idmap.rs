//! `iommus`, `iommu-map` and `msi-map`: which translation a master is behind.

use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{IdMap, PropErrorKind, Tree};
use proptest::prelude::*;

/// Targets with 0, 1 and 2 cells, and one that does not say.
fn machine(iommu_map: &[u32], mask: Option<u32>) -> Tree {
    let target = |n: TreeBuilder, phandle, cells| {
        n.phandle(phandle)
            .u32("#iommu-cells", cells)
            .u32("#msi-cells", cells)
    };
    TreeBuilder::new()
        .node("zero", |n| target(n, 10, 0))
        .node("one", |n| target(n, 11, 1))
        .node("two", |n| target(n, 12, 2))
        .node("mute", |n| n.phandle(13))
        .node("pcie", |n| {
            let n = n.cells("iommu-map", iommu_map).cells("msi-map", iommu_map);
            match mask {
                Some(mask) => n.u32("iommu-map-mask", mask),
                None => n,
            }
        })
        .tree()
        .unwrap()
}

type Mapped = Result<Option<(String, Vec<u32>)>, PropErrorKind>;

fn map(tree: &Tree, map: IdMap, id: u32) -> Mapped {
    let target = tree.find("/pcie").unwrap().map_id(map, id);
    let target = target.map_err(|error| error.kind)?;
    Ok(target.map(|to| (tree.node(to.target).path(), to.cells)))
}

fn iommu(tree: &Tree, id: u32) -> Mapped {
    map(tree, IdMap::Iommu, id)
}

fn to(path: &str, cells: &[u32]) -> Mapped {
    Ok(Some((path.to_owned(), cells.to_vec())))
}

#[test]
fn several_ranges() {
    let tree = machine(
        &[
            0x000, 11, 0x8000, 0x100, // to 0x8000..
            0x100, 12, 5, 6, 1, // one ID to two cells
            0x200, 10, 0x10, // any of 16 IDs to a target without cells
            0x300, 11, 0, 0, // nothing
            0x300, 0, 0, 0x10, // not translated
            0x000, 11, 0, 0x1000, // whatever is left
        ],
        None,
    );
    assert_eq!(iommu(&tree, 0x00), to("/one", &[0x8000]));
    assert_eq!(iommu(&tree, 0xff), to("/one", &[0x80ff]));
    assert_eq!(iommu(&tree, 0x100), to("/two", &[5, 6]));
    assert_eq!(iommu(&tree, 0x101), to("/one", &[0x101]));
    assert_eq!(iommu(&tree, 0x20f), to("/zero", &[]));
    assert_eq!(iommu(&tree, 0x210), to("/one", &[0x210]));
    assert_eq!(iommu(&tree, 0x300), Ok(None));
    assert_eq!(iommu(&tree, 0x310), to("/one", &[0x310]));
    assert_eq!(iommu(&tree, 0x1000), Ok(None), "covered by no entry");
}

#[test]
fn masked() {
    let tree = machine(&[8, 11, 0x100, 1], Some(0xfff8));
    assert_eq!(iommu(&tree, 0x0b), to("/one", &[0x100]));
    assert_eq!(iommu(&tree, 0x10), Ok(None));
}

#[test]
fn no_map_and_empty_map() {
    let tree = TreeBuilder::new().tree().unwrap();
    assert_eq!(tree.root().map_id(IdMap::Iommu, 0), Ok(None));
    assert_eq!(iommu(&machine(&[], None), 0), Ok(None));
}

#[test]
fn at_the_end_of_the_number_range() {
    let tree = machine(
        &[0xffff_ff00, 11, 0, u32::MAX, 0, 11, 0xffff_fff0, 0x20],
        None,
    );
    assert_eq!(iommu(&tree, u32::MAX), to("/one", &[0xff]));
    assert_eq!(iommu(&tree, 0xf), to("/one", &[u32::MAX]));
    assert_eq!(iommu(&tree, 0x10), Err(PropErrorKind::TooLarge));
}

#[test]
fn broken_maps_are_broken_for_everyone() {
    let error = |cells: &[u32]| iommu(&machine(cells, None), 0).unwrap_err();
    let good = [0, 11, 0, 1];
    let with = |rest: &[u32]| [&good[..], rest].concat();
    assert_eq!(
        error(&with(&[1])),
        PropErrorKind::Truncated { need: 1, left: 0 }
    );
    assert_eq!(
        error(&with(&[1, 11, 0])),
        PropErrorKind::Truncated { need: 1, left: 0 }
    );
    assert_eq!(
        error(&with(&[1, 99, 0, 1])),
        PropErrorKind::DanglingPhandle(99)
    );
    let provider = "/mute".to_owned();
    let property = "#iommu-cells";
    let mute = PropErrorKind::ProviderWithout { provider, property };
    assert_eq!(error(&with(&[1, 13, 0, 1])), mute);
    assert_eq!(
        error(&[0, 12, 5, 6, 2]),
        PropErrorKind::AmbiguousOutput { cells: 2 }
    );
    let text = machine(&with(&[1, 99, 0, 1]), None)
        .find("/pcie")
        .unwrap()
        .map_id(IdMap::Iommu, 0)
        .unwrap_err();
    assert_eq!(
        text.to_string(),
        "/pcie: iommu-map[5]: phandle 0x63 names no node"
    );
}

/// As every Qualcomm tree has it: the target wants two cells, the map gives one.
#[test]
fn maps_of_one_output_cell_to_a_target_that_wants_two() {
    let tree = machine(&[0, 12, 0x1c00, 1, 0x100, 12, 0x1c80, 8], None);
    assert_eq!(iommu(&tree, 0), to("/two", &[0x1c00]));
    assert_eq!(iommu(&tree, 0x107), to("/two", &[0x1c87]));
    assert_eq!(iommu(&tree, 1), Ok(None));
    let host = tree.find("/pcie").unwrap();
    let ranges = host.id_ranges(IdMap::Iommu).unwrap();
    let firsts: Vec<_> = ranges
        .iter()
        .map(|range| (range.first, range.count))
        .collect();
    assert_eq!(firsts, [(0, 1), (0x100, 8)]);
}

/// A GICv2m frame has no `#msi-cells`, yet QEMU maps to it with one.
#[test]
fn msi_map_to_a_controller_that_does_not_say() {
    let tree = machine(&[0, 13, 0x40, 0x1_0000], Some(0));
    assert_eq!(
        map(&tree, IdMap::Msi, 8),
        to("/mute", &[0x48]),
        "and its own mask"
    );
}

#[test]
fn iommus() {
    let tree = TreeBuilder::new()
        .node("one", |n| n.phandle(1).u32("#iommu-cells", 1))
        .node("two", |n| n.phandle(2).u32("#iommu-cells", 2))
        .node("mute", |n| n.phandle(3))
        .node("dma", |n| {
            n.cells("iommus", &[1, 0x10, 2, 0x20, 0x7f, 0, 1, 0x11])
        })
        .node("cut", |n| n.cells("iommus", &[1, 0x10, 2, 0x20]))
        .node("dangling", |n| n.cells("iommus", &[4, 0]))
        .node("wrong", |n| n.cells("iommus", &[3, 0]))
        .node("cpu", |n| n)
        .tree()
        .unwrap();
    let iommus = |path| tree.find(path).unwrap().iommus();
    let found: Vec<_> = iommus("/dma")
        .unwrap()
        .into_iter()
        .map(|r| (tree.node(r.iommu).path(), r.cells))
        .collect();
    let expected = [
        ("/one", vec![0x10]),
        ("/two", vec![0x20, 0x7f]),
        ("/one", vec![0x11]),
    ];
    assert_eq!(
        found,
        expected.map(|(path, cells)| (path.to_owned(), cells))
    );
    assert_eq!(iommus("/cpu"), Ok(vec![]));
    let error = |path| iommus(path).unwrap_err().to_string();
    assert_eq!(
        error("/cut"),
        "/cut: iommus[3]: entry is cut off: 1 of 2 cells are there"
    );
    assert_eq!(
        error("/dangling"),
        "/dangling: iommus[0]: phandle 0x4 names no node"
    );
    assert_eq!(
        error("/wrong"),
        "/wrong: iommus[0]: refers to /mute, which has no #iommu-cells"
    );
}

/// An entry of a random map: (first, phandle, output, count).
type Entry = (u32, u32, u32, u32);

/// The map said plainly: what each single ID becomes.
fn naive(entries: &[Entry], mask: u32, id: u32) -> Option<(u32, Vec<u32>)> {
    let id = id & mask;
    for &(first, phandle, output, count) in entries {
        for n in 0..count {
            if first + n == id {
                return match phandle {
                    0 => None,
                    10 => Some((phandle, vec![])),
                    _ => Some((phandle, vec![output + n])),
                };
            }
        }
    }
    None
}

proptest! {
    #[test]
    fn like_the_naive_reference(
        entries in prop::collection::vec(
            (0..40u32, prop::sample::select(vec![0u32, 10, 11]), 0..1000u32, 0..12u32),
            0..6,
        ),
        mask in prop::option::of(0..64u32),
    ) {
        let cells: Vec<u32> = entries
            .iter()
            .flat_map(|&(first, phandle, output, count)| match phandle {
                10 => vec![first, phandle, count],
                _ => vec![first, phandle, output, count],
            })
            .collect();
        let tree = machine(&cells, mask);
        let host = tree.find("/pcie").unwrap();
        for id in 0..64 {
            let got = host.map_id(IdMap::Iommu, id).unwrap();
            let got = got.map(|to| (tree.node(to.target).phandle().unwrap(), to.cells));
            prop_assert_eq!(got, naive(&entries, mask.unwrap_or(u32::MAX), id));
        }
    }
}

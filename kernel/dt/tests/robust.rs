//! No blob makes the tree panic: random bytes, good blobs with damage, and
//! well-formed trees whose properties are nonsense. And what goes in comes out.

mod exercise;
mod machine;

use exercise::exercise;
use mastiff_dt::Tree;
use mastiff_dt::build::TreeBuilder;
use proptest::prelude::*;

/// A node said plainly, to compare with what comes out.
#[derive(Clone, Debug)]
struct Model {
    name: String,
    props: Vec<(String, Vec<u8>)>,
    children: Vec<Model>,
}

impl Model {
    fn fill(&self, node: TreeBuilder) -> TreeBuilder {
        let props = self.props.iter();
        let node = props.fold(node, |node, (name, value)| node.bytes(name, value));
        let children = self.children.iter();
        children.fold(node, |node, child| {
            node.node(&child.name, |inner| child.fill(inner))
        })
    }

    fn blob(&self) -> Vec<u8> {
        self.fill(TreeBuilder::new()).blob()
    }

    fn assert_is(&self, node: mastiff_dt::Node<'_>) {
        let props: Vec<_> = node
            .props()
            .map(|prop| (prop.name().to_owned(), prop.bytes().to_vec()))
            .collect();
        assert_eq!(props, self.props);
        let children: Vec<_> = node.children().collect();
        assert_eq!(children.len(), self.children.len());
        for (child, model) in children.into_iter().zip(&self.children) {
            assert_eq!(child.name(), model.name);
            model.assert_is(child);
        }
    }
}

/// Properties that some accessor reads.
const NAMES: &[&str] = &[
    "#address-cells",
    "#size-cells",
    "#interrupt-cells",
    "#iommu-cells",
    "#msi-cells",
    "#clock-cells",
    "#gpio-cells",
    "phandle",
    "linux,phandle",
    "reg",
    "ranges",
    "dma-ranges",
    "interrupt-parent",
    "interrupts",
    "interrupts-extended",
    "interrupt-map",
    "interrupt-map-mask",
    "interrupt-controller",
    "iommus",
    "iommu-map",
    "iommu-map-mask",
    "msi-map",
    "msi-parent",
    "clocks",
    "x-gpios",
    "v-supply",
    "pinctrl-0",
    "nvmem-cells",
    "device_type",
    "status",
    "compatible",
    "dma-coherent",
    "dma-noncoherent",
    "bootargs",
    "stdout-path",
    "serial0",
    "no-map",
];

const NODE_NAMES: &[&str] = &[
    "soc",
    "uart@1",
    "uart@2",
    "aliases",
    "chosen",
    "memory@0",
    "reserved-memory",
    "a",
    "pcie",
];

fn prop_value() -> impl Strategy<Value = Vec<u8>> {
    // Small numbers make phandles that exist and counts that make sense.
    let number = prop_oneof![
        8 => 0..5u32,
        1 => Just(u32::MAX),
        1 => Just(0x8000_0000),
        1 => any::<u32>(),
    ];
    let cells = prop::collection::vec(number, 0..14);
    let cells = cells.prop_map(|cells| cells.iter().flat_map(|c| c.to_be_bytes()).collect());
    let texts = [
        "okay",
        "disabled",
        "memory",
        "pci",
        "/soc/uart@1",
        "serial0:9600",
        "/a",
    ];
    let text = prop::sample::select(texts.to_vec());
    let text = text.prop_map(|text| [text.as_bytes(), &[0]].concat());
    let bytes = prop::collection::vec(any::<u8>(), 0..9);
    prop_oneof![8 => cells, 2 => text, 1 => bytes]
}

fn props() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let one_cell = (0..5u32).prop_map(|n| n.to_be_bytes().to_vec());
    let name = prop::sample::select(NAMES);
    let prop = (name, prop_value(), one_cell).prop_map(|(name, value, cell)| {
        let single = name.starts_with('#') || name == "phandle" || name == "interrupt-parent";
        (name.to_owned(), if single { cell } else { value })
    });
    prop::collection::vec(prop, 0..8)
}

fn model() -> impl Strategy<Value = Model> {
    let node = |children: BoxedStrategy<Vec<Model>>| {
        let name = prop::sample::select(NODE_NAMES);
        (name, props(), children).prop_map(|(name, props, children)| Model {
            name: name.to_owned(),
            props,
            children,
        })
    };
    node(Just(vec![]).boxed()).prop_recursive(4, 24, 5, move |inner| {
        node(prop::collection::vec(inner, 0..5).boxed())
    })
}

/// Words that mean something in a blob.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![0u32, 1, 2, 3, 4, 5, 9, 16, 40, 0x7fff_ffff, u32::MAX]),
        any::<u32>(),
    ]
}

/// Where to hit a blob (as a part of its length), with which word, and how many
/// bytes of it.
fn damage() -> impl Strategy<Value = Vec<(f64, u32, usize)>> {
    prop::collection::vec((0.0..1.0, word(), prop_oneof![Just(4usize), Just(1)]), 1..6)
}

fn hit(blob: &mut [u8], damage: &[(f64, u32, usize)]) {
    for &(place, word, bytes) in damage {
        let at = (place * blob.len() as f64) as usize;
        let at = if bytes == 4 { at & !3 } else { at };
        for (byte, new) in blob[at..]
            .iter_mut()
            .zip(word.to_be_bytes().iter().rev().take(bytes).rev())
        {
            *byte = *new;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes(mut blob in prop::collection::vec(any::<u8>(), 0..300), magic: bool) {
        if magic && blob.len() >= 4 {
            blob[..4].copy_from_slice(&[0xd0, 0x0d, 0xfe, 0xed]);
        }
        exercise(&blob);
    }

    #[test]
    fn nonsense_in_good_form(model in model()) {
        prop_assert!(exercise(&model.blob()));
    }

    #[test]
    fn what_goes_in_comes_out(model in model()) {
        model.assert_is(Tree::parse(&model.blob()).unwrap().root());
    }

    #[test]
    fn damaged_nonsense(model in model(), damage in damage()) {
        let mut blob = model.blob();
        hit(&mut blob, &damage);
        exercise(&blob);
    }

    #[test]
    fn damaged_machine(damage in damage()) {
        let mut blob = machine::qemu_virt().blob();
        hit(&mut blob, &damage);
        exercise(&blob);
    }

    #[test]
    fn truncated_machine(part in 0.0..1.0) {
        let blob = machine::qemu_virt().blob();
        let len = (part * blob.len() as f64) as usize;
        prop_assert!(!exercise(&blob[..len]));
        // The header too says that it ends here.
        let mut blob = blob[..len].to_vec();
        if len >= 8 {
            blob[4..8].copy_from_slice(&(len as u32).to_be_bytes());
        }
        exercise(&blob);
    }

    /// `FDT_NOP`s before any token change nothing.
    #[test]
    fn nops_change_nothing(model in model(), places in prop::collection::vec(0..200usize, 0..8)) {
        let blob = with_nops(&model.blob(), &places);
        model.assert_is(Tree::parse(&blob).unwrap().root());
    }
}

/// The blob with an `FDT_NOP` before each of the tokens of these numbers.
fn with_nops(blob: &[u8], before: &[usize]) -> Vec<u8> {
    let word = |at: usize| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap());
    let (start, strings) = (word(8) as usize, word(12) as usize);
    let mut out = blob[..start].to_vec();
    let (mut at, mut number) = (start, 0);
    while at < strings {
        let len = match word(at) {
            1 => 4 + blob[at + 4..].iter().position(|&b| b == 0).unwrap() + 1,
            3 => 12 + word(at + 4) as usize,
            _ => 4,
        };
        let next = at + len.next_multiple_of(4);
        if before.contains(&number) {
            out.extend([0, 0, 0, 4]);
        }
        out.extend(&blob[at..next]);
        (at, number) = (next, number + 1);
    }
    let moved = (out.len() - strings) as u32;
    out.extend(&blob[strings..]);
    for field in [4, 12, 36] {
        out[field..field + 4].copy_from_slice(&(word(field) + moved).to_be_bytes());
    }
    out
}

/// The mutations reach what they are meant for: enough damaged blobs still are
/// trees, and enough are not.
#[test]
fn damage_leaves_some_trees_alive() {
    let good = machine::qemu_virt().blob();
    let mut alive = 0;
    for at in (0..good.len()).step_by(4) {
        let mut blob = good.clone();
        blob[at..at + 4].copy_from_slice(&[0, 0, 0, 7]);
        alive += usize::from(exercise(&blob));
    }
    let all = good.len() / 4;
    assert!(
        (all / 10..all * 9 / 10).contains(&alive),
        "{alive} of {all}"
    );
}

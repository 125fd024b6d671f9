//! What a blob must be, rule by rule: each test breaks one rule of a good blob
//! and expects to be told which, and where.

use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{BlobError, BlobErrorKind, Block, Tree};

const NOP: [u8; 4] = [0, 0, 0, 4];
const END_NODE: [u8; 4] = [0, 0, 0, 2];

/// Header of 40 bytes, reservation block of 16; the structure block follows:
/// 0x38 BEGIN "", 0x40 PROP x = 7, 0x50 BEGIN "n", 0x58 END, 0x5c END,
/// 0x60 FDT_END; strings at 0x64.
fn good() -> Vec<u8> {
    TreeBuilder::new().u32("x", 7).node("n", |n| n).blob()
}

fn put(blob: &mut [u8], at: usize, word: u32) {
    blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
}

fn get(blob: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(blob[at..at + 4].try_into().unwrap())
}

/// Inserts words into the structure block and mends the header.
fn insert(blob: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let len = bytes.len() as u32;
    blob.splice(at..at, bytes.iter().copied());
    for field in [4, 12, 36] {
        let value = get(blob, field);
        put(blob, field, value + len);
    }
}

fn error_of(blob: &[u8]) -> BlobError {
    Tree::parse(blob).expect_err("a broken blob was accepted")
}

/// The error of the good blob with one word changed.
fn with_word(at: usize, word: u32) -> (usize, BlobErrorKind) {
    let mut blob = good();
    put(&mut blob, at, word);
    let error = error_of(&blob);
    (error.offset, error.kind)
}

#[test]
fn the_good_blob_is_good() {
    let tree = Tree::parse(&good()).unwrap();
    assert_eq!(tree.nodes().count(), 2);
    assert_eq!(get(&good(), 0x5c), 2);
    assert_eq!(get(&good(), 0x60), 9);
}

#[test]
fn header() {
    use BlobErrorKind::*;
    assert_eq!(error_of(&[]).kind, TooShort { have: 0 });
    assert_eq!(error_of(&good()[..39]).kind, TooShort { have: 39 });
    assert_eq!(with_word(0, 0xdead), (0, BadMagic { found: 0xdead }));
    let old = BadVersion {
        version: 3,
        compatible: 16,
    };
    assert_eq!(with_word(20, 3), (20, old));
    let new = BadVersion {
        version: 17,
        compatible: 18,
    };
    assert_eq!(with_word(24, 18), (20, new));
    assert_eq!(with_word(4, 39), (4, BadSize { totalsize: 39 }));
    let huge = 0x4000_0001;
    assert_eq!(with_word(4, huge), (4, BadSize { totalsize: huge }));
    let have = good().len();
    let totalsize = have as u32 + 1;
    assert_eq!(with_word(4, totalsize), (4, Truncated { totalsize, have }));
}

#[test]
fn blocks() {
    use BlobErrorKind::*;
    let len = good().len() as u32;
    let out = |block| OutOfBounds(block);
    assert_eq!(with_word(8, len + 4), (8, out(Block::Structure)));
    assert_eq!(with_word(8, 4), (8, out(Block::Structure)));
    assert_eq!(with_word(36, len), (8, out(Block::Structure)));
    assert_eq!(with_word(8, u32::MAX), (8, out(Block::Structure)));
    assert_eq!(with_word(36, u32::MAX), (8, out(Block::Structure)));
    assert_eq!(with_word(12, len + 1), (12, out(Block::Strings)));
    assert_eq!(with_word(32, 3), (12, out(Block::Strings)));
    assert_eq!(with_word(16, len + 1), (16, out(Block::Reservation)));
    assert_eq!(with_word(8, 0x3a), (8, Misaligned(Block::Structure)));
    // A reservation block that never ends.
    assert_eq!(
        with_word(16, len - 8),
        (len as usize - 8, UnexpectedEnd(Block::Reservation))
    );
}

#[test]
fn structure() {
    use BlobErrorKind::*;
    let cut = UnexpectedEnd(Block::Structure);
    assert_eq!(with_word(0x38, 7), (0x38, BadToken { found: 7 }));
    assert_eq!(with_word(0x38, 9), (0x38, NoRoot));
    assert_eq!(with_word(0x38, 3), (0x38, PropertyOutsideNode));
    assert_eq!(with_word(0x38, 2), (0x38, UnbalancedEnd));
    assert_eq!(with_word(0x5c, 9), (0x5c, OpenNodes { open: 1 }));
    assert_eq!(with_word(0x60, 4), (0x64, cut));
    // Lengths and sizes that end an item in its middle.
    assert_eq!(with_word(36, 0x28), (0x60, cut));
    assert_eq!(with_word(36, 0x1c), (0x50, cut));
    assert_eq!(with_word(0x44, 0x1000), (0x40, cut));
    assert_eq!(with_word(0x44, u32::MAX), (0x40, cut));
    // A name without its end swallows the token after it.
    assert_eq!(with_word(0x54, 0x6161_6161), (0x60, OpenNodes { open: 1 }));
    assert_eq!(with_word(0x54, 0), (0x54, BadName));
    assert_eq!(with_word(0x54, 0x612f_6200), (0x54, BadName));
    assert_eq!(with_word(0x54, 0xff00_0000), (0x54, NotPrintable));
    assert_eq!(with_word(0x54, 0x610a_6200), (0x54, NotPrintable));
}

#[test]
fn order_of_items() {
    use BlobErrorKind::*;
    let prop = [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut blob = good();
    insert(&mut blob, 0x5c, &prop);
    assert_eq!(error_of(&blob).kind, PropertyAfterChild);
    let mut blob = good();
    insert(&mut blob, 0x60, &prop);
    assert_eq!(error_of(&blob).kind, PropertyOutsideNode);
    let mut blob = good();
    insert(&mut blob, 0x60, &END_NODE);
    assert_eq!(error_of(&blob).kind, UnbalancedEnd);
    let mut blob = good();
    insert(&mut blob, 0x60, &[0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(error_of(&blob).kind, SecondRoot);
}

#[test]
fn strings() {
    use BlobErrorKind::*;
    assert_eq!(
        with_word(0x48, 2),
        (0x48, StringOutOfBlock { name: 2 }),
        "the strings are \"x\" and its NUL"
    );
    // The block holds only the "x": nothing terminates it.
    assert_eq!(with_word(32, 1), (0x48, StringOutOfBlock { name: 0 }));
    let mut blob = good();
    blob[0x64] = 0xe9;
    assert_eq!(error_of(&blob).kind, NotPrintable);
    assert_eq!(error_of(&blob).offset, 0x64);
}

#[test]
fn depth() {
    fn nested(levels: usize, tree: TreeBuilder) -> TreeBuilder {
        match levels {
            0 => tree,
            _ => tree.node("n", |n| nested(levels - 1, n)),
        }
    }
    let deepest = nested(62, TreeBuilder::new()).tree().unwrap();
    assert_eq!(deepest.nodes().count(), 63);
    let last = deepest.nodes().last().unwrap();
    assert_eq!(last.ancestors().count(), 63);
    let error = nested(63, TreeBuilder::new()).tree().unwrap_err();
    assert_eq!(error.kind, BlobErrorKind::TooDeep);
}

/// `FDT_NOP`s may stand anywhere between tokens; `fdt` alone loses what follows
/// them.
#[test]
fn nops_are_nothing() {
    let mut blob = good();
    for at in [0x60, 0x5c, 0x58, 0x50, 0x40, 0x38] {
        insert(&mut blob, at, &[NOP, NOP].concat());
    }
    let tree = Tree::parse(&blob).unwrap();
    let paths: Vec<_> = tree.nodes().map(|node| node.path()).collect();
    assert_eq!(paths, ["/", "/n"]);
    assert_eq!(tree.root().prop("x").unwrap().as_u32(), Ok(7));
}

#[test]
fn version_16_has_no_structure_size() {
    let mut blob = good();
    put(&mut blob, 20, 16);
    put(&mut blob, 36, 0xdead_beef);
    assert_eq!(Tree::parse(&blob).unwrap().nodes().count(), 2);
}

#[test]
fn what_follows_the_blob_does_not_matter() {
    let mut blob = good();
    let len = blob.len();
    blob.resize(1 << 20, 0xff);
    assert_eq!(Tree::blob_len(&blob), Ok(len));
    assert_eq!(Tree::parse(&blob).unwrap().nodes().count(), 2);
    assert!(Tree::blob_len(&blob[..39]).is_err());
}

#[test]
fn errors_print_as_one_line() {
    assert_eq!(
        error_of(b"not a device tree, but long enough to be one").to_string(),
        "broken device tree at byte 0x0: magic is 0x6e6f7420, not 0xd00dfeed"
    );
    assert_eq!(
        error_of(&good()[..0x40]).to_string(),
        "broken device tree at byte 0x4: the blob has 102 bytes, only 64 are here"
    );
}

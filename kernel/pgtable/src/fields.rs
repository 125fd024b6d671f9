//! The fields of descriptors by their architected names, for people: whatever a
//! descriptor holds, also what this crate never writes.
//!
//! Layout: DDI 0487 §D8.3.1 (table descriptors, and the attributes of blocks and pages
//! of either stage).

use crate::entry::Entry;
use crate::geometry::Stage;

/// Name, lowest bit, how many bits.
type Field = (&'static str, u32, u32);

/// What a table of stage 1 says of all below it.
const TABLE: &[Field] = &[("PXNTable", 59, 1), ("UXNTable", 60, 1), ("APTable", 61, 2)];
const STAGE1: &[Field] = &[
    ("AttrIndx", 2, 3),
    ("AP", 6, 2),
    ("SH", 8, 2),
    ("AF", 10, 1),
    ("nG", 11, 1),
    ("Contiguous", 52, 1),
    ("PXN", 53, 1),
    ("UXN", 54, 1),
];
const STAGE2: &[Field] = &[
    ("MemAttr", 2, 4),
    ("S2AP", 6, 2),
    ("SH", 8, 2),
    ("AF", 10, 1),
    ("Contiguous", 52, 1),
    ("XN", 53, 2),
];

/// The attribute fields of a descriptor and their values: none of one that is invalid,
/// nor of a table of stage 2, which has none.
pub(crate) fn of(
    stage: Stage,
    entry: Entry,
    raw: u64,
) -> impl Iterator<Item = (&'static str, u64)> {
    let fields = match (entry, stage) {
        (Entry::Invalid, _) | (Entry::Table { .. }, Stage::Two) => &[],
        (Entry::Table { .. }, Stage::One) => TABLE,
        (Entry::Block { .. } | Entry::Page { .. }, Stage::One) => STAGE1,
        (Entry::Block { .. } | Entry::Page { .. }, Stage::Two) => STAGE2,
    };
    let value = move |&(name, from, bits): &Field| (name, raw >> from & ((1 << bits) - 1));
    fields.iter().map(value)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    const LEAF: Entry = Entry::Page { pa: 0, attrs: None };

    fn text(stage: Stage, entry: Entry, raw: u64) -> String {
        let fields = of(stage, entry, raw).map(|(name, value)| format!("{name}={value:#b}"));
        fields.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn fields_are_where_the_architecture_has_them() {
        assert_eq!(
            text(Stage::One, LEAF, 0x0060_0000_4000_0f4b),
            "AttrIndx=0b10 AP=0b1 SH=0b11 AF=0b1 nG=0b1 Contiguous=0b0 PXN=0b1 UXN=0b1"
        );
        assert_eq!(
            text(Stage::One, LEAF, 0x0050_0000_4000_0283),
            "AttrIndx=0b0 AP=0b10 SH=0b10 AF=0b0 nG=0b0 Contiguous=0b1 PXN=0b0 UXN=0b1"
        );
        assert_eq!(
            text(Stage::Two, LEAF, 0x0040_0000_4000_07ff),
            "MemAttr=0b1111 S2AP=0b11 SH=0b11 AF=0b1 Contiguous=0b0 XN=0b10"
        );
        let table = Entry::Table { pa: 0 };
        assert_eq!(
            text(Stage::One, table, 0x4800_0000_4000_0003),
            "PXNTable=0b1 UXNTable=0b0 APTable=0b10"
        );
        assert_eq!(text(Stage::Two, table, u64::MAX), "");
        assert_eq!(text(Stage::One, Entry::Invalid, u64::MAX), "");
    }
}

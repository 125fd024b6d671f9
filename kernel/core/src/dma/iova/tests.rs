use super::*;
use alloc::collections::BTreeMap;
use proptest::prelude::*;

const MASK28: u64 = (1 << 28) - 1;
const MASK32: u64 = (1 << 32) - 1;

#[test]
fn s20_zero_is_never_handed_out() {
    let mut space = IovaSpace::new(4 * PAGE - 1);
    let mut got: Vec<u64> = (0..3)
        .map(|_| space.alloc(1, u64::MAX).unwrap().iova.0)
        .collect();
    got.sort_unstable();
    assert_eq!(got, [PAGE, 2 * PAGE, 3 * PAGE]);
    assert!(matches!(
        space.alloc(1, u64::MAX),
        Err(Fault::OutOfIova { .. })
    ));
}

#[test]
fn s20_the_last_page_of_four_gibibytes_is_an_address_like_any_other() {
    let mut space = IovaSpace::new(MASK32);
    space
        .exclude(&[Hole {
            first: 0,
            last: MASK32 - PAGE,
        }])
        .unwrap();
    let last = space.alloc(PAGE, MASK32).unwrap();
    assert_eq!(last.iova.0, MASK32 - PAGE + 1);
    assert!(space.alloc(PAGE, MASK32).is_err());
    space.free(last, PAGE);
    assert_eq!(space.alloc(PAGE, MASK32).unwrap(), last);
}

#[test]
fn all_of_a_64_bit_space_does_not_overflow() {
    let mut space = IovaSpace::new(u64::MAX);
    space.split_at(u64::MAX);
    space
        .exclude(&[Hole {
            first: u64::MAX,
            last: u64::MAX,
        }])
        .unwrap();
    assert!(space.alloc(u64::MAX, u64::MAX).is_err());
    assert!(space.alloc(1 << 46, u64::MAX).is_ok());
}

#[test]
fn low_addresses_are_left_to_those_that_need_them() {
    let mut space = IovaSpace::new((1 << 48) - 1);
    space.split_at(MASK28);
    assert!(space.alloc(PAGE, u64::MAX).unwrap().iova.0 > MASK28);
    assert!(space.alloc(PAGE, MASK28).unwrap().iova.0 <= MASK28);
}

#[test]
fn a_hole_in_use_is_refused_and_one_that_is_free_again_is_not() {
    let mut space = IovaSpace::new(MASK28);
    let got = space.alloc(PAGE, MASK28).unwrap();
    let hole = Hole {
        first: got.iova.0,
        last: got.iova.0,
    };
    assert!(matches!(
        space.exclude(&[hole]),
        Err(Fault::BadRange { .. })
    ));
    space.free(got, PAGE);
    space.exclude(&[hole]).unwrap();
    assert_ne!(space.alloc(PAGE, MASK28).unwrap(), got);
}

#[test]
fn fragments_become_whole_again() {
    let pages = 1 << 10;
    let mut space = IovaSpace::new(2 * pages * PAGE - 1);
    let small: Vec<Slot> = core::iter::from_fn(|| space.alloc(PAGE, u64::MAX).ok()).collect();
    assert_eq!(small.len() as u64, 2 * pages - 1);
    for slot in small {
        space.free(slot, PAGE);
    }
    let whole = space.alloc(pages * PAGE, u64::MAX).unwrap();
    assert_eq!(whole.iova.0, pages * PAGE);
}

#[test]
fn a_range_comes_with_what_was_known_of_it() {
    let mut space = IovaSpace::new((1 << 48) - 1);
    let page = space.alloc(PAGE, u64::MAX).unwrap();
    let two = space.alloc(2 * PAGE, u64::MAX).unwrap();
    assert_eq!((page.hint, two.hint), (Hint::default(), Hint::default()));
    let hint = Hint(7);
    space.free(Slot { hint, ..page }, PAGE);
    assert_eq!(space.alloc(PAGE, u64::MAX), Ok(Slot { hint, ..page }));
}

#[test]
fn classes_are_powers_of_two_of_pages() {
    let classes = [1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE, 5 * PAGE].map(class);
    assert_eq!(classes, [0, 0, 1, 1, 2, 3]);
    assert_eq!(class(1 << 48), CLASSES - 1);
    for none in [0, (1 << 48) + 1, u64::MAX] {
        assert!(class(none) >= CLASSES);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Alloc { len: u64, limit: u64 },
    Free(prop::sample::Index),
    Split(u64),
    Exclude(u64, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let top = 1u64 << 20;
    prop_oneof![
        6 => (1..20 * PAGE, prop_oneof![Just(u64::MAX), Just(top / 2 - 1), 0..top])
            .prop_map(|(len, limit)| Op::Alloc { len, limit }),
        4 => any::<prop::sample::Index>().prop_map(Op::Free),
        1 => (0..top).prop_map(Op::Split),
        1 => (0..top, 0..4 * PAGE).prop_map(|(first, len)| Op::Exclude(first, first + len)),
    ]
}

proptest! {
    /// Against a map of what is out: nothing overlaps, is out of bounds, above its
    /// limit, misaligned, or in a hole; and what is free is found.
    #[test]
    fn agrees_with_a_naive_map(ops in prop::collection::vec(op(), 1..200)) {
        let top = 1u64 << 20;
        let mut space = IovaSpace::new(top - 1);
        let mut out: BTreeMap<u64, u64> = BTreeMap::new();
        let mut holes: Vec<(u64, u64)> = Vec::new();
        for op in ops {
            match op {
                Op::Alloc { len, limit } => {
                    // A window must end at a limit for it to be served.
                    space.split_at(limit);
                    let size = len.div_ceil(PAGE).next_power_of_two() * PAGE;
                    let fits = |start: u64| {
                        start + size - 1 <= limit
                            && out.iter().all(|(&o, &l)| start + size <= o || o + l <= start)
                            && holes.iter().all(|&(f, l)| start + size <= f || l < start)
                    };
                    match space.alloc(len, limit) {
                        Ok(Slot { iova, .. }) => {
                            prop_assert!(iova.0 >= PAGE && iova.0 + size <= top);
                            prop_assert!(iova.0.is_multiple_of(size));
                            prop_assert!(fits(iova.0), "{:#x}", iova.0);
                            out.insert(iova.0, size);
                        }
                        Err(_) => {
                            // Only where a page is asked for must all free space be
                            // found: larger ranges may straddle windows.
                            if size == PAGE {
                                let missed = (1..top / PAGE).map(|n| n * PAGE).find(|&s| fits(s));
                                prop_assert_eq!(missed, None);
                            }
                        }
                    }
                }
                Op::Free(index) if !out.is_empty() => {
                    let (&start, &size) = out.iter().nth(index.index(out.len())).unwrap();
                    out.remove(&start);
                    space.free(Slot::new(start), size);
                }
                Op::Free(_) => {}
                Op::Split(at) => space.split_at(at),
                Op::Exclude(first, last) => {
                    let (first, last) = (first & !(PAGE - 1), last | (PAGE - 1));
                    let used = out.iter().any(|(&o, &l)| first < o + l && o <= last);
                    let result = space.exclude(&[Hole { first, last }]);
                    prop_assert_eq!(result.is_err(), used);
                    if !used {
                        holes.push((first, last));
                    }
                }
            }
        }
    }
}

//! Random sequences of calls against a naive model: a map from page number to
//! where it leads. After each call the crate's view, and that of a hardware
//! walker reading published memory only, must be the model's.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use common::hardware::{Regime, translate};
use common::{DMA, TestMem};
use mastiff_pgtable::{
    Access, Attrs, Geometry, Granule, MapError, PageTable, Stage, stage1, stage2,
};
use proptest::prelude::*;

/// One unit of the model: its target in units, its attributes, and the first
/// unit and the length of the leaf it is in, and of all that a TLB may keep with it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Unit {
    target: u64,
    attrs: Attrs,
    leaf: (u64, u64),
    kept: (u64, u64),
}

#[derive(Debug, Clone)]
enum Op {
    /// Start, target and length in units; writable; allocations that succeed.
    Map(u64, u64, u64, bool, Option<usize>),
    Unmap(u64, u64),
    /// Unmap exactly what the n-th mapping still there covers, n modulo.
    UnmapNth(usize),
}

/// A world of `units` units of `unit` bytes around address `base`.
#[derive(Debug, Clone, Copy)]
struct World {
    shape: Geometry,
    unit: u64,
    base: u64,
    units: u64,
}

fn any_op(units: u64, big: u64) -> impl Strategy<Value = Op> {
    let at = 0..units;
    // Aligned starts and lengths make blocks; the rest makes trouble.
    let aligned = (0..units / big).prop_map(move |n| n * big);
    let start = prop_oneof![at.clone(), aligned.clone()];
    let target = prop_oneof![at, aligned];
    let len = prop_oneof![
        4 => Just(1),
        4 => 1..20u64,
        2 => (1..4u64).prop_map(move |n| n * big),
        1 => 1..units,
    ];
    let budget = prop_oneof![4 => Just(None), 1 => (0usize..4).prop_map(Some)];
    prop_oneof![
        4 => (start.clone(), target, len.clone(), any::<bool>(), budget)
            .prop_map(|(va, pa, len, write, budget)| Op::Map(va, pa, len, write, budget)),
        1 => (start, len).prop_map(|(va, len)| Op::Unmap(va, len)),
        3 => any::<usize>().prop_map(Op::UnmapNth),
    ]
}

struct Bench<'a> {
    world: World,
    mem: &'a TestMem,
    table: PageTable<&'a TestMem>,
    model: BTreeMap<u64, Unit>,
    /// Ranges that were mapped by one call and are still there.
    calls: Vec<(u64, u64)>,
}

impl Bench<'_> {
    fn va(&self, unit: u64) -> u64 {
        self.world.base + unit * self.world.unit
    }

    fn walked(&self, unit: u64, offset: u64) -> Option<Unit> {
        let World {
            shape,
            unit: bytes,
            base,
            ..
        } = self.world;
        let regime = Regime {
            granule: shape.granule.bits(),
            t0sz: 64 - shape.input_bits,
            output_bits: shape.output_bits,
            ttb: self.table.root(),
        };
        let va = self.va(unit) + offset;
        let hit = translate(self.mem, regime, va).ok()?;
        assert_eq!(hit.pa % bytes, offset);
        let around = |log2: u32| {
            let first = va >> log2 << log2;
            assert!(first >= base, "a leaf begins before all that was mapped");
            ((first - base) / bytes, (1 << log2) / bytes)
        };
        Some(Unit {
            target: hit.pa / bytes,
            attrs: match shape.stage {
                Stage::One => stage1::decode(hit.descriptor),
                Stage::Two => stage2::decode(hit.descriptor),
            }
            .expect("attributes of ours"),
            leaf: around(hit.size_bits),
            kept: around(hit.kept_bits),
        })
    }

    fn map(&mut self, va: u64, pa: u64, len: u64, attrs: Attrs, budget: Option<usize>) {
        let unit = self.world.unit;
        let fits = va + len <= self.world.units;
        let occupied = self.model.range(va..va + len).next().map(|(&at, _)| at);
        self.mem.allow(budget.unwrap_or(usize::MAX));
        let live = self.mem.live();
        let result = self.table.map(self.va(va), pa * unit, len * unit, attrs);
        self.mem.allow(usize::MAX);
        match result {
            Ok(()) => {
                assert!(fits && occupied.is_none(), "mapped over {occupied:?}");
                for at in va..va + len {
                    let seen = self.walked(at, 0).expect("mapped");
                    let (first, size) = seen.kept;
                    assert!(first >= va && first + size <= va + len);
                    assert_eq!(seen.target, pa + at - va);
                    assert_eq!(seen.attrs, attrs);
                    self.model.insert(at, seen);
                }
                let mut at = va;
                while at < va + len {
                    self.is_hinted(at, va..va + len);
                    let (first, size) = self.model[&at].kept;
                    at = first + size;
                }
                self.calls.push((va, len));
            }
            Err(MapError::Occupied { va }) => assert_eq!(va, self.va(occupied.unwrap())),
            Err(MapError::InputRange { .. }) => assert!(!fits),
            Err(MapError::OutOfTables { .. }) => {
                assert_eq!(self.mem.live() - live, budget.unwrap());
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A leaf is contiguous exactly if all that would be with it are in the range, of
    /// the same size, and aligned to as much.
    fn is_hinted(&self, at: u64, range: Range<u64>) {
        let World {
            shape, unit, base, ..
        } = self.world;
        let seen = self.model[&at];
        let leaf = seen.leaf.1 * unit;
        let level = (1..=3).find(|&level| shape.span(level) == leaf).unwrap();
        let group = leaf * shape.contiguous(level) as u64;
        let va = self.va(at) & !(group - 1);
        let pa = (seen.target * unit).wrapping_sub(self.va(at) - va);
        let whole = va >= base && pa & (group - 1) == 0 && {
            let first = (va - base) / unit;
            let units = first..first + group / unit;
            let same = |at| self.model[&at].leaf.1 == seen.leaf.1;
            let mut leaves = units.clone().step_by(seen.leaf.1 as usize);
            range.contains(&first) && units.end <= range.end && leaves.all(same)
        };
        let expected = if whole { group } else { leaf };
        assert_eq!(seen.kept.1 * unit, expected, "unit {at} of {range:?}");
    }

    fn unmap(&mut self, va: u64, len: u64) {
        let inside = |unit: &Unit| unit.kept.0 >= va && unit.kept.0 + unit.kept.1 <= va + len;
        let unit_bytes = self.world.unit;
        let whole = (va..va + len).all(|at| self.model.get(&at).is_some_and(inside));
        let mut next = self.va(va);
        let result = self
            .table
            .unmap(self.va(va), len * unit_bytes, &mut |leaves| {
                assert_eq!(leaves.va, next, "reported out of order");
                assert_eq!(leaves.len % leaves.size, 0);
                let first = (leaves.va - self.world.base) / unit_bytes;
                for at in first..first + leaves.len / unit_bytes {
                    assert_eq!(self.model[&at].leaf.1 * unit_bytes, leaves.size);
                    assert_eq!(self.walked(at, 0), None, "reported before published");
                }
                next += leaves.len;
            });
        assert_eq!(result.is_ok(), whole, "{result:?}");
        match result {
            Ok(()) => {
                assert_eq!(next, self.va(va + len));
                self.model.retain(|at, _| !(va..va + len).contains(at));
                self.calls
                    .retain(|&(start, _)| !(va..va + len).contains(&start));
            }
            Err(MapError::NotMapped { va: at }) => {
                let at = (at - self.world.base) / unit_bytes;
                assert!(!self.model.contains_key(&at));
            }
            Err(MapError::PartOfBlock { va: at, size }) => {
                let at = (at - self.world.base) / unit_bytes;
                assert_eq!(self.model[&at].kept, (at, size / unit_bytes));
            }
            Err(MapError::InputRange { .. }) => assert!(va + len > self.world.units),
            Err(error) => panic!("{error}"),
        }
    }

    fn agrees(&self) {
        assert!(self.mem.all_published());
        let last = self.world.unit - 1;
        for at in 0..self.world.units {
            let expected = self.model.get(&at).copied();
            assert_eq!(self.walked(at, 0), expected, "unit {at}");
            let ours = self.table.translate(self.va(at) + last);
            let expected = expected.map(|unit| {
                let size = unit.leaf.1 * self.world.unit;
                (unit.target * self.world.unit + last, unit.attrs, size)
            });
            assert_eq!(ours, expected, "unit {at}");
        }
        for at in (0..self.world.units)
            .step_by(997)
            .chain([self.world.units - 1])
        {
            let range = |unit: &Unit| {
                let start = self.va(unit.leaf.0);
                start..start + unit.leaf.1 * self.world.unit
            };
            let below = self.model.range(..=at).next_back();
            let mut after = self.model.range(at + 1..);
            let above = after.find(|(_, unit)| unit.leaf.0 > at);
            let expected = [below, above].map(|found| found.map(|(_, unit)| range(unit)));
            assert_eq!(self.table.around(self.va(at) + last), expected, "unit {at}");
        }
    }
}

fn run(world: World, ops: Vec<Op>) {
    let mem = TestMem::new(world.shape.granule);
    let mut bench = Bench {
        world,
        mem: &mem,
        table: PageTable::new(&mem, world.shape).unwrap(),
        model: BTreeMap::new(),
        calls: Vec::new(),
    };
    for op in ops {
        match op {
            Op::Map(va, pa, len, write, budget) => {
                let access = if write {
                    Access::ReadWrite
                } else {
                    Access::ReadOnly
                };
                bench.map(va, pa, len, Attrs { access, ..DMA }, budget);
            }
            Op::Unmap(va, len) => bench.unmap(va, len),
            Op::UnmapNth(n) if !bench.calls.is_empty() => {
                let (va, len) = bench.calls[n % bench.calls.len()];
                bench.unmap(va, len);
            }
            Op::UnmapNth(_) => {}
        }
    }
    bench.agrees();
    drop(bench);
    assert_eq!(mem.live(), 0, "tables leaked");
}

fn shape(granule: Granule, input_bits: u32) -> Geometry {
    Geometry {
        stage: Stage::One,
        granule,
        input_bits,
        output_bits: 48,
        blocks: true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_and_2m_blocks_up_to_the_top_of_the_space(
        ops in prop::collection::vec(any_op(2048, 512), 1..24)
    ) {
        let (unit, units) = (4096, 2048);
        let base = (1 << 39) - unit * units;
        run(World { shape: shape(Granule::K4, 39), unit, base, units }, ops);
    }

    #[test]
    fn blocks_of_2m_and_1g_from_address_zero(
        ops in prop::collection::vec(any_op(2048, 512), 1..24)
    ) {
        let (unit, units) = (2 << 20, 2048);
        run(World { shape: shape(Granule::K4, 32), unit, base: 0, units }, ops);
    }

    #[test]
    fn stage_2_from_level_1_up_to_the_top_of_the_space(
        ops in prop::collection::vec(any_op(2048, 512), 1..24)
    ) {
        let (unit, units) = (4096, 2048);
        let base = (1 << 39) - unit * units;
        let shape = Geometry { stage: Stage::Two, output_bits: 40, ..shape(Granule::K4, 39) };
        run(World { shape, unit, base, units }, ops);
    }

    #[test]
    fn pages_of_16k_and_blocks_of_32m(
        ops in prop::collection::vec(any_op(4096, 2048), 1..16)
    ) {
        let (unit, units) = (16 << 10, 4096);
        let base = (1 << 48) - unit * units;
        run(World { shape: shape(Granule::K16, 48), unit, base, units }, ops);
    }

    #[test]
    fn pages_of_64k_and_blocks_of_512m(
        ops in prop::collection::vec(any_op(16384, 8192), 1..8)
    ) {
        let (unit, units) = (64 << 10, 16384);
        let base = (1 << 42) - unit * units;
        run(World { shape: shape(Granule::K64, 42), unit, base, units }, ops);
    }
}

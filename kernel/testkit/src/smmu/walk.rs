//! The translation table walk of either stage (DDI 0487 §D8.2, §D8.3), as an SMMU does
//! it: address sizes by CD.IPS, no hardware update of flags.

use super::cd::{Context, Region};
use super::command::World;
use super::rule;
use super::view::View;

/// Why there is no translation.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct WalkFault {
    pub why: Why,
    /// What stage 2 was to translate for a stage 1, if it is stage 2 that faulted.
    pub under: Option<Under>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Why {
    Translation,
    AddressSize,
    AccessFlag,
    Permission,
    /// No memory where a descriptor should be.
    External {
        pa: u64,
    },
}

/// An intermediate address, and what it is of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Under {
    pub ipa: u64,
    pub class: Class,
}

/// What a stage was translating (§7.3.12 CLASS).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Cd = 0b00,
    Table = 0b01,
    Input = 0b10,
}

impl From<Why> for WalkFault {
    fn from(why: Why) -> Self {
        Self { why, under: None }
    }
}

/// What an intermediate address is translated by: fresh walks, or what is cached.
pub(super) type Second<'a> = dyn FnMut(u64) -> Result<Leaf, WalkFault> + 'a;

/// What a leaf maps and allows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Leaf {
    /// The output address of its first byte.
    pub pa: u64,
    /// log2 of its size.
    pub size: u32,
    /// log2 of the size of stage 1's part, if there are two.
    pub span: u32,
    pub level: u32,
    pub granule: u32,
    pub global: bool,
    pub readable: bool,
    pub writable: bool,
    pub unprivileged: bool,
    pub user_exec: bool,
    pub kernel_exec: bool,
    /// What stage 2 allows of what stage 1 does: to read, write, execute.
    pub under: [bool; 3],
}

/// A table on the way: the first level that it resolves is `level`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub level: u32,
    pub pa: u64,
    /// Hierarchical attributes of the descriptors above: APTable, XNTable, PXNTable.
    pub limits: u64,
}

/// All that a walk read.
pub(super) struct Walk {
    pub tables: Vec<Table>,
    pub leaf: Result<Leaf, WalkFault>,
    /// The leaf and its neighbours as one, where it is marked as contiguous.
    pub group: Option<Leaf>,
}

/// DDI 0487 §D8.7.1: bit 52 of a leaf.
const CONTIGUOUS: u64 = 1 << 52;

impl Context {
    /// The region that translates `va`, and the address within it.
    pub fn region(&self, va: u64) -> Option<(Region, u64)> {
        let upper = va >> 55 & 1;
        let region = self.regions[upper as usize]?;
        let top = if region.ignores_top_byte { 56 } else { 64 };
        let size = region.input_bits;
        let above = (va & (u64::MAX >> (64 - top))) >> size;
        let expected = if upper == 1 {
            (1 << (top - size)) - 1
        } else {
            0
        };
        (above == expected).then_some((region, va & ((1 << size) - 1)))
    }
}

/// Walks for `va`, and for intermediate addresses too, in what memory holds now.
pub(super) fn walk(view: View<'_>, context: &Context, va: u64) -> Walk {
    let under = context.under.map(|under| under.context());
    let mut second = |ipa| match &under {
        Some(under) => walk(view, under, ipa).leaf,
        None => unreachable!("there is no stage 2"),
    };
    walk_from(view, context, va, None, &mut second)
}

/// Walks for `va`, from `start` instead of the root if that is given; of intermediate
/// addresses `second` knows.
pub(super) fn walk_from(
    view: View<'_>,
    context: &Context,
    va: u64,
    start: Option<Table>,
    second: &mut Second<'_>,
) -> Walk {
    let mut tables = Vec::new();
    let found = match context.region(va) {
        Some((region, within)) => {
            descend(view, context, (region, within), start, &mut tables, second)
        }
        None => Err(Why::Translation.into()),
    };
    let found = match (found, context.under) {
        (Ok((leaf, group)), Some(_)) => {
            let group = group.and_then(|group| combined(group, va, second).ok());
            combined(leaf, va, second).map(|leaf| (leaf, group))
        }
        (found, _) => found,
    };
    let group = match &found {
        Ok((_, group)) => *group,
        Err(_) => None,
    };
    let leaf = found.map(|(leaf, _)| leaf);
    Walk {
        tables,
        leaf,
        group,
    }
}

/// What both stages make of `va`.
fn combined(leaf: Leaf, va: u64, second: &mut Second<'_>) -> Result<Leaf, WalkFault> {
    let ipa = leaf.pa | va & ((1 << leaf.size) - 1);
    let below = translated(ipa, Class::Input, second)?;
    let size = leaf.size.min(below.size);
    let within = (1u64 << below.size) - 1;
    Ok(Leaf {
        pa: (below.pa | ipa & within) & !((1 << size) - 1),
        size,
        under: [below.readable, below.writable, below.user_exec],
        ..leaf
    })
}

/// Stage 2 of an intermediate address, which says that it was stage 2.
pub(super) fn translated(
    ipa: u64,
    class: Class,
    second: &mut Second<'_>,
) -> Result<Leaf, WalkFault> {
    second(ipa).map_err(|fault| WalkFault {
        under: Some(Under { ipa, class }),
        ..fault
    })
}

/// Where the hardware reads what is at the intermediate address `ipa`.
pub(super) fn read_at(ipa: u64, class: Class, second: &mut Second<'_>) -> Result<u64, WalkFault> {
    let leaf = translated(ipa, class, second)?;
    if !leaf.readable {
        let under = Some(Under { ipa, class });
        let why = Why::Permission;
        return Err(WalkFault { why, under });
    }
    Ok(leaf.pa | ipa & ((1 << leaf.size) - 1))
}

fn descend(
    view: View<'_>,
    context: &Context,
    (region, va): (Region, u64),
    start: Option<Table>,
    tables: &mut Vec<Table>,
    second: &mut Second<'_>,
) -> Result<(Leaf, Option<Leaf>), WalkFault> {
    let granule = region.granule;
    let stride = granule - 3;
    let root = Table {
        level: region.start,
        pa: region.table,
        limits: 0,
    };
    let mut table = start.unwrap_or(root);
    loop {
        let low = granule + (3 - table.level) * stride;
        // Above the root there is nothing left, and there may be several of it.
        let index = match table == root {
            true => va >> low,
            false => va >> low & ((1 << stride) - 1),
        };
        let at = table.pa + 8 * index;
        let pa = match context.under {
            Some(_) => read_at(at, Class::Table, second)?,
            None => at,
        };
        let descriptor = view.word(pa).ok_or(Why::External { pa })?;
        let is_leaf = match (descriptor & 0b11, table.level) {
            (0b11, 3) | (0b01, 2) => true,
            (0b01, 1) if granule == 12 => true,
            (0b11, _) => false,
            _ => return Err(Why::Translation.into()),
        };
        let address = descriptor & 0x0000_ffff_ffff_f000;
        if address >> context.output_bits != 0 {
            return Err(Why::AddressSize.into());
        }
        if is_leaf {
            let found = leaf(context, descriptor, low, granule, table)?;
            return Ok((found, together(view, descriptor, pa, found)));
        }
        table = Table {
            level: table.level + 1,
            pa: address & !((1 << granule) - 1),
            limits: table.limits | descriptor >> 59 & 0xf,
        };
        tables.push(table);
    }
}

/// What a TLB may keep for the leaf that is read from `pa`: all that are contiguous with
/// it, for any of them that it met. Some may be invalid, on their way in or out; those
/// that are not must agree (DDI 0487 §D8.7.1).
fn together(view: View<'_>, descriptor: u64, pa: u64, leaf: Leaf) -> Option<Leaf> {
    if descriptor & CONTIGUOUS == 0 {
        return None;
    }
    let bits = match (leaf.granule, leaf.level) {
        (12, _) => 4,
        (14, 3) => 7,
        _ => 5,
    };
    let members = 1u64 << bits;
    let own = pa / 8 % members;
    let base = leaf.pa.wrapping_sub(own << leaf.size);
    rule(
        base & ((members << leaf.size) - 1) == 0,
        "§3.21.1 (DDI 0487 §D8.7.1): contiguous leaves whose addresses are not contiguous and aligned",
    );
    for member in 0..members {
        let raw = view.word(pa - 8 * own + 8 * member)?;
        let expected = descriptor
            .wrapping_add(member << leaf.size)
            .wrapping_sub(own << leaf.size);
        rule(
            raw & 1 == 0 || raw == expected,
            "§3.21.1 (DDI 0487 §D8.7.1): contiguous leaves differ in more than their addresses",
        );
    }
    Some(Leaf {
        pa: base,
        size: leaf.size + bits,
        span: leaf.size + bits,
        ..leaf
    })
}

/// §5.2 and DDI 0487 §D8.4.2: rights of stage 2, which knows no privilege.
fn leaf2(
    context: &Context,
    descriptor: u64,
    size: u32,
    granule: u32,
    table: Table,
) -> Result<Leaf, WalkFault> {
    let bit = |at: u32| descriptor >> at & 1 == 1;
    if !bit(10) && context.access_faults {
        return Err(Why::AccessFlag.into());
    }
    Ok(Leaf {
        pa: descriptor & 0x0000_ffff_ffff_f000,
        size,
        span: size,
        level: table.level,
        granule,
        global: false,
        readable: bit(6),
        writable: bit(7),
        unprivileged: true,
        user_exec: !bit(54),
        kernel_exec: !bit(54),
        under: [true; 3],
    })
}

fn leaf(
    context: &Context,
    descriptor: u64,
    size: u32,
    granule: u32,
    table: Table,
) -> Result<Leaf, WalkFault> {
    let pa = descriptor & 0x0000_ffff_ffff_f000;
    rule(
        pa & ((1 << size) - 1) == 0,
        "§3.21.1 (DDI 0487 §D8.3.1): reserved address bits are set in a block or page descriptor",
    );
    if context.stage2 {
        return leaf2(context, descriptor, size, granule, table);
    }
    let bit = |at: u32| descriptor >> at & 1 == 1;
    let limit = |at: u32| table.limits >> at & 1 == 1;
    if !bit(10) && context.access_faults {
        return Err(Why::AccessFlag.into());
    }
    // The EL2 regime has no unprivileged side and one execute-never bit, UXN's.
    let el2 = context.world == World::El2;
    let writable = !bit(7) && !limit(3);
    let unprivileged = el2 || bit(6) && !limit(2);
    let never = context.write_execute_never && writable;
    let user_exec = !bit(54) && !limit(1) && !never;
    let kernel_exec = match el2 {
        true => user_exec,
        // What user code may write, the kernel does not execute.
        false => !(bit(53) || limit(0) || never || unprivileged && writable),
    };
    Ok(Leaf {
        pa,
        size,
        span: size,
        level: table.level,
        granule,
        global: el2 || !bit(11),
        readable: true,
        writable,
        unprivileged,
        user_exec,
        kernel_exec,
        under: [true; 3],
    })
}

//! The translation table walk of either stage (DDI 0487 §D8.2, §D8.3), as an SMMU does
//! it: address sizes by CD.IPS, no hardware update of flags.

use super::cd::{Context, Region};
use super::command::World;
use super::rule;
use super::view::View;

/// Why there is no translation.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum WalkFault {
    Translation,
    AddressSize,
    AccessFlag,
    /// No memory where a descriptor should be.
    External {
        pa: u64,
    },
}

/// What a leaf maps and allows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Leaf {
    /// The output address of its first byte.
    pub pa: u64,
    /// log2 of its size.
    pub size: u32,
    pub level: u32,
    pub granule: u32,
    pub global: bool,
    pub readable: bool,
    pub writable: bool,
    pub unprivileged: bool,
    pub user_exec: bool,
    pub kernel_exec: bool,
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

/// Walks for `va`, from `start` instead of the root if that is given.
pub(super) fn walk(view: View<'_>, context: &Context, va: u64, start: Option<Table>) -> Walk {
    let mut tables = Vec::new();
    let found = match context.region(va) {
        Some((region, within)) => descend(view, context, region, within, start, &mut tables),
        None => Err(WalkFault::Translation),
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

fn descend(
    view: View<'_>,
    context: &Context,
    region: Region,
    va: u64,
    start: Option<Table>,
    tables: &mut Vec<Table>,
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
        let pa = table.pa + 8 * index;
        let descriptor = view.word(pa).ok_or(WalkFault::External { pa })?;
        let is_leaf = match (descriptor & 0b11, table.level) {
            (0b11, 3) | (0b01, 2) => true,
            (0b01, 1) if granule == 12 => true,
            (0b11, _) => false,
            _ => return Err(WalkFault::Translation),
        };
        let address = descriptor & 0x0000_ffff_ffff_f000;
        if address >> context.output_bits != 0 {
            return Err(WalkFault::AddressSize);
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
        return Err(WalkFault::AccessFlag);
    }
    Ok(Leaf {
        pa: descriptor & 0x0000_ffff_ffff_f000,
        size,
        level: table.level,
        granule,
        global: false,
        readable: bit(6),
        writable: bit(7),
        unprivileged: true,
        user_exec: !bit(54),
        kernel_exec: !bit(54),
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
        return Err(WalkFault::AccessFlag);
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
        level: table.level,
        granule,
        global: el2 || !bit(11),
        readable: true,
        writable,
        unprivileged,
        user_exec,
        kernel_exec,
    })
}

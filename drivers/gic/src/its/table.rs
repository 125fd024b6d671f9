//! The tables that an ITS keeps its mappings in: memory of software's, content of
//! the ITS'. Where the ITS can, the device table has two levels, so that a page is
//! spent only around DeviceIDs that exist.

use alloc::collections::BTreeMap;

use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform};

use crate::shared::Shared;
use crate::spec::its::{BASER_INDIRECT, BASER_MAX_PAGES, BASER_PAGE_SIZE, VALID, entry_size};
use crate::spec::table::ITS_CACHE_SHIFT;

/// GITS_BASER.Page_Size and what it means. A GIC may have one of them only.
const PAGE_SIZES: [(u64, u64); 3] = [
    (0b00 << 8, 4 << 10),
    (0b01 << 8, 16 << 10),
    (0b10 << 8, 64 << 10),
];

/// A table of an ITS.
pub struct Table<P: Platform> {
    pub first: Shared<P>,
    /// The second level, where there is one.
    pub leaves: Option<BTreeMap<u64, Shared<P>>>,
    register: usize,
    /// The register's value without memory attributes.
    value: u64,
    page: u64,
    entries_per_page: u64,
    entries: u64,
}

impl<P: Platform> Table<P> {
    /// A table for an ITS that is off, of `wanted` entries behind the GITS_BASER
    /// at `register`. It has fewer if the register cannot hold so many.
    pub fn new(
        platform: &P,
        regs: &P::Mmio,
        register: usize,
        wanted: u64,
        coherent: bool,
    ) -> Result<Self, Fault> {
        let entry = entry_size(regs.read64(register));
        let (code, page) = page_size(regs, register)?;
        let entries_per_page = page / entry;
        let pages = wanted.div_ceil(entries_per_page);
        let two_levels = pages > 1 && accepts(regs, register, BASER_INDIRECT, BASER_INDIRECT);
        let bytes = if two_levels { 8 * pages } else { page * pages };
        let pages = bytes.div_ceil(page).min(BASER_MAX_PAGES);
        let first = Shared::zeroed(platform, pages * page, page, coherent)?;
        let indirect = if two_levels { BASER_INDIRECT } else { 0 };
        let value = VALID | indirect | code | first.at() | (pages - 1);
        let reach = if two_levels {
            pages * page / 8 * entries_per_page
        } else {
            pages * entries_per_page
        };
        Ok(Self {
            first,
            leaves: two_levels.then(BTreeMap::new),
            register,
            value,
            page,
            entries_per_page,
            entries: reach.min(wanted),
        })
    }

    /// Gives the table, with what is in it, to an ITS that is off.
    pub fn point(&self, regs: &P::Mmio) {
        self.first
            .point(regs, self.register, ITS_CACHE_SHIFT, self.value);
    }

    /// Sees to it that entry `id` has memory when the next command is carried out.
    pub fn make_room(&mut self, platform: &P, id: u32) -> Result<(), Fault> {
        let id = u64::from(id);
        if id >= self.entries {
            return Err(Fault::Unsupported {
                what: "a DeviceID beyond those that the ITS has",
                seen: id,
            });
        }
        let Some(leaves) = &mut self.leaves else {
            return Ok(());
        };
        let index = id / self.entries_per_page;
        if leaves.contains_key(&index) {
            return Ok(());
        }
        let coherent = self.first.coherent();
        let leaf = Shared::zeroed(platform, self.page, self.page, coherent)?;
        self.first.store(8 * index as usize, &[VALID | leaf.at()]);
        leaves.insert(index, leaf);
        Ok(())
    }

    /// The ITS may still write here.
    pub fn park(&mut self) {
        self.first.park();
        for leaf in self.leaves.iter_mut().flat_map(BTreeMap::values_mut) {
            leaf.park();
        }
    }
}

/// The smallest page size that the register takes, as its code and in bytes.
fn page_size<M: Mmio>(regs: &M, register: usize) -> Result<(u64, u64), Fault> {
    let taken = PAGE_SIZES
        .into_iter()
        .find(|&(code, _)| accepts(regs, register, BASER_PAGE_SIZE, code));
    taken.ok_or_else(|| Fault::Unsupported {
        what: "GITS_BASER that takes no page size",
        seen: regs.read64(register),
    })
}

/// Whether a field of the register, which is not valid meanwhile, takes a value.
fn accepts<M: Mmio>(regs: &M, register: usize, field: u64, value: u64) -> bool {
    regs.write64(register, value);
    regs.read64(register) & field == value
}

//! The address space that the host hands to its functions: `ranges` as pools, and
//! how BARs are cut from them. A pool only ever grows upwards, so that what a
//! bridge's subtree got is one stretch, which is all that a bridge can express.

use alloc::vec::Vec;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_dt::{Node, Range};

use crate::bar::Bar;

/// What bridges round their windows to (PCI-to-PCI Bridge 3.2.5.8).
pub const BRIDGE_STEP: u64 = 1 << 20;
/// Where 32-bit BARs end.
const LOW_END: u64 = 1 << 32;

/// The space in the first cell of an address (IEEE 1275 PCI bus binding 2.2.1.1).
const SPACE: u32 = 3 << 24;
const SPACE_MEMORY_32: u32 = 2 << 24;
const SPACE_MEMORY_64: u32 = 3 << 24;
const PREFETCHABLE: u32 = 1 << 30;

/// Addresses on the bus that are still free, `next..end`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    next: u64,
    end: u64,
    // What takes a bus address to the CPU's, modulo 2^64.
    to_cpu: u64,
    prefetch: bool,
}

/// Where BARs can go.
#[derive(Default)]
pub struct Pools {
    /// Below 4 GiB, reads may have side effects.
    pub low: Option<Pool>,
    /// Above 4 GiB, or for prefetchable BARs only.
    pub high: Option<Pool>,
}

impl Pool {
    fn new(range: &Range) -> Self {
        let end = range.child.saturating_add(range.size);
        Self {
            next: range.child,
            // A last piece that no bridge window could end in is left alone.
            end: if range.size >= BRIDGE_STEP {
                end & !(BRIDGE_STEP - 1)
            } else {
                end
            },
            to_cpu: range.cpu.wrapping_sub(range.child),
            prefetch: range.space & PREFETCHABLE != 0,
        }
    }

    /// The next free address.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Skips to the next address that a bridge window can start at.
    pub fn align(&mut self) {
        self.next = self.next.next_multiple_of(BRIDGE_STEP).min(self.end);
    }

    /// Cuts out `size` bytes, as aligned, and never address 0: it means unassigned
    /// to many a device.
    fn take(&mut self, size: u64) -> Option<u64> {
        let start = self.next.max(1).checked_next_multiple_of(size)?;
        let next = start.checked_add(size)?;
        if next > self.end {
            return None;
        }
        self.next = next;
        Some(start)
    }
}

impl Pools {
    /// The largest of each kind among the host's `ranges`.
    pub fn new(ranges: &[Range]) -> Self {
        let largest = |high: bool| {
            let of_kind = |range: &&Range| memory(range) && is_high(range) == high;
            let best = ranges.iter().filter(of_kind).max_by_key(|range| range.size);
            best.map(Pool::new)
        };
        Self {
            low: largest(false),
            high: largest(true),
        }
    }

    /// A place for a BAR: its address on the bus and where the CPU sees it. Behind
    /// a bridge the high pool is for prefetchable BARs only (PCI-to-PCI Bridge
    /// 3.2.5.9).
    pub fn place(&mut self, bar: &Bar, behind_bridge: bool) -> Option<(u64, PhysRange)> {
        let high_fits =
            |pool: &Pool| bar.wide && (bar.prefetch || !behind_bridge && !pool.prefetch);
        let high = self.high.as_mut().filter(|pool| high_fits(pool));
        let low = self.low.as_mut();
        let order = if bar.prefetch {
            [high, low]
        } else {
            [low, high]
        };
        order.into_iter().flatten().find_map(|pool| {
            let address = pool.take(bar.size)?;
            let start = PhysAddr(address.wrapping_add(pool.to_cpu));
            let len = bar.size;
            Some((address, PhysRange { start, len }))
        })
    }
}

/// Whether it is memory.
pub fn memory(range: &Range) -> bool {
    matches!(range.space & SPACE, SPACE_MEMORY_32 | SPACE_MEMORY_64) && range.size > 0
}

/// Whether only some BARs may go there.
fn is_high(range: &Range) -> bool {
    range.space & PREFETCHABLE != 0 || range.child.saturating_add(range.size) > LOW_END
}

/// The host's windows from its tree node.
pub fn of_host(node: Node<'_>) -> Result<Vec<Range>, Fault> {
    let ranges = node.ranges()?.unwrap_or_default();
    if !ranges.iter().any(memory) {
        return Err(Fault::invalid(
            "the PCI host's `ranges` has no memory window, so no BAR can be placed",
        ));
    }
    Ok(ranges)
}

/// The bus addresses that belong to functions, first and last.
pub fn apertures(ranges: &[Range]) -> Vec<(u64, u64)> {
    let memory = ranges.iter().filter(|range| memory(range));
    memory
        .map(|range| (range.child, range.child.saturating_add(range.size - 1)))
        .collect()
}

#[cfg(test)]
mod tests;

//! Giving every BAR its place, and every bridge the windows over what is behind
//! it. One pass, depth first: pools only grow, so the stretch that a subtree took
//! is what its bridge forwards.

use alloc::vec::Vec;

use mastiff_core::addr::PhysRange;

use crate::bar::{self, Bar};
use crate::config::{self, Config};
use crate::scan::{Bus, Found};
use crate::window::{BRIDGE_STEP, Pools};

/// A function's BARs as the CPU sees them.
pub type Placed = [Option<PhysRange>; 6];

/// Prefetchable base register: the window takes addresses above 4 GiB
/// (PCI-to-PCI Bridge 3.2.5.10).
const PREFETCH_64: u32 = 1;
/// A memory window that forwards nothing: its base is above its limit.
const MEMORY_CLOSED: u32 = 0x0000_fff0;
/// An I/O window that forwards nothing.
const IO_CLOSED: u16 = 0x00f0;

/// Places everything on `bus` and behind it, and calls `each` with every function.
pub fn assign(
    bus: Bus,
    pools: &mut Pools,
    behind_bridge: bool,
    each: &mut dyn FnMut(Found, Placed),
) {
    let mut bars: Vec<(usize, Bar)> = Vec::new();
    for (index, found) in bus.functions.iter().enumerate() {
        bars.extend(found.bars.iter().map(|&bar| (index, bar)));
    }
    // The largest first: each is as aligned as it is large, so none leaves a gap.
    bars.sort_by_key(|(_, bar)| core::cmp::Reverse(bar.size));
    let mut places = Vec::new();
    places.resize_with(bus.functions.len(), Placed::default);
    for (index, bar) in bars {
        let found = &bus.functions[index];
        match pools.place(&bar, behind_bridge) {
            Some((address, range)) => {
                bar::place(&found.config, bar, address);
                places[index][bar.index] = Some(range);
            }
            None => log::warn!(
                "{}: no space for BAR {}, {:#x} bytes",
                found.bdf,
                bar.index,
                bar.size
            ),
        }
    }
    for (mut found, placed) in bus.functions.into_iter().zip(places) {
        let complete = found.bars.iter().all(|bar| placed[bar.index].is_some());
        // One enable is for all BARs and, of a bridge, for what it forwards: without
        // a place for its own BAR nothing behind it can be reached.
        let decodes = complete && (!found.bars.is_empty() || found.behind.is_some());
        if let Some(behind) = found.behind.take() {
            let pools = if complete {
                &mut *pools
            } else {
                &mut Pools::default()
            };
            forward(&found.config, behind, pools, each);
        }
        if decodes {
            let command = config::COMMAND_MEMORY | config::COMMAND_NO_INTX;
            found.config.write16(config::COMMAND, command);
        }
        each(found, if complete { placed } else { Placed::default() });
    }
}

/// Places what is behind a bridge and opens its windows over that.
fn forward(bridge: &Config, behind: Bus, pools: &mut Pools, each: &mut dyn FnMut(Found, Placed)) {
    let mut inside = Pools {
        low: pools.low,
        // Without a window for it, nothing behind the bridge may go there.
        high: pools.high.filter(|_| has_wide_window(bridge)),
    };
    for pool in [&mut inside.low, &mut inside.high].into_iter().flatten() {
        pool.align();
    }
    let start = |pool: &Option<_>| pool.as_ref().map_or(0, crate::window::Pool::position);
    let (low, high) = (start(&inside.low), start(&inside.high));
    assign(behind, &mut inside, true, each);
    for pool in [&mut inside.low, &mut inside.high].into_iter().flatten() {
        pool.align();
    }
    let (low_end, high_end) = (start(&inside.low), start(&inside.high));
    bridge.write16(config::IO_WINDOW, IO_CLOSED);
    bridge.write32(config::MEMORY_WINDOW, window(low, low_end));
    bridge.write32(config::PREFETCH_WINDOW, window(high, high_end));
    bridge.write32(config::PREFETCH_BASE_UPPER, (high >> 32) as u32);
    bridge.write32(
        config::PREFETCH_LIMIT_UPPER,
        (high_end.saturating_sub(1) >> 32) as u32,
    );
    pools.low = inside.low;
    if inside.high.is_some() {
        pools.high = inside.high;
    }
}

/// Base and limit for `start..end`.
fn window(start: u64, end: u64) -> u32 {
    if start == end {
        return MEMORY_CLOSED;
    }
    let base = (start >> 16) as u32 & 0xfff0;
    let limit = ((end - BRIDGE_STEP) >> 16) as u32 & 0xfff0;
    limit << 16 | base
}

/// Whether the bridge has a prefetchable window that reaches above 4 GiB.
fn has_wide_window(bridge: &Config) -> bool {
    bridge.write32(config::PREFETCH_WINDOW, MEMORY_CLOSED);
    let seen = bridge.read32(config::PREFETCH_WINDOW);
    seen & 0xfff0 != 0 && seen & 0xf == PREFETCH_64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_bridges() {
        assert_eq!(window(0x1010_0000, 0x1030_0000), 0x1020_1010);
        assert_eq!(window(0x80_0000_0000, 0x80_0010_0000), 0);
        assert_eq!(window(0x1010_0000, 0x1010_0000), MEMORY_CLOSED);
    }
}

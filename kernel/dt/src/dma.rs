//! What a device can reach by DMA when no IOMMU translates for it:
//! `dma-ranges`, composed over every bus on the way to memory (2.3.9), and
//! whether its DMA is coherent with the CPU's caches.

use crate::address::RawRange;
use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::prop::Prop;
use alloc::vec;
use alloc::vec::Vec;

/// Buses combine to at most so many windows; more is a tree gone wrong, and
/// could grow exponentially with depth.
const MAX_WINDOWS: usize = 256;

/// A stretch of a device's addresses and the CPU physical addresses behind it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DmaWindow {
    /// First address as the device puts it on its bus.
    pub bus: u64,
    /// The CPU physical address that it reaches.
    pub cpu: u64,
    /// Size in bytes, up to 2^64. Neither side wraps around.
    pub size: u128,
}

/// All that a device can reach: one unlimited 1:1 window where no bus limits
/// it, none at all where buses exclude each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DmaWindows(pub Vec<DmaWindow>);

impl DmaWindows {
    /// Whether the device reaches every address, as the CPU sees it.
    pub fn is_unlimited(&self) -> bool {
        self.0.contains(&DmaWindow::EVERYTHING)
    }

    /// Where the device sees `size` bytes at CPU physical address `cpu`, if one
    /// window shows it all of them.
    pub fn to_bus(&self, cpu: u64, size: u64) -> Option<u64> {
        self.0.iter().find_map(|window| {
            let offset = cpu.checked_sub(window.cpu)?;
            let fits = u128::from(offset) + u128::from(size.max(1)) <= window.size;
            fits.then(|| window.bus + offset)
        })
    }
}

impl DmaWindow {
    /// All addresses, as the CPU sees them.
    pub const EVERYTHING: DmaWindow = DmaWindow {
        bus: 0,
        cpu: 0,
        size: 1 << 64,
    };

    /// The part of this window that passes on through `range`, a window of the
    /// next bus.
    fn through(&self, range: &RawRange) -> Option<DmaWindow> {
        let (cpu, child) = (u128::from(self.cpu), u128::from(range.child));
        let start = cpu.max(child);
        let end = (cpu + self.size).min(child + range.size);
        (start < end).then(|| DmaWindow {
            bus: self.bus + (start - cpu) as u64,
            cpu: range.parent + (start - child) as u64,
            size: end - start,
        })
    }
}

impl<'t> Node<'t> {
    /// What this device can reach by DMA.
    pub fn dma_ranges(&self) -> Result<DmaWindows, PropError> {
        match self.parent() {
            Some(bus) => bus.child_dma_ranges(),
            None => Ok(DmaWindows(vec![DmaWindow::EVERYTHING])),
        }
    }

    /// What a device on this bus can reach by DMA, for devices that are not in
    /// the tree, like most PCI functions.
    pub fn child_dma_ranges(&self) -> Result<DmaWindows, PropError> {
        let mut windows = vec![DmaWindow::EVERYTHING];
        for bus in self.ancestors() {
            let (Some(prop), Some(parent)) = (bus.prop("dma-ranges"), bus.parent()) else {
                continue;
            };
            if !prop.bytes().is_empty() {
                windows = pass(&windows, &bus.raw_ranges(prop, parent)?, &prop)?;
            }
        }
        Ok(DmaWindows(windows))
    }

    /// Whether the device's DMA is coherent with the CPU's caches: the nearest
    /// node from here up that says either way decides, and `dma-noncoherent`
    /// wins in one that says both.
    pub fn dma_coherent(&self) -> bool {
        self.ancestors()
            .find_map(|node| {
                let incoherent = node.has("dma-noncoherent");
                (incoherent || node.has("dma-coherent")).then_some(!incoherent)
            })
            .unwrap_or(false)
    }
}

/// What of `windows` passes on through a bus with these `ranges`.
fn pass(
    windows: &[DmaWindow],
    ranges: &[RawRange],
    prop: &Prop<'_>,
) -> Result<Vec<DmaWindow>, PropError> {
    let mut passed = Vec::new();
    for window in windows {
        for range in ranges {
            if passed.len() > MAX_WINDOWS {
                return Err(prop.error(Some(range.at), PropErrorKind::TooManyWindows));
            }
            passed.extend(window.through(range));
        }
    }
    Ok(passed)
}

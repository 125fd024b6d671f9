//! Physical memory by frames: who gets which, and what each is for.
//!
//! RAM is a few zones, one per range of `/memory`. A zone's metadata is carved out
//! of it: a byte per frame that says what the frame is for, and the buddy's bits.
//! The bytes are what makes accesses by physical address sound: nobody writes a
//! table into a frame that is not tagged as one. They are read without a lock;
//! zeroed metadata means "all free", so that making a zone costs a clear and not a
//! loop over its frames.

mod bits;
mod buddy;
pub mod ranges;
mod zone;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use mastiff_core::addr::{PAGE, PhysAddr, PhysRange};
use spin::Once;

use zone::Zone;

/// What a frame is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Nothing, now.
    Free = 0,
    /// Not the allocator's: firmware's, the image, the tree, metadata.
    Reserved,
    /// The kernel's heap.
    Heap,
    /// [`crate::Pages`] of a driver.
    Pages,
    /// A translation table for a device.
    Table,
    /// A translation table of the CPU.
    CpuTable,
    /// Parked, since a device may still write it.
    Quarantined,
}

impl Kind {
    /// All of them, for statistics.
    pub const ALL: [Self; 7] = [
        Self::Free,
        Self::Reserved,
        Self::Heap,
        Self::Pages,
        Self::Table,
        Self::CpuTable,
        Self::Quarantined,
    ];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Reserved => "reserved",
            Self::Heap => "heap",
            Self::Pages => "device buffers",
            Self::Table => "IOMMU tables",
            Self::CpuTable => "CPU tables",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What frames are asked for.
#[derive(Copy, Clone, Debug)]
pub struct Request {
    /// How many, in a row.
    pub count: u64,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// Highest acceptable address of the last byte.
    pub limit: u64,
}

impl Request {
    /// One frame anywhere.
    pub const ONE: Self = Self::new(1);

    /// `count` frames anywhere.
    pub const fn new(count: u64) -> Self {
        Self {
            count,
            align: PAGE,
            limit: u64::MAX,
        }
    }
}

/// All frames of the machine.
pub struct Frames {
    /// By address.
    zones: Vec<Zone>,
    /// The first frame and the kinds of the highest zone: what is looked at most.
    highest: (u64, &'static [AtomicU8]),
    /// Frames of each [`Kind`], but the free ones, which the zones count.
    used: [AtomicU64; Kind::ALL.len()],
}

static FRAMES: Once<Frames> = Once::new();

/// The machine's frames, once they are known.
pub fn frames() -> Option<&'static Frames> {
    FRAMES.get()
}

impl Frames {
    /// Takes over the machine's RAM, for [`frames`] to hand out.
    ///
    /// # Safety
    /// As for [`Frames::new`].
    pub unsafe fn install(ram: &[PhysRange], reserved: &[PhysRange]) -> &'static Self {
        // SAFETY: passed on to the caller.
        FRAMES.call_once(|| unsafe { Self::new(ram, reserved) })
    }

    /// Takes over `ram` less `reserved`; neither need be sorted or whole pages, and
    /// they may overlap.
    ///
    /// # Safety
    /// All of `ram` that is not in `reserved` is readable and writable at its
    /// physical address, and nobody else uses it from now on.
    pub unsafe fn new(ram: &[PhysRange], reserved: &[PhysRange]) -> Self {
        let holes = ranges::merged(reserved.iter().map(ranges::frames_touched));
        let zones = ranges::merged(ram.iter().map(ranges::frames_within))
            .into_iter()
            // SAFETY: passed on to the caller; zones do not overlap.
            .filter_map(|frames| unsafe { Zone::new(frames, &holes) })
            .collect::<Vec<_>>();
        let highest = zones.last().map_or((0, &[][..]), Zone::kinds);
        let this = Self {
            highest,
            zones,
            used: [const { AtomicU64::new(0) }; Kind::ALL.len()],
        };
        let total = this.count(|zone| zone.len());
        let reserved = total - this.count(|zone| zone.free());
        this.used[Kind::Reserved as usize].store(reserved, Ordering::Relaxed);
        this
    }

    fn count(&self, of: impl Fn(&Zone) -> u64) -> u64 {
        self.zones.iter().map(of).sum()
    }

    /// Number of frames of a kind.
    pub fn of_kind(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Free => self.count(|zone| zone.free()),
            kind => self.used[kind as usize].load(Ordering::Relaxed),
        }
    }

    /// First and last address of RAM.
    pub fn span(&self) -> (PhysAddr, PhysAddr) {
        let first = self.zones.first().map_or(0, |zone| zone.first * PAGE);
        let end = self.zones.last().map_or(1, |zone| zone.end * PAGE);
        (PhysAddr(first), PhysAddr(end - 1))
    }

    /// Whether any frame of RAM, ours or not, lies in the range.
    pub fn overlaps(&self, range: PhysRange) -> bool {
        let touched = ranges::frames_touched(&range);
        self.zones
            .iter()
            .any(|zone| touched.start < zone.end && zone.first < touched.end)
    }

    /// Takes frames. They hold what their last user left in them.
    pub fn take(&self, request: Request, kind: Kind) -> Option<PhysAddr> {
        let align = (request.align / PAGE).max(1);
        // The first frame that the run must not reach.
        let limit = match request.limit.checked_add(1) {
            Some(end) => end / PAGE,
            None => u64::MAX,
        };
        let first = self
            .zones
            .iter()
            .rev()
            .find_map(|zone| zone.take(request.count, align, limit, kind))?;
        self.used[kind as usize].fetch_add(request.count, Ordering::Relaxed);
        Some(PhysAddr(first * PAGE))
    }

    /// Gives back `count` frames that were taken for `kind`.
    ///
    /// # Panics
    /// If they are not that, which a caller that owns them cannot bring about.
    pub fn give(&self, at: PhysAddr, count: u64, kind: Kind) {
        self.zone(at.0).give(at.0 / PAGE, count, kind);
        self.used[kind as usize].fetch_sub(count, Ordering::Relaxed);
    }

    /// Changes what `count` frames are for; nobody gets them until they are given
    /// back as `to`.
    ///
    /// # Panics
    /// If they are not `from`.
    pub fn retag(&self, at: PhysAddr, count: u64, from: Kind, to: Kind) {
        self.zone(at.0).retag(at.0 / PAGE, count, from, to);
        self.used[from as usize].fetch_sub(count, Ordering::Relaxed);
        self.used[to as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What the frame at `pa` is for, or `None` if it is not RAM.
    #[inline]
    pub fn kind(&self, pa: u64) -> Option<Kind> {
        self.zones.iter().find_map(|zone| zone.kind(pa / PAGE))
    }

    /// Whether the frame at `pa` is for `kind`.
    #[inline(always)]
    pub fn is(&self, pa: u64, kind: Kind) -> bool {
        self.is_in_highest(pa, kind) || self.kind(pa) == Some(kind)
    }

    /// The same for frames of the highest zone, which are used first; `false` for others.
    #[inline(always)]
    pub fn is_in_highest(&self, pa: u64, kind: Kind) -> bool {
        let (first, kinds) = self.highest;
        // Of one below the first, the index is beyond the last.
        let index = (pa / PAGE).wrapping_sub(first) as usize;
        let found = kinds.get(index);
        found.is_some_and(|found| found.load(Ordering::Relaxed) == kind as u8)
    }

    fn zone(&self, pa: u64) -> &Zone {
        let frame = pa / PAGE;
        self.zones
            .iter()
            .find(|zone| zone.first <= frame && frame < zone.end)
            .unwrap_or_else(|| panic!("no RAM at {pa:#x}"))
    }
}

#[cfg(test)]
mod tests;

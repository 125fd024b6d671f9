//! DMA as a capability. A [`Dma`] is minted by the core for a device while it is
//! bound, cannot be copied or made otherwise, and stops working when the binding
//! ends: a mapping for a device that one does not own is not a run-time check but
//! a program that does not compile.
//!
//! ```compile_fail,E0599
//! use mastiff_core::dma::Dma;
//! fn steal<P: mastiff_core::platform::Platform>(other: &Dma<P>) -> Dma<P> {
//!     other.clone() // not Clone: the capability belongs to one bound device
//! }
//! ```

mod buffer;
mod iova;
mod list;

pub use buffer::{
    Bidirectional, Direction, DmaBuffer, DmaLoan, DmaMapping, FromDevice, MapFailure, Mapped,
    ToDevice,
};
pub(crate) use iova::{CLASSES, class};
pub use iova::{Hole, IovaSpace, Slot};
pub use list::{DmaList, ListFailure};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mastiff_dt::{DmaWindow, DmaWindows};

use crate::addr::{PAGE, PhysAddr};
use crate::bus::BusFunction;
use crate::error::Fault;
use crate::iommu::{Group, Permission, Unlisted};
use crate::platform::{PageRequest, Pages, Platform};

/// The capability to do DMA as one bound device.
pub struct Dma<P: Platform> {
    inner: Arc<Inner<P>>,
}

/// What the capability and everything made with it share.
pub(crate) struct Inner<P: Platform> {
    platform: P,
    device: Box<str>,
    path: Path,
    /// Highest address that the device can put on the bus.
    limit: AtomicU64,
    /// The same as long as it may: 0 from the end of the binding on.
    reach: AtomicU64,
    /// Whether the device sees the CPU's caches.
    coherent: bool,
    /// Whether it reaches everything where the CPU does: no IOMMU translates, and no
    /// bus has windows.
    flat: bool,
    revoked: AtomicBool,
}

/// How the device's addresses reach memory.
pub(crate) enum Path {
    /// Untranslated, through the windows of its buses.
    Direct(DmaWindows),
    /// Through an IOMMU that translates; the buses limit what reaches it.
    Translated(Arc<Group>, DmaWindows),
    /// Through an IOMMU that passes addresses unchanged.
    Identity(Arc<Group>, DmaWindows),
}

/// Where memory goes that a device had.
#[derive(Copy, Clone, PartialEq, Eq)]
enum To {
    /// Back to the driver, which lent it.
    Driver,
    /// It is freed, and may become anything.
    Nobody,
}

/// The core's half of the capability: dropping it ends the device's DMA. First the
/// bus stops it, then its streams are aborted.
pub(crate) struct Lease<P: Platform> {
    inner: Arc<Inner<P>>,
    function: Option<Arc<dyn BusFunction>>,
}

impl<P: Platform> Lease<P> {
    /// Hands out DMA along `path`, which is set up; the bus lets the device
    /// through only now.
    pub(crate) fn grant(
        platform: &P,
        device: &str,
        path: Path,
        coherent: bool,
        function: Option<Arc<dyn BusFunction>>,
    ) -> (Self, Dma<P>) {
        let inner = Inner::new(platform, device, path, coherent);
        let dma = Dma {
            inner: inner.clone(),
        };
        if let Some(function) = &function {
            function.set_master(true);
        }
        (Self { inner, function }, dma)
    }

    /// Stops the device on its bus ahead of the rest, so that its driver's buffers
    /// can be freed even where no IOMMU would stop a straggler.
    pub(crate) fn stop(&self) {
        if let Some(function) = &self.function {
            function.set_master(false);
        }
    }

    /// Lets the device through on its bus again.
    pub(crate) fn restart(&self) {
        if let Some(function) = &self.function {
            function.set_master(true);
        }
    }

    /// The address at which the device writes to raise an interrupt.
    pub(crate) fn doorbell(&self, pa: PhysAddr) -> Result<u64, Fault> {
        let inner = &self.inner;
        match &inner.path {
            Path::Translated(group, _) => {
                // Below 4 GiB in any case: a function may have all address bits for
                // its data and 32 of them for its messages (PCI 6.8.1).
                let limit = inner.limit().min(u64::from(u32::MAX));
                group.doorbell(&inner.device, pa, limit).map(|iova| iova.0)
            }
            Path::Direct(_) | Path::Identity(..) => Ok(match &self.function {
                Some(function) => function.bus_address(pa),
                None => pa.0,
            }),
        }
    }

    /// The group that the device is in.
    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        self.inner.group()
    }
}

impl<P: Platform> Drop for Lease<P> {
    fn drop(&mut self) {
        self.inner.revoke();
        self.stop();
        if let Some(group) = self.inner.group() {
            group.leave(&self.inner.device);
        }
    }
}

impl<P: Platform> Inner<P> {
    fn new(platform: &P, device: &str, path: Path, coherent: bool) -> Arc<Self> {
        let limit = path.bus_limit();
        if let Path::Translated(group, _) = &path {
            group.mappings().admit(limit);
        }
        Arc::new(Self {
            platform: platform.clone(),
            device: device.into(),
            limit: AtomicU64::new(limit),
            reach: AtomicU64::new(limit),
            flat: path.is_flat(),
            path,
            coherent,
            revoked: AtomicBool::new(false),
        })
    }

    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
        self.reach.store(limit, Ordering::SeqCst);
        if self.revoked.load(Ordering::SeqCst) {
            self.reach.store(0, Ordering::SeqCst);
        }
    }

    fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
        self.reach.store(0, Ordering::SeqCst);
    }

    fn group(&self) -> Option<&Arc<Group>> {
        match &self.path {
            Path::Direct(_) => None,
            Path::Translated(group, _) | Path::Identity(group, _) => Some(group),
        }
    }

    /// Gives the device access to memory.
    #[inline(always)]
    fn map(&self, pa: PhysAddr, len: u64, access: Permission) -> Result<Slot, Box<Fault>> {
        let reach = self.reach.load(Ordering::Relaxed);
        if let Path::Translated(group, _) = &self.path {
            let mapped = group
                .mappings()
                .map(self.platform.cpu(), pa, len, reach, access);
            return mapped.map_err(|fault| self.refusal(fault));
        }
        if self.flat && pa.0 <= reach && len - 1 <= reach - pa.0 {
            return Ok(Slot::new(pa.0));
        }
        self.map_directly(pa, len)
    }

    /// Why nothing is mapped: once the binding is over, that it is.
    #[cold]
    #[inline(never)]
    fn refusal(&self, fault: Box<Fault>) -> Box<Fault> {
        match self.revoked.load(Ordering::SeqCst) {
            true => Box::new(Fault::Revoked),
            false => fault,
        }
    }

    #[cold]
    #[inline(never)]
    fn map_directly(&self, pa: PhysAddr, len: u64) -> Result<Slot, Box<Fault>> {
        if self.revoked.load(Ordering::SeqCst) {
            return Err(Box::new(Fault::Revoked));
        }
        Ok(self.translate(pa, len)?)
    }

    /// Where the device finds memory without an IOMMU that translates.
    fn translate(&self, pa: PhysAddr, len: u64) -> Result<Slot, Fault> {
        let limit = self.limit();
        match self.path.windows().to_bus(pa.0, len) {
            Some(bus) if bus + (len - 1) <= limit => Ok(Slot::new(bus)),
            _ => Err(Fault::Unreachable { at: pa, limit }),
        }
    }

    /// Gives the device access to pieces of one length, side by side where an IOMMU
    /// can have it so, else each where it is.
    fn map_list(
        &self,
        pieces: &impl Fn(usize) -> PhysAddr,
        (count, piece): (usize, u64),
        access: Permission,
    ) -> Result<Slot, Unlisted> {
        if let Path::Translated(group, _) = &self.path {
            let (cpu, reach) = (self.platform.cpu(), self.reach.load(Ordering::Relaxed));
            let mappings = group.mappings();
            let mapped = mappings.map_list(cpu, pieces, (count, piece), reach, access);
            return mapped.map_err(|unlisted| Unlisted {
                fault: self.refusal(unlisted.fault),
                ..unlisted
            });
        }
        for index in 0..count {
            self.map(pieces(index), piece, access)
                .map_err(Unlisted::safe)?;
        }
        Ok(Slot::new(0))
    }

    /// Takes the device's access to `count` pieces back. Whose memory goes back to the
    /// driver may have that done lazily; what is freed must not be reached any more.
    #[inline(always)]
    fn unmap(&self, slot: Slot, count: usize, piece: u64, to: To) -> Result<(), Box<Fault>> {
        let Path::Translated(group, _) = &self.path else {
            return Ok(());
        };
        let mappings = group.mappings();
        match to {
            To::Driver => mappings.unmap_late(&self.platform, slot, count, piece),
            To::Nobody => mappings.unmap(self.platform.cpu(), slot, count, piece),
        }
    }

    /// The same where the device may still use the address.
    fn withdraw(&self, slot: Slot, len: u64) -> Result<(), Box<Fault>> {
        match &self.path {
            Path::Translated(group, _) => group.mappings().withdraw(slot, len),
            Path::Direct(_) | Path::Identity(..) => Ok(()),
        }
    }

    /// What the pages that are mapped for this device are multiples of.
    fn page(&self) -> u64 {
        match &self.path {
            Path::Translated(group, _) => group.page(),
            Path::Direct(_) | Path::Identity(..) => PAGE,
        }
    }

    /// The highest physical address that pages for this device may have.
    fn page_limit(&self) -> u64 {
        match &self.path {
            Path::Translated(..) => u64::MAX,
            Path::Direct(windows) | Path::Identity(_, windows) => cpu_limit(windows, self.limit()),
        }
    }
}

impl<P: Platform> Dma<P> {
    /// The capability along a path that no device takes.
    pub(crate) fn of_nobody(platform: &P, path: Path) -> Self {
        Self {
            inner: Inner::new(platform, "nobody", path, true),
        }
    }

    /// Declares how many address bits the device has. Fails where no memory at all
    /// would be in its reach.
    pub fn set_mask(&self, bits: u32) -> Result<(), Fault> {
        let inner = &self.inner;
        let limit = match bits {
            64.. => u64::MAX,
            _ => (1 << bits) - 1,
        };
        let limit = limit.min(inner.path.bus_limit());
        inner.set_limit(limit);
        match &inner.path {
            Path::Translated(group, _) => {
                group.mappings().admit(limit);
                Ok(())
            }
            Path::Direct(_) | Path::Identity(..) => {
                let (lowest, _) = inner.platform.ram_span();
                if inner.page_limit() < lowest.0 {
                    return Err(Fault::Unreachable { at: lowest, limit });
                }
                Ok(())
            }
        }
    }

    /// Memory that the device and the CPU share for as long as the buffer lives,
    /// zeroed, in direction `D`.
    pub fn alloc<D: Direction>(&self, bytes: u64) -> Result<DmaBuffer<P, D>, Fault> {
        let pages = self.pages(bytes)?;
        pages.fill(0, pages.len(), 0);
        DmaBuffer::new(&self.inner, pages).map_err(|failure| failure.fault)
    }

    /// Pages that [`map`](Self::map) accepts for this device.
    pub fn pages(&self, bytes: u64) -> Result<P::Pages, Fault> {
        let page = self.inner.page();
        let request = PageRequest::new(bytes.div_ceil(page).saturating_mul(page));
        let request = request.align(page).limit(self.inner.page_limit());
        self.inner.platform.alloc_pages(request)
    }

    /// Lends pages to the device for one transfer in direction `D`. They come back
    /// from [`DmaMapping::unmap`].
    pub fn map<D: Direction>(
        &self,
        pages: P::Pages,
    ) -> Result<DmaMapping<P, D>, Box<MapFailure<P::Pages>>> {
        DmaMapping::new(&self.inner, pages)
    }

    /// Lends pages of one length to the device for one transfer: behind an IOMMU they
    /// are side by side for it, and one sync ends it all. On an error the pages come
    /// back, unless the device may still reach some of them: then they are quarantined
    /// and none do.
    pub fn lend_list<D: Direction>(
        &self,
        pages: Vec<P::Pages>,
    ) -> Result<DmaList<'_, P, D>, ListFailure<P::Pages>> {
        DmaList::new(&self.inner, pages)
    }

    /// The same as [`map`](Self::map) for one who has the capability at hand until the
    /// transfer ends.
    #[inline(always)]
    pub fn lend<D: Direction>(
        &self,
        pages: P::Pages,
    ) -> Result<DmaLoan<'_, P, D>, Box<MapFailure<P::Pages>>> {
        DmaLoan::new(&self.inner, pages)
    }
}

impl Path {
    fn windows(&self) -> &DmaWindows {
        let (Self::Direct(windows) | Self::Translated(_, windows) | Self::Identity(_, windows)) =
            self;
        windows
    }

    fn is_flat(&self) -> bool {
        match self {
            Self::Direct(windows) | Self::Identity(_, windows) => windows.is_unlimited(),
            Self::Translated(..) => false,
        }
    }

    /// The highest address that the buses let through.
    fn bus_limit(&self) -> u64 {
        let windows = self.windows();
        let lasts = windows.0.iter().map(|window| window.bus + last(window));
        lasts.max().unwrap_or(0)
    }
}

/// The offset of a window's last byte; the window does not wrap around.
fn last(window: &DmaWindow) -> u64 {
    (window.size - 1) as u64
}

/// The highest physical address behind bus addresses up to `limit`.
fn cpu_limit(windows: &DmaWindows, limit: u64) -> u64 {
    let reach = |window: &DmaWindow| {
        let offset = limit.checked_sub(window.bus)?;
        Some(window.cpu + offset.min(last(window)))
    };
    windows.0.iter().filter_map(reach).max().unwrap_or(0)
}

//! Memory in a device's reach. Both kinds own their pages and their mapping, and
//! both end the same way: unmap, invalidate, sync, and only then free. Where the
//! sync fails the pages are quarantined instead: the device may still write them. So
//! are those of a device that its driver could not stop.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::{Inner, Slot, To};
use crate::addr::{Iova, PhysAddr};
use crate::error::Fault;
use crate::iommu::Permission;
use crate::platform::{Pages, Platform};

/// Which way data moves. Sealed: there are exactly three.
pub trait Direction: sealed::Sealed + Send + Sync + 'static {
    /// What the mapping lets the device do.
    const PERMISSION: Permission;
    /// Whether the device reads what the CPU wrote.
    const TO_DEVICE: bool;
    /// Whether the CPU reads what the device wrote.
    const FROM_DEVICE: bool;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! direction {
    ($(#[$doc:meta])* $name:ident, $permission:ident, $to:literal, $from:literal) => {
        $(#[$doc])*
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Direction for $name {
            const PERMISSION: Permission = Permission::$permission;
            const TO_DEVICE: bool = $to;
            const FROM_DEVICE: bool = $from;
        }
    };
}
direction!(
    /// The device only reads: a write by it faults.
    ToDevice, Read, true, false
);
direction!(
    /// The device writes.
    FromDevice, ReadWrite, false, true
);
direction!(
    /// Both ways: rings and the like.
    Bidirectional, ReadWrite, true, true
);

/// Pages that could not be mapped, and why.
pub struct MapFailure<T> {
    /// What went wrong.
    pub fault: Fault,
    /// The pages, unharmed.
    pub pages: T,
}

/// Pages and the mapping over them: what both kinds are.
pub struct Mapped<P: Platform> {
    inner: Arc<Inner<P>>,
    // None only after the pages were given back or parked.
    pages: Option<P::Pages>,
    slot: Slot,
}

impl<P: Platform> Mapped<P> {
    fn new(
        inner: &Arc<Inner<P>>,
        pages: P::Pages,
        access: Permission,
    ) -> Result<Self, Box<MapFailure<P::Pages>>> {
        match lend(inner, &pages, access) {
            Ok(slot) => Ok(Self {
                inner: inner.clone(),
                pages: Some(pages),
                slot,
            }),
            Err(fault) => Err(unmapped(fault, pages)),
        }
    }

    /// The address for the device.
    pub fn iova(&self) -> Iova {
        self.slot.iova
    }

    /// The memory behind it.
    pub fn pa(&self) -> PhysAddr {
        self.pages().pa()
    }

    /// Length in bytes, whole pages.
    pub fn len(&self) -> usize {
        self.pages().len()
    }

    /// Whether there are no bytes; there always are some.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Takes the mapping back and quarantines the pages.
    fn park(&mut self) {
        if let Some(pages) = self.pages.take() {
            park(&self.inner, self.slot, pages);
        }
    }

    fn pages(&self) -> &P::Pages {
        // Present until `release`, which consumes or ends the mapping.
        self.pages.as_ref().expect("mapping in use after its end")
    }

    fn release(&mut self, to: To) -> Result<Option<P::Pages>, Fault> {
        match self.pages.take() {
            None => Ok(None),
            Some(pages) => release(&self.inner, self.slot, pages, to).map(Some),
        }
    }
}

/// Gives a device access to pages.
#[inline(always)]
fn lend<P: Platform>(
    inner: &Inner<P>,
    pages: &P::Pages,
    access: Permission,
) -> Result<Slot, Box<Fault>> {
    if !inner.coherent {
        // Also where the device only writes: a dirty line that is evicted later
        // would overwrite its data.
        pages.clean(0, pages.len());
    }
    inner.map(pages.pa(), pages.len() as u64, access)
}

/// What is left of an attempt to map pages.
#[cold]
#[inline(never)]
#[expect(clippy::boxed_local, reason = "whoever calls it has it in a register")]
fn unmapped<T>(fault: Box<Fault>, pages: T) -> Box<MapFailure<T>> {
    let fault = *fault;
    Box::new(MapFailure { fault, pages })
}

/// Takes it back. Pages that the device may still reach are nobody's any more.
#[inline(always)]
fn release<P: Platform>(
    inner: &Inner<P>,
    slot: Slot,
    pages: P::Pages,
    to: To,
) -> Result<P::Pages, Fault> {
    match inner.unmap(slot, 1, pages.len() as u64, to) {
        Ok(()) => Ok(pages),
        Err(fault) => Err(keep(inner, slot, pages, fault)),
    }
}

/// Quarantines pages whose unmapping failed.
#[cold]
#[inline(never)]
fn keep<P: Platform>(inner: &Inner<P>, slot: Slot, pages: P::Pages, fault: Box<Fault>) -> Fault {
    let (device, iova, len) = (&inner.device, slot.iova, pages.len());
    log::error!("{device}: unmapping {iova}: {fault}; {len:#x} bytes quarantined");
    inner.platform.quarantine(pages);
    *fault
}

/// Takes pages back from a device that may go on using them, and quarantines them.
fn park<P: Platform>(inner: &Inner<P>, slot: Slot, pages: P::Pages) {
    let (device, iova, len) = (&inner.device, slot.iova, pages.len());
    if let Err(fault) = inner.withdraw(slot, len as u64) {
        log::error!("{device}: unmapping {iova}: {fault}");
    }
    log::error!("{device}: may still use {iova}; {len:#x} bytes quarantined");
    inner.platform.quarantine(pages);
}

impl<P: Platform> Drop for Mapped<P> {
    fn drop(&mut self) {
        // Printed where it happened; the pages are parked.
        let _ = self.release(To::Nobody);
    }
}

impl<P: Platform, D: Direction> Deref for DmaBuffer<P, D> {
    type Target = Mapped<P>;

    fn deref(&self) -> &Mapped<P> {
        &self.mapped
    }
}

impl<P: Platform, D: Direction> Deref for DmaMapping<P, D> {
    type Target = Mapped<P>;

    fn deref(&self) -> &Mapped<P> {
        &self.mapped
    }
}

/// Memory shared with the device for as long as this lives. There are no borrowed
/// bytes: the device may change them at any time, so they are copied.
pub struct DmaBuffer<P: Platform, D: Direction> {
    mapped: Mapped<P>,
    direction: PhantomData<D>,
}

impl<P: Platform, D: Direction> DmaBuffer<P, D> {
    pub(super) fn new(
        inner: &Arc<Inner<P>>,
        pages: P::Pages,
    ) -> Result<Self, Box<MapFailure<P::Pages>>> {
        Ok(Self {
            mapped: Mapped::new(inner, pages, D::PERMISSION)?,
            direction: PhantomData,
        })
    }

    /// Ends the buffer of a device that could not be stopped: an IOMMU keeps it out, and
    /// as not every machine has one, the pages are quarantined. It is not to be used any
    /// more.
    pub fn park(&mut self) {
        self.mapped.park();
    }

    /// Copies out what the device may have written.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        self.before_read(offset, to.len());
        self.mapped.pages().read(offset, to);
    }

    /// Copies in for the device to read. Order it before a doorbell with
    /// [`Barrier::Publish`](crate::platform::Barrier::Publish).
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.mapped.pages().write(offset, from);
        self.after_write(offset, from.len());
    }

    /// Loads an aligned word, as one access.
    #[inline(always)]
    pub fn load32(&self, offset: usize) -> u32 {
        self.before_read(offset, 4);
        self.mapped.pages().load32(offset)
    }

    /// Stores an aligned word, as one access.
    #[inline]
    pub fn store32(&self, offset: usize, value: u32) {
        self.mapped.pages().store32(offset, value);
        self.after_write(offset, 4);
    }

    /// Loads an aligned double word, as one access.
    #[inline]
    pub fn load64(&self, offset: usize) -> u64 {
        self.before_read(offset, 8);
        self.mapped.pages().load64(offset)
    }

    /// Stores an aligned double word, as one access.
    #[inline]
    pub fn store64(&self, offset: usize, value: u64) {
        self.mapped.pages().store64(offset, value);
        self.after_write(offset, 8);
    }

    /// Stores aligned pairs of double words, each word as one access, for a device that
    /// is told of them when they are all there.
    #[inline]
    pub fn store_pairs(&self, offset: usize, pairs: &[[u64; 2]]) {
        for (index, &pair) in pairs.iter().enumerate() {
            self.mapped.pages().store_pair(offset + 16 * index, pair);
        }
        self.after_write(offset, 16 * pairs.len());
    }

    /// Sets bytes.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        self.mapped.pages().fill(offset, len, byte);
        self.after_write(offset, len);
    }

    #[inline(always)]
    fn before_read(&self, offset: usize, len: usize) {
        if !self.mapped.inner.coherent && D::FROM_DEVICE {
            self.mapped.pages().invalidate(offset, len);
        }
    }

    #[inline]
    fn after_write(&self, offset: usize, len: usize) {
        if !self.mapped.inner.coherent {
            self.mapped.pages().clean(offset, len);
        }
    }
}

/// Pages lent to the device for one transfer; out of the CPU's reach until
/// [`unmap`](Self::unmap) gives them back.
pub struct DmaMapping<P: Platform, D: Direction> {
    mapped: Mapped<P>,
    direction: PhantomData<D>,
}

impl<P: Platform, D: Direction> DmaMapping<P, D> {
    pub(super) fn new(
        inner: &Arc<Inner<P>>,
        pages: P::Pages,
    ) -> Result<Self, Box<MapFailure<P::Pages>>> {
        Ok(Self {
            mapped: Mapped::new(inner, pages, D::PERMISSION)?,
            direction: PhantomData,
        })
    }

    /// Ends a transfer that may still be under way, as [`DmaBuffer::park`] does.
    pub fn park(mut self) {
        self.mapped.park();
    }

    /// Ends the transfer: when this returns the device cannot reach the pages any
    /// more. On an error they are quarantined.
    pub fn unmap(mut self) -> Result<P::Pages, Fault> {
        let coherent = self.mapped.inner.coherent;
        let pages = self.mapped.release(To::Driver)?.ok_or(Fault::Revoked)?;
        if !coherent && D::FROM_DEVICE {
            pages.invalidate(0, pages.len());
        }
        Ok(pages)
    }
}

/// The same as a [`DmaMapping`], while the capability is borrowed: nothing is counted.
pub struct DmaLoan<'d, P: Platform, D: Direction> {
    inner: &'d Inner<P>,
    // None only after the pages were given back or parked.
    pages: Option<P::Pages>,
    slot: Slot,
    direction: PhantomData<D>,
}

impl<'d, P: Platform, D: Direction> DmaLoan<'d, P, D> {
    #[inline(always)]
    pub(super) fn new(
        inner: &'d Inner<P>,
        pages: P::Pages,
    ) -> Result<Self, Box<MapFailure<P::Pages>>> {
        match lend(inner, &pages, D::PERMISSION) {
            Ok(slot) => Ok(Self {
                inner,
                pages: Some(pages),
                slot,
                direction: PhantomData,
            }),
            Err(fault) => Err(unmapped(fault, pages)),
        }
    }

    /// The address for the device.
    pub fn iova(&self) -> Iova {
        self.slot.iova
    }

    /// Ends a transfer that may still be under way, as [`DmaBuffer::park`] does.
    pub fn park(mut self) {
        if let Some(pages) = self.pages.take() {
            park(self.inner, self.slot, pages);
        }
    }

    /// Ends the transfer: when this returns the device cannot reach the pages any
    /// more. On an error they are quarantined.
    #[inline(always)]
    pub fn unmap(self) -> Result<P::Pages, Fault> {
        // Without pages there is nothing to drop.
        let mut loan = ManuallyDrop::new(self);
        let (inner, slot) = (loan.inner, loan.slot);
        let Some(pages) = loan.pages.take() else {
            return Err(Fault::Revoked);
        };
        let pages = release(inner, slot, pages, To::Driver)?;
        if D::FROM_DEVICE && !inner.coherent {
            pages.invalidate(0, pages.len());
        }
        Ok(pages)
    }
}

impl<P: Platform, D: Direction> Drop for DmaLoan<'_, P, D> {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            // Printed where it happened; the pages are parked.
            let _ = release(self.inner, self.slot, pages, To::Nobody);
        }
    }
}

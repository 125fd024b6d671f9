//! Scatter lists: pages from anywhere that one transfer fills or empties. Behind an
//! IOMMU they become one range of addresses, mapped page by page and unmapped as one:
//! one invalidation and one sync, however many there are.

use core::marker::PhantomData;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Direction, Inner, MapFailure, Path, Slot, To};
use crate::addr::{Iova, PhysAddr};
use crate::error::Fault;
use crate::platform::{Pages, Platform};

/// Why a list could not be mapped, and its pages, unless the device may still reach
/// some of them.
pub type ListFailure<T> = Box<MapFailure<Vec<T>>>;

/// Pages lent to the device for one transfer, while the capability is borrowed.
pub struct DmaList<'d, P: Platform, D: Direction> {
    inner: &'d Inner<P>,
    // None only after the pages were given back or parked.
    pages: Option<Vec<P::Pages>>,
    slot: Slot,
    piece: u64,
    direction: PhantomData<D>,
}

impl<'d, P: Platform, D: Direction> DmaList<'d, P, D> {
    pub(super) fn new(
        inner: &'d Inner<P>,
        pages: Vec<P::Pages>,
    ) -> Result<Self, ListFailure<P::Pages>> {
        let piece = pages.first().map_or(0, |first| first.len() as u64);
        if piece == 0 || pages.iter().any(|pages| pages.len() as u64 != piece) {
            let fault = Fault::invalid("a list is of pages of one length, and of some");
            return Err(Box::new(MapFailure { fault, pages }));
        }
        if !inner.coherent {
            pages.iter().for_each(|pages| pages.clean(0, pages.len()));
        }
        let at = |index: usize| pages.get(index).map_or(PhysAddr(0), |pages| pages.pa());
        match inner.map_list(&at, (pages.len(), piece), D::PERMISSION) {
            Ok(slot) => Ok(Self {
                inner,
                pages: Some(pages),
                slot,
                piece,
                direction: PhantomData,
            }),
            Err(refused) => {
                let fault = *refused.fault;
                if refused.safe {
                    return Err(Box::new(MapFailure { fault, pages }));
                }
                park(inner, pages, &fault);
                let pages = Vec::new();
                Err(Box::new(MapFailure { fault, pages }))
            }
        }
    }

    /// The address for the device of the piece with this number.
    pub fn iova(&self, index: usize) -> Result<Iova, Fault> {
        let pages = self.pages.iter().flatten().nth(index);
        let pages = pages.ok_or_else(|| Fault::invalid("the list has no such piece"))?;
        match &self.inner.path {
            Path::Translated(..) => Ok(self.slot.iova.add(self.piece * index as u64)),
            Path::Direct(_) | Path::Identity(..) => {
                let slot = self.inner.translate(pages.pa(), self.piece)?;
                Ok(slot.iova)
            }
        }
    }

    /// Ends the transfer: when this returns the device cannot reach the pages any
    /// more. On an error they are quarantined.
    pub fn unmap(mut self) -> Result<Vec<P::Pages>, Fault> {
        let pages = self.release(To::Driver)?;
        if D::FROM_DEVICE && !self.inner.coherent {
            pages
                .iter()
                .for_each(|pages| pages.invalidate(0, pages.len()));
        }
        Ok(pages)
    }

    fn release(&mut self, to: To) -> Result<Vec<P::Pages>, Fault> {
        let Some(pages) = self.pages.take() else {
            return Ok(Vec::new());
        };
        match self.inner.unmap(self.slot, pages.len(), self.piece, to) {
            Ok(()) => Ok(pages),
            Err(fault) => {
                park(self.inner, pages, &fault);
                Err(*fault)
            }
        }
    }
}

impl<P: Platform, D: Direction> Drop for DmaList<'_, P, D> {
    fn drop(&mut self) {
        // Printed where it happened; the pages are parked.
        let _ = self.release(To::Nobody);
    }
}

/// What the device may still reach is nobody's any more.
fn park<P: Platform>(inner: &Inner<P>, pages: Vec<P::Pages>, fault: &Fault) {
    let (device, count) = (&inner.device, pages.len());
    log::error!("{device}: a list of {count}: {fault}; quarantined");
    for pages in pages {
        inner.platform.quarantine(pages);
    }
}

//! IOMMU address spaces that a driver manages by itself: for masters that switch
//! between several, or want their own addresses. The core reserves the device's
//! streams and attaches nothing; they abort until the driver attaches a space of
//! its own. What the core sets up is a [`Group`](super::Group), what a driver
//! attaches is a [`Space`]: two types, so neither can be taken for the other.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use mastiff_dt::NodeId;
use spin::Mutex;

use super::group::Behind;
use super::{Domain, Permission, WalkStep};
use crate::addr::{Iova, PAGE, PhysAddr};
use crate::bus::BusFunction;
use crate::error::Fault;
use crate::platform::{Pages, Platform};

/// A device's streams, in the hands of its driver.
pub struct Managed<P: Platform> {
    pub(crate) inner: Arc<Inner<P>>,
}

/// What the driver's half, the core's half and all spaces share.
pub(crate) struct Inner<P: Platform> {
    platform: P,
    device: Box<str>,
    behind: Vec<Behind>,
    function: Option<Arc<dyn BusFunction>>,
    state: Mutex<State<P>>,
}

struct State<P: Platform> {
    attached: Option<Arc<Tables<P>>>,
    revoked: bool,
}

/// An address space: page tables, one for each IOMMU that the device is behind, and
/// the memory that is mapped in them. It may outlive its attachment and be attached
/// again.
pub struct Space<P: Platform> {
    tables: Arc<Tables<P>>,
}

struct Tables<P: Platform> {
    platform: P,
    device: Box<str>,
    domains: Vec<(NodeId, Arc<dyn Domain>)>,
    maps: Mutex<Vec<(Iova, P::Pages)>>,
}

impl<P: Platform> Managed<P> {
    /// A new, empty address space.
    pub fn space(&self) -> Result<Space<P>, Fault> {
        let inner = &self.inner;
        let mut domains = Vec::new();
        for behind in &inner.behind {
            domains.push((behind.node, behind.iommu.paging_domain()?));
        }
        Ok(Space {
            tables: Arc::new(Tables {
                platform: inner.platform.clone(),
                device: inner.device.clone(),
                domains,
                maps: Mutex::new(Vec::new()),
            }),
        })
    }

    /// Sends the device's streams through `space`, in place of another one if one is
    /// attached: no transaction in between passes untranslated. Only with its
    /// streams attached may the device master its bus.
    pub fn attach(&self, space: &Space<P>) -> Result<(), Fault> {
        let inner = &self.inner;
        let mut state = inner.state.lock();
        if state.revoked {
            return Err(Fault::Revoked);
        }
        for behind in &inner.behind {
            let domain = space.tables.domain(behind.node).ok_or(Fault::Revoked)?;
            for &stream in &behind.streams {
                if let Err(fault) = domain.attach(stream) {
                    // Half of the streams in one space and half in another is no
                    // state to be in.
                    inner.detach(&mut state);
                    return Err(fault);
                }
            }
        }
        let before = state.attached.replace(space.tables.clone());
        if before.is_none()
            && let Some(function) = &inner.function
        {
            function.set_master(true);
        }
        Ok(())
    }

    /// Aborts the device's streams. When this returns no transaction of the device
    /// reaches memory.
    pub fn detach(&self) {
        self.inner.detach(&mut self.inner.state.lock());
    }

    /// Whether a space is attached.
    pub fn is_attached(&self) -> bool {
        self.inner.state.lock().attached.is_some()
    }
}

impl<P: Platform> Inner<P> {
    pub(crate) fn new(
        platform: &P,
        device: &str,
        behind: Vec<Behind>,
        function: Option<Arc<dyn BusFunction>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            platform: platform.clone(),
            device: device.into(),
            behind,
            function,
            state: Mutex::new(State {
                attached: None,
                revoked: false,
            }),
        })
    }

    fn detach(&self, state: &mut State<P>) {
        if let Some(function) = &self.function {
            function.set_master(false);
        }
        let attached = state.attached.take();
        for behind in &self.behind {
            for &stream in &behind.streams {
                if let Err(fault) = behind.iommu.block(stream) {
                    log::error!(
                        "{}: stream {stream} could not be aborted: {fault}",
                        self.device
                    );
                    // The hardware may still walk the tables: they stay for ever.
                    mem::forget(attached.clone());
                }
            }
        }
    }

    /// Ends it all: the driver's half is worth nothing from here on.
    pub(crate) fn revoke(&self) {
        let mut state = self.state.lock();
        state.revoked = true;
        self.detach(&mut state);
    }

    /// Stops the device on its bus.
    pub(crate) fn stop(&self) {
        if let Some(function) = &self.function {
            function.set_master(false);
        }
    }

    /// Lets the device through again, if its streams go anywhere.
    pub(crate) fn restart(&self) {
        if self.is_attached()
            && let Some(function) = &self.function
        {
            function.set_master(true);
        }
    }

    /// Whether the driver has attached a space.
    pub(crate) fn is_attached(&self) -> bool {
        self.state.lock().attached.is_some()
    }

    /// The walk for an address in what is attached.
    pub(crate) fn walk(&self, iova: Iova) -> Vec<WalkStep> {
        let state = self.state.lock();
        let tables = state.attached.as_ref();
        let first = tables.and_then(|tables| tables.domains.first());
        first
            .map(|(_, domain)| domain.walk(iova))
            .unwrap_or_default()
    }
}

impl<P: Platform> Space<P> {
    /// Maps pages at an address of the driver's choice. The space owns them until
    /// [`unmap`](Self::unmap).
    pub fn map(&self, iova: Iova, pages: P::Pages, access: Permission) -> Result<(), Fault> {
        let (len, tables) = (pages.len() as u64, &self.tables);
        let bad = |why| Fault::BadRange { iova, len, why };
        if !iova.0.is_multiple_of(PAGE) || iova.0.checked_add(len).is_none() {
            return Err(bad("not whole pages inside the address space"));
        }
        let mut maps = tables.maps.lock();
        let apart = |(at, held): &(Iova, P::Pages)| {
            iova.0 + len <= at.0 || at.0 + held.len() as u64 <= iova.0
        };
        if !maps.iter().all(apart) {
            return Err(bad("something is mapped there"));
        }
        for (done, (_, domain)) in tables.domains.iter().enumerate() {
            if let Err(fault) = domain.map(iova, pages.pa(), len, access) {
                let undone = tables.domains[..done]
                    .iter()
                    .try_for_each(|(_, domain)| domain.unmap(iova, len));
                if undone.is_err() {
                    tables.platform.quarantine(pages);
                }
                return Err(fault);
            }
        }
        maps.push((iova, pages));
        Ok(())
    }

    /// Takes a mapping back: when this returns the device cannot reach the pages. On
    /// an error they are quarantined.
    pub fn unmap(&self, iova: Iova) -> Result<P::Pages, Fault> {
        let mut maps = self.tables.maps.lock();
        let known = maps.iter().position(|(at, _)| *at == iova);
        let (_, pages) = maps.swap_remove(known.ok_or(Fault::NotMapped { iova })?);
        drop(maps);
        self.tables.unmap(iova, pages)
    }

    /// Copies out of what is mapped at `iova`.
    pub fn read(&self, iova: Iova, to: &mut [u8]) -> Result<(), Fault> {
        self.at(iova, to.len(), |pages| {
            pages.invalidate(0, to.len());
            pages.read(0, to);
        })
    }

    /// Copies into what is mapped at `iova`. Order it before a doorbell with
    /// [`Barrier::Publish`](crate::platform::Barrier::Publish).
    pub fn write(&self, iova: Iova, from: &[u8]) -> Result<(), Fault> {
        self.at(iova, from.len(), |pages| {
            pages.write(0, from);
            pages.clean(0, from.len());
        })
    }

    /// The memory that is mapped at `iova`.
    pub fn pa(&self, iova: Iova) -> Result<PhysAddr, Fault> {
        self.at(iova, 0, |pages| pages.pa())
    }

    fn at<T>(&self, iova: Iova, len: usize, act: impl FnOnce(&P::Pages) -> T) -> Result<T, Fault> {
        let maps = self.tables.maps.lock();
        let (_, pages) = maps
            .iter()
            .find(|(at, pages)| *at == iova && pages.len() >= len)
            .ok_or(Fault::NotMapped { iova })?;
        Ok(act(pages))
    }
}

impl<P: Platform> Tables<P> {
    fn domain(&self, node: NodeId) -> Option<&Arc<dyn Domain>> {
        let found = self.domains.iter().find(|(known, _)| *known == node);
        found.map(|(_, domain)| domain)
    }

    fn unmap(&self, iova: Iova, pages: P::Pages) -> Result<P::Pages, Fault> {
        let mut result = Ok(());
        for (_, domain) in &self.domains {
            result = result.and(domain.unmap(iova, pages.len() as u64));
        }
        match result {
            Ok(()) => Ok(pages),
            Err(fault) => {
                log::error!("{}: unmapping {iova}: {fault}; quarantined", self.device);
                self.platform.quarantine(pages);
                Err(fault)
            }
        }
    }
}

impl<P: Platform> Drop for Tables<P> {
    fn drop(&mut self) {
        for (iova, pages) in mem::take(&mut *self.maps.lock()) {
            // Printed where it happened; the pages are parked.
            let _ = self.unmap(iova, pages);
        }
    }
}

//! IOMMU address spaces that a driver manages by itself: for masters that switch
//! between several, or want their own addresses. The core reserves the device's
//! streams and attaches nothing; they abort until the driver attaches a space of
//! its own. What the core sets up is a [`Group`](super::Group), what a driver
//! attaches is a [`Space`]: two types, so neither can be taken for the other.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use mastiff_dt::NodeId;
use spin::Mutex;

use super::group::{Behind, GroupInfo, keys};
use super::lower::{Below, Domains, Lower};
use super::{Domain, Permission, WalkStep};
use crate::addr::{Iova, PAGE, PhysAddr, StreamId, SubstreamId};
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
    // How many SubstreamIDs the device and its IOMMUs have.
    substreams: u64,
    state: Mutex<State<P>>,
}

struct State<P: Platform> {
    attached: Option<Arc<Tables<P>>>,
    // By SubstreamID.
    substreams: BTreeMap<SubstreamId, Arc<Tables<P>>>,
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
    domains: Domains,
    // What the domains are nested in.
    below: Option<Arc<Below>>,
    maps: Mutex<Vec<Map<P>>>,
}

struct Map<P: Platform> {
    at: Iova,
    // What it leads to, if that is not the pages themselves.
    below: Option<Iova>,
    pages: P::Pages,
}

impl<P: Platform> Managed<P> {
    /// A new, empty address space.
    pub fn space(&self) -> Result<Space<P>, Fault> {
        let mut domains = Vec::new();
        for behind in &self.inner.behind {
            domains.push((behind.node, behind.iommu.paging_domain()?));
        }
        Ok(self.space_of(domains, None))
    }

    /// Something to nest address spaces in, if the IOMMU has two stages.
    pub fn lower(&self) -> Result<Lower, Fault> {
        Lower::new(&self.inner.behind)
    }

    /// A new, empty address space that is nested: what is mapped in it is mapped in
    /// `lower` too, and it reaches nothing else.
    pub fn nested_space(&self, lower: &Lower) -> Result<Space<P>, Fault> {
        let domains = lower.inner.nested()?;
        Ok(self.space_of(domains, Some(lower.inner.clone())))
    }

    fn space_of(&self, domains: Domains, below: Option<Arc<Below>>) -> Space<P> {
        let tables = Tables {
            platform: self.inner.platform.clone(),
            device: self.inner.device.clone(),
            domains,
            below,
            maps: Mutex::new(Vec::new()),
        };
        Space {
            tables: Arc::new(tables),
        }
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
        state.attached = Some(space.tables.clone());
        inner.let_through();
        Ok(())
    }

    /// Sends one of the device's substreams through `space`, in place of another one if
    /// one is attached there; what else the device does is not touched.
    pub fn attach_substream(&self, substream: SubstreamId, space: &Space<P>) -> Result<(), Fault> {
        let inner = &self.inner;
        inner.check_substream(substream)?;
        let mut state = inner.state.lock();
        if state.revoked {
            return Err(Fault::Revoked);
        }
        for (behind, stream) in inner.streams() {
            let domain = space.tables.domain(behind.node).ok_or(Fault::Revoked)?;
            if let Err(fault) = domain.attach_substream(stream, substream) {
                // Half of the streams in one space and half in another is no state to
                // be in, and what the hardware makes of the stream is not known.
                inner.detach(&mut state);
                return Err(fault);
            }
        }
        state.substreams.insert(substream, space.tables.clone());
        inner.let_through();
        Ok(())
    }

    /// Aborts one of the device's substreams. When this returns `Ok` nothing of it
    /// reaches memory.
    pub fn detach_substream(&self, substream: SubstreamId) -> Result<(), Fault> {
        let inner = &self.inner;
        inner.check_substream(substream)?;
        let mut state = inner.state.lock();
        for (behind, stream) in inner.streams() {
            if let Err(fault) = behind.iommu.block_substream(stream, substream) {
                inner.detach(&mut state);
                return Err(fault);
            }
        }
        state.substreams.remove(&substream);
        Ok(())
    }

    /// How many SubstreamIDs there are, 0 included; none at all without substreams.
    pub fn substreams(&self) -> u64 {
        self.inner.substreams
    }

    /// Aborts the device's streams, with all of their substreams. When this returns no transaction of the device
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
        substream_bits: u32,
    ) -> Arc<Self> {
        let own = match substream_bits {
            0 => 0,
            bits => 1 << bits.min(u32::BITS),
        };
        let others = behind.iter().map(|behind| behind.iommu.substreams());
        Arc::new(Self {
            substreams: others.fold(own, u64::min),
            platform: platform.clone(),
            device: device.into(),
            behind,
            function,
            state: Mutex::new(State {
                attached: None,
                substreams: BTreeMap::new(),
                revoked: false,
            }),
        })
    }

    fn check_substream(&self, substream: SubstreamId) -> Result<(), Fault> {
        let substreams = self.substreams;
        if u64::from(substream.0) < substreams {
            return Ok(());
        }
        Err(Fault::SubstreamOutOfRange {
            substream,
            substreams,
        })
    }

    fn streams(&self) -> impl Iterator<Item = (&Behind, StreamId)> {
        let all = self.behind.iter();
        all.flat_map(|behind| behind.streams.iter().map(move |&stream| (behind, stream)))
    }

    /// Lets the device master its bus.
    fn let_through(&self) {
        if let Some(function) = &self.function {
            function.set_master(true);
        }
    }

    fn detach(&self, state: &mut State<P>) {
        if let Some(function) = &self.function {
            function.set_master(false);
        }
        // They end after the last stream was aborted.
        let _gone = (state.attached.take(), mem::take(&mut state.substreams));
        for (behind, stream) in self.streams() {
            if let Err(fault) = behind.iommu.block(stream) {
                log::error!(
                    "{}: stream {stream} could not be aborted: {fault}",
                    self.device
                );
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
        if self.is_attached() {
            self.let_through();
        }
    }

    /// Whether the driver has attached a space, if only to a substream.
    pub(crate) fn is_attached(&self) -> bool {
        let state = self.state.lock();
        state.attached.is_some() || !state.substreams.is_empty()
    }

    /// What people are shown of the spaces that are attached.
    pub(crate) fn infos(&self) -> Vec<GroupInfo> {
        let state = self.state.lock();
        let plain = state.attached.iter().map(|tables| (None, tables));
        let others = state.substreams.iter();
        let others = others.map(|(&substream, tables)| (Some(substream), tables));
        plain
            .chain(others)
            .map(|(substream, tables)| self.info(substream, tables))
            .collect()
    }

    fn info(&self, substream: Option<SubstreamId>, tables: &Tables<P>) -> GroupInfo {
        let first = tables.domains.first().map(|(_, domain)| domain);
        let maps = tables.maps.lock();
        GroupInfo {
            substream,
            members: Vec::from([self.device.clone()]),
            streams: keys(&self.behind),
            identity: false,
            tag: first.and_then(|domain| domain.tag()),
            parent: first.and_then(|domain| domain.parent_tag()),
            mapped: maps.iter().map(|map| map.pages.len() as u64).sum(),
            doorbells: Vec::new(),
        }
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
        let apart = |map: &Map<P>| {
            let (at, held) = (map.at.0, map.pages.len() as u64);
            iova.0 + len <= at || at + held <= iova.0
        };
        if !maps.iter().all(apart) {
            return Err(bad("something is mapped there"));
        }
        let pa = pages.pa();
        let below = match &tables.below {
            Some(below) => Some(below.map(pa, len, access)?),
            None => None,
        };
        // What a nested domain leads to is an address of its parent.
        let to = below.map_or(pa, |below| PhysAddr(below.0));
        for (done, (_, domain)) in tables.domains.iter().enumerate() {
            if let Err(fault) = domain.map(iova, to, len, access) {
                if tables.take_out(done, iova, below, len).is_err() {
                    tables.platform.quarantine(pages);
                }
                return Err(fault);
            }
        }
        maps.push(Map {
            at: iova,
            below,
            pages,
        });
        Ok(())
    }

    /// Takes a mapping back: when this returns the device cannot reach the pages. On
    /// an error they are quarantined.
    pub fn unmap(&self, iova: Iova) -> Result<P::Pages, Fault> {
        let mut maps = self.tables.maps.lock();
        let known = maps.iter().position(|map| map.at == iova);
        let map = maps.swap_remove(known.ok_or(Fault::NotMapped { iova })?);
        drop(maps);
        self.tables.unmap(map)
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
        let map = maps
            .iter()
            .find(|map| map.at == iova && map.pages.len() >= len)
            .ok_or(Fault::NotMapped { iova })?;
        Ok(act(&map.pages))
    }
}

impl<P: Platform> Tables<P> {
    fn domain(&self, node: NodeId) -> Option<&Arc<dyn Domain>> {
        let found = self.domains.iter().find(|(known, _)| *known == node);
        found.map(|(_, domain)| domain)
    }

    /// Takes a mapping out of the first so many domains, and then from below them.
    fn take_out(
        &self,
        domains: usize,
        iova: Iova,
        below: Option<Iova>,
        len: u64,
    ) -> Result<(), Fault> {
        let mut result = Ok(());
        for (_, domain) in &self.domains[..domains] {
            result = result.and(domain.unmap(iova, len));
        }
        result?;
        match (&self.below, below) {
            (Some(lower), Some(at)) => lower.unmap(at, len),
            _ => Ok(()),
        }
    }

    fn unmap(&self, map: Map<P>) -> Result<P::Pages, Fault> {
        let Map { at, below, pages } = map;
        let len = pages.len() as u64;
        match self.take_out(self.domains.len(), at, below, len) {
            Ok(()) => Ok(pages),
            Err(fault) => {
                log::error!("{}: unmapping {at}: {fault}; quarantined", self.device);
                self.platform.quarantine(pages);
                Err(fault)
            }
        }
    }
}

impl<P: Platform> Drop for Tables<P> {
    fn drop(&mut self) {
        for map in mem::take(&mut *self.maps.lock()) {
            // Printed where it happened; the pages are parked.
            let _ = self.unmap(map);
        }
    }
}

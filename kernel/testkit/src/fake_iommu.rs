//! An IOMMU in a few lines, for tests of what stands above one: it translates for
//! simulated devices, counts everything, and takes nobody's word. Whoever breaks
//! the contract of [`Iommu`] or [`Domain`] (unmaps what is not mapped, drops a
//! domain that streams still go through) ends the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use mastiff_core::addr::{Iova, PAGE, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{
    Domain, EntryDump, Iommu, Limits, ParentDomain, Permission, Reserved, Status, Tag, WalkStep,
};

use crate::breach;
use crate::bus::{DmaTranslator, Shared};
use crate::inject::{Injections, Step};
use crate::lock;

/// The IOMMU. Clones are the same one.
#[derive(Clone)]
pub struct FakeIommu {
    shared: Arc<FakeState>,
}

struct FakeState {
    limits: Limits,
    inject: Injections,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u32,
    domains: BTreeMap<u32, Table>,
    streams: BTreeMap<u32, u32>,
    reserved: BTreeMap<u32, Vec<Reserved>>,
    counts: Counts,
    aborted: Vec<Aborted>,
    // By stream: the domain that it goes through lives as long as somebody has it, and
    // longer if the stream could not be aborted.
    handles: BTreeMap<u32, Weak<Handle>>,
    held: BTreeMap<u32, Arc<Handle>>,
}

#[derive(Default)]
struct Table {
    identity: bool,
    // The domain that it is nested in.
    parent: Option<u32>,
    // Who goes through it.
    streams: BTreeSet<u32>,
    // By the first address: physical address, length, permission.
    maps: BTreeMap<u64, (u64, u64, Permission)>,
}

/// What an IOMMU holds and has done.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Domains that live.
    pub domains: usize,
    /// Streams that go through one.
    pub attached: usize,
    /// Mappings in all domains.
    pub mappings: usize,
    /// Domains that were made.
    pub domains_made: u64,
    /// Attachments that were made.
    pub attaches: u64,
    /// Streams that were aborted.
    pub blocks: u64,
    /// Mappings that were made.
    pub maps: u64,
    /// Syncs: one for each unmapping and each change of a stream.
    pub syncs: u64,
}

/// An access that was aborted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Aborted {
    /// Who.
    pub stream: u32,
    /// Where.
    pub addr: u64,
    /// Whether it was a write.
    pub write: bool,
}

impl Default for FakeIommu {
    fn default() -> Self {
        Self::new(Limits {
            aperture: (1 << 48) - 1,
            streams: 1 << 16,
            page: PAGE,
        })
    }
}

impl FakeIommu {
    /// One with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            shared: Arc::new(FakeState {
                limits,
                inject: Injections::default(),
                inner: Mutex::new(Inner::default()),
            }),
        }
    }

    /// What the core is given.
    pub fn instance(&self) -> Arc<dyn Iommu> {
        Arc::new(self.clone())
    }

    /// What the simulated machine sends streams through.
    pub fn translator(&self) -> Shared<Self> {
        Arc::new(Mutex::new(self.clone()))
    }

    /// Keeps addresses of a stream for itself: they do not go through a domain, and
    /// may not be mapped in one that the stream goes through.
    pub fn reserve(&self, stream: u32, region: Reserved) {
        let mut inner = lock(&self.shared.inner);
        inner.reserved.entry(stream).or_default().push(region);
    }

    /// What can be made to fail.
    pub fn inject(&self) -> &Injections {
        &self.shared.inject
    }

    /// What it holds and has done.
    pub fn counts(&self) -> Counts {
        let inner = lock(&self.shared.inner);
        Counts {
            domains: inner.domains.len(),
            attached: inner.streams.len(),
            mappings: inner.domains.values().map(|table| table.maps.len()).sum(),
            ..inner.counts
        }
    }

    /// The accesses that it aborted.
    pub fn aborted(&self) -> Vec<Aborted> {
        lock(&self.shared.inner).aborted.clone()
    }

    /// What is mapped for a stream: where each mapping begins, and its length.
    pub fn mapped(&self, stream: u32) -> Vec<(u64, u64)> {
        let inner = lock(&self.shared.inner);
        let domain = inner.streams.get(&stream);
        let table = domain.and_then(|id| inner.domains.get(id));
        let maps = table.into_iter().flat_map(|table| &table.maps);
        maps.map(|(&iova, &(_, len, _))| (iova, len)).collect()
    }

    /// The domain that a stream goes through, by its tag.
    pub fn domain_of(&self, stream: u32) -> Option<u32> {
        lock(&self.shared.inner).streams.get(&stream).copied()
    }

    fn domain(&self, identity: bool, parent: Option<FakeDomain>) -> Result<FakeDomain, Fault> {
        if self.shared.inject.take(Step::Domain) {
            return Err(exhausted("domain"));
        }
        let mut inner = lock(&self.shared.inner);
        inner.next += 1;
        inner.counts.domains_made += 1;
        let id = inner.next;
        let table = Table {
            identity,
            parent: parent.as_ref().map(|parent| parent.handle.id),
            ..Table::default()
        };
        inner.domains.insert(id, table);
        drop(inner);
        let handle = Handle {
            iommu: self.clone(),
            id,
            parent,
        };
        Ok(FakeDomain {
            handle: Arc::new(handle),
        })
    }
}

fn exhausted(what: &'static str) -> Fault {
    Fault::Exhausted { what, limit: 0 }
}

fn sync_timeout() -> Fault {
    Fault::Timeout {
        awaited: "sync",
        register: "FAKE_CONS",
        seen: 0,
        us: 0,
    }
}

impl Iommu for FakeIommu {
    fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn paging_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        Ok(Arc::new(self.domain(false, None)?))
    }

    fn parent_domain(&self) -> Result<Arc<dyn ParentDomain>, Fault> {
        Ok(Arc::new(self.domain(false, None)?))
    }

    fn identity_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        Ok(Arc::new(self.domain(true, None)?))
    }

    fn block(&self, stream: StreamId) -> Result<(), Fault> {
        let mut inner = lock(&self.shared.inner);
        if self.shared.inject.take(Step::Block) {
            let handle = inner.handles.get(&stream.0).and_then(Weak::upgrade);
            inner.held.extend(handle.map(|handle| (stream.0, handle)));
            return Err(sync_timeout());
        }
        inner.route(stream.0, None);
        inner.handles.remove(&stream.0);
        inner.counts.blocks += 1;
        inner.counts.syncs += 1;
        let held = inner.held.remove(&stream.0);
        drop(inner);
        drop(held);
        Ok(())
    }

    fn reserved(&self, stream: StreamId) -> Result<Vec<Reserved>, Fault> {
        let inner = lock(&self.shared.inner);
        Ok(inner.reserved.get(&stream.0).cloned().unwrap_or_default())
    }

    fn status(&self) -> Status {
        let counts = self.counts();
        Status {
            features: vec!["fake".into()],
            streams_attached: counts.attached as u64,
            domains: counts.domains as u64,
            commands: counts.syncs,
            syncs: counts.syncs,
            accesses: 0,
            events: self.aborted().len() as u64,
            errors: 0,
            quarantined: 0,
        }
    }

    fn live_streams(&self) -> Vec<StreamId> {
        let inner = lock(&self.shared.inner);
        inner.streams.keys().copied().map(StreamId).collect()
    }

    fn describe(&self, stream: StreamId) -> Result<EntryDump, Fault> {
        let inner = lock(&self.shared.inner);
        let domain = inner.streams.get(&stream.0);
        let table = domain.and_then(|id| inner.domains.get(id));
        Ok(EntryDump {
            config: match table {
                None => "abort",
                Some(table) if table.identity => "bypass",
                Some(_) => "stage 1",
            },
            parts: Vec::new(),
        })
    }
}

impl DmaTranslator for FakeIommu {
    fn translate(&mut self, stream: u32, addr: u64, write: bool) -> Option<u64> {
        let mut inner = lock(&self.shared.inner);
        let domain = inner.streams.get(&stream);
        let table = domain.and_then(|id| inner.domains.get(id));
        let below = |table: &Table| table.parent.and_then(|id| inner.domains.get(&id));
        let through = |table: &Table| {
            let addr = table.translate(addr, write)?;
            match below(table) {
                Some(below) => below.translate(addr, write),
                None => Some(addr),
            }
        };
        let pa = table.and_then(|table| match inner.reserved_at(stream, addr) {
            Some(region) => (region.doorbell && write).then_some(addr),
            None => through(table),
        });
        if pa.is_none() {
            inner.aborted.push(Aborted {
                stream,
                addr,
                write,
            });
        }
        pa
    }
}

impl Inner {
    /// Has a stream go through this domain, or through none; says which it was before.
    fn route(&mut self, stream: u32, domain: Option<u32>) -> Option<u32> {
        let before = match domain {
            Some(id) => self.streams.insert(stream, id),
            None => self.streams.remove(&stream),
        };
        if let Some(table) = before.and_then(|id| self.domains.get_mut(&id)) {
            table.streams.remove(&stream);
        }
        if let Some(table) = domain.and_then(|id| self.domains.get_mut(&id)) {
            table.streams.insert(stream);
        }
        before
    }

    /// The region that an address of a stream lies in.
    fn reserved_at(&self, stream: u32, addr: u64) -> Option<&Reserved> {
        let mut regions = self.reserved.get(&stream)?.iter();
        regions.find(|region| (region.first..=region.last).contains(&addr))
    }

    /// Whether some stream of a domain does not send all of `first..=last` through it.
    fn keeps(&self, domain: u32, first: u64, last: u64) -> bool {
        let streams = self.domains.get(&domain).map(|table| &table.streams);
        let streams = streams.into_iter().flatten();
        let regions = streams.flat_map(|stream| self.reserved.get(stream));
        let clash = |region: &Reserved| region.first <= last && first <= region.last;
        regions.flatten().any(clash)
    }
}

impl Table {
    /// The mapping that an address lies in.
    fn find(&self, addr: u64) -> Option<(u64, (u64, u64, Permission))> {
        let (&start, &map) = self.maps.range(..=addr).next_back()?;
        (addr - start < map.1).then_some((start, map))
    }

    fn translate(&self, addr: u64, write: bool) -> Option<u64> {
        if self.identity {
            return Some(addr);
        }
        let (start, (pa, _, permission)) = self.find(addr)?;
        (!write || permission != Permission::Read).then_some(pa + (addr - start))
    }
}

#[derive(Clone)]
struct FakeDomain {
    handle: Arc<Handle>,
}

struct Handle {
    iommu: FakeIommu,
    id: u32,
    parent: Option<FakeDomain>,
}

impl ParentDomain for FakeDomain {
    fn aperture(&self) -> u64 {
        self.handle.iommu.shared.limits.aperture
    }

    fn nested(&self) -> Result<Arc<dyn Domain>, Fault> {
        let iommu = &self.handle.iommu;
        Ok(Arc::new(iommu.domain(false, Some(self.clone()))?))
    }
}

impl FakeDomain {
    fn check(&self, iova: Iova, len: u64) {
        let aligned = iova.0.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
        if !aligned {
            breach(&format!("{iova}+{len:#x} is not whole pages"));
        }
    }
}

impl Domain for FakeDomain {
    fn attach(&self, stream: StreamId) -> Result<(), Fault> {
        if u64::from(stream.0) >= self.handle.iommu.shared.limits.streams {
            breach(&format!("stream {stream} is attached, but there is none"));
        }
        if self.handle.iommu.shared.inject.take(Step::Attach) {
            return Err(sync_timeout());
        }
        let mut inner = lock(&self.handle.iommu.shared.inner);
        let before = inner.route(stream.0, Some(self.handle.id));
        let handle = Arc::downgrade(&self.handle);
        inner.handles.insert(stream.0, handle);
        let held = inner.held.remove(&stream.0);
        inner.counts.attaches += 1;
        inner.counts.syncs += 1;
        drop(inner);
        drop(held);
        if before == Some(self.handle.id) {
            breach(&format!("stream {stream} is attached twice"));
        }
        Ok(())
    }

    fn map(&self, iova: Iova, pa: PhysAddr, len: u64, access: Permission) -> Result<(), Fault> {
        self.check(iova, len);
        let last = iova.0.checked_add(len - 1);
        if iova.0 == 0 || last.is_none_or(|last| last > self.handle.iommu.shared.limits.aperture) {
            breach(&format!("{iova}+{len:#x} is not in the aperture"));
        }
        if self.handle.iommu.shared.inject.take(Step::Map) {
            return Err(exhausted("table"));
        }
        let mut inner = lock(&self.handle.iommu.shared.inner);
        inner.counts.maps += 1;
        let kept = inner.keeps(self.handle.id, iova.0, iova.0 + (len - 1));
        let Some(table) = inner.domains.get_mut(&self.handle.id) else {
            unreachable!("a domain lives as long as its handle");
        };
        let free = match table.maps.range(..iova.0 + len).next_back() {
            Some((&start, &(_, other, _))) => start + other <= iova.0,
            None => true,
        };
        let identity = table.identity;
        if free {
            table.maps.insert(iova.0, (pa.0, len, access));
        }
        drop(inner);
        if kept {
            breach(&format!("{iova}+{len:#x} is mapped over a reserved region"));
        }
        if identity {
            breach("an identity domain is mapped into");
        }
        if free {
            Ok(())
        } else {
            breach(&format!("{iova}+{len:#x} is mapped over a mapping"));
            Err(Fault::AlreadyMapped { iova })
        }
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        self.check(iova, len);
        if self.handle.iommu.shared.inject.take(Step::Unmap) {
            // The mapping goes, but who knows when: it is kept as if cached.
            return Err(sync_timeout());
        }
        let mut inner = lock(&self.handle.iommu.shared.inner);
        inner.counts.syncs += 1;
        let table = inner.domains.get_mut(&self.handle.id);
        let map = table.and_then(|table| table.maps.remove(&iova.0));
        drop(inner);
        match map {
            Some((_, mapped, _)) if mapped == len => Ok(()),
            _ => {
                breach(&format!(
                    "{iova}+{len:#x} is unmapped, but not mapped like that"
                ));
                Err(Fault::NotMapped { iova })
            }
        }
    }

    fn walk(&self, iova: Iova) -> Vec<WalkStep> {
        let inner = lock(&self.handle.iommu.shared.inner);
        let map = inner
            .domains
            .get(&self.handle.id)
            .and_then(|table| table.find(iova.0));
        map.map(|(start, (pa, _, permission))| WalkStep {
            stage: 1,
            level: 3,
            table: PhysAddr(0),
            index: 0,
            descriptor: pa + (iova.0 - start),
            meaning: format!("{permission:?}").into(),
            attributes: vec![("AF", 1)],
        })
        .into_iter()
        .collect()
    }

    fn tag(&self) -> Option<Tag> {
        Some(Tag::Asid(self.handle.id))
    }

    fn parent_tag(&self) -> Option<Tag> {
        let parent = self.handle.parent.as_ref();
        parent.map(|parent| Tag::Vmid(parent.handle.id))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let table = lock(&self.iommu.shared.inner).domains.remove(&self.id);
        let streams = table.unwrap_or_default().streams;
        if !streams.is_empty() {
            breach(&format!(
                "a domain goes while streams {streams:?} go through it"
            ));
        }
    }
}

//! Groups: the devices that the hardware cannot tell apart share one domain. The
//! domain belongs to the group, not to a device: the first member brings it into
//! being, later ones join it, the last one out takes it down. A member that leaves
//! or is deferred does not disturb the others' DMA.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use mastiff_dt::NodeId;
use spin::Mutex;

use super::streams::{StreamKey, Streams};
use super::{Domain, Hint, Iommu, Permission, Reserved, Tag};
use crate::addr::{Iova, PAGE, PhysAddr, StreamId, SubstreamId};
use crate::dma::{Hole, IovaSpace, Slot};
use crate::error::Fault;

/// One IOMMU that a device is behind, with its streams there.
#[derive(Clone)]
pub(crate) struct Behind {
    pub node: NodeId,
    pub iommu: Arc<dyn Iommu>,
    pub streams: Vec<StreamId>,
}

/// What a member asks for when it joins.
pub(crate) struct Joining<'a> {
    pub device: &'a str,
    pub behind: &'a [Behind],
    pub identity: bool,
    /// Never handed out.
    pub holes: &'a [Hole],
    /// In use by the device already, so mapped before it is attached.
    pub kept: &'a [Identity],
    pub isolation: Option<&'a str>,
}

/// Memory that firmware mapped for a device and that must stay mapped.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub iova: Iova,
    pub pa: PhysAddr,
    pub len: u64,
}

/// Devices that share their streams' domain.
pub struct Group {
    streams: Arc<Streams>,
    identity: bool,
    addresses: Mutex<Addresses>,
    // By page; more than one where a member cannot reach the first.
    doorbells: Mutex<Vec<(u64, Iova)>>,
    isolation: Option<Box<str>>,
    live: Mutex<Live>,
    // Mappings are made of such pages: the largest of those that the IOMMUs have.
    page: u64,
    // One for each IOMMU on the way, and the same mappings in all of them.
    domains: Vec<(NodeId, Arc<dyn Domain>)>,
}

struct Addresses {
    space: IovaSpace,
    // Bytes that members can reach.
    mapped: u64,
}

#[derive(Default)]
struct Live {
    members: Vec<Member>,
    attachments: Vec<Attachment>,
}

struct Member {
    name: Box<str>,
    keys: Vec<StreamKey>,
    kept: Vec<Arc<Kept>>,
    // What its streams do not send through the domain.
    reserved: Vec<Vec<Reserved>>,
}

impl Member {
    /// Whether a write to a doorbell passes untranslated, whichever stream it carries.
    fn rings_directly(&self, pa: PhysAddr) -> bool {
        let covers = |of_stream: &Vec<Reserved>| {
            let mut doorbells = of_stream.iter().filter(|region| region.doorbell);
            doorbells.any(|region| (region.first..=region.last).contains(&pa.0))
        };
        self.reserved.iter().all(covers)
    }
}

/// A mapping that firmware made, for as long as a member uses it.
struct Kept {
    mapping: Identity,
    domains: Vec<Arc<dyn Domain>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Identity { iova, len, .. } = self.mapping;
        for domain in &self.domains {
            if let Err(fault) = domain.unmap(iova, len) {
                // The memory is firmware's: nobody is given it in either case.
                log::error!("firmware's mapping at {iova}: {fault}");
            }
        }
    }
}

/// What people are shown of a group, or of the one device that a managed space is for.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Names of the members.
    pub members: Vec<Box<str>>,
    /// The one substream that goes through it; all of the streams' without a
    /// SubstreamID if there is none.
    pub substream: Option<SubstreamId>,
    /// The attached streams.
    pub streams: Vec<StreamKey>,
    /// Whether addresses pass unchanged.
    pub identity: bool,
    /// The domain's tag.
    pub tag: Option<Tag>,
    /// The tag of what it is nested in.
    pub parent: Option<Tag>,
    /// Bytes that its members can reach.
    pub mapped: u64,
    /// Where its members write to raise interrupts: the page, and where they find it.
    pub doorbells: Vec<(PhysAddr, Iova)>,
}

/// A stream that goes through a domain of the group. Dropping it aborts the stream, and
/// that is complete when the drop returns.
struct Attachment {
    node: NodeId,
    iommu: Arc<dyn Iommu>,
    stream: StreamId,
}

impl Attachment {
    fn key(&self) -> StreamKey {
        (self.node, self.stream)
    }

    fn new(behind: &Behind, stream: StreamId, domain: &Arc<dyn Domain>) -> Result<Self, Fault> {
        let streams = behind.iommu.limits().streams;
        if u64::from(stream.0) >= streams {
            return Err(Fault::StreamOutOfRange { stream, streams });
        }
        domain.attach(stream)?;
        Ok(Self {
            node: behind.node,
            iommu: behind.iommu.clone(),
            stream,
        })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Err(fault) = self.iommu.block(self.stream) {
            log::error!("stream {} could not be aborted: {fault}", self.stream);
        }
    }
}

impl Group {
    /// Makes `joining` a member of the live group that covers its streams, or of a
    /// new one. When this returns `Ok` its streams are attached.
    pub(crate) fn join(streams: &Arc<Streams>, joining: &Joining<'_>) -> Result<Arc<Self>, Fault> {
        let keys = keys(joining.behind);
        let group = match streams.group(&keys, joining.isolation)? {
            Some(group) => group,
            None => Arc::new(Self::new(streams, joining)?),
        };
        let mut live = group.live.lock();
        // What is taken here is dropped again, and so undone, if a later step fails.
        let kept = group.keep(&live, joining.kept)?;
        let mut attached: Vec<Attachment> = Vec::new();
        for behind in joining.behind {
            let domain = group.domain(behind)?;
            for &stream in &behind.streams {
                let key = (behind.node, stream);
                let known = live.attachments.iter().chain(&attached);
                // An alias gives the same stream twice: taken once, released once.
                if !known.map(Attachment::key).any(|held| held == key) {
                    attached.push(Attachment::new(behind, stream, domain)?);
                }
            }
        }
        let reserved = reserved(joining.behind)?;
        let mut holes = joining.holes.to_vec();
        holes.extend(reserved.iter().flatten().map(Hole::from));
        group.addresses.lock().space.exclude(&holes)?;
        live.attachments.append(&mut attached);
        live.members.push(Member {
            name: joining.device.into(),
            keys: keys.clone(),
            kept,
            reserved,
        });
        drop(live);
        streams.set_group(&keys, joining.isolation, &Arc::downgrade(&group));
        Ok(group)
    }

    fn new(streams: &Arc<Streams>, joining: &Joining<'_>) -> Result<Self, Fault> {
        let mut domains = Vec::new();
        let (mut aperture, mut page) = (u64::MAX, PAGE);
        for behind in joining.behind {
            let domain = if joining.identity {
                behind.iommu.identity_domain()?
            } else {
                behind.iommu.paging_domain()?
            };
            let limits = behind.iommu.limits();
            aperture = aperture.min(limits.aperture);
            page = page.max(limits.page);
            domains.push((behind.node, domain));
        }
        Ok(Self {
            streams: streams.clone(),
            identity: joining.identity,
            addresses: Mutex::new(Addresses {
                space: IovaSpace::new(aperture),
                mapped: 0,
            }),
            doorbells: Mutex::new(Vec::new()),
            isolation: joining.isolation.map(Into::into),
            page,
            live: Mutex::new(Live::default()),
            domains,
        })
    }

    fn domain(&self, behind: &Behind) -> Result<&Arc<dyn Domain>, Fault> {
        self.domains
            .iter()
            .find(|(node, _)| *node == behind.node)
            .map(|(_, domain)| domain)
            .ok_or(Fault::StreamsSpanGroups {
                stream: behind.streams.first().copied().unwrap_or(StreamId(0)),
            })
    }

    /// Maps what firmware mapped, where it did; what another member has mapped like
    /// that already is shared.
    fn keep(&self, live: &Live, mappings: &[Identity]) -> Result<Vec<Arc<Kept>>, Fault> {
        if self.identity {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for &mapping in mappings {
            let known = live.members.iter().flat_map(|member| &member.kept);
            let same = known.chain(&all).find(|kept| kept.mapping == mapping);
            if let Some(kept) = same.cloned() {
                all.push(kept);
                continue;
            }
            let Identity { iova, pa, len } = mapping;
            let mut kept = Kept {
                mapping,
                domains: Vec::new(),
            };
            for (_, domain) in &self.domains {
                domain.map(iova, pa, len, Permission::ReadWrite)?;
                kept.domains.push(domain.clone());
            }
            all.push(Arc::new(kept));
        }
        Ok(all)
    }

    /// Takes `device` out. Streams that were its alone are aborted; with the last
    /// member all are.
    pub(crate) fn leave(&self, device: &str) {
        let mut live = self.live.lock();
        let Live {
            members,
            attachments,
        } = &mut *live;
        let left: Vec<Member> = members
            .extract_if(.., |member| &*member.name == device)
            .collect();
        let used = |key| members.iter().any(|member| member.keys.contains(&key));
        let (kept, gone): (Vec<_>, Vec<_>) = mem::take(attachments)
            .into_iter()
            .partition(|held| used(held.key()));
        *attachments = kept;
        let empty = members.is_empty();
        drop(live);
        let keys: Vec<StreamKey> = gone.iter().map(Attachment::key).collect();
        // The streams that went abort before what firmware mapped for them goes.
        drop(gone);
        drop(left);
        // A device that comes back starts with a fresh domain, even where somebody
        // still holds a buffer of this one.
        let isolation = self.isolation.as_deref().filter(|_| empty);
        self.streams
            .set_group(&keys, isolation, &alloc::sync::Weak::new());
    }

    /// Whether addresses pass unchanged.
    pub fn is_identity(&self) -> bool {
        self.identity
    }

    /// What addresses and lengths of memory to map are multiples of.
    pub(crate) fn page(&self) -> u64 {
        self.page
    }

    /// Maps memory at an address of the group's choice, at or below `limit`.
    #[inline(always)]
    pub(crate) fn map(
        &self,
        pa: PhysAddr,
        len: u64,
        limit: u64,
        access: Permission,
    ) -> Result<Slot, Fault> {
        let mut slot = self.take(len, limit)?;
        let [(_, only)] = &*self.domains else {
            return self.map_all(slot, pa, len, access);
        };
        match only.map_near(slot.hint, slot.iova, pa, len, access) {
            Ok(hint) => {
                slot.hint = hint;
                Ok(slot)
            }
            Err(fault) => Err(self.unmapped(slot, len, fault)),
        }
    }

    /// Maps `count` pieces of one length side by side. Where that fails and what was
    /// mapped so far cannot be taken back, it says so: the memory may be reached.
    pub(crate) fn map_list(
        &self,
        pieces: &impl Fn(usize) -> PhysAddr,
        (count, piece): (usize, u64),
        limit: u64,
        access: Permission,
    ) -> Result<Slot, Unlisted> {
        let len = piece.saturating_mul(count as u64);
        let taken = self.take(len, limit);
        let mut slot = taken.map_err(Unlisted::safe)?;
        let mut hint = slot.hint;
        for (done, (_, domain)) in self.domains.iter().enumerate() {
            hint = slot.hint;
            let listed = list(
                &**domain,
                &mut hint,
                slot.iova,
                pieces,
                (count, piece),
                access,
            );
            let Err((mapped, fault)) = listed else {
                continue;
            };
            let whole = self.domains[..done]
                .iter()
                .map(|(_, domain)| (domain, count));
            let undone = whole
                .chain([(domain, mapped)])
                .try_for_each(|(domain, count)| {
                    domain.unmap_list(Hint::default(), slot.iova, count, piece)
                });
            let safe = undone.is_ok();
            if safe {
                self.give(slot, len);
            } else {
                self.addresses.lock().mapped -= len;
            }
            return Err(Unlisted { fault, safe });
        }
        if self.domains.len() == 1 {
            slot.hint = hint;
        }
        Ok(slot)
    }

    /// Takes them back, as [`unmap`](Self::unmap) would one mapping.
    pub(crate) fn unmap_list(&self, slot: Slot, count: usize, piece: u64) -> Result<(), Fault> {
        let mut result = Ok(());
        for (_, domain) in &self.domains {
            result = result.and(domain.unmap_list(slot.hint, slot.iova, count, piece));
        }
        result?;
        self.give(slot, piece * count as u64);
        Ok(())
    }

    /// Takes a mapping back. On an error a transaction may still reach the memory
    /// through it, so the address is never handed out again.
    #[inline(always)]
    pub(crate) fn unmap(&self, slot: Slot, len: u64) -> Result<(), Fault> {
        match &*self.domains {
            [(_, only)] => only.unmap_near(slot.hint, slot.iova, len)?,
            _ => self.unmap_all(slot.iova, len)?,
        }
        self.give(slot, len);
        Ok(())
    }

    /// The same, and the address is never handed out again in any case: the device may
    /// still use it.
    pub(crate) fn withdraw(&self, slot: Slot, len: u64) -> Result<(), Fault> {
        self.unmap_all(slot.iova, len)?;
        self.addresses.lock().mapped -= len;
        Ok(())
    }

    #[inline(always)]
    fn take(&self, len: u64, limit: u64) -> Result<Slot, Fault> {
        let mut addresses = self.addresses.lock();
        let slot = match addresses.space.alloc_again(len, limit) {
            Some(slot) => slot,
            None => addresses.space.alloc_more(len, limit)?,
        };
        addresses.mapped += len;
        Ok(slot)
    }

    #[inline(always)]
    fn give(&self, slot: Slot, len: u64) {
        let mut addresses = self.addresses.lock();
        addresses.mapped -= len;
        addresses.space.free(slot, len);
    }

    /// The same mapping in every domain.
    #[inline(never)]
    fn map_all(
        &self,
        slot: Slot,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Slot, Fault> {
        for (done, (_, domain)) in self.domains.iter().enumerate() {
            if let Err(fault) = domain.map(slot.iova, pa, len, access) {
                let undone = self.domains[..done]
                    .iter()
                    .try_for_each(|(_, domain)| domain.unmap(slot.iova, len));
                if undone.is_ok() {
                    return Err(self.unmapped(slot, len, fault));
                }
                self.addresses.lock().mapped -= len;
                return Err(fault);
            }
        }
        Ok(slot)
    }

    #[inline(never)]
    fn unmap_all(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        let mut result = Ok(());
        for (_, domain) in &self.domains {
            result = result.and(domain.unmap(iova, len));
        }
        result
    }

    /// Gives an address back that nothing could be mapped at.
    #[cold]
    #[inline(never)]
    fn unmapped(&self, slot: Slot, len: u64, fault: Fault) -> Fault {
        self.give(slot, len);
        fault
    }

    /// The address at which member `device` writes to raise an interrupt: the doorbell
    /// is a target of its DMA like any other and needs a mapping, unless the IOMMU lets
    /// such writes pass.
    pub(crate) fn doorbell(&self, device: &str, pa: PhysAddr, limit: u64) -> Result<Iova, Fault> {
        let size = self.page;
        let (page, offset) = (pa.0 & !(size - 1), pa.0 & (size - 1));
        if self.identity || pa.0 <= limit && self.rings_directly(device, pa) {
            return Ok(Iova(pa.0));
        }
        let mut doorbells = self.doorbells.lock();
        let known = doorbells
            .iter()
            .find(|(known, iova)| *known == page && iova.0 + (size - 1) <= limit);
        let iova = match known {
            Some((_, iova)) => *iova,
            None => {
                let slot = self.map(PhysAddr(page), size, limit, Permission::Doorbell)?;
                doorbells.push((page, slot.iova));
                slot.iova
            }
        };
        Ok(iova.add(offset))
    }

    fn rings_directly(&self, device: &str, pa: PhysAddr) -> bool {
        let live = self.live.lock();
        let mut same = live.members.iter().filter(|member| &*member.name == device);
        same.any(|member| member.rings_directly(pa))
    }

    /// Splits the address space so that a member limited to `limit` is served
    /// without a search.
    pub(crate) fn admit(&self, limit: u64) {
        self.addresses.lock().space.split_at(limit);
    }

    /// The walk for an address, in the first of the group's domains.
    pub fn walk(&self, iova: Iova) -> Vec<super::WalkStep> {
        self.domains
            .first()
            .map(|(_, domain)| domain.walk(iova))
            .unwrap_or_default()
    }

    /// What people are shown.
    pub fn info(&self) -> GroupInfo {
        let live = self.live.lock();
        let mut kept: Vec<Identity> = Vec::new();
        for mapping in live.members.iter().flat_map(|member| &member.kept) {
            if !kept.contains(&mapping.mapping) {
                kept.push(mapping.mapping);
            }
        }
        let kept: u64 = kept.iter().map(|mapping| mapping.len).sum();
        let doorbells = self.doorbells.lock();
        GroupInfo {
            members: live
                .members
                .iter()
                .map(|member| member.name.clone())
                .collect(),
            streams: live.attachments.iter().map(Attachment::key).collect(),
            identity: self.identity,
            tag: self.domains.first().and_then(|(_, domain)| domain.tag()),
            parent: None,
            substream: None,
            mapped: self.addresses.lock().mapped + kept,
            doorbells: doorbells
                .iter()
                .map(|&(page, iova)| (PhysAddr(page), iova))
                .collect(),
        }
    }
}

/// Why pieces could not be mapped side by side.
pub(crate) struct Unlisted {
    pub fault: Box<Fault>,
    /// None of them is mapped any more.
    pub safe: bool,
}

impl Unlisted {
    /// None of them was ever mapped.
    pub fn safe(fault: Fault) -> Self {
        let (fault, safe) = (Box::new(fault), true);
        Self { fault, safe }
    }
}

/// How many pieces a domain is given at a time.
const PIECES: usize = 32;

/// Maps pieces in one domain. On an error also says how many are mapped.
fn list(
    domain: &dyn Domain,
    hint: &mut Hint,
    iova: Iova,
    pieces: &impl Fn(usize) -> PhysAddr,
    (count, piece): (usize, u64),
    access: Permission,
) -> Result<(), (usize, Box<Fault>)> {
    let mut done = 0;
    while done < count {
        let mut some = [PhysAddr(0); PIECES];
        let some = &mut some[..PIECES.min(count - done)];
        for (index, pa) in some.iter_mut().enumerate() {
            *pa = pieces(done + index);
        }
        let at = iova.add(piece * done as u64);
        *hint = domain
            .map_list(*hint, at, some, piece, access)
            .map_err(|(more, fault)| (done + more, fault))?;
        done += some.len();
    }
    Ok(())
}

pub(super) fn keys(behind: &[Behind]) -> Vec<StreamKey> {
    behind
        .iter()
        .flat_map(|behind| behind.streams.iter().map(|&stream| (behind.node, stream)))
        .collect()
}

/// What each of a device's streams does not send through its domain.
fn reserved(behind: &[Behind]) -> Result<Vec<Vec<Reserved>>, Fault> {
    let streams = behind
        .iter()
        .flat_map(|behind| behind.streams.iter().map(|&stream| (&behind.iommu, stream)));
    streams
        .map(|(iommu, stream)| iommu.reserved(stream))
        .collect()
}

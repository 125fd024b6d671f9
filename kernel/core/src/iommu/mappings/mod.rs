//! What the members of a group can reach: ranges of addresses, handed out here, and the
//! same mappings at them in the domain of each IOMMU on the way.
//!
//! A range of addresses belongs to whoever has it: the entries for it in the tables are
//! written by nobody else. So CPUs that map and unmap at once meet only where tables are
//! made, and in the IOMMU's queue.

mod addresses;
mod lazy;
mod list;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::NodeId;

use self::addresses::Addresses;
pub use self::lazy::PATIENCE_US;
use self::lazy::{Late, Lazy, Next};
pub(crate) use self::list::Unlisted;
use super::{Domain, Hint, Permission};
use crate::addr::PhysAddr;
use crate::dma::{Hole, Slot};
use crate::error::Fault;
use crate::platform::{Instant, Platform};

/// Ranges and what they lead to.
pub(crate) struct Mappings {
    addresses: Addresses,
    // The one domain, if there is one.
    only: Option<Arc<dyn Domain>>,
    // One for each IOMMU on the way, and the same mappings in all of them.
    domains: Vec<(NodeId, Arc<dyn Domain>)>,
    // Where unmapping may be.
    lazy: Option<Lazy>,
}

impl Mappings {
    /// None yet, at addresses up to `aperture`, for so many CPUs.
    pub fn new(
        domains: Vec<(NodeId, Arc<dyn Domain>)>,
        aperture: u64,
        cpus: usize,
        lazy: bool,
    ) -> Self {
        let only = match &*domains {
            [(_, only)] => Some(only.clone()),
            _ => None,
        };
        Self {
            addresses: Addresses::new(aperture, cpus),
            only,
            domains,
            lazy: lazy.then(|| Lazy::new(cpus)),
        }
    }

    pub fn domains(&self) -> &[(NodeId, Arc<dyn Domain>)] {
        &self.domains
    }

    /// Bytes that members can reach.
    pub fn bytes(&self) -> u64 {
        self.addresses.bytes()
    }

    /// Never hands these out.
    pub fn exclude(&self, holes: &[Hole]) -> Result<(), Fault> {
        self.flush();
        self.addresses.reshape(|space| space.exclude(holes))
    }

    /// Splits the address space so that a member limited to `limit` is served
    /// without a search, and makes the tables for the first addresses that will be handed
    /// out: the first mapping is to cost no more than others.
    pub fn admit(&self, limit: u64) {
        self.addresses.reshape(|space| space.split_at(limit));
        if let Some(only) = &self.only {
            self.addresses.stock(|first| only.prepare(first));
        }
    }

    /// Maps memory at an address of our choice, at or below `limit`.
    #[inline(always)]
    pub fn map(
        &self,
        cpu: usize,
        pa: PhysAddr,
        len: u64,
        limit: u64,
        access: Permission,
    ) -> Result<Slot, Box<Fault>> {
        let Some(slot) = self.addresses.take(cpu, len, limit) else {
            return self.map_more(cpu, pa, len, limit, access);
        };
        self.map_at(cpu, slot, pa, len, access)
    }

    /// The same where no address is at hand.
    #[cold]
    #[inline(never)]
    fn map_more(
        &self,
        cpu: usize,
        pa: PhysAddr,
        len: u64,
        limit: u64,
        access: Permission,
    ) -> Result<Slot, Box<Fault>> {
        let slot = self.take_more(cpu, len, limit)?;
        self.map_at(cpu, slot, pa, len, access)
    }

    #[inline(always)]
    fn map_at(
        &self,
        cpu: usize,
        slot: Slot,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Slot, Box<Fault>> {
        let Some(only) = &self.only else {
            return self.map_all(cpu, slot, pa, len, access);
        };
        match only.map_near(slot.hint, slot.iova, pa, len, access) {
            Ok(hint) if hint == slot.hint => Ok(slot),
            Ok(hint) => Ok(self.learnt(cpu, slot, len, hint)),
            Err(fault) => Err(self.unmapped(cpu, slot, len, fault)),
        }
    }

    /// Takes note of what is known of an address now.
    #[cold]
    #[inline(never)]
    fn learnt(&self, cpu: usize, slot: Slot, len: u64, hint: Hint) -> Slot {
        self.addresses.learn(cpu, len, hint);
        Slot { hint, ..slot }
    }

    /// Takes back what was mapped as `count` pieces. On an error a transaction may still
    /// reach the memory through it, so the address is never handed out again.
    #[inline(always)]
    pub fn unmap(
        &self,
        cpu: usize,
        slot: Slot,
        count: usize,
        piece: u64,
    ) -> Result<(), Box<Fault>> {
        let len = piece * count as u64;
        match &self.only {
            Some(only) if count == 1 => only.unmap_near(slot.hint, slot.iova, len)?,
            _ => self.unmap_all(slot, count, piece)?,
        }
        self.addresses.give(cpu, slot, len);
        Ok(())
    }

    /// The same, and the address is never handed out again in any case: the device may
    /// still use it.
    pub fn withdraw(&self, slot: Slot, len: u64) -> Result<(), Box<Fault>> {
        self.unmap_all(slot, 1, len)?;
        self.addresses.lose(len);
        Ok(())
    }

    /// Takes back what was mapped as `count` pieces, lazily where that may be: then a
    /// device may reach it for a while. On an error it may do so for ever.
    #[inline(always)]
    pub fn unmap_late<P: Platform>(
        &self,
        platform: &P,
        slot: Slot,
        count: usize,
        piece: u64,
    ) -> Result<(), Box<Fault>> {
        let cpu = platform.cpu();
        let Some(lazy) = &self.lazy else {
            return self.unmap(cpu, slot, count, piece);
        };
        match &self.only {
            Some(only) => only.clear(slot.hint, slot.iova, count, piece)?,
            None => self.clear_all(slot, count, piece)?,
        }
        let len = piece * count as u64;
        match lazy.put(cpu, || platform.now(), Late { slot, len }) {
            Ok(Next::Nothing) => Ok(()),
            Ok(Next::Flush) => Ok(self.flush_one(cpu)?),
            Err(late) => self.no_room(platform, lazy, late),
        }
    }

    /// Where a queue is full: its flush failed the last time.
    #[cold]
    #[inline(never)]
    fn no_room<P: Platform>(
        &self,
        platform: &P,
        lazy: &Lazy,
        mut late: Late,
    ) -> Result<(), Box<Fault>> {
        let cpu = platform.cpu();
        loop {
            if let Err(fault) = self.flush_one(cpu) {
                // Its address is lost: it may be cached for ever.
                self.addresses.lose(late.len);
                return Err(Box::new(fault));
            }
            // Another CPU may have been faster.
            match lazy.put(cpu, || platform.now(), late) {
                Ok(_) => return Ok(()),
                Err(again) => late = again,
            }
        }
    }

    /// Ends what is cached of all that was unmapped lazily. What cannot be ended stays
    /// where it is.
    pub fn flush(&self) {
        let cpus = self.lazy.as_ref().map_or(0, Lazy::cpus);
        for cpu in 0..cpus {
            self.try_flush(cpu);
        }
    }

    /// Does that for what is due, and says when the next will be, if there is more.
    pub fn tidy(&self, now: Instant) -> Option<Instant> {
        let lazy = self.lazy.as_ref()?;
        lazy.due(now, |cpu| self.try_flush(cpu))
    }

    fn try_flush(&self, cpu: usize) {
        if let Err(fault) = self.flush_one(cpu) {
            log::error!("what was unmapped lazily may still be reached: {fault}");
        }
    }

    #[cold]
    #[inline(never)]
    fn flush_one(&self, cpu: usize) -> Result<(), Fault> {
        let Some(lazy) = &self.lazy else {
            return Ok(());
        };
        let invalidate = || {
            let mut domains = self.domains.iter();
            domains.try_for_each(|(_, domain)| domain.flush())
        };
        lazy.flush(cpu, invalidate, |ended| {
            let ranges = ended.iter().map(|late| (late.slot, late.len));
            self.addresses.give_all(cpu, ranges);
        })
    }

    fn take_more(&self, cpu: usize, len: u64, limit: u64) -> Result<Slot, Box<Fault>> {
        let slot = self.addresses.take_more(cpu, len, limit);
        if let Err(Fault::OutOfIova { .. }) = &slot {
            // Some may only wait to be free, or be on another CPU's shelf.
            self.flush();
            self.addresses.reshape(|_| ());
            return Ok(self.addresses.take_more(cpu, len, limit)?);
        }
        Ok(slot?)
    }

    /// The same mapping in every domain.
    #[inline(never)]
    fn map_all(
        &self,
        cpu: usize,
        slot: Slot,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Slot, Box<Fault>> {
        for (done, (_, domain)) in self.domains.iter().enumerate() {
            if let Err(fault) = domain.map(slot.iova, pa, len, access) {
                let undone = self.domains[..done]
                    .iter()
                    .try_for_each(|(_, domain)| domain.unmap(slot.iova, len));
                if undone.is_ok() {
                    return Err(self.unmapped(cpu, slot, len, Box::new(fault)));
                }
                self.addresses.lose(len);
                return Err(Box::new(fault));
            }
        }
        Ok(slot)
    }

    #[inline(never)]
    fn unmap_all(&self, slot: Slot, count: usize, piece: u64) -> Result<(), Box<Fault>> {
        let mut result = Ok(());
        for (_, domain) in &self.domains {
            result = result.and(domain.unmap_list(slot.hint, slot.iova, count, piece));
        }
        Ok(result?)
    }

    #[inline(never)]
    fn clear_all(&self, slot: Slot, count: usize, piece: u64) -> Result<(), Box<Fault>> {
        let mut result = Ok(());
        for (_, domain) in &self.domains {
            result = result.and(domain.clear(slot.hint, slot.iova, count, piece));
        }
        result
    }

    /// Gives an address back that nothing could be mapped at.
    #[cold]
    #[inline(never)]
    fn unmapped(&self, cpu: usize, slot: Slot, len: u64, fault: Box<Fault>) -> Box<Fault> {
        self.addresses.give(cpu, slot, len);
        fault
    }
}

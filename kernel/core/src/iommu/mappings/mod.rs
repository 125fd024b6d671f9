//! What the members of a group can reach: ranges of addresses, handed out here, and the
//! same mappings at them in the domain of each IOMMU on the way.

mod lazy;
mod list;

use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::NodeId;
use spin::Mutex;

use self::lazy::{Late, Lazy, Next};
pub(crate) use self::list::Unlisted;
use super::{Domain, Permission};
use crate::addr::PhysAddr;
use crate::dma::{Hole, IovaSpace, Slot};
use crate::error::Fault;
use crate::platform::{Instant, Platform};

/// Ranges and what they lead to.
pub(crate) struct Mappings {
    // One for each IOMMU on the way, and the same mappings in all of them.
    domains: Vec<(NodeId, Arc<dyn Domain>)>,
    addresses: Mutex<Addresses>,
    // Where unmapping may be.
    lazy: Option<Lazy>,
}

struct Addresses {
    space: IovaSpace,
    // Bytes that members can reach.
    mapped: u64,
}

impl Mappings {
    /// None yet, at addresses up to `aperture`; with the number of CPUs where
    /// unmapping may be lazy.
    pub fn new(
        domains: Vec<(NodeId, Arc<dyn Domain>)>,
        aperture: u64,
        lazy: Option<usize>,
    ) -> Self {
        Self {
            domains,
            addresses: Mutex::new(Addresses {
                space: IovaSpace::new(aperture),
                mapped: 0,
            }),
            lazy: lazy.map(Lazy::new),
        }
    }

    pub fn domains(&self) -> &[(NodeId, Arc<dyn Domain>)] {
        &self.domains
    }

    /// Bytes that members can reach.
    pub fn bytes(&self) -> u64 {
        self.addresses.lock().mapped
    }

    /// Never hands these out.
    pub fn exclude(&self, holes: &[Hole]) -> Result<(), Fault> {
        self.flush();
        self.addresses.lock().space.exclude(holes)
    }

    /// Splits the address space so that a member limited to `limit` is served
    /// without a search.
    pub fn admit(&self, limit: u64) {
        self.addresses.lock().space.split_at(limit);
    }

    /// Maps memory at an address of our choice, at or below `limit`.
    #[inline(always)]
    pub fn map(
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

    /// Takes back what was mapped as `count` pieces. On an error a transaction may still reach the memory
    /// through it, so the address is never handed out again.
    #[inline(always)]
    pub fn unmap(&self, slot: Slot, count: usize, piece: u64) -> Result<(), Fault> {
        let len = piece * count as u64;
        match &*self.domains {
            [(_, only)] if count == 1 => only.unmap_near(slot.hint, slot.iova, len)?,
            _ => self.unmap_all(slot, count, piece)?,
        }
        self.give(slot, len);
        Ok(())
    }

    /// The same, and the address is never handed out again in any case: the device may
    /// still use it.
    pub fn withdraw(&self, slot: Slot, len: u64) -> Result<(), Fault> {
        self.unmap_all(slot, 1, len)?;
        self.addresses.lock().mapped -= len;
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
    ) -> Result<(), Fault> {
        let Some(lazy) = &self.lazy else {
            return self.unmap(slot, count, piece);
        };
        let (cpu, now) = (platform.cpu(), platform.now());
        for (_, domain) in &self.domains {
            domain.clear(slot.hint, slot.iova, count, piece)?;
        }
        let len = piece * count as u64;
        match lazy.put(cpu, now, Late { slot, len }) {
            Ok(Next::Nothing) => Ok(()),
            Ok(Next::Flush) => self.flush_one(cpu),
            Err(late) => self.no_room(lazy, (cpu, now), late),
        }
    }

    /// Where a queue is full: its flush failed the last time.
    #[cold]
    #[inline(never)]
    fn no_room(
        &self,
        lazy: &Lazy,
        (cpu, now): (usize, Instant),
        mut late: Late,
    ) -> Result<(), Fault> {
        loop {
            if let Err(fault) = self.flush_one(cpu) {
                // Its address is lost: it may be cached for ever.
                self.addresses.lock().mapped -= late.len;
                return Err(fault);
            }
            // Another CPU may have been faster.
            match lazy.put(cpu, now, late) {
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

    fn try_flush(&self, cpu: usize) {
        if let Err(fault) = self.flush_one(cpu) {
            log::error!("what was unmapped lazily may still be reached: {fault}");
        }
    }

    /// Does that for what is due, and says when the next will be, if there is more.
    pub fn tidy(&self, now: Instant) -> Option<Instant> {
        let lazy = self.lazy.as_ref()?;
        lazy.due(now, |cpu| self.try_flush(cpu))
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
        lazy.flush(cpu, invalidate, |late| self.give(late.slot, late.len))
    }

    #[inline(always)]
    fn take(&self, len: u64, limit: u64) -> Result<Slot, Fault> {
        let mut addresses = self.addresses.lock();
        match addresses.space.alloc_again(len, limit) {
            Some(slot) => {
                addresses.mapped += len;
                Ok(slot)
            }
            None => {
                drop(addresses);
                self.take_more(len, limit)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn take_more(&self, len: u64, limit: u64) -> Result<Slot, Fault> {
        let more = || {
            let mut addresses = self.addresses.lock();
            let slot = addresses.space.alloc_more(len, limit)?;
            addresses.mapped += len;
            Ok(slot)
        };
        let result = more();
        if let (Err(Fault::OutOfIova { .. }), Some(_)) = (&result, &self.lazy) {
            // Some may only wait to be free.
            self.flush();
            return more();
        }
        result
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
    fn unmap_all(&self, slot: Slot, count: usize, piece: u64) -> Result<(), Fault> {
        let mut result = Ok(());
        for (_, domain) in &self.domains {
            result = result.and(domain.unmap_list(slot.hint, slot.iova, count, piece));
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
}

//! Addresses for several CPUs: in front of the [`IovaSpace`] that all share, each CPU has
//! shelves of free ranges by size, which it takes from and puts to under a lock that
//! nobody else wants. What a shelf has too few or too many of is exchanged with the
//! shared space, many at a time.
//!
//! Shelves are of the highest window only. A device with fewer address bits than that
//! has asks the shared space.
//!
//! A CPU's lock comes before the shared one, and none is held while anything waits.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::addr::{Iova, PAGE};
use crate::dma::{CLASSES, IovaSpace, Slot, class};
use crate::error::Fault;
use crate::iommu::Hint;
use crate::sync::{Guard, Mutex};

/// Room on a shelf.
const SHELF: usize = 64;
/// How many go to the shared space or come from there.
const LOT: usize = SHELF / 2;

pub(super) struct Addresses {
    caches: Box<[Mutex<Cache>]>,
    space: Mutex<IovaSpace>,
}

struct Cache {
    // The window that the shelves are of; none is below `u64::MAX` while they are closed.
    first: u64,
    last: u64,
    // What this CPU added to the bytes that are out, modulo 2^64.
    mapped: u64,
    shelves: [Shelf; SHELVES],
}

/// By the zeroes before the number of the last page, which is how its length is found
/// with the fewest steps; those for lengths that no range has stay empty.
const SHELVES: usize = u64::BITS as usize + 1;

/// Free ranges of a size. Aligned to a power of two, so that it is found by a shift.
#[repr(align(32))]
struct Shelf {
    free: Vec<Slot>,
    // What is known of the newest address: its neighbours are in the same table.
    near: Hint,
}

#[inline(always)]
fn place(len: u64) -> usize {
    (len.wrapping_sub(1) / PAGE).leading_zeros() as usize
}

impl Cache {
    fn closed() -> Self {
        Self {
            first: u64::MAX,
            last: u64::MAX,
            mapped: 0,
            shelves: [const {
                Shelf {
                    free: Vec::new(),
                    near: Hint(0),
                }
            }; SHELVES],
        }
    }

    #[inline(always)]
    fn shelf(&mut self, len: u64) -> &mut Shelf {
        &mut self.shelves[place(len)]
    }

    /// Takes a range back, if there is room for it on its shelf.
    #[inline(always)]
    fn put(&mut self, slot: Slot, len: u64) -> bool {
        self.mapped = self.mapped.wrapping_sub(len);
        let first = self.first;
        let free = &mut self.shelf(len).free;
        let fits = first <= slot.iova.0 && free.len() < free.capacity();
        if fits {
            free.push(slot);
        }
        fits
    }
}

impl Addresses {
    /// All up to `aperture`.
    pub fn new(aperture: u64, cpus: usize) -> Self {
        let cache = || Mutex::new(Cache::closed());
        let this = Self {
            caches: (0..cpus.max(1)).map(|_| cache()).collect(),
            space: Mutex::new(IovaSpace::new(aperture)),
        };
        this.reshape(|_| ());
        this
    }

    #[inline(always)]
    fn cache(&self, cpu: usize) -> Guard<'_, Cache> {
        // There are as many as CPUs; whoever counts otherwise shares the first.
        self.caches.get(cpu).unwrap_or(&self.caches[0]).lock()
    }

    /// A range of `len` bytes at or below `limit`, if there is one on the shelf.
    #[inline(always)]
    pub fn take(&self, cpu: usize, len: u64, limit: u64) -> Option<Slot> {
        let mut cache = self.cache(cpu);
        if cache.last > limit {
            return None;
        }
        let slot = cache.shelf(len).free.pop()?;
        cache.mapped = cache.mapped.wrapping_add(len);
        Some(slot)
    }

    /// The same, from wherever there is one.
    pub fn take_more(&self, cpu: usize, len: u64, limit: u64) -> Result<Slot, Fault> {
        let mut cache = self.cache(cpu);
        let mut space = self.space.lock();
        let known = space.highest() == Some((cache.first, cache.last));
        let fits = space.highest().is_some_and(|(_, last)| last <= limit);
        let slot = match class(len) {
            class @ ..CLASSES if known && fits => {
                let Shelf { free, near } = cache.shelf(len);
                room(free);
                space.take_some(class, LOT, *near, free);
                free.pop()
            }
            _ => None,
        };
        let slot = match slot {
            Some(slot) => slot,
            None => space.alloc(len, limit)?,
        };
        cache.mapped = cache.mapped.wrapping_add(len);
        Ok(slot)
    }

    /// Takes back what `take` gave for `len` bytes.
    #[inline(always)]
    pub fn give(&self, cpu: usize, slot: Slot, len: u64) {
        let mut cache = self.cache(cpu);
        if !cache.put(slot, len) {
            self.put_more(&mut cache, slot, len);
        }
    }

    /// The same for many.
    pub fn give_all(&self, cpu: usize, ranges: impl Iterator<Item = (Slot, u64)>) {
        let mut cache = self.cache(cpu);
        for (slot, len) in ranges {
            if !cache.put(slot, len) {
                self.put_more(&mut cache, slot, len);
            }
        }
    }

    /// Puts a range where there is room for it.
    #[cold]
    #[inline(never)]
    fn put_more(&self, cache: &mut Cache, slot: Slot, len: u64) {
        let class = class(len);
        let first = cache.first;
        if slot.iova.0 < first || class >= CLASSES {
            return self.space.lock().free(slot, len);
        }
        let free = &mut cache.shelf(len).free;
        room(free);
        if free.len() >= SHELF {
            self.space.lock().give_some(class, free.drain(LOT..));
        }
        free.push(slot);
    }

    /// An address that was taken for `len` bytes is never handed out again.
    pub fn lose(&self, len: u64) {
        let mut cache = self.cache(0);
        cache.mapped = cache.mapped.wrapping_sub(len);
    }

    /// Notes what is known of the newest address for `len` bytes.
    pub fn learn(&self, cpu: usize, len: u64, near: Hint) {
        self.cache(cpu).shelf(len).near = near;
    }

    /// Bytes that are out.
    pub fn bytes(&self) -> u64 {
        let each = self.caches.iter().map(|cache| cache.lock().mapped);
        each.fold(0, u64::wrapping_add)
    }

    /// Puts all that is on shelves back, and has `change` see the space whole. One at a
    /// time: members come and go under their group's lock.
    pub fn reshape<R>(&self, change: impl FnOnce(&mut IovaSpace) -> R) -> R {
        for cache in &self.caches {
            let mut cache = cache.lock();
            (cache.first, cache.last) = (u64::MAX, u64::MAX);
            let mut space = self.space.lock();
            for class in 0..CLASSES {
                let free = &mut cache.shelf(PAGE << class).free;
                space.give_some(class, free.drain(..));
            }
        }
        let result = change(&mut self.space.lock());
        for cache in &self.caches {
            let mut cache = cache.lock();
            if let Some((first, last)) = self.space.lock().highest() {
                (cache.first, cache.last) = (first, last);
            }
        }
        result
    }

    /// Puts the first addresses on a shelf, and has `prepare` make ready for mappings there:
    /// what it knows of them holds for those that come next, too.
    pub fn stock(&self, prepare: impl FnOnce(Iova) -> Hint) {
        let first = {
            let mut cache = self.cache(0);
            let Shelf { free, near } = cache.shelf(PAGE);
            room(free);
            self.space.lock().take_some(0, LOT, *near, free);
            free.last().map(|slot| slot.iova)
        };
        let Some(first) = first else {
            return;
        };
        let hint = prepare(first);
        for cache in &self.caches {
            let mut cache = cache.lock();
            for shelf in &mut cache.shelves {
                shelf.near = hint;
                shelf.free.iter_mut().for_each(|slot| slot.hint = hint);
            }
        }
    }
}

/// Gives a shelf its room, once.
fn room(free: &mut Vec<Slot>) {
    if free.capacity() < SHELF {
        free.reserve_exact(SHELF - free.len());
    }
}

#[cfg(all(test, loom))]
mod interleaved;
#[cfg(all(test, not(loom)))]
mod tests;

//! One range of RAM with its metadata.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};

use mastiff_core::addr::PAGE;
use spin::Mutex;

use super::Kind;
use super::buddy::{self, Buddy};
use super::ranges::{merged, without};
use crate::cpu;

pub(super) struct Zone {
    pub(super) first: u64,
    pub(super) end: u64,
    /// A [`Kind`] per frame.
    kinds: &'static [AtomicU8],
    buddy: Mutex<Buddy<'static>>,
}

impl Zone {
    /// The zone of `frames`, whose metadata goes into its highest free stretch that
    /// is long enough; `None` if none is.
    ///
    /// # Safety
    /// As for [`super::Frames::new`], for these frames.
    pub(super) unsafe fn new(frames: Range<u64>, holes: &[Range<u64>]) -> Option<Self> {
        let count = usize::try_from(frames.end - frames.start).ok()?;
        let words = buddy::words(frames.start, frames.end);
        let bytes = (words * 8 + count).next_multiple_of(PAGE as usize);
        let needed = bytes as u64 / PAGE;
        let metadata = without(frames.clone(), holes)
            .filter(|free| free.end - free.start >= needed)
            .last()
            .map(|free| free.end - needed..free.end)?;

        let at = (metadata.start * PAGE) as usize as *mut u8;
        // SAFETY: the frames are free RAM that the caller gave up, mapped where they
        // are; nothing else was made from them, so the two slices are unique. Zeroes
        // are valid words and bytes.
        let (storage, kinds): (&mut [u64], &'static mut [u8]) = unsafe {
            cpu::zero_pages(at, bytes);
            let storage = core::slice::from_raw_parts_mut(at.cast::<u64>(), words);
            (
                storage,
                core::slice::from_raw_parts_mut(at.add(words * 8), count),
            )
        };

        let mut taken = Vec::from(holes);
        taken.push(metadata);
        let taken = merged(taken.into_iter());
        let mut buddy = Buddy::new(frames.start, frames.end, storage);
        for free in without(frames.clone(), &taken) {
            buddy.put(free.start, free.end);
        }
        for hole in taken {
            let start = hole.start.clamp(frames.start, frames.end) - frames.start;
            let end = hole.end.clamp(frames.start, frames.end) - frames.start;
            kinds[start as usize..end as usize].fill(Kind::Reserved as u8);
        }
        let kinds: *mut [u8] = kinds;
        Some(Self {
            first: frames.start,
            end: frames.end,
            // SAFETY: given up here by its one owner, and atomic bytes are laid out
            // like bytes.
            kinds: unsafe { &*(kinds as *mut [AtomicU8]) },
            buddy: Mutex::new(buddy),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.first
    }

    pub(super) fn free(&self) -> u64 {
        self.buddy.lock().free()
    }

    #[inline]
    pub(super) fn kind(&self, frame: u64) -> Option<Kind> {
        let index = frame.checked_sub(self.first)?;
        let kind = self.kinds.get(index as usize)?.load(Ordering::Relaxed);
        Kind::ALL.get(usize::from(kind)).copied()
    }

    /// The first frame, and what each is for.
    pub(super) fn kinds(&self) -> (u64, &'static [AtomicU8]) {
        (self.first, self.kinds)
    }

    pub(super) fn take(&self, count: u64, align: u64, limit: u64, kind: Kind) -> Option<u64> {
        let first = self.buddy.lock().take(count, align, limit)?;
        self.set(first, count, kind);
        Some(first)
    }

    pub(super) fn give(&self, first: u64, count: u64, kind: Kind) {
        self.retag(first, count, kind, Kind::Free);
        self.buddy.lock().put(first, first + count);
    }

    pub(super) fn retag(&self, first: u64, count: u64, from: Kind, to: Kind) {
        let wrong = self
            .slice(first, count)
            .iter()
            .position(|kind| kind.load(Ordering::Relaxed) != from as u8);
        if let Some(index) = wrong {
            let frame = first + index as u64;
            let at = frame * PAGE;
            panic!("frame {at:#x} is {:?}, not {from:?}", self.kind(frame));
        }
        self.set(first, count, to);
    }

    fn set(&self, first: u64, count: u64, kind: Kind) {
        for slot in self.slice(first, count) {
            slot.store(kind as u8, Ordering::Relaxed);
        }
    }

    fn slice(&self, first: u64, count: u64) -> &[AtomicU8] {
        let start = (first - self.first) as usize;
        &self.kinds[start..start + count as usize]
    }
}

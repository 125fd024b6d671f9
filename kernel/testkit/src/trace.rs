//! What the software did, in order: for assertions about order that no state can
//! show, such as an acquire barrier between two loads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use mastiff_core::platform::Barrier;

use crate::lock;

/// One thing that the software did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A barrier.
    Barrier(Barrier),
    /// A load from pages.
    Load {
        /// Physical address.
        pa: u64,
        /// Bytes.
        len: usize,
    },
    /// A store to pages.
    Store {
        /// Physical address.
        pa: u64,
        /// Bytes.
        len: usize,
    },
    /// A register read.
    Read {
        /// Physical address.
        pa: u64,
        /// What it gave.
        value: u64,
    },
    /// A register write.
    Write {
        /// Physical address.
        pa: u64,
        /// What was written.
        value: u64,
    },
}

/// The record, off until it is switched on.
#[derive(Default)]
pub struct Trace {
    on: AtomicBool,
    events: Mutex<Vec<Event>>,
}

impl Trace {
    /// Starts an empty record.
    pub fn start(&self) {
        lock(&self.events).clear();
        self.on.store(true, Ordering::SeqCst);
    }

    /// Ends the record and gives it.
    pub fn stop(&self) -> Vec<Event> {
        self.on.store(false, Ordering::SeqCst);
        std::mem::take(&mut *lock(&self.events))
    }

    pub(crate) fn note(&self, event: Event) {
        if self.on.load(Ordering::Relaxed) {
            lock(&self.events).push(event);
        }
    }
}

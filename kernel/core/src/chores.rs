//! What is put off, but not for ever: it is seen to wherever the kernel waits, and
//! bounds how long a CPU sleeps there.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;

use crate::platform::Instant;

/// Something with work that it puts off.
pub trait Chore: Send + Sync {
    /// Does what is due, and says when the next of it will be, if there is more.
    fn tidy(&self, now: Instant) -> Option<Instant>;
}

/// All that is put off.
pub struct Chores {
    any: AtomicBool,
    list: Mutex<Vec<Weak<dyn Chore>>>,
}

impl Default for Chores {
    fn default() -> Self {
        Self::new()
    }
}

impl Chores {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            list: Mutex::new(Vec::new()),
        }
    }

    /// Adds one, for as long as it lives.
    pub fn add(&self, chore: Weak<dyn Chore>) {
        self.list.lock().push(chore);
        self.any.store(true, Ordering::Release);
    }

    /// Does what is due, and says when the next of it will be, if there is more.
    pub fn tidy(&self, now: Instant) -> Option<Instant> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        // Without the lock: one may wait for hardware.
        let live: Vec<Arc<dyn Chore>> = {
            let mut list = self.list.lock();
            list.retain(|chore| chore.strong_count() > 0);
            list.iter().filter_map(Weak::upgrade).collect()
        };
        live.iter().filter_map(|chore| chore.tidy(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    struct At(u64, AtomicU64);

    impl Chore for At {
        fn tidy(&self, now: Instant) -> Option<Instant> {
            self.1.fetch_add(1, Ordering::Relaxed);
            (now.0 < self.0).then_some(Instant(self.0))
        }
    }

    #[test]
    fn the_earliest_counts_and_the_dead_are_forgotten() {
        let chores = Chores::new();
        assert_eq!(chores.tidy(Instant(0)), None);
        let [early, late] = [5, 9].map(|at| Arc::new(At(at, AtomicU64::new(0))));
        for chore in [&late, &early] {
            let chore: Arc<dyn Chore> = chore.clone();
            chores.add(Arc::downgrade(&chore));
        }
        assert_eq!(chores.tidy(Instant(3)), Some(Instant(5)));
        assert_eq!(chores.tidy(Instant(6)), Some(Instant(9)));
        drop(late);
        assert_eq!(chores.tidy(Instant(6)), None);
        assert_eq!(early.1.load(Ordering::Relaxed), 3);
        assert_eq!(chores.list.lock().len(), 1);
    }
}

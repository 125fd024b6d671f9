//! Failure injection: the n-th step of a kind fails. A drill runs the same probe
//! with n = 0, 1, 2, ... until nothing fails any more, and checks after each that
//! nothing was left behind.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A kind of step that can be made to fail.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Allocating pages.
    Pages,
    /// Allocating a translation table.
    Table,
    /// Mapping registers.
    Mmio,
    /// Reading a register: it gives all ones, like a device that fell off its bus.
    Read,
    /// Making a domain.
    Domain,
    /// Attaching a stream.
    Attach,
    /// Mapping in a domain.
    Map,
    /// The sync of an unmapping.
    Unmap,
    /// Aborting a stream.
    Block,
}

const KINDS: usize = Step::Block as usize + 1;
const NEVER: i64 = -1;

/// What fails when, and how often each step was taken.
pub struct Injections {
    countdown: [AtomicI64; KINDS],
    taken: [AtomicU64; KINDS],
}

impl Default for Injections {
    fn default() -> Self {
        Self {
            countdown: [const { AtomicI64::new(NEVER) }; KINDS],
            taken: [const { AtomicU64::new(0) }; KINDS],
        }
    }
}

impl Injections {
    /// Makes one step fail: the next one for `n` = 0, the one after for 1.
    pub fn fail(&self, step: Step, n: u32) {
        self.countdown[step as usize].store(i64::from(n), Ordering::SeqCst);
    }

    /// Whether a failure that was asked for has not happened yet.
    pub fn is_armed(&self, step: Step) -> bool {
        self.countdown[step as usize].load(Ordering::SeqCst) != NEVER
    }

    /// Takes back what was asked for.
    pub fn disarm(&self, step: Step) {
        self.countdown[step as usize].store(NEVER, Ordering::SeqCst);
    }

    /// How often the step was taken so far.
    pub fn taken(&self, step: Step) -> u64 {
        self.taken[step as usize].load(Ordering::SeqCst)
    }

    /// Takes a step; true if it is the one that fails.
    pub fn take(&self, step: Step) -> bool {
        self.taken[step as usize].fetch_add(1, Ordering::SeqCst);
        let countdown = &self.countdown[step as usize];
        let before = countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            (left != NEVER).then_some(left - 1)
        });
        before == Ok(0)
    }
}

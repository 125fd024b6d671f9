//! Who reads by which pair of queues: each CPU by its own, and where the controller has
//! fewer pairs, or the machine fewer interrupts, several CPUs by one, in turns. A pair's
//! interrupt goes where it is waited for.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use mastiff_core::error::Fault;
use mastiff_core::platform::{Platform, poll};
use mastiff_core::probe::Interrupt;

/// How long a CPU waits for its turn: another may be reading a whole disk.
const TURN_US: u64 = 60_000_000;
/// No CPU.
const NOBODY: usize = usize::MAX;

/// The pairs.
pub struct Turns(Vec<Pair>);

struct Pair {
    interrupt: Interrupt,
    // The CPU that takes it; at first the one that boots.
    taker: AtomicUsize,
    // The CPU that reads by the pair now.
    owner: AtomicUsize,
}

/// The right to read by a pair, until it is dropped.
pub struct Turn<'t> {
    number: usize,
    pair: &'t Pair,
}

impl Turns {
    /// One pair for each interrupt.
    pub fn new(interrupts: Vec<Interrupt>) -> Self {
        let pair = |interrupt| Pair {
            interrupt,
            taker: AtomicUsize::new(0),
            owner: AtomicUsize::new(NOBODY),
        };
        Self(interrupts.into_iter().map(pair).collect())
    }

    /// Waits for the pair of the CPU that calls. One that has it already, because what
    /// takes its data reads too, would wait for itself.
    pub fn take<P: Platform>(&self, platform: &P) -> Result<Turn<'_>, Fault> {
        let cpu = platform.cpu();
        let number = cpu % self.0.len();
        let pair = &self.0[number];
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = poll(platform, TURN_US, || {
            match pair.owner.compare_exchange(NOBODY, cpu, acquire, relaxed) {
                Ok(_) => Some(true),
                Err(owner) => (owner == cpu).then_some(false),
            }
        });
        match taken {
            Some(true) => {
                pair.steer(cpu);
                Ok(Turn { number, pair })
            }
            Some(false) => Err(Fault::invalid("the disk is being read already")),
            None => Err(Fault::invalid(
                "another CPU reads by the same queues, and does not come to an end",
            )),
        }
    }
}

impl Pair {
    /// Has the interrupt arrive where it is waited for. Where it cannot it arrives where
    /// it did: served there, it wakes the one that waits all the same.
    fn steer(&self, cpu: usize) {
        if self.taker.load(Ordering::Relaxed) == cpu {
            return;
        }
        match self.interrupt.steer(cpu) {
            Ok(()) => self.taker.store(cpu, Ordering::Relaxed),
            Err(fault) => log::debug!("interrupt {}: {fault}", self.interrupt.intid()),
        }
    }
}

impl Turn<'_> {
    /// The pair's number.
    pub fn pair(&self) -> usize {
        self.number
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pair.owner.store(NOBODY, Ordering::Release);
    }
}

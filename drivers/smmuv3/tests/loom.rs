//! The turns that CPUs take at the command queue, through every interleaving that the
//! memory model allows: what is put in is seen by the hardware before the index that has
//! it look, the index only moves on, and nothing is left behind.

extern crate alloc;

mod atomic {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
}
#[path = "../src/queue/ring.rs"]
#[allow(dead_code, reason = "registers are no part of this")]
mod ring;
#[path = "../src/queue/turns.rs"]
#[allow(dead_code, reason = "waiting is no part of this")]
mod turns;

use atomic::{AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use ring::Ring;
use turns::Turns;

/// A ring whose hardware consumes at once what it is shown, and checks it.
struct Queue {
    turns: Turns,
    slots: [AtomicU64; 2],
    index: AtomicU64,
}

impl Queue {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            turns: Turns::new(Ring::new(1)),
            slots: [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)],
            index: AtomicU64::new(0),
        })
    }

    fn put(&self, count: u64) {
        let extent = loop {
            match self.turns.reserve(count, count) {
                Some(extent) => break extent,
                None => thread::yield_now(),
            }
        };
        for position in extent.first..extent.end {
            // As weak as stores of memory that hardware reads.
            self.slots[position as usize % 2].store(position, Ordering::Relaxed);
        }
        self.turns.fill(extent, true, |end| self.show(end));
    }

    fn show(&self, end: u64) {
        let before = self.index.load(Ordering::Relaxed);
        assert!(before < end, "the index goes from {before} to {end}");
        for position in before..end {
            let seen = self.slots[position as usize % 2].load(Ordering::Relaxed);
            assert_eq!(seen, position, "the hardware sees what was put in");
        }
        self.index.store(end, Ordering::Relaxed);
        self.turns.note_consumed(end);
    }
}

/// Everything that is put in is shown by the time that all are done, once, in order.
fn all_of(batches: &'static [u64]) {
    let mut model = loom::model::Builder::new();
    // More switches find nothing new, and take minutes.
    model.preemption_bound = Some(3);
    model.check(move || {
        let queue = Queue::new();
        let others: Vec<_> = batches[1..]
            .iter()
            .map(|&count| {
                let queue = queue.clone();
                thread::spawn(move || queue.put(count))
            })
            .collect();
        queue.put(batches[0]);
        others.into_iter().for_each(|other| other.join().unwrap());
        let all: u64 = batches.iter().sum();
        assert_eq!(queue.index.load(Ordering::Relaxed), all);
        assert_eq!(queue.turns.shown(), all);
        assert_eq!(queue.turns.issued(), (all, batches.len() as u64));
        assert_eq!(queue.turns.synced(), all);
    });
}

#[test]
fn two_cpus_that_fit() {
    all_of(&[1, 1]);
}

#[test]
fn two_cpus_of_which_one_waits_for_room() {
    all_of(&[2, 1]);
}

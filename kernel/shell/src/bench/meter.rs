//! Counting instructions: a counter that is checked before it is believed, and
//! samples of single operations with the cost of counting taken off.

use alloc::format;
use alloc::vec::Vec;

use mastiff_core::platform::Platform;

use crate::commands::Failure;
use crate::system::System;

/// Operations that a row is made of, at least.
pub const SAMPLES: usize = 1000;
/// Turns of the two loops whose difference the counter must show to the instruction.
const TURNS: [u32; 2] = [1_000, 1_001_000];

/// Counts what a piece of work retires.
pub struct Meter<P: Platform> {
    platform: P,
    // What counting nothing shows.
    overhead: u32,
}

impl<P: Platform> Meter<P> {
    /// Fails where instructions are not counted, or not exactly.
    pub fn new(platform: &P, system: &dyn System) -> Result<Self, Failure> {
        if platform.retired().is_none() {
            return Err(Failure::new(
                "this CPU does not count instructions; QEMU's do with -icount shift=0",
            ));
        }
        let mut meter = Self {
            platform: platform.clone(),
            overhead: 0,
        };
        let mut empty: Vec<u32> = (0..SAMPLES).map(|_| meter.count(|| {}).0).collect();
        empty.sort_unstable();
        meter.overhead = empty[0];
        let [short, long] = TURNS.map(|turns| meter.turn(system, turns));
        let (seen, expected) = (long.wrapping_sub(short), 2 * (TURNS[1] - TURNS[0]));
        if seen != expected {
            return Err(Failure::new(format!(
                "the counter is not exact: it shows {seen} for {expected} instructions"
            )));
        }
        log::info!("bench: {expected} instructions counted as {seen}");
        Ok(meter)
    }

    /// What the counter shows for a loop. One piece of code for all of them: whatever
    /// the compiler puts around the loop must be the same each time.
    #[inline(never)]
    fn turn(&self, system: &dyn System, turns: u32) -> u32 {
        self.count(|| system.turn(turns)).0
    }

    /// How many instructions `work` retires, and what it gives.
    #[inline(always)]
    pub fn count<T>(&self, work: impl FnOnce() -> T) -> (u32, T) {
        let before = self.now();
        let result = work();
        (self.since(before), result)
    }

    /// Instructions since a moment that [`now`](Self::now) gave.
    #[inline(always)]
    pub fn since(&self, before: u32) -> u32 {
        self.now().wrapping_sub(before).wrapping_sub(self.overhead)
    }

    /// What the counter shows.
    #[inline(always)]
    pub fn now(&self) -> u32 {
        // Looked for when this was made.
        self.platform.retired().unwrap_or_default()
    }
}

/// What single operations took.
pub struct Samples(Vec<u32>);

impl Samples {
    pub fn new() -> Self {
        Self(Vec::with_capacity(2 * SAMPLES))
    }

    #[inline(always)]
    pub fn add(&mut self, insn: u32) {
        self.0.push(insn);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each sample with the one of the same operation elsewhere.
    pub fn plus(&self, other: &Self) -> Self {
        let sums = self.0.iter().zip(&other.0);
        Self(sums.map(|(a, b)| a.wrapping_add(*b)).collect())
    }

    /// Median and maximum.
    pub fn spread(mut self) -> (u32, u32) {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let at = |index: usize| self.0.get(index).copied().unwrap_or(0);
        (at(last / 2), at(last))
    }
}

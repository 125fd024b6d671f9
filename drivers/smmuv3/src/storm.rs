//! Masters that fault faster than anybody can listen.
//!
//! Each event takes a CPU some time, so a master that never stops faulting takes
//! all of it. What it may raise is metered: so many at once, and so many in the
//! long run. One that goes beyond is cut off, by an entry that aborts in silence.

use alloc::vec::Vec;

use mastiff_core::addr::StreamId;
use mastiff_core::platform::Instant;

/// Events that a stream may raise at once: the transfer of a large block that is
/// not mapped, and not that in a loop.
pub(crate) const BURST: u64 = 512;
/// Nanoseconds in which it may raise one more.
const REGAIN_NS: u64 = 1_000_000;
/// How many streams are metered. With more at once, the calmest is forgotten.
const METERED: usize = 16;

/// What streams have raised of late.
pub(crate) struct Storms {
    meters: Vec<Meter>,
}

struct Meter {
    stream: StreamId,
    level: u64,
    at: Instant,
}

impl Storms {
    pub const fn new() -> Self {
        Self { meters: Vec::new() }
    }

    /// Takes note of an event; `true` if it is one too many. After that the stream
    /// starts anew.
    pub fn note(&mut self, stream: StreamId, now: Instant) -> bool {
        for meter in &mut self.meters {
            meter.settle(now);
        }
        let known = self.meters.iter().position(|meter| meter.stream == stream);
        let index = known.unwrap_or_else(|| self.add(stream, now));
        let meter = &mut self.meters[index];
        meter.level += 1;
        let storm = meter.level > BURST;
        if storm {
            self.meters.swap_remove(index);
        }
        storm
    }

    fn add(&mut self, stream: StreamId, at: Instant) -> usize {
        if self.meters.len() == METERED {
            let levels = self.meters.iter().enumerate();
            if let Some((calmest, _)) = levels.min_by_key(|(_, meter)| meter.level) {
                self.meters.swap_remove(calmest);
            }
        }
        let level = 0;
        self.meters.push(Meter { stream, level, at });
        self.meters.len() - 1
    }
}

impl Meter {
    fn settle(&mut self, now: Instant) {
        let regained = now.0.saturating_sub(self.at.0) / REGAIN_NS;
        self.level = self.level.saturating_sub(regained);
        self.at = Instant(self.at.0 + regained * REGAIN_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(8);

    #[test]
    fn one_more_than_a_burst_is_a_storm() {
        let mut storms = Storms::new();
        let now = Instant(5);
        for _ in 0..2 {
            for _ in 0..BURST {
                assert!(!storms.note(A, now));
                assert!(!storms.note(StreamId(9), now) || storms.meters.len() == 1);
            }
            assert!(storms.note(A, now));
        }
    }

    #[test]
    fn time_forgives() {
        let mut storms = Storms::new();
        // One each millisecond for ever is bearable, however it is spread.
        for ms in 0..10 * BURST {
            let now = Instant(ms * REGAIN_NS + ms % 7 * REGAIN_NS / 10);
            assert!(!storms.note(A, now), "at {ms}");
        }
        // Two are not.
        let mut storms = Storms::new();
        let start = Instant(1 << 60);
        let storm = (0..10 * BURST).find(|n| storms.note(A, start.after_us(n * 500)));
        assert_eq!(storm, Some(2 * BURST - 1));
    }

    #[test]
    fn the_loudest_are_remembered() {
        let mut storms = Storms::new();
        let now = Instant(0);
        for _ in 0..BURST {
            assert!(!storms.note(A, now));
        }
        for stranger in 100..1_000 {
            storms.note(StreamId(stranger), now);
        }
        assert_eq!(storms.meters.len(), METERED);
        assert!(storms.note(A, now));
    }
}

//! Waiting for a device that is a program on some host: it answers at once, or when
//! that host lets it run.

use mastiff_core::platform::{Platform, poll};

/// How long it is looked at without a break.
const SPIN_US: u64 = 2_000;
/// How long a break is, unless an interrupt ends it.
const NAP_US: u64 = 1_000;

/// Looks until `done` gives a value or `us` microseconds have passed. Interrupts that
/// come in meanwhile are not served here: whoever waits holds locks.
pub(crate) fn wait<P: Platform, T>(
    platform: &P,
    us: u64,
    mut done: impl FnMut() -> Option<T>,
) -> Option<T> {
    let deadline = platform.now().after_us(us);
    let mut seen = poll(platform, SPIN_US, &mut done);
    while seen.is_none() && platform.now() <= deadline {
        platform.relax();
        platform.sleep(platform.now().after_us(NAP_US));
        seen = done();
    }
    // The last look comes after the clock was read.
    seen.or_else(done)
}

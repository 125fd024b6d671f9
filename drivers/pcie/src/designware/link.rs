//! The state of the link (TI SPRUIE9 and NXP i.MX 8M reference manual, `DEBUG1`). Where
//! nobody answers at the other end no request may be sent: some hosts stop the CPU with it.

use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform, poll};

const DEBUG_1: usize = 0x72c;
const LINK_UP: u32 = 1 << 4;
const IN_TRAINING: u32 = 1 << 29;
/// A link that is up may be in training again, which is bounded (PCIe Base 4.2.6).
const LINK_US: u64 = 10_000;

/// Whether the register says that the link is up.
fn says_up(seen: u32) -> bool {
    seen & (LINK_UP | IN_TRAINING) == LINK_UP
}

/// Whether the link is up now.
pub fn is_up<M: Mmio>(registers: &M) -> bool {
    says_up(registers.read32(DEBUG_1))
}

/// Waits for the link to be up.
pub fn wait<P: Platform>(platform: &P, registers: &P::Mmio) -> Result<(), Fault> {
    let mut seen = 0;
    let up = || {
        seen = registers.read32(DEBUG_1);
        says_up(seen).then_some(())
    };
    poll(platform, LINK_US, up).ok_or(Fault::Timeout {
        awaited: "the link to be up (is a device there, and did firmware start the link?)",
        register: "DEBUG1",
        seen: seen.into(),
        us: LINK_US,
    })
}

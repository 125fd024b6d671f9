//! The registers that exist per interrupt: enable, pending, priority, trigger. A
//! [`Bank`] is a view of one block of them, since GICv2's distributor, GICv3's, and
//! the SGI frame of a redistributor all lay them out alike.

use mastiff_core::error::Fault;
use mastiff_core::irq::Trigger;
use mastiff_core::platform::Mmio;

use crate::spec::distributor::{
    ICACTIVER, ICENABLER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, ISENABLER,
};

/// The one priority: in the half that software outside the secure state may use,
/// above every mask.
pub const PRIORITY: u8 = 0xa0;

/// What drivers asked for of 32 interrupts, for a GIC that loses it asleep.
pub struct Saved {
    enabled: u32,
    config: [u32; 2],
}

impl Saved {
    /// The enabled ones among the 32.
    pub fn enabled(&self) -> impl Iterator<Item = u32> + use<> {
        let enabled = self.enabled;
        (0..32).filter(move |n| enabled & 1 << n != 0)
    }
}

/// A block of per-interrupt registers.
pub struct Bank<'a, M: Mmio> {
    regs: &'a M,
    base: usize,
}

impl<'a, M: Mmio> Bank<'a, M> {
    /// The block that starts `base` bytes into `regs`.
    pub const fn new(regs: &'a M, base: usize) -> Self {
        Self { regs, base }
    }

    /// Puts the 32 interrupts of word `word` to rest: disabled, not pending, not
    /// active (firmware or an earlier kernel may have left any of it), one priority.
    pub fn reset(&self, word: u32) {
        let at = 4 * word as usize;
        self.write(ICENABLER + at, u32::MAX);
        self.write(ICPENDR + at, u32::MAX);
        self.write(ICACTIVER + at, u32::MAX);
        for byte in (32 * word as usize..).step_by(4).take(8) {
            self.write(IPRIORITYR + byte, u32::from_ne_bytes([PRIORITY; 4]));
        }
    }

    /// Puts the 32 interrupts of word `word` into one group, 1 or 0.
    pub fn set_group(&self, word: u32, group1: bool) {
        let bits = if group1 { u32::MAX } else { 0 };
        self.write(IGROUPR + 4 * word as usize, bits);
    }

    /// Notes what word `word` was configured to.
    pub fn save(&self, word: u32) -> Saved {
        let at = ICFGR + 8 * word as usize;
        Saved {
            enabled: self.read(ISENABLER + 4 * word as usize),
            config: [self.read(at), self.read(at + 4)],
        }
    }

    /// Configures word `word`, which is at rest, like that again.
    pub fn restore(&self, word: u32, saved: &Saved) {
        let at = ICFGR + 8 * word as usize;
        self.write(at, saved.config[0]);
        self.write(at + 4, saved.config[1]);
        self.write(ISENABLER + 4 * word as usize, saved.enabled);
    }

    /// Lets `intid` through.
    pub fn enable(&self, intid: u32) {
        self.write(ISENABLER + word(intid), bit(intid));
    }

    /// Stops `intid`. The write has reached the block when this returns; whether
    /// it took effect everywhere is another register's to say.
    pub fn disable(&self, intid: u32) {
        self.write(ICENABLER + word(intid), bit(intid));
        self.read(ICENABLER + word(intid));
    }

    /// Forgets that `intid` is pending.
    pub fn clear_pending(&self, intid: u32) {
        self.write(ICPENDR + word(intid), bit(intid));
    }

    /// Sets how `intid` signals; it must be disabled. A private interrupt may be
    /// fixed by its wiring, a shared one may not.
    pub fn set_trigger(&self, intid: u32, trigger: Trigger) -> Result<(), Fault> {
        let at = ICFGR + 4 * (intid as usize / 16);
        let edge = 0b10 << (2 * (intid % 16));
        let seen = self.read(at);
        let wanted = match trigger {
            Trigger::Edge => seen | edge,
            Trigger::Level => seen & !edge,
        };
        if wanted == seen {
            return Ok(());
        }
        self.write(at, wanted);
        let seen = self.read(at);
        if intid >= 32 && (seen ^ wanted) & edge != 0 {
            return Err(Fault::Register {
                name: "GICD_ICFGR",
                expected: u64::from(wanted),
                seen: u64::from(seen),
            });
        }
        Ok(())
    }

    fn read(&self, at: usize) -> u32 {
        self.regs.read32(self.base + at)
    }

    fn write(&self, at: usize, value: u32) {
        self.regs.write32(self.base + at, value);
    }
}

fn word(intid: u32) -> usize {
    4 * (intid as usize / 32)
}

fn bit(intid: u32) -> u32 {
    1 << (intid % 32)
}

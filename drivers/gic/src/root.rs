//! Being the root controller: the one that the exception vector claims from. The
//! hub learns of the chip while its interface to the CPU is off, and forgets it
//! after that is off again: an interrupt that came while the hub changes hands
//! would be claimed by nobody, and so come again for ever. The other CPUs, which sleep
//! in the belief that it wakes them, are told before it goes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use mastiff_core::driver::Bound;
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqChip;
use mastiff_core::platform::{Platform, poll};
use spin::Mutex;

use crate::bank::Saved;

/// How long the other CPUs may take to notice that the controller goes.
const NOTICE_US: u64 = 1_000_000;
/// The software-generated interrupt that wakes a CPU and means nothing else.
pub const NUDGE: u32 = 0;
/// Software-generated interrupts are below this (IHI 0069 §2.2.1).
pub const FIRST_PPI: u32 = 16;

/// Which CPU each shared interrupt goes to.
pub struct Routes([AtomicU8; 1020]);

impl Routes {
    /// All to one.
    pub fn all_to(cpu: usize) -> Self {
        Self([const { AtomicU8::new(0) }; 1020].map(|_: AtomicU8| AtomicU8::new(cpu as u8)))
    }

    /// Has `intid`, which is a shared one's, go to `cpu`.
    pub fn set(&self, intid: u32, cpu: usize) {
        self.0[intid as usize].store(cpu as u8, Ordering::Relaxed);
    }

    /// Where it goes.
    pub fn get(&self, intid: u32) -> usize {
        self.0[intid as usize].load(Ordering::Relaxed).into()
    }
}

/// A chip whose interface to the CPU can be switched.
pub trait RootChip: IrqChip + 'static {
    /// Puts every interrupt to rest, then lets the CPU be signalled.
    fn start(&self) -> Result<(), Fault>;
    /// Signals the CPU nothing any more.
    fn silence(&self);
    /// What drivers asked for, 32 interrupts at a time.
    fn save(&self) -> Vec<Saved>;
    /// Has it like that again, after `start`.
    fn restore(&self, saved: &[Saved]);
}

/// The binding of a root controller.
pub struct Root<P: Platform, C: RootChip> {
    platform: P,
    chip: Arc<C>,
    saved: Mutex<Vec<Saved>>,
}

impl<P: Platform, C: RootChip> Root<P, C> {
    /// Installs `chip` and starts it.
    pub fn install(platform: &P, chip: Arc<C>) -> Result<Self, Fault> {
        let hub = platform.irqs();
        if hub.chip().is_some() {
            return Err(Fault::invalid(
                "another root interrupt controller is bound; one is supported",
            ));
        }
        chip.silence();
        hub.set_chip(Some(chip.clone()));
        let root = Self {
            platform: platform.clone(),
            chip,
            saved: Mutex::new(Vec::new()),
        };
        root.chip.start()?;
        Ok(root)
    }

    /// The chip.
    pub fn chip(&self) -> &Arc<C> {
        &self.chip
    }

    /// Signals no CPU anything any more.
    fn silence(&self) {
        let hub = self.platform.irqs();
        if poll(&self.platform, NOTICE_US, || hub.close().then_some(())).is_none() {
            // They are at work, and look before they next sleep.
            log::warn!("some CPUs have not noticed that the interrupt controller goes");
        }
        self.chip.silence();
    }
}

impl<P: Platform, C: RootChip> Drop for Root<P, C> {
    fn drop(&mut self) {
        self.silence();
        self.platform.irqs().set_chip(None);
    }
}

impl<P: Platform, C: RootChip> Bound for Root<P, C> {
    fn suspend(&self) -> Result<(), Fault> {
        *self.saved.lock() = self.chip.save();
        self.silence();
        Ok(())
    }

    fn resume(&self) -> Result<(), Fault> {
        self.chip.start()?;
        self.chip.restore(&self.saved.lock());
        self.platform.irqs().open();
        Ok(())
    }
}

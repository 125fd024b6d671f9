//! Being the root controller: the one that the exception vector claims from. The
//! hub learns of the chip while its interface to the CPU is off, and forgets it
//! after that is off again: an interrupt that came while the hub changes hands
//! would be claimed by nobody, and so come again for ever.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::driver::Bound;
use mastiff_core::error::Fault;
use mastiff_core::irq::{IrqChip, IrqHub};
use spin::Mutex;

use crate::bank::Saved;

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
pub struct Root<C: RootChip> {
    hub: Arc<IrqHub>,
    chip: Arc<C>,
    saved: Mutex<Vec<Saved>>,
}

impl<C: RootChip> Root<C> {
    /// Installs `chip` and starts it.
    pub fn install(hub: &Arc<IrqHub>, chip: Arc<C>) -> Result<Self, Fault> {
        if hub.chip().is_some() {
            return Err(Fault::invalid(
                "another root interrupt controller is bound; one is supported",
            ));
        }
        chip.silence();
        hub.set_chip(Some(chip.clone()));
        let root = Self {
            hub: hub.clone(),
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
}

impl<C: RootChip> Drop for Root<C> {
    fn drop(&mut self) {
        self.chip.silence();
        self.hub.set_chip(None);
    }
}

impl<C: RootChip> Bound for Root<C> {
    fn suspend(&self) -> Result<(), Fault> {
        *self.saved.lock() = self.chip.save();
        self.chip.silence();
        Ok(())
    }

    fn resume(&self) -> Result<(), Fault> {
        self.chip.start()?;
        self.chip.restore(&self.saved.lock());
        Ok(())
    }
}

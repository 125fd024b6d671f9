//! Who has which registers: two drivers at one window is a broken tree or a broken
//! driver, and is told before either touches anything.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use crate::addr::PhysRange;
use crate::error::Fault;

/// The claimed windows, by first address.
#[derive(Default)]
pub struct Claims {
    windows: Mutex<BTreeMap<u64, (u64, Box<str>)>>,
}

/// A window that is claimed for as long as this lives.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    start: u64,
}

impl Claims {
    /// Claims `range` for `owner`.
    pub(crate) fn take(self: &Arc<Self>, range: PhysRange, owner: &str) -> Result<Claim, Fault> {
        let start = range.start.0;
        let last = start.saturating_add(range.len.max(1) - 1);
        let mut windows = self.windows.lock();
        if let Some((_, (other_last, by))) = windows.range(..=last).next_back()
            && *other_last >= start
        {
            return Err(Fault::WindowTaken {
                at: range.start,
                by: by.clone(),
            });
        }
        windows.insert(start, (last, owner.into()));
        drop(windows);
        Ok(Claim {
            claims: self.clone(),
            start,
        })
    }

    /// Every claimed window: first and last address, owner.
    pub fn list(&self) -> Vec<(u64, u64, Box<str>)> {
        let windows = self.windows.lock();
        windows
            .iter()
            .map(|(&start, (last, owner))| (start, *last, owner.clone()))
            .collect()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.windows.lock().remove(&self.start);
    }
}

//! The invalidation that an unmapping owes: what was taken out of the tables is
//! collected as it goes, and one sync completes it all.

use mastiff_core::error::Fault;
use mastiff_pgtable::Leaves;

use super::cover::Cover;
use crate::bind::Machine;
use crate::smmu::{Batch, Smmu};
use crate::spec::Command;

/// With more commands than this, dropping everything of the ASID is cheaper: for
/// the queue and for whoever waits behind it.
const MOST: usize = 64;

pub(crate) struct Flush<'a, P: Machine> {
    batch: Batch<'a, P>,
    asid: u16,
    // The last run, which may grow.
    run: Option<Leaves>,
    issued: usize,
    whole: bool,
    result: Result<(), Fault>,
}

impl<'a, P: Machine> Flush<'a, P> {
    #[inline]
    pub fn new(smmu: &'a Smmu<P>, asid: u16) -> Self {
        Self {
            batch: smmu.batch(),
            asid,
            run: None,
            issued: 0,
            whole: false,
            result: Ok(()),
        }
    }

    /// Takes note of leaves that are no longer in the tables.
    #[inline]
    pub fn add(&mut self, leaves: Leaves) {
        match &mut self.run {
            None => self.run = Some(leaves),
            Some(run) if run.level == leaves.level && run.va + run.len == leaves.va => {
                run.len += leaves.len;
            }
            Some(run) => {
                let before = core::mem::replace(run, leaves);
                self.issue(before);
            }
        }
    }

    fn issue(&mut self, run: Leaves) {
        let cover = self.cover(run);
        let count = cover.count(MOST + 1);
        self.issued += count;
        self.whole |= self.issued > MOST;
        if !self.whole {
            let pushed = self.batch.push(count, cover);
            if self.result.is_ok() {
                self.result = pushed;
            }
        }
    }

    #[inline]
    fn cover(&self, run: Leaves) -> Cover {
        Cover::new(self.asid, self.batch.smmu().features.ranges, run)
    }

    /// Returns once nothing that was noted is cached any more and everything that
    /// was translated by it is done. On an error it may still be.
    #[inline]
    pub fn finish(self) -> Result<(), Fault> {
        let Some(run) = self.run else {
            return Ok(());
        };
        let cover = self.cover(run);
        let count = cover.count(MOST + 1);
        let synced = if self.whole || self.issued + count > MOST {
            let all = core::iter::once(Command::tlbi_nh_asid(self.asid));
            self.batch.sync(1, all)
        } else {
            self.batch.sync(count, cover)
        };
        self.result.and(synced)
    }
}

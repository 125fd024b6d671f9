//! The invalidation that an unmapping owes: what was taken out of the tables is
//! collected as it goes, and one sync completes it all.

use mastiff_core::error::Fault;
use mastiff_pgtable::Leaves;

use super::cover::Cover;
use crate::bind::Machine;
use crate::smmu::{Batch, Smmu};
use crate::spec::Command;
use crate::spec::command::Tag;

/// With more commands than this, dropping everything of the domain is cheaper: for
/// the queue and for whoever waits behind it.
const MOST: usize = 64;

pub(crate) struct Flush<'a, P: Machine> {
    batch: Batch<'a, P>,
    tag: Tag,
    // The last run, which may grow.
    run: Option<Leaves>,
    issued: usize,
    whole: bool,
    failure: Option<Fault>,
}

impl<'a, P: Machine> Flush<'a, P> {
    #[inline]
    pub fn new(smmu: &'a Smmu<P>, tag: Tag) -> Self {
        Self {
            batch: smmu.batch(),
            tag,
            run: None,
            issued: 0,
            whole: false,
            failure: None,
        }
    }

    /// Takes note of leaves that are no longer in the tables.
    #[inline]
    pub fn add(&mut self, leaves: Leaves) {
        match self.run {
            None => self.run = Some(leaves),
            Some(run) => self.add_to(run, leaves),
        }
    }

    #[inline(never)]
    fn add_to(&mut self, mut run: Leaves, leaves: Leaves) {
        if run.level == leaves.level && run.va + run.len == leaves.va {
            run.len += leaves.len;
            self.run = Some(run);
            return;
        }
        self.run = Some(leaves);
        let cover = self.cover(run);
        let count = cover.count(MOST + 1);
        self.issued += count;
        self.whole |= self.issued > MOST;
        if !self.whole
            && let Err(fault) = self.batch.push(count, cover)
        {
            self.failure = Some(fault);
        }
    }

    #[inline]
    fn cover(&self, run: Leaves) -> Cover {
        Cover::new(self.tag, self.batch.smmu().range_granule, run)
    }

    /// Returns once nothing that was noted is cached any more and everything that
    /// was translated by it is done. On an error it may still be.
    pub fn finish(&mut self) -> Result<(), Fault> {
        let Some(run) = self.run.take() else {
            return Ok(());
        };
        let cover = self.cover(run);
        let count = cover.count(MOST + 1);
        if self.whole || self.issued + count > MOST {
            self.finish_whole()?;
        } else {
            self.batch.sync(count, cover)?;
        }
        match self.failure.take() {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    fn finish_whole(&self) -> Result<(), Fault> {
        let all = core::iter::once(Command::tlbi_all(self.tag));
        self.batch.sync(1, all)
    }
}

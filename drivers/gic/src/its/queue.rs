//! The command queue: a ring in memory that the ITS reads. Each batch ends with a
//! SYNC and is waited for, so the ring is empty between batches.

use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform, poll};

use crate::PATIENCE_US;
use crate::shared::Shared;
use crate::spec::its::{
    CBASER, COMMAND, CREADR, CREADR_OFFSET, CREADR_STALLED, CWRITER, CWRITER_RETRY, Command, VALID,
};
use crate::spec::table::ITS_CACHE_SHIFT;

/// One page of 128 commands; the register wants it at a multiple of 64 KiB.
const LEN: u64 = 0x1000;
const ALIGN: u64 = 0x1_0000;

/// The queue of an ITS.
pub struct Queue<P: Platform> {
    pub ring: Shared<P>,
    tail: usize,
}

impl<P: Platform> Queue<P> {
    /// A queue for an ITS.
    pub fn new(platform: &P, coherent: bool) -> Result<Self, Fault> {
        let ring = Shared::zeroed(platform, LEN, ALIGN, coherent)?;
        Ok(Self { ring, tail: 0 })
    }

    /// Gives the queue, empty, to an ITS that is off.
    pub fn point(&mut self, regs: &P::Mmio) {
        // Size is the number of 4 KiB pages, less one: 0. Writing the register
        // takes CREADR to 0 as well.
        let value = VALID | self.ring.at();
        self.ring.point(regs, CBASER, ITS_CACHE_SHIFT, value);
        regs.write64(CWRITER, 0);
        self.tail = 0;
    }

    /// Has the ITS carry out `commands`, of which the last is a SYNC, and waits
    /// until it has. A command in error is skipped, and is the result.
    pub fn run(
        &mut self,
        platform: &P,
        regs: &P::Mmio,
        commands: &[Command],
        skip: Command,
    ) -> Result<(), Fault> {
        // What timed out earlier may still be read: nothing is put over it.
        let before = regs.read64(CREADR);
        if before & CREADR_OFFSET != self.tail as u64 {
            return Err(timeout("end of earlier ITS commands", before, 0));
        }
        for command in commands {
            self.ring.store(self.tail, &command.0);
            self.tail = (self.tail + COMMAND) % self.ring.len();
        }
        self.ring.publish();
        regs.write64(CWRITER, self.tail as u64);

        // The first that stalled is the cause; others may follow from it.
        let mut cause = None;
        let mut skipped = None;
        let done = poll(platform, PATIENCE_US, || {
            let seen = regs.read64(CREADR);
            let offset = (seen & CREADR_OFFSET) as usize;
            if seen & CREADR_STALLED == 0 {
                return (offset == self.tail).then_some(());
            }
            // Once for each slot: what stalls there again will for ever.
            if skipped != Some(offset) {
                skipped = Some(offset);
                let fault = self.skip(regs, offset, skip);
                cause.get_or_insert(fault);
            }
            None
        });
        match (cause, done) {
            (Some(fault), _) => Err(fault),
            (None, Some(())) => Ok(()),
            (None, None) => Err(timeout(
                "end of ITS commands",
                regs.read64(CREADR),
                PATIENCE_US,
            )),
        }
    }

    /// Puts `harmless` in the place of the command that stalled at `offset`, and
    /// has the ITS go on (IHI 0069 §5.3.1).
    fn skip(&self, regs: &P::Mmio, offset: usize, harmless: Command) -> Fault {
        let offset = offset % self.ring.len();
        let first = self.ring.load(offset);
        self.ring.store(offset, &harmless.0);
        self.ring.publish();
        regs.write64(CWRITER, self.tail as u64 | CWRITER_RETRY);
        Fault::Device {
            during: Command::name(first),
            status: "the ITS stalled on this command",
            code: first,
        }
    }
}

fn timeout(awaited: &'static str, seen: u64, us: u64) -> Fault {
    Fault::Timeout {
        awaited,
        register: "GITS_CREADR",
        seen,
        us,
    }
}

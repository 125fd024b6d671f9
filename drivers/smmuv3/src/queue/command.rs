//! The command queue: commands in, a sync when their effect must be known.
//!
//! Slots are reserved and filled under a lock that is never held across a wait, so
//! several CPUs can wait for their own syncs at once. Commands of one caller stay
//! in order, and a sync completes everything before it, whoever put it there; so
//! the slots of a batch need not be neighbours.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Platform, poll};
use spin::Mutex;

use super::ring::Ring;
use super::signal::Signals;
use crate::features::Features;
use crate::memory::{Memory, Reach};
use crate::spec::Command;
use crate::spec::registers as regs;
use crate::window::Window;

/// How many commands a queue is made for.
const LOG2: u32 = 8;
/// How long the hardware may take to consume a command. A sync waits for the
/// transactions that it is about, so this is generous.
const CONSUME_US: u64 = 100_000;
/// The same once the queue has failed to move in that time: whoever comes after
/// must not wait as long for the same news.
const STUCK_US: u64 = 1_000;
/// How long a sync's message is looked for before the registers are asked.
const SIGNAL_US: u64 = 50;
/// How often in a row the fetch of one command may abort.
const ABORTS: u32 = 3;
/// How many refused commands are remembered for those who wait.
const KEPT: usize = 8;

pub(crate) struct CommandQueue<P: Platform> {
    ring: Ring,
    memory: Memory<P>,
    window: Arc<Window<P>>,
    platform: P,
    /// Where syncs tell of themselves, if they do.
    signals: Option<Signals<P>>,
    producer: Mutex<Producer>,
    // INVARIANT: never beyond what the hardware has consumed, and no more than a
    // lap behind it, because nothing is produced beyond a lap from here.
    consumed: AtomicU64,
    skipped: AtomicU64,
    stuck: AtomicBool,
    // Register accesses beyond the two that a sync takes, or one where it is told.
    more: AtomicU64,
}

struct Producer {
    next: u64,
    syncs: u64,
    // Where the last fetch aborted, and how often it did there.
    aborted: (u64, u32),
    // The latest commands that were refused, and where they were.
    refused: [(u64, Command); KEPT],
}

/// The positions of a caller's commands, and maybe of others' between them.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Extent {
    pub first: u64,
    pub end: u64,
}

/// What was issued so far.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Issued {
    /// Commands, syncs among them.
    pub commands: u64,
    pub syncs: u64,
    /// Reads and writes of the queue's registers.
    pub accesses: u64,
}

/// What became of an error of the queue.
#[derive(Debug)]
pub(crate) enum Recovery {
    /// An illegal command was replaced by a sync.
    Skipped(Command),
    /// The hardware is to try again.
    Retry,
}

impl<P: Platform> CommandQueue<P> {
    pub fn new(
        platform: &P,
        window: Arc<Window<P>>,
        reach: &Reach,
        features: &Features,
    ) -> Result<Self, Fault> {
        let ring = Ring::new(LOG2.min(features.commands_log2));
        let bytes = ring.capacity() * Command::BYTES as u64;
        // A message to memory that is not coherent would be behind a cache.
        let signals = (features.msi && reach.coherent)
            .then(|| Signals::new(platform, reach, ring))
            .transpose()?;
        Ok(Self {
            ring,
            memory: Memory::new(platform, reach, bytes, 32)?,
            window,
            platform: platform.clone(),
            signals,
            producer: Mutex::new(Producer {
                next: 0,
                syncs: 0,
                aborted: (0, 0),
                refused: [(0, Command::SYNC); KEPT],
            }),
            consumed: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            more: AtomicU64::new(0),
        })
    }

    /// Tells the hardware where the queue is, and to go on where software is: what
    /// was in it before has been given up. Only while it is disabled.
    pub fn install(&self) {
        let producer = self.producer.lock();
        let base = regs::QUEUE_BASE::ALLOCATE::SET
            + regs::QUEUE_BASE::ADDR.val(self.memory.pa() >> 5)
            + regs::QUEUE_BASE::LOG2SIZE.val(self.ring.log2().into());
        let index = self.ring.register(producer.next);
        self.window.write64(regs::CMDQ_BASE, base);
        self.window.write(regs::CMDQ_PROD, index);
        self.window.write(regs::CMDQ_CONS, index);
        self.consumed.store(producer.next, Ordering::Release);
        self.stuck.store(false, Ordering::Relaxed);
    }

    /// What was issued so far.
    pub fn issued(&self) -> Issued {
        let producer = self.producer.lock();
        let each = if self.has_messages() { 1 } else { 2 };
        Issued {
            commands: producer.next,
            syncs: producer.syncs,
            accesses: each * producer.syncs + self.more.load(Ordering::Relaxed),
        }
    }

    /// How many commands were skipped because the hardware refused them. A caller
    /// that sees it change is to ask whether [one of its own](Self::refused) was.
    #[inline]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Acquire)
    }

    /// A command of `extent` that was refused since `skipped` was read. If too many
    /// were to know, the last of all is taken for one.
    #[cold]
    pub fn refused(&self, skipped: u64, extent: Extent) -> Option<Command> {
        let producer = self.producer.lock();
        let now = self.skipped();
        let [.., last] = producer.refused;
        if now - skipped > KEPT as u64 {
            return Some(last.1);
        }
        let kept = producer.refused[KEPT - (now - skipped) as usize..].iter();
        let mut own = kept.filter(|(at, _)| (extent.first..extent.end).contains(at));
        own.next().map(|(_, command)| *command)
    }

    /// Appends `count` commands. `stalled` is called while there is no room.
    #[inline]
    pub fn push(
        &self,
        count: usize,
        commands: impl Iterator<Item = Command>,
        stalled: impl Fn() -> Result<(), Fault>,
    ) -> Result<Extent, Fault> {
        self.count(1);
        self.append(count, commands, 0, &stalled)
    }

    /// Appends `count` commands and a sync, and waits until that is consumed.
    /// `stalled` is called while the hardware does not get there.
    #[inline]
    pub fn sync(
        &self,
        count: usize,
        commands: impl Iterator<Item = Command>,
        stalled: impl Fn() -> Result<(), Fault>,
    ) -> Result<Extent, Fault> {
        let commands = commands.chain(core::iter::once(Command::SYNC));
        let extent = self.append(count + 1, commands, 1, &stalled)?;
        if !self.is_told(extent.end - 1) {
            self.count(u64::from(self.has_messages()));
            self.wait(extent.end, &stalled)?;
        }
        Ok(extent)
    }

    /// Waits a while for the message of the sync at `position`. Where none comes, it
    /// went astray or the queue is stopped, and the registers tell.
    #[inline]
    fn is_told(&self, position: u64) -> bool {
        let Some(signals) = &self.signals else {
            return false;
        };
        let look = || signals.is_complete(position).then_some(());
        let told = poll(&self.platform, SIGNAL_US, look).is_some();
        signals.note(position, told);
        if told {
            // The index may not yet show the sync itself to be consumed.
            self.consumed.fetch_max(position, Ordering::AcqRel);
        }
        told
    }

    /// Whether syncs say by message that they are complete.
    pub fn has_messages(&self) -> bool {
        self.signals.is_some()
    }

    /// The same for one command, as nearly every unmapping has it: without a count to
    /// go by.
    #[inline(always)]
    pub fn sync_one(
        &self,
        command: Command,
        stalled: impl Fn() -> Result<(), Fault>,
    ) -> Result<Extent, Fault> {
        let ring = self.ring;
        let mut producer = self.producer.lock();
        let first = producer.next;
        let free = ring.free(first, self.consumed.load(Ordering::Acquire));
        if free < 2 || self.has_messages() {
            drop(producer);
            return self.sync(1, core::iter::once(command), stalled);
        }
        let slots = [first, first + 1].map(|position| ring.slot(position) * Command::BYTES);
        self.memory.store_pair(slots[0], command.0);
        self.memory.store_pair(slots[1], Command::SYNC.0);
        self.memory.publish_pair(slots, Command::BYTES);
        let end = first + 2;
        let register = ring.register(end);
        producer.next = end;
        producer.syncs += 1;
        self.platform.barrier(Barrier::Publish);
        self.window.write(regs::CMDQ_PROD, register);
        drop(producer);
        self.wait_at(register, end, &stalled)?;
        Ok(Extent { first, end })
    }

    /// The latest commands that are still in memory, the last one first.
    pub fn history(&self) -> Vec<Command> {
        let producer = self.producer.lock();
        let kept = producer.next.min(self.ring.capacity());
        let positions = (producer.next - kept..producer.next).rev();
        let load = |position| {
            let offset = self.ring.slot(position) * Command::BYTES;
            Command(self.memory.load_words(offset))
        };
        positions.map(load).collect()
    }

    /// Puts commands into the ring, all at once if there is room, and returns where
    /// they are.
    #[inline]
    fn append(
        &self,
        count: usize,
        mut commands: impl Iterator<Item = Command>,
        syncs: u64,
        stalled: &impl Fn() -> Result<(), Fault>,
    ) -> Result<Extent, Fault> {
        let mut left = count as u64;
        let mut first = u64::MAX;
        loop {
            let mut producer = self.producer.lock();
            first = first.min(producer.next);
            let room = self
                .ring
                .free(producer.next, self.consumed.load(Ordering::Acquire));
            let now = left.min(room);
            for command in commands.by_ref().take(now as usize) {
                let command = match &self.signals {
                    Some(signals) if command == Command::SYNC => signals.sync(producer.next),
                    _ => command,
                };
                self.fill(producer.next, command);
                producer.next += 1;
            }
            left -= now;
            let end = producer.next;
            if now > 0 {
                // Entries, and the tables and descriptors that they are about,
                // before the index that has the hardware look.
                self.platform.barrier(Barrier::Publish);
                self.window.write(regs::CMDQ_PROD, self.ring.register(end));
            }
            if left == 0 {
                producer.syncs += syncs;
                return Ok(Extent { first, end });
            }
            drop(producer);
            // The look for room, and another write once there is some.
            self.count(1 + u64::from(now > 0));
            self.wait(end + 1 - self.ring.capacity(), stalled)?;
        }
    }

    #[inline]
    fn fill(&self, position: u64, command: Command) {
        let offset = self.ring.slot(position) * Command::BYTES;
        self.memory.store_pair(offset, command.0);
        self.memory.publish(offset, Command::BYTES);
    }

    /// Waits until everything before `target` is consumed.
    #[inline]
    fn wait(&self, target: u64, stalled: &impl Fn() -> Result<(), Fault>) -> Result<(), Fault> {
        self.wait_at(self.ring.register(target), target, stalled)
    }

    #[inline(always)]
    fn wait_at(
        &self,
        register: u32,
        target: u64,
        stalled: &impl Fn() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let cons = self.window.read(regs::CMDQ_CONS).read(regs::CMDQ_CONS::RD);
        // It shows no other position from which the hardware would still have to get
        // there: no more than a lap is ever produced beyond what is consumed.
        if cons == register {
            self.consumed.fetch_max(target, Ordering::AcqRel);
            return Ok(());
        }
        self.wait_long(target, stalled)
    }

    #[cold]
    fn wait_long(
        &self,
        target: u64,
        stalled: &impl Fn() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let us = if self.stuck.load(Ordering::Relaxed) {
            STUCK_US
        } else {
            CONSUME_US
        };
        let waited = poll(&self.platform, us, || {
            self.count(1);
            if self.look() >= target {
                return Some(Ok(()));
            }
            stalled().err().map(Err)
        });
        self.stuck.store(waited.is_none(), Ordering::Relaxed);
        waited.unwrap_or_else(|| {
            Err(Fault::Timeout {
                awaited: "consumption of a command",
                register: regs::CMDQ_CONS.name,
                seen: self.window.read(regs::CMDQ_CONS).get().into(),
                us,
            })
        })
    }

    /// Register accesses that are no sync's first two.
    fn count(&self, accesses: u64) {
        self.more.fetch_add(accesses, Ordering::Relaxed);
    }

    /// How far the hardware is.
    #[inline]
    fn look(&self) -> u64 {
        let known = self.consumed.load(Ordering::Acquire);
        let cons = self.window.read(regs::CMDQ_CONS).read(regs::CMDQ_CONS::RD);
        // The register can be told only from within a lap. While this CPU was away
        // between the two loads others may have gone further; then theirs counts.
        match self.ring.position(known, cons) {
            Some(position) if self.consumed.load(Ordering::Acquire) == known => {
                self.consumed.fetch_max(position, Ordering::AcqRel);
                position
            }
            _ => self.consumed.load(Ordering::Acquire),
        }
    }

    /// Deals with the error that stopped the queue (IHI 0070 §7.1). The hardware
    /// goes on when the caller acknowledges it, and fetches from the same slot.
    pub fn recover(&self) -> Result<Recovery, Fault> {
        let mut producer = self.producer.lock();
        let cons = self.window.read(regs::CMDQ_CONS);
        let known = self.consumed.load(Ordering::Acquire);
        let position = self
            .ring
            .position(known, cons.read(regs::CMDQ_CONS::RD))
            .unwrap_or(known);
        if cons.matches_all(regs::CMDQ_CONS::ERR::Ill) {
            let offset = self.ring.slot(position) * Command::BYTES;
            let command = Command(self.memory.load_words(offset));
            self.fill(position, Command::SYNC);
            self.platform.barrier(Barrier::Publish);
            producer.refused.rotate_left(1);
            producer.refused[KEPT - 1] = (position, command);
            self.skipped.fetch_add(1, Ordering::AcqRel);
            return Ok(Recovery::Skipped(command));
        }
        let (at, count) = producer.aborted;
        producer.aborted = (position, if at == position { count + 1 } else { 1 });
        if producer.aborted.1 <= ABORTS {
            return Ok(Recovery::Retry);
        }
        Err(Fault::Device {
            during: "fetch of a command",
            status: reason(cons.read(regs::CMDQ_CONS::ERR)),
            code: cons.get().into(),
        })
    }
}

/// The name of an error of the command queue, other than of a command that is illegal
/// (IHI 0070 §7.1).
fn reason(err: u32) -> &'static str {
    match err {
        2 => "CERROR_ABT",
        3 => "CERROR_ATC_INV_SYNC",
        _ => "CMDQ_CONS.ERR says none that there is",
    }
}

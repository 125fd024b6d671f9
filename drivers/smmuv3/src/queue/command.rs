//! The command queue: commands in, a sync when their effect must be known.
//!
//! CPUs take [turns](super::turns), without a lock. Commands of one caller stay in
//! order, and a sync completes everything before it, whoever put it there. So the slots
//! of a batch need not be neighbours, and who comes while two syncs are under way leaves
//! theirs out: when those are complete one of them puts in the next, for all.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Platform, poll};
use spin::Mutex;

use super::ring::Ring;
use super::signal::Signals;
use super::turns::{Extent, Turns};
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
/// How long another CPU may take between having slots and having filled them, or having
/// a sync to put in and having done so. It does nothing else meanwhile, but somebody may
/// keep the CPU itself.
const OTHERS_US: u64 = 10_000_000;
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
    turns: Turns,
    // Somebody puts in the sync that others wait for.
    leading: AtomicBool,
    // Behind the last sync that told.
    told: AtomicU64,
    trouble: Mutex<Trouble>,
    skipped: AtomicU64,
    stuck: AtomicBool,
    // Somebody reads the consumer index, of those who look again and again.
    looking: AtomicBool,
    // Register accesses beyond the two that a sync takes, or one where it is told.
    more: AtomicU64,
}

struct Trouble {
    // Where the last fetch aborted, and how often it did there.
    aborted: (u64, u32),
    // The latest commands that were refused, and where they were.
    refused: [(u64, Command); KEPT],
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
            turns: Turns::new(ring),
            leading: AtomicBool::new(false),
            told: AtomicU64::new(0),
            trouble: Mutex::new(Trouble {
                aborted: (0, 0),
                refused: [(0, Command::SYNC); KEPT],
            }),
            skipped: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            looking: AtomicBool::new(false),
            more: AtomicU64::new(0),
        })
    }

    /// Tells the hardware where the queue is, and to go on where software is: what
    /// was in it before has been given up. Only while it is disabled.
    pub fn install(&self) {
        let base = regs::QUEUE_BASE::ALLOCATE::SET
            + regs::QUEUE_BASE::ADDR.val(self.memory.pa() >> 5)
            + regs::QUEUE_BASE::LOG2SIZE.val(self.ring.log2().into());
        let index = self.ring.register(self.turns.give_up());
        self.window.write64(regs::CMDQ_BASE, base);
        self.window.write(regs::CMDQ_PROD, index);
        self.window.write(regs::CMDQ_CONS, index);
        self.stuck.store(false, Ordering::Relaxed);
    }

    /// What was issued so far.
    pub fn issued(&self) -> Issued {
        let (commands, syncs) = self.turns.issued();
        let each = if self.has_messages() { 1 } else { 2 };
        Issued {
            commands,
            syncs,
            accesses: each * syncs + self.more.load(Ordering::Relaxed),
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
        let trouble = self.trouble.lock();
        let now = self.skipped();
        let [.., last] = trouble.refused;
        if now - skipped > KEPT as u64 {
            return Some(last.1);
        }
        let kept = trouble.refused[KEPT - (now - skipped) as usize..].iter();
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
        self.append(count, commands, false, &stalled)
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
        if self.is_crowded() && count > 0 {
            return self.sync_with_others(count, commands, &stalled);
        }
        let commands = commands.chain(core::iter::once(Command::SYNC));
        let extent = self.append(count + 1, commands, true, &stalled)?;
        self.complete(extent.end, &stalled)?;
        Ok(extent)
    }

    /// Whether two syncs are under way, as far as is known: one more would only be in
    /// line behind them.
    #[inline(always)]
    fn is_crowded(&self) -> bool {
        let earlier = self.turns.synced_earlier();
        earlier > self.turns.consumed() && earlier > self.told.load(Ordering::Relaxed)
    }

    /// Waits until the sync that ends at `end` is complete.
    #[inline]
    fn complete(&self, end: u64, stalled: &impl Fn() -> Result<(), Fault>) -> Result<(), Fault> {
        if !self.is_told(end - 1) {
            self.count(u64::from(self.has_messages()));
            self.wait(end, stalled)?;
        }
        Ok(())
    }

    /// The commands come too late for the syncs that are under way; the one after them
    /// will be theirs, and that of all who come until then.
    #[cold]
    fn sync_with_others(
        &self,
        count: usize,
        commands: impl Iterator<Item = Command>,
        stalled: &impl Fn() -> Result<(), Fault>,
    ) -> Result<Extent, Fault> {
        let extent = self.append(count, commands, false, stalled)?;
        let is_ours = |sync| sync > extent.end;
        self.count(1);
        let before = self.turns.synced();
        if !is_ours(before) {
            self.complete(before, stalled)?;
        }
        let led = poll(&self.platform, OTHERS_US, || {
            let sync = self.turns.synced();
            if is_ours(sync) {
                return Some(Ok(sync));
            }
            if self.leading.swap(true, Ordering::Acquire) {
                return None;
            }
            // Another may have been it since.
            let sync = self.turns.synced();
            let led = match is_ours(sync) {
                true => Ok(sync),
                false => {
                    let sync = core::iter::once(Command::SYNC);
                    self.append(1, sync, true, stalled).map(|led| led.end)
                }
            };
            self.leading.store(false, Ordering::Release);
            Some(led)
        });
        let sync = led.unwrap_or_else(|| Err(self.held_up()))?;
        self.complete(sync, stalled)?;
        Ok(extent)
    }

    /// Another CPU does not get on.
    #[cold]
    fn held_up(&self) -> Fault {
        Fault::Timeout {
            awaited: "another CPU to put its commands in",
            register: regs::CMDQ_PROD.name,
            seen: self.window.read(regs::CMDQ_PROD).get().into(),
            us: OTHERS_US,
        }
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
            self.turns.note_consumed(position);
            self.told.fetch_max(position + 1, Ordering::Relaxed);
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
        let room = match self.has_messages() || self.is_crowded() {
            false => self.turns.reserve(2, 2),
            true => None,
        };
        let Some(extent) = room else {
            return self.sync(1, core::iter::once(command), stalled);
        };
        let Extent { first, end } = extent;
        let slots = [first, first + 1].map(|position| self.ring.slot(position) * Command::BYTES);
        let ([a, b], [c, d]) = (command.0, Command::SYNC.0);
        if slots[1] != 0 {
            self.memory.store_quad(slots[0], [a, b, c, d]);
        } else {
            self.memory.store_pair(slots[0], [a, b]);
            self.memory.store_pair(slots[1], [c, d]);
        }
        self.memory.publish_pair(slots, Command::BYTES);
        self.platform.barrier(Barrier::Publish);
        if self.turns.fill(extent, true, |end| self.show(end)) {
            self.wait_at(self.ring.register(end), end, &stalled)?;
        } else {
            self.wait_long(end, &stalled)?;
        }
        Ok(extent)
    }

    /// The latest commands that are still in memory, the last one first.
    pub fn history(&self) -> Vec<Command> {
        let end = self.turns.shown();
        let kept = end.min(self.ring.capacity());
        let positions = (end - kept..end).rev();
        let load = |position| {
            let offset = self.ring.slot(position) * Command::BYTES;
            Command(self.memory.load_words(offset))
        };
        positions.map(load).collect()
    }

    /// Puts commands into the ring, all at once if there is room, and returns where
    /// they are. The last may be a sync.
    #[inline]
    fn append(
        &self,
        count: usize,
        mut commands: impl Iterator<Item = Command>,
        sync: bool,
        stalled: &impl Fn() -> Result<(), Fault>,
    ) -> Result<Extent, Fault> {
        let mut left = count as u64;
        let mut first = u64::MAX;
        loop {
            let Some(extent) = self.turns.reserve(left, left.min(1)) else {
                // The look for room, and another write once there is some.
                self.count(1 + u64::from(first != u64::MAX));
                self.wait(self.turns.consumed() + 1, stalled)?;
                continue;
            };
            for position in extent.first..extent.end {
                // Without one to put in, a slot that somebody waits for gets a sync.
                let command = match (commands.next(), &self.signals) {
                    (Some(command), _) if command != Command::SYNC => command,
                    (_, Some(signals)) => signals.sync(position),
                    (_, None) => Command::SYNC,
                };
                self.fill(position, command);
            }
            first = first.min(extent.first);
            left -= extent.end - extent.first;
            if extent.first < extent.end {
                // Entries, and the tables and descriptors that they are about, before
                // the index that has the hardware look.
                self.platform.barrier(Barrier::Publish);
                let sync = sync && left == 0;
                self.turns.fill(extent, sync, |end| self.show(end));
            }
            if left == 0 {
                let end = extent.end;
                return Ok(Extent { first, end });
            }
        }
    }

    /// Has the hardware go as far as that.
    #[inline(always)]
    fn show(&self, end: u64) {
        // What others have put in, too, before the index.
        self.platform.barrier(Barrier::Publish);
        self.window.write(regs::CMDQ_PROD, self.ring.register(end));
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
        let known = self.turns.consumed();
        let cons = self.window.read(regs::CMDQ_CONS).read(regs::CMDQ_CONS::RD);
        // It shows no other position from which the hardware would still have to get
        // there: no more than a lap is ever produced beyond what is consumed.
        if cons == register {
            self.turns.note_consumed(target);
            return Ok(());
        }
        if self.note(known, cons) >= target {
            // Others' commands were next.
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
        let shown = || (self.turns.shown() >= target).then_some(());
        if poll(&self.platform, OTHERS_US, shown).is_none() {
            return Err(self.held_up());
        }
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

    /// How far the hardware is. One of those who wait looks at the register, the others
    /// at what it notes.
    #[inline]
    fn look(&self) -> u64 {
        let known = self.turns.consumed();
        if self.looking.swap(true, Ordering::Acquire) {
            return known;
        }
        let cons = self.window.read(regs::CMDQ_CONS).read(regs::CMDQ_CONS::RD);
        let position = self.note(known, cons);
        self.looking.store(false, Ordering::Release);
        position
    }

    /// Notes what the register showed after so much was known to be consumed; how far
    /// the hardware is.
    fn note(&self, known: u64, cons: u32) -> u64 {
        // The register can be told only from within a lap. While this CPU was away
        // between the two loads others may have gone further; then theirs counts.
        match self.ring.position(known, cons) {
            Some(position) if self.turns.consumed() == known => {
                self.turns.note_consumed(position);
                position
            }
            _ => self.turns.consumed(),
        }
    }

    /// Deals with the error that stopped the queue (IHI 0070 §7.1). The hardware
    /// goes on when the caller acknowledges it, and fetches from the same slot.
    pub fn recover(&self) -> Result<Recovery, Fault> {
        let mut trouble = self.trouble.lock();
        let cons = self.window.read(regs::CMDQ_CONS);
        let known = self.turns.consumed();
        let position = self
            .ring
            .position(known, cons.read(regs::CMDQ_CONS::RD))
            .unwrap_or(known);
        if cons.matches_all(regs::CMDQ_CONS::ERR::Ill) {
            let offset = self.ring.slot(position) * Command::BYTES;
            let command = Command(self.memory.load_words(offset));
            self.fill(position, Command::SYNC);
            self.platform.barrier(Barrier::Publish);
            trouble.refused.rotate_left(1);
            trouble.refused[KEPT - 1] = (position, command);
            self.skipped.fetch_add(1, Ordering::AcqRel);
            return Ok(Recovery::Skipped(command));
        }
        let (at, count) = trouble.aborted;
        trouble.aborted = (position, if at == position { count + 1 } else { 1 });
        if trouble.aborted.1 <= ABORTS {
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

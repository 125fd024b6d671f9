//! The command queue: fetched when PROD moves, consumed later, complete at a
//! CMD_SYNC and not before (IHI 0070 §4.1, §4.7.3, §4.8).
//!
//! Invalidations take effect as software must fear: what they refetch is what
//! memory holds when they are issued, and what they remove is used until the
//! CMD_SYNC completes.

use std::collections::{HashMap, VecDeque};

use super::command::{Command, Completion, Tlbi};
use super::config::ConfigCache;
use super::message::Signal;
use super::refetch::Fresh;
use super::registers::Irq;
use super::regs::{
    CERROR_ABT, CERROR_ATC_INV_SYNC, CERROR_ILL, CMDQ_ERR, CMDQEN, ERR_SHIFT, SFM_ERR, SMMUEN,
};
use super::tlb::Leftover;
use super::view::View;
use super::{Smmu, rule};

/// A range of streams of more than 2^this counts as all of them.
const MANY_STREAMS: u32 = 12;

/// The queue's innards.
#[derive(Default)]
pub(super) struct Commands {
    fetched: VecDeque<Fetched>,
    /// Consumed, but not known to be complete.
    in_flight: Vec<Effect>,
    /// Steps until the next one is consumed.
    wait: u32,
    /// A CMD_SYNC with a message is complete, but CMDQ_CONS does not show it for so
    /// many steps after the message went out.
    behind: Option<u32>,
    pub frozen: bool,
    /// Fetches that are made to abort.
    pub aborts: u32,
    /// Commands that are made to look illegal.
    pub illegal: u32,
    /// Syncs that are made to find an ATC that did not answer.
    pub timeouts: u32,
    pub consumed: u64,
    pub syncs: u64,
}

struct Fetched {
    pa: u64,
    raw: Option<[u64; 2]>,
    command: Result<Command, &'static str>,
    effect: Effect,
}

/// What has to happen for an invalidation to be complete.
enum Effect {
    None,
    Config(Vec<Fresh>),
    AllConfig(Option<Box<ConfigCache>>),
    /// More than was asked for, which is allowed (§4.3).
    NoConfig,
    Tlb(Leftover, Tlbi),
}

impl Commands {
    /// Nothing after a bad one is even fetched (§7.1).
    fn ends_badly(&self) -> bool {
        let last = self.fetched.back();
        last.is_some_and(|last| last.command.is_err())
    }
}

impl Smmu {
    /// Fetches what is between the commands known and PROD.
    pub(super) fn fetch_commands(&mut self) {
        let stopped = self.regs.errors() & (CMDQ_ERR | SFM_ERR) != 0;
        if self.regs.cr0.effective & CMDQEN == 0 || stopped {
            return;
        }
        let queue = self.regs.command_queue();
        let taken = u32::from(self.commands.behind.is_some());
        let known = self.commands.fetched.len() as u32 + taken;
        let mut index = queue.masked(self.regs.cmdq_cons.wrapping_add(known));
        if self.commands.fetched.is_empty() {
            self.commands.wait = self.latency;
        }
        while index != queue.masked(self.regs.cmdq_prod) && !self.commands.ends_badly() {
            let fetched = self.fetch_command(queue.address(index));
            self.commands.fetched.push_back(fetched);
            index = queue.next(index);
        }
    }

    fn fetch_command(&mut self, pa: u64) -> Fetched {
        let mut raw = View(&self.memory).words(pa);
        if self.commands.aborts > 0 {
            self.commands.aborts -= 1;
            raw = None;
        }
        let command = match raw {
            None => Err("external abort"),
            Some(_) if self.commands.illegal > 0 => {
                self.commands.illegal -= 1;
                Err("the test says so")
            }
            Some(raw) => Command::decode(raw, &self.features),
        };
        let effect = match command {
            Ok(command) => self.issue(command),
            Err(_) => Effect::None,
        };
        Fetched {
            pa,
            raw,
            command,
            effect,
        }
    }

    /// An invalidation may take place from now on.
    fn issue(&mut self, command: Command) -> Effect {
        let view = View(&self.memory);
        // While it is off, nothing is fetched (§6.3.9.6).
        let on = self.regs.cr0.effective & SMMUEN != 0;
        match (command, self.config.as_mut().filter(|_| on)) {
            (Command::Nothing | Command::Sync(_), _)
            | (Command::Resume { .. } | Command::EndStalled { .. }, _) => Effect::None,
            (Command::Tlb(tlbi), config) => {
                let contexts = config.iter().flat_map(|config| config.contexts());
                let contexts: Vec<_> = contexts.map(|(_, context)| context).collect();
                Effect::Tlb(self.tlb.invalidate(view, &tlbi, &contexts), tlbi)
            }
            (Command::Streams { range, .. }, config) if range >= MANY_STREAMS => {
                Effect::AllConfig(config.map(|config| config.refetch_all(view)))
            }
            (_, None) => Effect::NoConfig,
            (Command::Streams { stream, range }, Some(config)) => {
                let streams = config.streams_in(stream, range + 1).into_iter();
                let fresh = streams.map(|stream| config.refetch_ste(view, stream, false));
                Effect::Config(fresh.collect())
            }
            (Command::Ste { stream, leaf }, Some(config)) => {
                Effect::Config(vec![config.refetch_ste(view, stream, leaf)])
            }
            (Command::Cd { stream, only, leaf }, Some(config)) => {
                let fresh = config.refetch_cds(view, stream, only, leaf);
                Effect::Config(fresh.into_iter().collect())
            }
        }
    }

    /// Consumes one command, if it is time to.
    pub(super) fn consume(&mut self) {
        if let Some(steps) = self.commands.behind.filter(|_| self.signals.is_empty()) {
            match steps {
                0 => self.arrive(),
                steps => self.commands.behind = Some(steps - 1),
            }
        }
        if self.commands.behind.is_some() {
            return;
        }
        if self.commands.frozen || self.commands.fetched.is_empty() {
            return;
        }
        if self.commands.wait > 0 {
            self.commands.wait -= 1;
            return;
        }
        let Some(fetched) = self.commands.fetched.pop_front() else {
            return;
        };
        if let Some(raw) = fetched.raw {
            rule(
                View(&self.memory).words(fetched.pa) == Some(raw),
                "§3.21.2: a command was altered between its submission and its consumption",
            );
        }
        let command = match (fetched.raw, fetched.command) {
            (None, _) => return self.command_error(CERROR_ABT),
            (_, Err(_)) => return self.command_error(CERROR_ILL),
            (_, Ok(command)) => command,
        };
        match command {
            Command::Sync(_) if self.commands.timeouts > 0 => {
                self.commands.timeouts -= 1;
                return self.command_error(CERROR_ATC_INV_SYNC);
            }
            Command::Resume { stream, tag } => rule(
                self.stalled.remove(&tag) == Some(stream),
                "§4.7.1: CMD_RESUME names a transaction that does not stall",
            ),
            Command::EndStalled { stream } => self.stalled.retain(|_, of| *of != stream),
            _ => {}
        }
        self.commands.consumed += 1;
        self.commands.in_flight.push(fetched.effect);
        if let Command::Sync(completion) = command {
            self.complete();
            match completion {
                Completion::Index => {}
                Completion::Wire => self.raise(Irq::Sync),
                Completion::Message(message) => {
                    self.signals.push(Signal::Message(Irq::Sync, message));
                    self.commands.behind = Some(self.latency);
                    return;
                }
            }
        }
        self.advance();
    }

    fn advance(&mut self) {
        let queue = self.regs.command_queue();
        self.regs.cmdq_cons = queue.next(self.regs.cmdq_cons);
    }

    /// CMDQ_CONS shows what is complete.
    pub(super) fn arrive(&mut self) {
        if self.commands.behind.take().is_some() {
            self.advance();
        }
    }

    fn command_error(&mut self, code: u32) {
        let queue = self.regs.command_queue();
        self.regs.cmdq_cons = queue.masked(self.regs.cmdq_cons) | code << ERR_SHIFT;
        self.forget_commands();
        self.raise_error(CMDQ_ERR);
    }

    /// What was fetched is fetched again when the queue goes on (§3.21.2).
    pub(super) fn forget_commands(&mut self) {
        self.commands.fetched.clear();
    }

    fn complete(&mut self) {
        self.commands.syncs += 1;
        for effect in std::mem::take(&mut self.commands.in_flight) {
            let view = View(&self.memory);
            match (effect, &mut self.config) {
                (Effect::None, _) => {}
                (Effect::Config(fresh), Some(config)) => {
                    fresh
                        .into_iter()
                        .for_each(|fresh| config.apply(view, fresh));
                }
                (Effect::Config(_), None) => {}
                (Effect::NoConfig, config) => *config = None,
                (Effect::AllConfig(fresh), config) => {
                    *config = fresh.map(|config| *config);
                    self.regs.cleaned.config = true;
                }
                (Effect::Tlb(leftover, tlbi), _) => {
                    self.tlb.apply(leftover);
                    let all = tlbi.vmid.is_none() && tlbi.asid.is_none() && tlbi.range.is_none();
                    self.regs.cleaned.el1 |= all && tlbi.el1;
                    self.regs.cleaned.el2 |= all && !tlbi.el1;
                }
            }
        }
        self.check_shared_tags();
    }

    /// §5.4.1: contexts that tag their translations alike must be alike.
    fn check_shared_tags(&self) {
        let mut seen = HashMap::new();
        for (stream, context) in self.config.iter().flat_map(|config| config.contexts()) {
            let tags = (context.world, context.stage2, context.vmid, context.asid);
            let (first, known) = *seen.entry(tags).or_insert((stream, context));
            rule(
                context.is_interchangeable(&known),
                format_args!(
                    "§5.4.1: streams {first:#x} and {stream:#x} use one ASID or VMID for two address spaces"
                ),
            );
        }
    }
}

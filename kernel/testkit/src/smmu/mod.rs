//! A strict model of an SMMUv3, written from the architecture (IHI 0070 issue
//! H.a, whose section numbers are cited) and not from any driver.
//!
//! Emulators are lenient: they consume commands at once, read structures when they
//! need them, and forgive what silicon punishes. This model does the opposite at
//! every choice that the architecture leaves.
//!
//! - Updates of CR0, IRQ_CTRL and GBPA take effect some accesses later.
//! - Configuration is fetched as soon as it is reachable, and translations when
//!   they are first used; both stay until an invalidation of exactly their scope
//!   *and* a CMD_SYNC have completed. Invalid configuration is cached too.
//! - An invalidation refetches what memory holds when it is issued: what software
//!   writes after that is not seen.
//! - Structures are read as 64-bit atoms in any order: an update that could be
//!   seen half done is a breach.
//! - Memory is what was published by barriers (and cleans), see
//!   [`memory`](crate::memory).
//! - What the architecture calls (constrained) unpredictable ends the test with a
//!   message that cites the section.
//!
//! Not modelled: ATS and PRI, AArch32 tables, Secure and Realm states. The
//! identification registers say so, and a driver that uses them nevertheless is in
//! breach.

mod cd;
mod cds;
mod command;
mod commands;
mod config;
mod events;
mod features;
mod message;
mod queue;
mod refetch;
mod registers;
mod regs;
mod ste;
mod tlb;
mod translate;
mod view;
mod walk;
mod watch;
mod writes;

pub use events::EventKind;
pub use features::Features;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::bus::{DmaPort, DmaTranslator, Shared, SimDevice};
use crate::memory::Memory;
use crate::sim::Sim;

use commands::Commands;
use config::ConfigCache;
use message::Signal;
use registers::Registers;
use regs::SFM_ERR;
use tlb::Tlb;

/// Bytes of registers: two pages of 64 KiB (§6.1).
pub const WINDOW: u64 = 0x2_0000;

/// Steps that things take unless a test says otherwise. Each register read and
/// each tick is one.
const LATENCY: u32 = 3;

/// What a transaction wants.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To fetch an instruction.
    Execute,
}

/// Why a transaction went nowhere.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Abort {
    /// The SMMU is off and GBPA.ABORT is set, or it is out of service.
    Disabled,
    /// The STE, RECINVSID or CD.R says so: no event.
    Configured,
    /// It waits for a CMD_RESUME or CMD_STALL_TERM, and an event says so.
    Stalled {
        /// STAG.
        tag: u16,
    },
    /// Something is wrong, and an event says so.
    Fault(EventKind),
}

/// The wired interrupts' numbers at the controller.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Lines {
    /// Event queue not empty any more.
    pub event: u32,
    /// A CMD_SYNC that asked for it completed.
    pub sync: u32,
    /// A global error became active.
    pub error: u32,
}

impl Lines {
    /// As on QEMU's `virt`: SPIs 74, 76 and 77.
    pub const VIRT: Self = Self {
        event: 106,
        sync: 108,
        error: 109,
    };
}

/// Something that goes wrong inside, once.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The next command that is fetched is illegal: CERROR_ILL.
    IllegalCommand,
    /// The next command fetch aborts: CERROR_ABT.
    CommandAbort,
    /// The next CMD_SYNC finds that an ATC did not answer: CERROR_ATC_INV_SYNC.
    AtcTimeout,
    /// The next write of an event aborts: EVENTQ_ABT_ERR.
    EventAbort,
    /// The next message aborts: MSI_*_ABT_ERR.
    MessageAbort,
    /// Service failure mode: nothing works any more (§12.3).
    ServiceFailure,
}

/// One SMMU.
pub struct Smmu {
    memory: Arc<Memory>,
    features: Features,
    lines: Lines,
    regs: Registers,
    commands: Commands,
    /// `None` until SMMUEN was first set, and after an invalidation of all while
    /// it is not.
    config: Option<ConfigCache>,
    /// Fetched between SMMUEN's write and its taking effect.
    enabling: Option<ConfigCache>,
    tlb: Tlb,
    signals: Vec<Signal>,
    fail_event_write: bool,
    fail_messages: u32,
    /// A stream that faults wherever there is room for an event, and how often.
    storm: (u32, u32),
    /// Transactions that wait, by their tags, and their streams.
    stalled: BTreeMap<u16, u32>,
    latency: u32,
    /// Translation was on, and then there was a moment with neither it nor GBPA.ABORT.
    opened: Option<bool>,
}

impl Smmu {
    /// An SMMU fresh out of reset: off, and letting everything through.
    pub fn new(sim: &Sim, features: Features, lines: Lines) -> Self {
        Self {
            memory: sim.memory().clone(),
            features,
            lines,
            regs: Registers::new(),
            commands: Commands::default(),
            config: None,
            enabling: None,
            tlb: Tlb::default(),
            signals: Vec::new(),
            fail_event_write: false,
            fail_messages: 0,
            storm: (0, 0),
            stalled: BTreeMap::new(),
            latency: LATENCY,
            opened: None,
        }
    }

    /// Puts an SMMU's registers at `base` and these streams behind it.
    pub fn install(
        sim: &Sim,
        base: u64,
        streams: RangeInclusive<u32>,
        features: Features,
        lines: Lines,
    ) -> Shared<Self> {
        let smmu = sim.add_device(base, WINDOW, Self::new(sim, features, lines));
        sim.translate_by(streams, smmu.clone());
        smmu
    }

    /// How many steps updates take, and commands before the first is consumed.
    pub fn set_latency(&mut self, steps: u32) {
        self.latency = steps.max(1);
    }

    /// Stops and resumes the consumption of commands: a CMD_SYNC that never
    /// completes.
    pub fn freeze(&mut self, frozen: bool) {
        self.commands.frozen = frozen;
    }

    /// Makes something go wrong.
    pub fn make(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::IllegalCommand => self.commands.illegal += 1,
            Trouble::CommandAbort => self.commands.aborts += 1,
            Trouble::AtcTimeout => self.commands.timeouts += 1,
            Trouble::EventAbort => self.fail_event_write = true,
            Trouble::MessageAbort => self.fail_messages += 1,
            Trouble::ServiceFailure => self.raise_error(SFM_ERR),
        }
    }

    /// Has a stream fault so many times more, as fast as software takes its events:
    /// whenever there is room in the queue, it is full again at once.
    pub fn storm(&mut self, stream: u32, faults: u32) {
        self.storm = (stream, faults);
    }

    /// Loses its power for a moment: registers are as after a reset, which lets
    /// everything through. Caches are not cleared by a reset (§3.11).
    pub fn lose_power(&mut self) {
        self.opened = None;
        self.regs = Registers::new();
        self.commands = Commands::default();
        self.enabling = None;
        self.signals.clear();
    }

    /// Where CMDQ_PROD is: it moves when software has submitted something.
    pub fn submitted(&self) -> u32 {
        self.regs.cmdq_prod
    }

    /// Commands consumed so far, and CMD_SYNCs among them.
    pub fn consumed(&self) -> (u64, u64) {
        (self.commands.consumed, self.commands.syncs)
    }

    /// Whether there was a moment since translation was first on in which
    /// transactions were let through untouched.
    pub fn was_opened(&self) -> bool {
        self.opened == Some(true)
    }

    /// Whether transactions are translated or aborted, rather than let through.
    pub fn protects(&self) -> bool {
        self.regs.cr0.effective & regs::SMMUEN != 0 || self.regs.aborts_when_disabled()
    }
}

impl SimDevice for Smmu {
    fn read(&mut self, offset: u64, width: usize) -> u64 {
        check_access(offset, width);
        self.step();
        let low = u64::from(self.read_word(offset));
        match width {
            8 => low | u64::from(self.read_word(offset + 4)) << 32,
            _ => low,
        }
    }

    fn write(&mut self, offset: u64, width: usize, value: u64) {
        check_access(offset, width);
        self.write_word(offset, value as u32);
        if width == 8 {
            self.write_word(offset + 4, (value >> 32) as u32);
        }
    }

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        self.step();
        self.send(port);
    }
}

impl DmaTranslator for Smmu {
    fn translate(&mut self, stream: u32, addr: u64, write: bool) -> Option<u64> {
        let access = if write { Access::Write } else { Access::Read };
        self.translate(stream, addr, access).ok()
    }
}

/// §6.2: words, and both halves at once of what is 64 bits wide.
fn check_access(offset: u64, width: usize) {
    let wide = width == 8 && regs::WIDE.contains(&offset);
    rule(
        width == 4 || wide,
        format_args!("§6.2: an access of {width} bytes to the register at {offset:#x}"),
    );
}

/// Ends the test if software broke a rule of the architecture.
#[track_caller]
fn rule(kept: bool, what: impl Display) {
    if !kept {
        crate::breach(&format!("IHI 0070 {what}"));
    }
}

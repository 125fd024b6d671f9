//! Registers: what they hold, and what happens as time passes.

use super::Smmu;
use super::config::StreamTable;
use super::message::IrqConfig;
use super::queue::Queue;
use super::regs::*;

/// The wired interrupts (IHI 0070 §3.18.2).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Irq {
    Event,
    Sync,
    Error,
}

/// A register whose writes take effect later, and how software can tell
/// (§6.3.9 CR0 and CR0ACK).
#[derive(Default)]
pub(super) struct Update {
    pub requested: u32,
    pub effective: u32,
    left: u32,
}

impl Update {
    pub fn request(&mut self, value: u32, steps: u32) {
        self.requested = value;
        self.left = steps;
    }

    /// Time passes; true when the new value takes effect.
    fn step(&mut self) -> bool {
        if self.requested == self.effective {
            return false;
        }
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    pub fn pending(&self) -> u32 {
        self.requested ^ self.effective
    }

    /// Set now, or on the way to being or no longer being set.
    pub fn any(&self, bits: u32) -> bool {
        (self.requested | self.effective) & bits != 0
    }
}

/// What was invalidated since the last time that it had to be (§3.11).
#[derive(Default)]
pub(super) struct Cleaned {
    pub config: bool,
    pub el1: bool,
    pub el2: bool,
}

/// The register file.
pub(super) struct Registers {
    pub cr0: Update,
    pub irq_ctrl: Update,
    pub gbpa: Update,
    pub cr1: Option<u32>,
    pub cr2: Option<u32>,
    pub gerror: u32,
    pub gerrorn: u32,
    pub gerror_irq: IrqConfig,
    pub eventq_irq: IrqConfig,
    pub strtab_base: Option<u64>,
    pub strtab_cfg: Option<u32>,
    pub cmdq_base: Option<u64>,
    pub eventq_base: Option<u64>,
    /// Whether the indices were written after the base.
    pub cmdq_indices: [bool; 2],
    pub eventq_indices: [bool; 2],
    pub cmdq_prod: u32,
    pub cmdq_cons: u32,
    pub eventq_prod: u32,
    pub eventq_cons: u32,
    pub cleaned: Cleaned,
}

/// What registers without a reset value read as.
const UNKNOWN: u64 = 0xbad0_bad0_bad0_bad0;

impl Registers {
    pub fn new() -> Self {
        Self {
            cr0: Update::default(),
            irq_ctrl: Update::default(),
            gbpa: Update {
                requested: GBPA_RESET,
                effective: GBPA_RESET,
                left: 0,
            },
            cr1: None,
            cr2: None,
            gerror: 0,
            gerrorn: 0,
            gerror_irq: IrqConfig::default(),
            eventq_irq: IrqConfig::default(),
            strtab_base: None,
            strtab_cfg: None,
            cmdq_base: None,
            eventq_base: None,
            cmdq_indices: [false; 2],
            eventq_indices: [false; 2],
            cmdq_prod: UNKNOWN as u32,
            cmdq_cons: UNKNOWN as u32,
            eventq_prod: UNKNOWN as u32,
            eventq_cons: UNKNOWN as u32,
            cleaned: Cleaned::default(),
        }
    }

    pub fn command_queue(&self) -> Queue {
        Queue::new(self.cmdq_base.unwrap_or(UNKNOWN), 16)
    }

    pub fn event_queue(&self) -> Queue {
        Queue::new(self.eventq_base.unwrap_or(UNKNOWN), 32)
    }

    pub fn stream_table(&self) -> StreamTable {
        StreamTable::new(
            self.strtab_base.unwrap_or(UNKNOWN),
            self.strtab_cfg.unwrap_or(UNKNOWN as u32),
        )
    }

    pub fn cr2(&self) -> u32 {
        self.cr2.unwrap_or(UNKNOWN as u32)
    }

    /// The errors that are active (§7.5).
    pub fn errors(&self) -> u32 {
        self.gerror ^ self.gerrorn
    }

    pub fn irqs_enabled(&self) -> u32 {
        self.irq_ctrl.effective
    }

    pub fn aborts_when_disabled(&self) -> bool {
        self.gbpa.effective & GBPA_ABORT != 0
    }
}

impl Smmu {
    /// Time passes.
    pub(super) fn step(&mut self) {
        if self.regs.cr0.step() {
            self.update_cr0();
        }
        // §6.3.17: nothing that was signalled before is sent any more by then.
        if self.signals.is_empty() && self.regs.irq_ctrl.step() {
            self.regs.irq_ctrl.effective = self.regs.irq_ctrl.requested;
        }
        if self.regs.gbpa.step() {
            self.regs.gbpa.requested &= !GBPA_UPDATE;
            self.regs.gbpa.effective = self.regs.gbpa.requested;
        }
        let on = self.regs.cr0.effective & SMMUEN != 0;
        self.opened = match self.opened {
            None => on.then_some(false),
            Some(opened) => Some(opened || !self.protects()),
        };
        if self.regs.cr0.effective & CMDQEN != 0 {
            self.consume();
        }
    }

    fn update_cr0(&mut self) {
        let changed = self.regs.cr0.pending();
        self.regs.cr0.effective = self.regs.cr0.requested;
        if changed & SMMUEN != 0 {
            // Turning it off removes nothing from caches, and on again uses what
            // is still in them (§3.11).
            if let Some(enabling) = self.enabling.take() {
                self.config.get_or_insert(enabling);
            }
        }
        if changed & CMDQEN != 0 {
            self.arrive();
            self.forget_commands();
            self.fetch_commands();
        }
    }

    pub(super) fn raise_error(&mut self, bit: u32) {
        if self.regs.errors() & bit != 0 {
            return;
        }
        self.regs.gerror ^= bit;
        if self.regs.irqs_enabled() & GERROR_IRQEN != 0 {
            self.raise(Irq::Error);
        }
    }

    pub(super) fn read_word(&self, offset: u64) -> u32 {
        let regs = &self.regs;
        let half = |value: Option<u64>| (value.unwrap_or(UNKNOWN) >> (8 * (offset & 4))) as u32;
        let word = |value: Option<u32>| value.unwrap_or(UNKNOWN as u32);
        match offset {
            IDR0 => self.features.idr0(),
            IDR1 => self.features.idr1(),
            IDR3 => self.features.idr3(),
            IDR5 => self.features.idr5(),
            AIDR => self.features.revision,
            CR0 => regs.cr0.requested,
            CR0ACK => regs.cr0.effective,
            CR1 => word(regs.cr1),
            CR2 => word(regs.cr2),
            GBPA => regs.gbpa.requested,
            IRQ_CTRL => regs.irq_ctrl.requested,
            IRQ_CTRLACK => regs.irq_ctrl.effective,
            GERROR => regs.gerror,
            GERRORN => regs.gerrorn,
            GERROR_IRQ_CFG0..=GERROR_IRQ_CFG2 if self.features.messages => word(
                regs.gerror_irq
                    .read((offset - GERROR_IRQ_CFG0) as usize / 4),
            ),
            EVENTQ_IRQ_CFG0..=EVENTQ_IRQ_CFG2 if self.features.messages => word(
                regs.eventq_irq
                    .read((offset - EVENTQ_IRQ_CFG0) as usize / 4),
            ),
            STRTAB_BASE | 0x84 => half(regs.strtab_base),
            STRTAB_BASE_CFG => word(regs.strtab_cfg),
            CMDQ_BASE | 0x94 => half(regs.cmdq_base),
            CMDQ_PROD => regs.cmdq_prod,
            CMDQ_CONS => regs.cmdq_cons,
            EVENTQ_BASE | 0xa4 => half(regs.eventq_base),
            EVENTQ_PROD => regs.eventq_prod,
            EVENTQ_CONS => regs.eventq_cons,
            _ => 0,
        }
    }
}

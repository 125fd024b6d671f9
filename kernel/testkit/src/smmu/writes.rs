//! Register writes, and which of them the architecture leaves unpredictable: to
//! what is guarded by an enable that is set, of reserved bits, of a change before
//! the last one took effect, of indices that make no sense.

use std::fmt::Display;

use super::config::ConfigCache;
use super::queue::Queue;
use super::regs::*;
use super::view::View;
use super::{Smmu, rule};

impl Smmu {
    pub(super) fn write_word(&mut self, offset: u64, value: u32) {
        match offset {
            CR0 => self.write_cr0(value),
            CR1 => self.write_cr1(value),
            CR2 => {
                self.guarded(SMMUEN, "§6.3.12: CR2 is written while SMMUEN is set");
                self.reserved(value, E2H | RECINVSID | PTM, "CR2");
                self.regs.cr2 = Some(value);
            }
            GBPA => self.write_gbpa(value),
            IRQ_CTRL => {
                self.reserved(value, IRQ_DEFINED, "IRQ_CTRL");
                let again = (value ^ self.regs.irq_ctrl.requested) & self.regs.irq_ctrl.pending();
                rule(
                    again == 0,
                    "§6.3.16: IRQ_CTRL is changed before IRQ_CTRLACK followed",
                );
                self.check_interrupts(value & !self.regs.irq_ctrl.requested);
                self.regs.irq_ctrl.request(value, self.latency);
            }
            GERRORN => self.write_gerrorn(value),
            GERROR_IRQ_CFG0..=GERROR_IRQ_CFG2 if self.features.messages => {
                self.configured_by(GERROR_IRQEN, "§6.3.21: GERROR_IRQ_CFG");
                let word = (offset - GERROR_IRQ_CFG0) as usize / 4;
                self.regs.gerror_irq.write(word, value);
            }
            EVENTQ_IRQ_CFG0..=EVENTQ_IRQ_CFG2 if self.features.messages => {
                self.configured_by(EVENTQ_IRQEN, "§6.3.32: EVENTQ_IRQ_CFG");
                let word = (offset - EVENTQ_IRQ_CFG0) as usize / 4;
                self.regs.eventq_irq.write(word, value);
            }
            GERROR_IRQ_CFG0..=GERROR_IRQ_CFG2
            | EVENTQ_IRQ_CFG0..=EVENTQ_IRQ_CFG2
            | PRIQ_IRQ_CFG0..=PRIQ_IRQ_CFG2 => {
                rule(
                    value == 0,
                    "§6.3.21: an IRQ_CFG register is set without IDR0.MSI or IDR0.PRI (RES0)",
                );
            }
            STRTAB_BASE_CFG => {
                self.guarded(
                    SMMUEN,
                    "§6.3.25: STRTAB_BASE_CFG is written while SMMUEN is set",
                );
                let two_level = if self.features.two_level { 0x3_07c0 } else { 0 };
                self.reserved(value, 0x3f | two_level, "STRTAB_BASE_CFG");
                self.check_shape(value);
                self.regs.strtab_cfg = Some(value);
                self.regs.cleaned.config = false;
            }
            CMDQ_PROD => self.write_cmdq_prod(value),
            CMDQ_CONS => {
                self.guarded(CMDQEN, "§6.3.28: CMDQ_CONS is written while CMDQEN is set");
                self.regs.cmdq_cons = self.regs.command_queue().masked(value);
                self.regs.cmdq_indices[1] = self.regs.cmdq_base.is_some();
            }
            EVENTQ_PROD => {
                self.guarded(
                    EVENTQEN,
                    "§3.5.1: EVENTQ_PROD is written while EVENTQEN is set",
                );
                self.regs.eventq_prod = value;
                self.regs.eventq_indices[0] = self.regs.eventq_base.is_some();
            }
            EVENTQ_CONS => {
                self.write_eventq_cons(value);
                self.fill_with_events();
            }
            IDR0..=AIDR | CR0ACK | STATUSR | IRQ_CTRLACK | GERROR => {
                rule(
                    false,
                    format_args!("§6.2: the read-only register {offset:#x} is written"),
                );
            }
            _ => self.write_base(offset, value),
        }
    }

    fn write_base(&mut self, offset: u64, value: u32) {
        let low_word = offset & 4 == 0;
        let (register, guard, what) = match offset & !4 {
            STRTAB_BASE => {
                self.regs.cleaned.config = false;
                (&mut self.regs.strtab_base, SMMUEN, "§6.3.24: STRTAB_BASE")
            }
            CMDQ_BASE => {
                self.regs.cmdq_indices = [false; 2];
                (&mut self.regs.cmdq_base, CMDQEN, "§6.3.26: CMDQ_BASE")
            }
            EVENTQ_BASE => {
                self.regs.eventq_indices = [false; 2];
                (&mut self.regs.eventq_base, EVENTQEN, "§6.3.29: EVENTQ_BASE")
            }
            _ => {
                return rule(
                    value == 0,
                    format_args!(
                        "§6.2: {value:#x} is written to {offset:#x}, where no register is"
                    ),
                );
            }
        };
        let known = register.unwrap_or(0);
        *register = Some(match low_word {
            true => known & !0xffff_ffff | u64::from(value),
            false => known & 0xffff_ffff | u64::from(value) << 32,
        });
        self.guarded(
            guard,
            format_args!("{what} is written while its enable is set"),
        );
    }

    fn guarded(&self, enable: u32, what: impl Display) {
        rule(!self.regs.cr0.any(enable), what);
    }

    /// Interrupts are configured while they are off, and known to be.
    fn configured_by(&self, enable: u32, what: &str) {
        rule(
            !self.regs.irq_ctrl.any(enable),
            format_args!("{what} is written while IRQ_CTRL or IRQ_CTRLACK enables the interrupt"),
        );
    }

    fn check_interrupts(&self, rising: u32) {
        if !self.features.messages {
            return;
        }
        let sources = [
            (GERROR_IRQEN, &self.regs.gerror_irq),
            (EVENTQ_IRQEN, &self.regs.eventq_irq),
        ];
        for (_, config) in sources.iter().filter(|(enable, _)| rising & enable != 0) {
            config.check(self.features.output_bits);
        }
    }

    fn reserved(&self, value: u32, defined: u32, what: &str) {
        rule(
            value & !defined == 0,
            format_args!("§6.2: reserved bits of {what} are set: {value:#x}"),
        );
    }

    fn write_cr0(&mut self, value: u32) {
        self.reserved(value, CR0_DEFINED, "CR0");
        let changed = value ^ self.regs.cr0.requested;
        rule(
            changed & self.regs.cr0.pending() == 0,
            "§6.3.9: a bit of CR0 is changed before CR0ACK followed its last change",
        );
        let rising = changed & value;
        if rising & CMDQEN != 0 {
            self.check_command_queue();
        }
        if rising & EVENTQEN != 0 {
            self.check_event_queue();
        }
        if rising & SMMUEN != 0 {
            self.check_stream_table();
            let table = self.regs.stream_table();
            let (view, cr2) = (View(&self.memory), self.regs.cr2());
            self.enabling = Some(ConfigCache::fetch(view, table, &self.features, cr2));
        }
        self.regs.cr0.request(value, self.latency);
    }

    fn check_command_queue(&self) {
        rule(
            self.regs.cmdq_base.is_some() && self.regs.cmdq_indices == [true; 2],
            "§6.3.26: CMDQEN is set before CMDQ_BASE, then CMDQ_PROD and CMDQ_CONS were written",
        );
        let most = self.features.command_bits;
        self.check_queue(self.regs.command_queue(), most, "CMDQ");
        self.check_base(self.regs.cmdq_base, 0x1f, "CMDQ");
    }

    fn check_event_queue(&self) {
        rule(
            self.regs.eventq_base.is_some() && self.regs.eventq_indices == [true; 2],
            "§6.3.29: EVENTQEN is set before EVENTQ_BASE, then EVENTQ_PROD and EVENTQ_CONS were written",
        );
        let most = self.features.event_bits;
        self.check_queue(self.regs.event_queue(), most, "EVENTQ");
        self.check_base(self.regs.eventq_base, 0x1f, "EVENTQ");
    }

    fn check_queue(&self, queue: Queue, most: u32, what: &str) {
        rule(
            queue.bits <= most,
            format_args!(
                "§6.3.26: {what}_BASE.LOG2SIZE {} is more than IDR1's {most}",
                queue.bits
            ),
        );
        rule(
            queue.base.is_multiple_of(queue.bytes().max(32)),
            format_args!(
                "§6.3.26: {what}_BASE {:#x} is not aligned to the queue's size",
                queue.base
            ),
        );
        rule(
            self.regs.cr1.is_some(),
            "§6.3.11: a queue is enabled before CR1 was written",
        );
    }

    /// §6.3.25: what other values mean, and what they do, is not for software to rely on.
    fn check_shape(&self, value: u32) {
        let (size, split, format) = (value & 0x3f, value >> 6 & 0x1f, value >> 16 & 0b11);
        rule(
            size <= self.features.stream_bits,
            "§6.3.25: STRTAB_BASE_CFG.LOG2SIZE is more than IDR1.SIDSIZE",
        );
        rule(
            format <= 0b01 && (format == 0 || matches!(split, 6 | 8 | 10)),
            "§6.3.25: a reserved STRTAB_BASE_CFG.FMT or SPLIT",
        );
    }

    fn check_stream_table(&self) {
        let regs = &self.regs;
        let written = regs.strtab_base.is_some() && regs.strtab_cfg.is_some();
        rule(
            written && regs.cr1.is_some() && regs.cr2.is_some(),
            "§3.11: SMMUEN is set before STRTAB_BASE, STRTAB_BASE_CFG, CR1 and CR2 were written",
        );
        let cleaned = &regs.cleaned;
        rule(
            cleaned.config && cleaned.el1 && (cleaned.el2 || !self.features.hyp),
            "§3.11: SMMUEN is set before all cached configuration and translations were invalidated",
        );
        self.check_base(regs.strtab_base, 0, "STRTAB");
        let table = regs.stream_table();
        let align = 1u64.checked_shl(table.bytes_bits()).unwrap_or(0);
        rule(
            table.base & align.wrapping_sub(1) == 0,
            format_args!(
                "§6.3.24: STRTAB_BASE {:#x} is not aligned to the table's size",
                table.base
            ),
        );
    }

    /// Base registers hold an address of the implemented size, a hint and, in
    /// `low`, fields of their own.
    fn check_base(&self, register: Option<u64>, low: u64, what: &str) {
        let address = (1 << self.features.output_bits) - 1;
        rule(
            register.unwrap_or(0) & !(READ_ALLOCATE | low | BASE_ADDRESS & address) == 0,
            format_args!(
                "§6.2: reserved bits of {what}_BASE, or address bits beyond IDR5.OAS, are set"
            ),
        );
    }

    fn write_cr1(&mut self, value: u32) {
        self.reserved(value, CR1_QUEUE | CR1_TABLE, "CR1");
        let changed = value ^ self.regs.cr1.unwrap_or(!value);
        if changed & CR1_TABLE != 0 {
            self.guarded(
                SMMUEN,
                "§6.3.11: CR1.TABLE_* are changed while SMMUEN is set",
            );
        }
        if changed & CR1_QUEUE != 0 {
            self.guarded(
                CMDQEN | EVENTQEN,
                "§6.3.11: CR1.QUEUE_* are changed while a queue is enabled",
            );
        }
        self.regs.cr1 = Some(value);
    }

    fn write_gbpa(&mut self, value: u32) {
        rule(
            value & GBPA_UPDATE != 0,
            "§6.3.14.1: GBPA is written without setting Update",
        );
        rule(
            self.regs.gbpa.requested & GBPA_UPDATE == 0,
            "§6.3.14.1: GBPA is written before its last Update completed",
        );
        self.regs.gbpa.request(value, self.latency);
    }

    fn write_gerrorn(&mut self, value: u32) {
        let toggled = value ^ self.regs.gerrorn;
        rule(
            toggled & !self.regs.errors() == 0,
            "§6.3.20: GERRORN acknowledges an error that is not active",
        );
        self.regs.gerrorn = value;
        if toggled & CMDQ_ERR != 0 {
            self.forget_commands();
            self.fetch_commands();
        }
    }

    fn write_cmdq_prod(&mut self, value: u32) {
        let queue = self.regs.command_queue();
        rule(
            queue.masked(value) == value,
            "§6.3.27: bits above the wrap bit of CMDQ_PROD are set",
        );
        let cons = queue.masked(self.regs.cmdq_cons);
        let before = queue.used(self.regs.cmdq_prod, cons);
        let after = queue.used(value, cons);
        if self.regs.cr0.any(CMDQEN) {
            let error = self.regs.errors() & CMDQ_ERR != 0;
            rule(
                after.is_some() && (error || after >= before),
                "§3.21.2: CMDQ_PROD moves backwards, or past CMDQ_CONS",
            );
        }
        self.regs.cmdq_prod = value;
        self.regs.cmdq_indices[0] = self.regs.cmdq_base.is_some();
        self.fetch_commands();
    }

    fn write_eventq_cons(&mut self, value: u32) {
        let queue = self.regs.event_queue();
        let (prod, cons) = (self.regs.eventq_prod, self.regs.eventq_cons);
        if self.regs.cr0.any(EVENTQEN) {
            rule(
                queue.used(prod, value) <= queue.used(prod, cons)
                    && queue.used(prod, value).is_some(),
                "§3.21.2: EVENTQ_CONS moves backwards, or past EVENTQ_PROD",
            );
            rule(
                queue.masked(value) == value & !OVERFLOW,
                "§3.5.1: bits above the wrap bit of EVENTQ_CONS are set",
            );
        }
        self.regs.eventq_cons = value;
        self.regs.eventq_indices[1] = self.regs.eventq_base.is_some();
    }
}

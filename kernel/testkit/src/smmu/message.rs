//! Interrupts and completions as memory writes (IHI 0070 §3.18.1, §4.7.3, §6.3.21 to
//! §6.3.23): configured by registers of their own for each source, or, for a CMD_SYNC,
//! by the command. They go out late, and a CMD_SYNC's before CMDQ_CONS moves.

use super::registers::Irq;
use super::regs::{MSI_CMDQ_ABT_ERR, MSI_EVENTQ_ABT_ERR, MSI_GERROR_ABT_ERR};
use super::{Smmu, rule};
use crate::bus::DmaPort;

/// Outer and inner write-back (§5.2 MemAttr), and inner shareable.
const WRITE_BACK: u32 = 0b1111;
const INNER: u32 = 0b11;
/// CFG0.ADDR, in its two halves.
const ADDRESS: [u32; 2] = [0xffff_fffc, 0x00ff_ffff];
/// CFG2.MemAttr and CFG2.SH.
const ATTRIBUTES: u32 = 0x3f;

/// One write that says something.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Message {
    pub pa: u64,
    pub data: u32,
    /// MemAttr.
    pub memory: u32,
    /// SH.
    pub share: u32,
}

/// An IRQ_CFG0, 1 and 2, as far as they were written.
#[derive(Copy, Clone, Default)]
pub(super) struct IrqConfig {
    words: [Option<u32>; 4],
}

/// What there is to tell the CPU.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    Wire(Irq),
    Message(Irq, Message),
}

impl IrqConfig {
    /// Word 0 and 1 are CFG0, then come CFG1 and CFG2.
    pub fn write(&mut self, word: usize, value: u32) {
        let defined = [ADDRESS[0], ADDRESS[1], !0, ATTRIBUTES][word];
        rule(
            value & !defined == 0,
            format_args!("§6.3.21: reserved bits of an IRQ_CFG register are set: {value:#x}"),
        );
        self.words[word] = Some(value);
    }

    pub fn read(&self, word: usize) -> Option<u32> {
        self.words[word]
    }

    /// The interrupt is about to be enabled.
    pub fn check(&self, output_bits: u32) {
        let [low, high, data, attributes] = self.words;
        rule(
            low.is_some() && high.is_some(),
            "§6.3.21: an interrupt is enabled before its IRQ_CFG0 was written",
        );
        let Some(message) = self.message() else {
            return;
        };
        rule(
            data.is_some() && attributes.is_some(),
            "§6.3.22: a message interrupt is enabled before its IRQ_CFG1 and IRQ_CFG2 were written",
        );
        rule(
            message.pa >> output_bits == 0,
            "§6.3.21: the address of a message interrupt is beyond IDR5.OAS",
        );
        rule(
            message.share != 0b01,
            "§6.3.23: a reserved shareability of a message interrupt",
        );
    }

    /// None where the wire is selected.
    fn message(&self) -> Option<Message> {
        let word = |word: usize| self.words[word].unwrap_or(0);
        let pa = u64::from(word(0)) | u64::from(word(1)) << 32;
        (pa != 0).then(|| Message {
            pa,
            data: word(2),
            memory: word(3) & 0xf,
            share: word(3) >> 4,
        })
    }
}

impl Smmu {
    /// Signals an interrupt as it is configured at this moment.
    pub(super) fn raise(&mut self, irq: Irq) {
        let config = match irq {
            Irq::Event => self.regs.eventq_irq,
            Irq::Error => self.regs.gerror_irq,
            Irq::Sync => IrqConfig::default(),
        };
        self.signals.push(match config.message() {
            Some(message) => Signal::Message(irq, message),
            None => Signal::Wire(irq),
        });
    }

    /// Everything that was signalled goes out.
    pub(super) fn send(&mut self, port: &mut DmaPort<'_>) {
        for signal in std::mem::take(&mut self.signals) {
            let (irq, message) = match signal {
                Signal::Message(irq, message) => (irq, message),
                Signal::Wire(irq) => {
                    port.raise(match irq {
                        Irq::Event => self.lines.event,
                        Irq::Sync => self.lines.sync,
                        Irq::Error => self.lines.error,
                    });
                    continue;
                }
            };
            self.check_attributes(&message);
            let lost = self.fail_messages > 0;
            self.fail_messages = self.fail_messages.saturating_sub(1);
            let mut sent = || port.write_untranslated(message.pa, &message.data.to_le_bytes());
            if lost || sent().is_err() {
                self.raise_error(match irq {
                    Irq::Sync => MSI_CMDQ_ABT_ERR,
                    Irq::Event => MSI_EVENTQ_ABT_ERR,
                    Irq::Error => MSI_GERROR_ABT_ERR,
                });
            }
        }
    }

    /// A write to memory must have the attributes that its readers use, and one to a
    /// register those of a register.
    fn check_attributes(&self, message: &Message) {
        if !self.memory.is_ram(message.pa) {
            return rule(
                message.memory >> 2 == 0,
                "§3.18.1: a message to a register has the attributes of Normal memory",
            );
        }
        rule(
            self.memory.is_coherent() && self.features.coherent,
            "§4.7.3: a message to memory that the SMMU does not access coherently (IDR0.COHACC)",
        );
        rule(
            (message.memory, message.share) == (WRITE_BACK, INNER),
            "§4.7.3: a message to memory has other attributes than the CPU's reads of it",
        );
    }
}

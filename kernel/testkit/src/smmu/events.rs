//! Events: their records, and the queue that they are written to
//! (IHI 0070 §7.2 to §7.4).

use super::registers::Irq;
use super::regs::{EVENTQ_ABT_ERR, EVENTQ_IRQEN, EVENTQEN, OVERFLOW};
use super::walk::Class;
use super::{Access, Smmu};

/// The events that this model raises, by their numbers (§7.3).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EventKind {
    /// C_BAD_STREAMID.
    BadStreamId = 0x02,
    /// F_STE_FETCH.
    SteFetch = 0x03,
    /// C_BAD_STE.
    BadSte = 0x04,
    /// F_STREAM_DISABLED.
    StreamDisabled = 0x06,
    /// C_BAD_SUBSTREAMID.
    BadSubstreamId = 0x08,
    /// F_CD_FETCH.
    CdFetch = 0x09,
    /// C_BAD_CD.
    BadCd = 0x0a,
    /// F_WALK_EABT.
    WalkAbort = 0x0b,
    /// F_TRANSLATION.
    Translation = 0x10,
    /// F_ADDR_SIZE.
    AddressSize = 0x11,
    /// F_ACCESS.
    AccessFlag = 0x12,
    /// F_PERMISSION.
    Permission = 0x13,
}

impl EventKind {
    /// Whether the transaction can wait for software (§3.12.2).
    pub(super) fn can_stall(self) -> bool {
        self as u8 >= Self::Translation as u8
    }

    /// Whether the record says what the transaction wanted and where.
    fn has_access(self) -> bool {
        self as u8 > Self::BadCd as u8
    }
}

/// An event of one transaction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub kind: EventKind,
    pub stream: u32,
    pub substream: Option<u32>,
    pub iova: u64,
    pub access: Access,
    pub privileged: bool,
    /// What stage 2 was to translate, if it is stage 2 that faulted.
    pub stage2: Option<u64>,
    /// What the stage that faulted was translating.
    pub class: Class,
    /// What could not be fetched.
    pub fetched: u64,
    /// The transaction waits for software, which knows it by this.
    pub stalled: Option<u16>,
}

impl Event {
    fn record(&self) -> [u64; 4] {
        let flag = |on: bool, bit: u32| u64::from(on) << bit;
        let substream = match self.substream {
            None => 0,
            // §7.3.9: that there is one goes without saying.
            Some(id) if self.kind == EventKind::BadSubstreamId => u64::from(id) << 12,
            Some(id) => 1 << 11 | u64::from(id) << 12,
        };
        let mut record = [
            self.kind as u64 | substream | u64::from(self.stream) << 32,
            0,
            0,
            self.fetched,
        ];
        if self.kind.has_access() {
            record[1] = flag(self.privileged, 33)
                | flag(self.access == Access::Execute, 34)
                | flag(self.access != Access::Write, 35)
                | flag(self.stage2.is_some(), 39)
                | (self.class as u64) << 40;
            if let Some(tag) = self.stalled {
                // §7.3.13: STAG, bits 79:64, and Stall, bit 95.
                record[1] |= 1 << 31 | u64::from(tag);
            }
            record[2] = self.iova;
            if let Some(ipa) = self.stage2
                && self.kind != EventKind::WalkAbort
            {
                // Without its page offset.
                record[3] = ipa & 0x000f_ffff_ffff_f000;
            }
        }
        record
    }
}

impl Smmu {
    pub(super) fn record(&mut self, event: Event) {
        let queue = self.regs.event_queue();
        let (prod, cons) = (self.regs.eventq_prod, self.regs.eventq_cons);
        let stopped = self.regs.errors() & EVENTQ_ABT_ERR != 0;
        if self.regs.cr0.effective & EVENTQEN == 0 || stopped {
            return;
        }
        if queue.is_full(prod, cons) {
            // A second overflow before the first is acknowledged does not show.
            if (prod ^ cons) & OVERFLOW == 0 {
                self.regs.eventq_prod ^= OVERFLOW;
            }
            return;
        }
        let pa = queue.address(prod);
        if self.fail_event_write || !self.memory.is_ram(pa) {
            self.fail_event_write = false;
            self.raise_error(EVENTQ_ABT_ERR);
            return;
        }
        let bytes: Vec<u8> = event
            .record()
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        self.memory.device_write(pa, &bytes);
        self.regs.eventq_prod = queue.next(prod) | prod & OVERFLOW;
        // §3.18.2: only when the queue was empty before.
        if queue.used(prod, cons) == Some(0) && self.regs.irqs_enabled() & EVENTQ_IRQEN != 0 {
            self.raise(Irq::Event);
        }
    }
}

impl Smmu {
    /// The storm goes on while there is room for it.
    pub(super) fn fill_with_events(&mut self) {
        let queue = self.regs.event_queue();
        while self.storm.1 > 0 && !queue.is_full(self.regs.eventq_prod, self.regs.eventq_cons) {
            self.storm.1 -= 1;
            let done = self.translate(self.storm.0, 0, Access::Read);
            assert!(done.is_err(), "the storm's stream does not fault");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_by_their_literal_layout() {
        let event = Event {
            kind: EventKind::Translation,
            stream: 0x108,
            substream: None,
            iova: 0xdead_b000,
            access: Access::Read,
            privileged: false,
            stage2: None,
            class: Class::Input,
            fetched: 0,
            stalled: None,
        };
        // §7.3.13: RnW is bit 99, CLASS bits 105:104.
        let record = [0x108_0000_0010, 0x0208_0000_0000, 0xdead_b000, 0];
        assert_eq!(event.record(), record);
        let event = Event {
            access: Access::Write,
            ..event
        };
        assert_eq!(event.record()[1], 0x0200_0000_0000);
        let event = Event {
            kind: EventKind::BadSte,
            ..event
        };
        assert_eq!(event.record(), [0x108_0000_0004, 0, 0, 0]);
    }
}

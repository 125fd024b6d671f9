//! What an instance of the model has implemented, and the identification
//! registers that say so (IHI 0070 §6.3.1 to §6.3.8).

/// Optional features and sizes.
#[derive(Clone, Debug)]
pub struct Features {
    /// IDR1.SIDSIZE: bits of StreamID.
    pub stream_bits: u32,
    /// IDR0.ST_LEVEL: 2-level stream tables.
    pub two_level: bool,
    /// IDR1.CMDQS: log2 of the longest command queue.
    pub command_bits: u32,
    /// IDR1.EVENTQS: log2 of the longest event queue.
    pub event_bits: u32,
    /// IDR0.ASID16: 16 bits of ASID rather than 8.
    pub asid16: bool,
    /// IDR0.S1P.
    pub stage1: bool,
    /// IDR0.S2P.
    pub stage2: bool,
    /// IDR0.VMID16, where there is a stage 2: 16 bits of VMID rather than 8.
    pub vmid16: bool,
    /// IDR0.Hyp: the EL2 regimes.
    pub hyp: bool,
    /// IDR0.COHACC. Only what is reported: whether accesses snoop is up to the
    /// simulated memory.
    pub coherent: bool,
    /// IDR0.MSI: interrupts and the completion of a CMD_SYNC by message.
    pub messages: bool,
    /// IDR0.STALL_MODEL: faults may stall, where they are told to; else they never do.
    pub stalls: bool,
    /// IDR1.SSIDSIZE: bits of SubstreamID.
    pub substream_bits: u32,
    /// IDR0.CD2L: 2-level tables of context descriptors.
    pub two_level_cds: bool,
    /// IDR3.RIL: invalidation by range and level.
    pub ranges: bool,
    /// IDR5.OAS in bits: 32, 36, 40, 42, 44 or 48.
    pub output_bits: u32,
    /// IDR5.GRAN4K, GRAN16K, GRAN64K.
    pub granules: [bool; 3],
    /// AIDR: the minor revision of SMMUv3.
    pub revision: u32,
}

impl Features {
    /// What QEMU 10's `virt` machine reports.
    pub fn virt() -> Self {
        Self {
            stream_bits: 16,
            two_level: true,
            command_bits: 19,
            event_bits: 19,
            asid16: true,
            stage1: true,
            stage2: true,
            vmid16: true,
            hyp: false,
            coherent: true,
            messages: false,
            stalls: false,
            substream_bits: 0,
            two_level_cds: false,
            ranges: true,
            output_bits: 44,
            granules: [true; 3],
            revision: 1,
        }
    }

    /// The same without stage 1.
    pub fn stage2_only() -> Self {
        Self {
            stage1: false,
            ..Self::virt()
        }
    }

    /// The same with substreams, whose descriptors' tables have two levels.
    pub fn substreams() -> Self {
        Self {
            substream_bits: 8,
            two_level_cds: true,
            ..Self::virt()
        }
    }

    /// As little as the architecture allows for stage 1.
    pub fn small() -> Self {
        Self {
            stream_bits: 5,
            two_level: false,
            command_bits: 4,
            event_bits: 3,
            asid16: false,
            stage1: true,
            stage2: false,
            vmid16: false,
            hyp: false,
            coherent: false,
            messages: false,
            stalls: false,
            substream_bits: 0,
            two_level_cds: false,
            ranges: false,
            output_bits: 40,
            granules: [true, false, false],
            revision: 0,
        }
    }

    pub(super) fn idr0(&self) -> u32 {
        let flag = |on: bool, bit: u32| u32::from(on) << bit;
        flag(self.stage2, 0) // S2P
            | flag(self.stage1, 1) // S1P
            | 0b10 << 2 // TTF: AArch64 tables
            | flag(self.coherent, 4)
            | flag(self.hyp, 9)
            | flag(self.asid16, 12)
            | flag(self.messages, 13)
            | flag(self.stage2 && self.vmid16, 18) // VMID16
            | flag(self.two_level_cds, 19) // CD2L
            | 0b10 << 21 // TTENDIAN: little
            | flag(!self.stalls, 24) // STALL_MODEL: configurable, or none
            | 1 << 26 // TERM_MODEL: abort only
            | flag(self.two_level, 27)
    }

    pub(super) fn idr1(&self) -> u32 {
        self.stream_bits
            | self.substream_bits << 6
            | self.event_bits << 16
            | self.command_bits << 21
    }

    pub(super) fn idr3(&self) -> u32 {
        // RIL and, from the same revision on, at least BBML 1 (§3.21.1.1).
        u32::from(self.ranges) << 10 | u32::from(self.ranges) << 11
    }

    pub(super) fn idr5(&self) -> u32 {
        let granules = self.granules.iter().enumerate();
        let granules = granules.map(|(bit, &on)| u32::from(on) << (4 + bit));
        self.oas() | granules.sum::<u32>()
    }

    fn oas(&self) -> u32 {
        (0..6)
            .find(|&code| address_bits(code) == self.output_bits)
            .expect("an architected output address size")
    }

    pub(super) fn has_granule(&self, bits: u32) -> bool {
        match bits {
            12 => self.granules[0],
            14 => self.granules[1],
            16 => self.granules[2],
            _ => false,
        }
    }
}

/// Bits of an address size as IDR5.OAS and CD.IPS encode it (§6.3.6, §5.4).
pub(super) fn address_bits(code: u32) -> u32 {
    [32, 36, 40, 42, 44, 48, 52, 56][code as usize & 7]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_virt_machine_reports_what_qemu_does() {
        // QEMU has CD.HAD and XNX (IDR3 bits 2 and 4) and BBML 2 besides.
        let virt = Features::virt();
        assert_eq!(virt.idr0(), 0x0d44_101b);
        assert_eq!(virt.idr1(), 0x0273_0010);
        assert_eq!(virt.idr3() & 1 << 10, 0x1414 & 1 << 10);
        assert_eq!(virt.idr5(), 0x74);
    }
}

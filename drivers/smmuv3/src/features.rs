//! What this SMMU is, read once from its identification registers, and why an
//! implementation is refused that this driver could not run safely.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_pgtable::{Geometry, Granule, Stage};
use tock_registers::LocalRegisterCopy;

use crate::spec::registers as regs;
use crate::window::Window;

/// The identification registers, raw.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Idr {
    pub idr0: u32,
    pub idr1: u32,
    pub idr3: u32,
    pub idr5: u32,
    pub aidr: u32,
}

impl Idr {
    pub fn read<P: Platform>(window: &Window<P>) -> Self {
        Self {
            idr0: window.read(regs::IDR0).get(),
            idr1: window.read(regs::IDR1).get(),
            idr3: window.read(regs::IDR3).get(),
            idr5: window.read(regs::IDR5).get(),
            aidr: window.read(regs::AIDR).get(),
        }
    }

    /// Whether something answers that has the registers of an SMMUv3.
    pub fn is_of_an_smmu(&self) -> bool {
        self.answers()
            && LocalRegisterCopy::<u32, regs::AIDR::Register>::new(self.aidr)
                .read(regs::AIDR::MAJOR)
                == 0
    }

    fn answers(&self) -> bool {
        ![self.idr0, self.idr1, self.idr3, self.idr5, self.aidr].contains(&u32::MAX)
    }
}

/// What the driver goes by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Features {
    /// x of SMMUv3.x.
    pub minor: u32,
    /// The hardware's accesses to tables and queues snoop.
    pub coherent: bool,
    /// There are EL2 contexts, whose cached translations a reset must drop.
    pub hyp: bool,
    /// Translated traffic can exist and must be checked.
    pub ats: bool,
    /// There are registers for message interrupts.
    pub msi: bool,
    /// Stalling is configurable, and so must be disabled.
    pub stall_configurable: bool,
    /// 2-level stream tables.
    pub two_level: bool,
    /// Range invalidation.
    pub ranges: bool,
    /// There is a stage 1, which is what is used then.
    pub stage1: bool,
    /// There is a stage 2.
    pub stage2: bool,
    /// Bits of an ASID.
    pub asid_bits: u32,
    /// Bits of a VMID.
    pub vmid_bits: u32,
    /// Which of [`GRANULES`] there are.
    pub granules: [bool; 3],
    /// Bits of a StreamID.
    pub sid_bits: u32,
    /// Bits of a SubstreamID; 0 where there are none.
    pub substream_bits: u32,
    /// 2-level tables of context descriptors.
    pub two_level_cds: bool,
    /// log2 of the most commands in a queue.
    pub commands_log2: u32,
    /// log2 of the most events in a queue.
    pub events_log2: u32,
    /// Size of output addresses as CD.IPS wants it.
    pub ips: u64,
    /// The same in bits.
    pub output_bits: u32,
}

const GRANULES: [Granule; 3] = [Granule::K4, Granule::K16, Granule::K64];

impl Features {
    /// Decodes the registers (IHI 0070 §6.3.1 to §6.3.8), or says what is in the
    /// way.
    pub fn decode(idr: Idr) -> Result<Self, Fault> {
        let idr0 = LocalRegisterCopy::<u32, regs::IDR0::Register>::new(idr.idr0);
        let idr1 = LocalRegisterCopy::<u32, regs::IDR1::Register>::new(idr.idr1);
        let idr3 = LocalRegisterCopy::<u32, regs::IDR3::Register>::new(idr.idr3);
        let idr5 = LocalRegisterCopy::<u32, regs::IDR5::Register>::new(idr.idr5);
        let aidr = LocalRegisterCopy::<u32, regs::AIDR::Register>::new(idr.aidr);
        let granules = [
            idr5.is_set(regs::IDR5::GRAN4K),
            idr5.is_set(regs::IDR5::GRAN16K),
            idr5.is_set(regs::IDR5::GRAN64K),
        ];
        refuse(&[
            (
                !idr.answers(),
                "an SMMU that does not answer: a register reads as all ones",
                u32::MAX,
            ),
            (
                !idr.is_of_an_smmu(),
                "an SMMU that is not version 3 (AIDR)",
                idr.aidr,
            ),
            (
                !idr0.is_set(regs::IDR0::S1P) && !idr0.is_set(regs::IDR0::S2P),
                "an SMMU that does not translate (IDR0.S1P, IDR0.S2P)",
                idr.idr0,
            ),
            (
                idr0.read(regs::IDR0::TTF) & 0b10 == 0,
                "an SMMU without 64-bit translation tables (IDR0.TTF)",
                idr.idr0,
            ),
            (
                !matches!(idr0.read(regs::IDR0::TTENDIAN), 0b00 | 0b10),
                "an SMMU without little-endian tables (IDR0.TTENDIAN)",
                idr.idr0,
            ),
            (
                idr0.read(regs::IDR0::STALL_MODEL) >= 0b10,
                "an SMMU whose faults always stall (IDR0.STALL_MODEL)",
                idr.idr0,
            ),
            (
                idr1.is_set(regs::IDR1::TABLES_PRESET),
                "a preset stream table (IDR1.TABLES_PRESET)",
                idr.idr1,
            ),
            (
                idr1.is_set(regs::IDR1::QUEUES_PRESET),
                "preset queues (IDR1.QUEUES_PRESET)",
                idr.idr1,
            ),
            (
                idr1.is_set(regs::IDR1::REL),
                "relative table addresses (IDR1.REL)",
                idr.idr1,
            ),
            (
                idr1.read(regs::IDR1::SIDSIZE) > 32,
                "StreamIDs of more than 32 bits (IDR1.SIDSIZE)",
                idr.idr1,
            ),
            (
                granules == [false; 3],
                "an SMMU without a granule (IDR5)",
                idr.idr5,
            ),
        ])?;
        // Tables without larger descriptors reach 48 bits; what lies above is out of
        // use.
        let ips = u64::from(idr5.read(regs::IDR5::OAS)).min(0b101);
        Ok(Self {
            minor: aidr.read(regs::AIDR::MINOR),
            coherent: idr0.is_set(regs::IDR0::COHACC),
            hyp: idr0.is_set(regs::IDR0::HYP),
            ats: idr0.is_set(regs::IDR0::ATS),
            msi: idr0.is_set(regs::IDR0::MSI),
            stall_configurable: idr0.read(regs::IDR0::STALL_MODEL) == 0b00,
            two_level: idr0.read(regs::IDR0::ST_LEVEL) == 0b01,
            ranges: idr3.is_set(regs::IDR3::RIL),
            stage1: idr0.is_set(regs::IDR0::S1P),
            stage2: idr0.is_set(regs::IDR0::S2P),
            asid_bits: bits_of_tag(idr0.is_set(regs::IDR0::ASID16)),
            vmid_bits: bits_of_tag(idr0.is_set(regs::IDR0::VMID16)),
            sid_bits: idr1.read(regs::IDR1::SIDSIZE),
            substream_bits: idr1.read(regs::IDR1::SSIDSIZE).min(20),
            two_level_cds: idr0.is_set(regs::IDR0::CD2L),
            commands_log2: idr1.read(regs::IDR1::CMDQS).min(19),
            events_log2: idr1.read(regs::IDR1::EVENTQS).min(19),
            granules,
            ips,
            output_bits: [32, 36, 40, 42, 44, 48][ips as usize],
        })
    }

    /// The stage that domains are made of: the first, if there is one.
    pub fn stage(&self) -> Stage {
        if self.stage1 { Stage::One } else { Stage::Two }
    }

    /// Whether domains can be nested: a stage 1 above a stage 2.
    pub fn nests(&self) -> bool {
        self.stage1 && self.stage2
    }

    /// Tables of `stage`, with as many bits of input address as they can have (IHI 0070
    /// §3.4.1), and with the granule of `wanted` bytes if there is that, or the
    /// smallest.
    pub fn geometry(&self, stage: Stage, wanted: Option<u64>) -> Geometry {
        let there = || {
            GRANULES
                .into_iter()
                .filter(|granule| self.has_granule(*granule))
        };
        let chosen = there().find(|granule| Some(granule.size()) == wanted);
        let shape = Geometry {
            stage,
            granule: chosen.or_else(|| there().next()).unwrap_or(Granule::K4),
            input_bits: 0,
            output_bits: self.output_bits,
            blocks: true,
        };
        Geometry {
            input_bits: shape.most_input_bits(),
            ..shape
        }
    }

    fn has_granule(&self, granule: Granule) -> bool {
        let position = GRANULES.iter().position(|known| *known == granule);
        position.is_some_and(|at| self.granules[at])
    }

    /// Highest address that tables and queues may have and mappings may lead to.
    pub fn output_limit(&self) -> u64 {
        (1 << self.output_bits) - 1
    }

    /// The same for people.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            format!("SMMUv3.{}", self.minor),
            match (self.stage1, self.stage2) {
                (true, false) => "stage 1".to_string(),
                (true, true) => "stage 1, on stage 2 where nested".to_string(),
                _ => "stage 2".to_string(),
            },
            format!("{}-bit StreamIDs", self.sid_bits),
            match self.stage1 {
                true => format!("{}-bit ASIDs", self.asid_bits),
                false => format!("{}-bit VMIDs", self.vmid_bits),
            },
            format!("{}-bit output", self.output_bits),
        ];
        if self.stage1 && self.substream_bits > 0 {
            words.push(format!("{}-bit SubstreamIDs", self.substream_bits));
        }
        let flags = [
            (
                self.two_level,
                "2-level stream table",
                "linear stream table",
            ),
            (self.coherent, "coherent walks", "walks that do not snoop"),
            (self.ranges, "range invalidation", "invalidation by page"),
        ];
        for (set, yes, no) in flags {
            words.push(if set { yes } else { no }.to_string());
        }
        words
    }
}

/// Bits of an ASID or VMID.
fn bits_of_tag(wide: bool) -> u32 {
    if wide { 16 } else { 8 }
}

/// The first reason that applies.
fn refuse(reasons: &[(bool, &'static str, u32)]) -> Result<(), Fault> {
    match reasons.iter().find(|(applies, ..)| *applies) {
        Some(&(_, what, seen)) => Err(Fault::Unsupported {
            what,
            seen: seen.into(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn qemu() -> Features {
        Features::decode(QEMU).unwrap()
    }

    /// What QEMU 10.0's model says of itself.
    const QEMU: Idr = Idr {
        idr0: 0x0d44_101b,
        idr1: 0x0273_0010,
        idr3: 0x1414,
        idr5: 0x74,
        aidr: 1,
    };

    #[test]
    fn qemu_is_decoded() {
        let features = Features::decode(QEMU).unwrap();
        let expected = Features {
            minor: 1,
            coherent: true,
            hyp: false,
            ats: false,
            msi: false,
            stall_configurable: false,
            two_level: true,
            ranges: true,
            stage1: true,
            stage2: true,
            asid_bits: 16,
            vmid_bits: 16,
            granules: [true; 3],
            sid_bits: 16,
            substream_bits: 0,
            two_level_cds: false,
            commands_log2: 19,
            events_log2: 19,
            ips: 4,
            output_bits: 44,
        };
        assert_eq!(features, expected);
        assert_eq!(features.output_limit(), 0xfff_ffff_ffff);
    }

    #[test]
    fn each_obstacle_is_named() {
        let cases = [
            (
                Idr {
                    idr0: QEMU.idr0 & !0b11,
                    ..QEMU
                },
                "IDR0.S1P, IDR0.S2P",
            ),
            (
                Idr {
                    idr0: QEMU.idr0 & !(1 << 3),
                    ..QEMU
                },
                "IDR0.TTF",
            ),
            (
                Idr {
                    idr0: QEMU.idr0 | 3 << 21,
                    ..QEMU
                },
                "IDR0.TTENDIAN",
            ),
            (
                Idr {
                    idr0: QEMU.idr0 & !(3 << 24) | 2 << 24,
                    ..QEMU
                },
                "IDR0.STALL_MODEL",
            ),
            (
                Idr {
                    idr1: QEMU.idr1 | 1 << 28,
                    ..QEMU
                },
                "IDR1.REL",
            ),
            (
                Idr {
                    idr1: QEMU.idr1 | 1 << 29,
                    ..QEMU
                },
                "IDR1.QUEUES_PRESET",
            ),
            (
                Idr {
                    idr1: QEMU.idr1 | 1 << 30,
                    ..QEMU
                },
                "IDR1.TABLES_PRESET",
            ),
            (
                Idr {
                    idr1: QEMU.idr1 | 63,
                    ..QEMU
                },
                "IDR1.SIDSIZE",
            ),
            (
                Idr {
                    idr5: QEMU.idr5 & !(7 << 4),
                    ..QEMU
                },
                "IDR5",
            ),
            (Idr { aidr: 0x10, ..QEMU }, "AIDR"),
        ];
        for (idr, name) in cases {
            match Features::decode(idr) {
                Err(Fault::Unsupported { what, .. }) => {
                    assert!(what.contains(name), "{what} for {name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_register_of_all_ones_is_no_answer() {
        let none = u32::MAX;
        for idr in [
            Idr { idr0: none, ..QEMU },
            Idr { idr1: none, ..QEMU },
            Idr { idr3: none, ..QEMU },
            Idr { idr5: none, ..QEMU },
            Idr { aidr: none, ..QEMU },
        ] {
            assert!(!idr.is_of_an_smmu(), "{idr:x?}");
            let fault = Features::decode(idr).unwrap_err().to_string();
            assert!(fault.contains("does not answer"), "{fault}");
        }
    }

    #[test]
    fn words_say_what_there_is() {
        let of = |change: fn(&mut Features)| {
            let mut features = qemu();
            change(&mut features);
            features.words().join(", ")
        };
        assert_eq!(
            of(|_| {}),
            "SMMUv3.1, stage 1, on stage 2 where nested, 16-bit StreamIDs, 16-bit ASIDs, \
             44-bit output, 2-level stream table, coherent walks, range invalidation"
        );
        let bare = |features: &mut Features| {
            (features.stage2, features.coherent, features.ranges) = (false, false, false);
            (features.two_level, features.substream_bits) = (false, 5);
        };
        assert_eq!(
            of(bare),
            "SMMUv3.1, stage 1, 16-bit StreamIDs, 16-bit ASIDs, 44-bit output, \
             5-bit SubstreamIDs, linear stream table, walks that do not snoop, \
             invalidation by page"
        );
        // Without stage 1 nothing is told of it.
        let below = of(|features| (features.stage1, features.substream_bits) = (false, 5));
        assert!(
            below.contains("stage 2, 16-bit StreamIDs, 16-bit VMIDs"),
            "{below}"
        );
        assert!(
            !below.contains("Substream") && !below.contains("ASID"),
            "{below}"
        );
    }

    #[test]
    fn the_granule_is_the_one_wanted_or_the_smallest() {
        let of = |granules, wanted| {
            let features = Features { granules, ..qemu() };
            features.geometry(Stage::One, wanted).granule
        };
        assert_eq!(of([true; 3], None), Granule::K4);
        assert_eq!(of([true; 3], Some(4 << 10)), Granule::K4);
        assert_eq!(of([true; 3], Some(16 << 10)), Granule::K16);
        assert_eq!(of([true; 3], Some(64 << 10)), Granule::K64);
        assert_eq!(of([true, false, true], Some(16 << 10)), Granule::K4);
        assert_eq!(of([false, false, true], None), Granule::K64);
        assert_eq!(of([false, true, true], Some(4 << 10)), Granule::K16);
    }

    #[test]
    fn wide_output_is_clipped_to_what_tables_reach() {
        let wide = Features::decode(Idr {
            idr5: QEMU.idr5 & !7 | 6,
            ..QEMU
        })
        .unwrap();
        assert_eq!((wide.ips, wide.output_bits), (5, 48));
        let narrow = Features::decode(Idr {
            idr5: QEMU.idr5 & !7,
            ..QEMU
        })
        .unwrap();
        assert_eq!((narrow.ips, narrow.output_bits), (0, 32));
    }
}

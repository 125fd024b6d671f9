//! Commands, decoded as strictly as an implementation may: any bit that a command
//! does not define makes it illegal (IHI 0070 §4.1.5), and what the architecture
//! leaves unpredictable stops the test.

use super::features::Features;
use super::message::Message;
use super::rule;

/// One command.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// No effect on what this model keeps: prefetches, which are hints.
    Nothing,
    /// CMD_CFGI_STE.
    Ste { stream: u32, leaf: bool },
    /// CMD_CFGI_STE_RANGE and CMD_CFGI_ALL: 2^(range + 1) streams.
    Streams { stream: u32, range: u32 },
    /// CMD_CFGI_CD and CMD_CFGI_CD_ALL.
    Cd {
        stream: u32,
        /// All of the stream's if there is none.
        only: Option<u32>,
        leaf: bool,
    },
    /// CMD_TLBI_*.
    Tlb(Tlbi),
    /// CMD_RESUME: the transaction of a stream goes on, or ends.
    Resume { stream: u32, tag: u16 },
    /// CMD_STALL_TERM: all of a stream end.
    EndStalled { stream: u32 },
    /// CMD_SYNC.
    Sync(Completion),
}

/// How a CMD_SYNC says that it is complete.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Completion {
    /// By CMDQ_CONS alone.
    Index,
    /// And by the wired interrupt.
    Wire,
    /// And by a write.
    Message(Message),
}

/// A translation regime, as it tags translations (§5.2 STRW).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum World {
    El1,
    El2,
    El2E2h,
}

/// Which translations are to go.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Tlbi {
    /// `true` for EL1's, `false` for EL2's of either kind.
    pub el1: bool,
    /// Those that stage 1 has a part in.
    pub stage1: bool,
    /// Those of stage 2 alone.
    pub stage2: bool,
    /// Only of this VMID.
    pub vmid: Option<u16>,
    /// Only of this ASID.
    pub asid: Option<u16>,
    /// By address.
    pub range: Option<Range>,
}

/// The addresses of an invalidation.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub start: u64,
    /// 0: whatever contains `start`.
    pub len: u64,
    /// log2 of the granule, if the command names one.
    pub granule: Option<u32>,
    /// The level of the leaves, if the command names one.
    pub level: Option<u32>,
    /// Leaves only.
    pub leaf: bool,
}

const OPCODE: u64 = 0xff;
const CS: u64 = 0b11 << 12;
const SSEC: u64 = 1 << 10;
const STREAM: u64 = 0xffff_ffff << 32;
const SUBSTREAM: u64 = 0xf_ffff << 12;
const VMID: u64 = 0xffff << 32;
const ASID: u64 = 0xffff << 48;
const NUM: u64 = 0x1f << 12;
const SCALE: u64 = 0x1f << 20;
const LEAF: u64 = 1;
const TTL: u64 = 0b11 << 8;
const TG: u64 = 0b11 << 10;
const ADDRESS: u64 = !0xfff;

/// The bits that the command `opcode` defines besides the opcode (§4.2 to §4.7).
fn defined(opcode: u64) -> Option<[u64; 2]> {
    let range = NUM | SCALE;
    let address = LEAF | TTL | TG | ADDRESS;
    Some(match opcode {
        0x01 | 0x02 => [!0, !0],
        0x03 => [SSEC | STREAM, LEAF],
        0x04 => [SSEC | STREAM, 0x1f],
        0x05 => [SSEC | STREAM | SUBSTREAM, LEAF],
        0x06 => [SSEC | STREAM, 0],
        0x10 => [VMID, 0],
        0x11 => [VMID | ASID, 0],
        0x12 => [VMID | ASID | range, address],
        0x13 => [VMID | range, address],
        0x20 => [0, 0],
        0x21 => [ASID, 0],
        0x22 => [ASID | range, address],
        0x23 => [range, address],
        0x28 => [VMID, 0],
        0x2a => [VMID | range, address],
        0x30 => [0, 0],
        // Ac, Ab; STAG.
        0x44 => [SSEC | STREAM | 0b11 << 12, 0xffff],
        0x45 => [SSEC | STREAM, 0],
        // CS, MSH, MSIAttr, MSIData; MSIAddress.
        0x46 => [0b11 << 12 | 0x3f << 22 | STREAM, 0x00ff_ffff_ffff_fffc],
        _ => return None,
    })
}

impl Command {
    /// Decodes a command, or says why it raises CERROR_ILL (§4.1.3).
    pub fn decode(raw: [u64; 2], features: &Features) -> Result<Self, &'static str> {
        let opcode = raw[0] & OPCODE;
        let masks =
            defined(opcode).ok_or("an opcode that is reserved or of a feature not there")?;
        if raw[0] & !(masks[0] | OPCODE) != 0 || raw[1] & !masks[1] != 0 {
            return Err("reserved bits are set");
        }
        if masks[0] & SSEC != 0 && raw[0] & SSEC != 0 {
            return Err("SSec is set on the Non-secure queue");
        }
        let stream = (raw[0] >> 32) as u32;
        if masks[0] & SSEC != 0 && opcode != 0x04 {
            rule(
                u64::from(stream) < 1 << features.stream_bits,
                "§4.1.7: the StreamID of a command is out of range",
            );
        }
        Ok(match opcode {
            0x01 | 0x02 => Self::Nothing,
            0x03 => Self::Ste {
                stream,
                leaf: raw[1] & LEAF != 0,
            },
            0x04 => Self::Streams {
                stream,
                range: (raw[1] & 0x1f) as u32,
            },
            0x05 | 0x06 => {
                let substream = ((raw[0] & SUBSTREAM) >> 12) as u32;
                rule(
                    substream >> features.substream_bits == 0,
                    "§4.3.3: a SubstreamID beyond SSIDSIZE",
                );
                let one = opcode == 0x05;
                Self::Cd {
                    stream,
                    only: one.then_some(substream),
                    leaf: one && raw[1] & LEAF != 0,
                }
            }
            0x46 => Self::Sync(completion(raw, features)?),
            0x44 | 0x45 if !features.stalls => {
                return Err("a command about stalls without IDR0.STALL_MODEL");
            }
            0x44 => Self::Resume {
                stream,
                tag: raw[1] as u16,
            },
            0x45 => Self::EndStalled { stream },
            0x20..=0x23 if !features.hyp => return Err("an EL2 command without IDR0.Hyp"),
            0x10..=0x13 if !features.stage1 => return Err("a stage 1 command without stage 1"),
            0x28 | 0x2a if !features.stage2 => return Err("a stage 2 command without stage 2"),
            _ => Self::Tlb(tlbi(raw, opcode, features)?),
        })
    }
}

/// §4.7.3: CS, and where it is SIG_IRQ, MSIAddress selects message or wire.
fn completion(raw: [u64; 2], features: &Features) -> Result<Completion, &'static str> {
    let [low, pa] = raw;
    if !features.messages && (low & !(OPCODE | CS) != 0 || pa != 0) {
        return Err("a message without IDR0.MSI");
    }
    Ok(match (low & CS) >> 12 {
        0b11 => return Err("a reserved completion signal"),
        0b01 if pa != 0 => {
            rule(
                pa >> features.output_bits == 0,
                "§4.7.3: MSIAddress is beyond IDR5.OAS",
            );
            Completion::Message(Message {
                pa,
                data: (low >> 32) as u32,
                memory: (low >> 24 & 0xf) as u32,
                share: (low >> 22 & 0b11) as u32,
            })
        }
        0b01 => Completion::Wire,
        // Events are not modelled: nobody can tell one that did not come.
        _ => Completion::Index,
    })
}

fn tlbi(raw: [u64; 2], opcode: u64, features: &Features) -> Result<Tlbi, &'static str> {
    let masks = defined(opcode).unwrap_or_default();
    let field = |mask: u64, shift: u32| {
        (masks[0] & mask == mask).then_some((raw[0] >> shift & 0xffff) as u16)
    };
    let (vmid, asid) = (field(VMID, 32), field(ASID, 48));
    rule(
        features.stage2 || vmid.unwrap_or(0) == 0,
        "§4.4.2: a VMID without stage 2 (RES0)",
    );
    rule(
        features.vmid16 || vmid.unwrap_or(0) < 256,
        "§4.4: a VMID beyond 8 bits (RES0)",
    );
    rule(
        features.asid16 || asid.unwrap_or(0) < 256,
        "§4.4: an ASID beyond 8 bits (RES0)",
    );
    let by_address = masks[1] & ADDRESS != 0;
    Ok(Tlbi {
        el1: !(0x20..=0x23).contains(&opcode),
        // §4.4.3: by address only what is of stage 2 alone goes.
        stage1: opcode != 0x2a,
        stage2: matches!(opcode, 0x28 | 0x2a | 0x30),
        vmid,
        asid,
        range: by_address.then(|| range(raw, features)).transpose()?,
    })
}

/// §4.4.1.1: NUM, SCALE, TG and TTL.
fn range(raw: [u64; 2], features: &Features) -> Result<Range, &'static str> {
    let (num, scale) = ((raw[0] & NUM) >> 12, (raw[0] & SCALE) >> 20);
    let (tg, ttl) = ((raw[1] & TG) >> 10, (raw[1] & TTL) >> 8);
    let mut range = Range {
        start: raw[1] & ADDRESS,
        len: 0,
        granule: None,
        level: None,
        leaf: raw[1] & LEAF != 0,
    };
    if !features.ranges && (num | scale | tg | ttl) != 0 {
        return Err("a range or level without IDR3.RIL");
    }
    if tg == 0 {
        return match num | scale | ttl {
            0 => Ok(range),
            _ => Err("NUM, SCALE or TTL without TG"),
        };
    }
    if num == 0 && scale == 0 && ttl == 0 {
        return Err("TG with NUM, SCALE and TTL all 0");
    }
    let granule = 10 + 2 * tg as u32;
    let aligned = match ttl {
        0b01 if granule != 12 => return Err("TTL 1 with a granule that has no level 1 blocks"),
        0b00 => granule,
        level => granule + (3 - level as u32) * (granule - 3),
    };
    rule(
        range.start & ((1 << aligned) - 1) == 0,
        "§4.4.1.1: the address is not aligned to its level, so the range is unpredictable",
    );
    range.granule = Some(granule);
    range.level = (ttl != 0).then_some(ttl as u32);
    range.len = (num + 1) << (scale as u32 + granule);
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(low: u64, high: u64) -> Result<Command, &'static str> {
        Command::decode([low, high], &Features::virt())
    }

    #[test]
    fn commands_by_their_literal_encodings() {
        // §4.3.1, §4.3.6, §4.4.2.2, §4.7.3.
        let ste = Command::Ste {
            stream: 8,
            leaf: true,
        };
        assert_eq!(decode(0x8_0000_0003, 1), Ok(ste));
        let all = Command::Streams {
            stream: 0,
            range: 31,
        };
        assert_eq!(decode(0x04, 31), Ok(all));
        let Ok(Command::Tlb(by_asid)) = decode(0x0007_0000_0000_0011, 0) else {
            panic!("CMD_TLBI_NH_ASID");
        };
        assert_eq!((by_asid.vmid, by_asid.asid), (Some(0), Some(7)));
        let sync = Command::Sync(Completion::Index);
        assert_eq!(decode(0x2046, 0), Ok(sync));
    }

    #[test]
    fn a_sync_with_a_message() {
        let features = Features {
            messages: true,
            ..Features::virt()
        };
        let decode = |low, high| Command::decode([low, high], &features);
        // CS = SIG_IRQ, MSH = inner, MSIAttr = write-back.
        let low = 0x1046 | 0b11 << 22 | 0b1111 << 24 | 0x1234_5678 << 32;
        let message = Message {
            pa: 0x4000_0004,
            data: 0x1234_5678,
            memory: 0b1111,
            share: 0b11,
        };
        let sync = Command::Sync(Completion::Message(message));
        assert_eq!(decode(low, 0x4000_0004), Ok(sync));
        assert_eq!(decode(low, 0), Ok(Command::Sync(Completion::Wire)));
        assert!(decode(low, 0x4000_0002).is_err(), "misaligned");
    }

    #[test]
    fn an_address_with_a_range() {
        // TG = 4 KiB, TTL = 3, NUM = 3, SCALE = 1: 4 * 2 pages.
        let low = 0x12 | 3 << 12 | 1 << 20 | 5 << 48;
        let Ok(Command::Tlb(tlbi)) = decode(low, 0x1_0000 | 1 << 10 | 3 << 8 | 1) else {
            panic!("CMD_TLBI_NH_VA");
        };
        let range = Range {
            start: 0x1_0000,
            len: 0x8000,
            granule: Some(12),
            level: Some(3),
            leaf: true,
        };
        assert_eq!(tlbi.range, Some(range));
    }

    #[test]
    fn illegal_ones() {
        for (low, high) in [
            (0x00, 0),           // reserved
            (0x40, 0),           // ATC_INV without ATS
            (0x44, 0),           // RESUME without stalls
            (0x18, 0),           // EL3
            (0x20, 0),           // EL2 without Hyp
            (0x403, 0),          // SSec
            (0x03, 2),           // reserved bit
            (0x3046, 0),         // CS = 3
            (0x1046, 0x1000),    // an address without MSI
            (0x1_0000_0046, 0),  // data without MSI
            (0x12, 1 << 10),     // TG alone
            (0x12 | 1 << 12, 0), // NUM without TG
        ] {
            assert!(decode(low, high).is_err(), "{low:#x} {high:#x}");
        }
    }

    #[test]
    #[should_panic(expected = "IHI 0070 §4.1.7")]
    fn a_stream_out_of_range_is_a_breach() {
        let _ = decode(0x1_0000 << 32 | 0x03, 0);
    }

    #[test]
    #[should_panic(expected = "IHI 0070 §4.4.1.1")]
    fn a_misaligned_level_is_a_breach() {
        // TTL = 2 says 2 MiB blocks.
        let _ = decode(0x12, 0x1000 | 1 << 10 | 2 << 8);
    }
}

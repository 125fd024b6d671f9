//! Stream table entries and the descriptors that lead to them
//! (IHI 0070 §5.1, §5.2).

use super::cd::{Context, Region};
use super::command::World;
use super::features::{Features, address_bits};
use super::regs::E2H;
use super::rule;

/// 64 bytes of configuration: an STE or a CD.
pub(super) type Words = [u64; 8];

const VALID: u64 = 1;
const CONFIG: u64 = 0b111 << 1;
const S1_CONTEXT_PTR: u64 = 0x00ff_ffff_ffff_ffc0;
const S1_FMT: u64 = 0b11 << 4;
const S1_CD_MAX: u64 = 0x1f << 59;
const RESERVED_0: u64 = 0b111 << 56;
const S1_STALLD: u64 = 1 << 27;
const STRW: u64 = 0b11 << 30;
const RESERVED_1: u64 = 0b111 << 41;
const SW_RESERVED: u64 = 0xf << 20;
const PRIVCFG_SHIFT: u32 = 48;
const S2_TTB: u64 = 0x000f_ffff_ffff_fff0;

/// What an STE makes of a stream's transactions.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Ste {
    /// C_BAD_STE, and why.
    Illegal(&'static str),
    /// Silently.
    Abort,
    Bypass,
    Stage1(Stage1),
    Stage2(Stage2),
}

/// Stage 1 translates, and stage 2 what comes out of it or not.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Stage1 {
    /// Where the context descriptors are.
    pub cds: CdTable,
    pub world: World,
    /// The tag of its translations; 0 where there are none.
    pub vmid: u16,
    /// Every transaction counts as privileged.
    pub privileged: bool,
    /// CD.S may be set.
    pub stallable: bool,
    /// What translates the addresses of descriptors, tables and results.
    pub under: Option<Stage2>,
}

/// Where a stream's context descriptors are (§5.2 S1ContextPtr, S1Fmt, S1CDMax).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct CdTable {
    pub base: u64,
    /// log2 of their number.
    pub bits: u32,
    /// Bits of SubstreamID that index the second level, if there is one.
    pub split: Option<u32>,
    /// Of transactions without a SubstreamID, if others have one.
    pub plain: Plain,
}

/// What becomes of transactions without a SubstreamID (§5.2 S1DSS).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Plain {
    Terminate,
    Bypass,
    Substream0,
}

/// A stage 2.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Stage2 {
    pub vmid: u16,
    /// Record translation faults.
    record: bool,
    /// Stall transactions that fault.
    stalls: bool,
    region: Region,
    output_bits: u32,
    access_faults: bool,
}

impl Stage2 {
    /// As what translates on its own.
    pub fn context(&self) -> Context {
        Context {
            world: World::El1,
            stage2: true,
            vmid: self.vmid,
            asid: 0,
            record: self.record,
            stalls: self.stalls,
            regions: [Some(self.region), None],
            output_bits: self.output_bits,
            access_faults: self.access_faults,
            write_execute_never: false,
            mair: 0,
            under: None,
        }
    }
}

impl CdTable {
    /// A single descriptor.
    pub fn one(base: u64) -> Self {
        Self {
            base,
            bits: 0,
            split: None,
            plain: Plain::Substream0,
        }
    }

    /// §5.2; `Err` is a C_BAD_STE and why.
    fn decode(words: &Words, features: &Features) -> Result<Self, &'static str> {
        let [first, second, ..] = *words;
        let base = first & S1_CONTEXT_PTR;
        let bits = ((first & S1_CD_MAX) >> 59) as u32;
        if bits == 0 {
            return Ok(Self::one(base));
        }
        if bits > features.substream_bits {
            rule(
                features.substream_bits > 0,
                "§5.2: S1CDMax, though IDR1.SSIDSIZE is 0",
            );
            return Err("S1CDMax is more than IDR1.SSIDSIZE");
        }
        let format = (first & S1_FMT) >> 4;
        rule(
            format == 0 || features.two_level_cds,
            "§5.2: S1Fmt without IDR0.CD2L (RES0)",
        );
        let split = [None, Some(6), Some(10), None][format as usize];
        rule(format != 0b11, "§5.2: a reserved S1Fmt");
        let size = match split {
            None => bits + 6,
            Some(split) => (bits.saturating_sub(split) + 3).max(6),
        };
        rule(
            base & ((1 << size) - 1) == 0,
            "§5.2: S1ContextPtr is not aligned to its table, and the low bits are dropped",
        );
        let plain = match second & 0b11 {
            0b00 => Plain::Terminate,
            0b01 => Plain::Bypass,
            0b10 => Plain::Substream0,
            _ => {
                rule(false, "§5.2: a reserved S1DSS");
                Plain::Terminate
            }
        };
        Ok(Self {
            base,
            bits,
            split,
            plain,
        })
    }

    /// How many descriptors of level 1 there are.
    pub fn level1(&self) -> usize {
        let split = self.split.map(|split| self.bits.saturating_sub(split));
        split.map_or(0, |bits| 1 << bits)
    }
}

impl Ste {
    /// §5.2.2, validity of STE.
    pub fn decode(words: &Words, features: &Features, cr2: u32) -> Self {
        let [first, second, third, ..] = *words;
        if first & VALID == 0 {
            return Self::Illegal("V is 0");
        }
        let mut under = None;
        match (first & CONFIG) >> 1 {
            0b000..=0b011 => return Self::Abort,
            0b100 => return Self::Bypass,
            0b101 if !features.stage1 => return Self::Illegal("stage 1 without IDR0.S1P"),
            0b101 => {}
            _ if !features.stage2 => return Self::Illegal("stage 2 without IDR0.S2P"),
            0b110 => {
                let stage2 = stage2(words, features);
                return stage2.map_or_else(Self::Illegal, Self::Stage2);
            }
            _ if !features.stage1 => return Self::Illegal("both stages without IDR0.S1P"),
            _ => match stage2(words, features) {
                Ok(stage2) => under = Some(stage2),
                Err(why) => return Self::Illegal(why),
            },
        }
        if first & RESERVED_0 != 0 || second & RESERVED_1 != 0 {
            return Self::Illegal("reserved bits are set");
        }
        if second & S1_STALLD != 0 && !features.stalls {
            return Self::Illegal("S1STALLD, though IDR0.STALL_MODEL has no stalls");
        }
        let cds = match CdTable::decode(words, features) {
            Ok(cds) => cds,
            Err(why) => return Self::Illegal(why),
        };
        // An intermediate address is checked by the stage 2 that translates it.
        if under.is_none() && cds.base >> features.output_bits != 0 {
            return Self::Illegal("S1ContextPtr is beyond the output size");
        }
        let world = match (second & STRW) >> 30 {
            0b00 => World::El1,
            _ if !features.hyp => {
                rule(false, "§5.2: STRW without IDR0.Hyp (RES0)");
                World::El1
            }
            0b10 if cr2 & E2H == 0 => World::El2,
            0b10 => World::El2E2h,
            _ => return Self::Illegal("a reserved STRW"),
        };
        rule(
            under.is_none() || world == World::El1,
            "§5.2: both stages in a regime without stage 2",
        );
        let tagged = features.stage2 && world == World::El1;
        let vmid = if tagged { vmid(third, features) } else { 0 };
        Self::Stage1(Stage1 {
            cds,
            world,
            vmid,
            privileged: second >> PRIVCFG_SHIFT & 0b11 == 0b11,
            stallable: features.stalls && second & S1_STALLD == 0,
            under,
        })
    }

    /// The stage 2 that it names.
    pub fn stage2(&self) -> Option<Stage2> {
        match self {
            Self::Stage1(stage1) => stage1.under,
            Self::Stage2(stage2) => Some(*stage2),
            _ => None,
        }
    }

    /// The bits that hardware looks at in an STE whose first word is `first`:
    /// none but V of an invalid one, no more than Config of an aborting one.
    pub fn used(first: u64) -> Option<Words> {
        if first & VALID == 0 {
            return None;
        }
        let all = !SW_RESERVED;
        Some(match (first & CONFIG) >> 1 {
            0b000..=0b011 => [VALID | CONFIG, 0, 0, 0, 0, 0, 0, 0],
            // Attributes, overrides; no pointer.
            0b100 => [VALID | CONFIG, all & !0xff, 0, 0, 0, 0, 0, 0],
            0b101 => [!0, all, 0xffff, 0, 0, 0, 0, 0],
            // No CD, and nothing of how it is fetched.
            0b110 => [VALID | CONFIG, all & !0xff, !0, !0, !0, !0, !0, !0],
            _ => [!0, all, !0, !0, !0, !0, !0, !0],
        })
    }
}

/// Whether a valid STE names a stage 2.
pub(super) fn has_stage2(words: &Words) -> bool {
    words[0] & (0b110 << 1 | VALID) == 0b110 << 1 | VALID
}

/// §5.2, validity of the stage 2 fields; `Err` is a C_BAD_STE and why.
fn stage2(words: &Words, features: &Features) -> Result<Stage2, &'static str> {
    let [first, second, third, fourth, ..] = *words;
    let field = |low: u32, bits: u32| third >> low & ((1 << bits) - 1);
    if first & RESERVED_0 != 0 || second & RESERVED_1 != 0 || field(16, 16) != 0 {
        return Err("reserved bits are set");
    }
    let flags = [
        (
            51,
            true,
            "S2AA64 is 0, though IDR0.TTF has no AArch32 tables",
        ),
        (52, false, "S2ENDI, though IDR0.TTENDIAN is little"),
        (55, false, "S2HD without IDR0.HTTU"),
        (56, false, "S2HA without IDR0.HTTU"),
    ];
    if field(57, 1) == 1 && !features.stalls {
        return Err("S2S, though IDR0.STALL_MODEL has no stalls");
    }
    if let Some((.., why)) = flags
        .iter()
        .find(|(bit, wanted, _)| (field(*bit, 1) == 1) != *wanted)
    {
        return Err(why);
    }
    let granule = match field(46, 2) {
        0b00 => 12,
        0b01 => 16,
        0b10 => 14,
        _ => return Err("a reserved S2TG"),
    };
    if !features.has_granule(granule) {
        return Err("a granule that IDR5 does not have");
    }
    let size = field(32, 6) as u32;
    if !(16..=39).contains(&size) || 64 - size > features.output_bits {
        return Err("S2T0SZ is not 16 to 39, or beyond IDR5.OAS");
    }
    let input_bits = 64 - size;
    // DDI 0487 §D8.2 VTCR_EL2.SL0: the highest level only with enough address bits;
    // and of the tables of the start level there are 1 to 16, side by side.
    let lowest = if granule == 12 { 2 } else { 3 };
    let (code, stride) = (field(38, 2) as u32, granule - 3);
    let enough = if granule == 14 { 42 } else { 44 };
    if code == 3 || code == 2 && features.output_bits < enough {
        return Err("a reserved S2SL0");
    }
    let start = lowest - code;
    let below = granule + (3 - start) * stride;
    if input_bits <= below || input_bits > below + stride + 4 {
        return Err("S2SL0 does not go with S2T0SZ");
    }
    let output_bits = address_bits(field(48, 3) as u32);
    rule(
        output_bits <= features.output_bits,
        "§5.2: S2PS is more than IDR5.OAS, which software must not rely on",
    );
    rule(
        words[4..].iter().all(|&word| word == 0) && fourth & !S2_TTB == 0 && third >> 59 == 0,
        "§5.2: reserved bits of an STE are set",
    );
    let table = fourth & S2_TTB;
    if table >> output_bits != 0 {
        return Err("S2TTB is beyond the output size");
    }
    rule(
        table & ((1 << (input_bits - below + 3)) - 1) == 0,
        "§5.2: S2TTB is not aligned to its table, and the low bits are dropped",
    );
    let region = Region {
        table,
        input_bits,
        granule,
        start,
        ignores_top_byte: false,
    };
    Ok(Stage2 {
        vmid: vmid(third, features),
        record: field(58, 1) == 1,
        stalls: field(57, 1) == 1,
        region,
        output_bits,
        access_faults: field(53, 1) == 0,
    })
}

/// §5.2 S2VMID.
fn vmid(third: u64, features: &Features) -> u16 {
    let vmid = third as u16;
    rule(
        features.vmid16 || vmid < 256,
        "§5.2: an S2VMID beyond 8 bits without IDR0.VMID16 (RES0)",
    );
    vmid
}

/// A level 1 descriptor of a 2-level table: the array, and how many STEs of it
/// are valid, as log2 (§5.1).
pub(super) fn level1(raw: u64, split: u32) -> Option<(u64, u32)> {
    match (raw & 0x1f) as u32 {
        span @ 1..=11 if span <= split + 1 => {
            let bits = span - 1;
            let array = raw & S1_CONTEXT_PTR;
            rule(
                array & ((1 << (bits + 6)) - 1) == 0,
                "§5.1: L2Ptr is not aligned to the array's size",
            );
            rule(
                raw & !(S1_CONTEXT_PTR | 0x1f) == 0,
                "§5.1: reserved bits are set in an L1STD",
            );
            Some((array, bits))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(words: [u64; 3]) -> Ste {
        let [a, b, c] = words;
        Ste::decode(&[a, b, c, 0, 0, 0, 0, 0], &Features::virt(), 0)
    }

    #[test]
    fn configurations_by_their_literal_values() {
        assert_eq!(decode([0, 0, 0]), Ste::Illegal("V is 0"));
        assert_eq!(decode([1, 0, 0]), Ste::Abort);
        assert_eq!(decode([1 | 0b100 << 1, 0, 0]), Ste::Bypass);
        let stage1 = Ste::Stage1(Stage1 {
            cds: CdTable::one(0x4000_0040),
            world: World::El1,
            vmid: 3,
            privileged: false,
            stallable: false,
            under: None,
        });
        assert_eq!(decode([0x4000_004b, 0, 3]), stage1);
        assert!(matches!(decode([0x4000_004b, 1 << 27, 0]), Ste::Illegal(_)));
        assert!(matches!(decode([1 << 50 | 0xb, 0, 0]), Ste::Illegal(_)));
    }

    #[test]
    fn level_1_spans() {
        assert_eq!(level1(0, 8), None);
        assert_eq!(level1(0x4000_0009, 8), Some((0x4000_0000, 8)));
        // More than the split has, and reserved.
        assert_eq!(level1(0x4000_000a, 8), None);
        assert_eq!(level1(0x4000_000c, 10), None);
    }
}

//! Context descriptors (IHI 0070 §5.4) of VMSAv8-64 tables.

use super::command::World;
use super::features::{Features, address_bits};
use super::rule;
use super::ste::{Stage1, Stage2, Words};

const EPD0: u64 = 1 << 14;
const ENDI: u64 = 1 << 15;
const VALID: u64 = 1 << 31;
const AFFD: u64 = 1 << 35;
const WXN: u64 = 1 << 36;
const TBI0: u64 = 1 << 38;
const AA64: u64 = 1 << 41;
const HD_HA: u64 = 0b11 << 42;
const STALL: u64 = 1 << 44;
const RECORD: u64 = 1 << 45;
const ABORT: u64 = 1 << 46;
const TTB: u64 = 0x000f_ffff_ffff_fff0;

/// How addresses are translated, and how the results are tagged.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Context {
    pub world: World,
    /// It is a stage 2 without a stage 1.
    pub stage2: bool,
    pub vmid: u16,
    pub asid: u16,
    /// Record translation faults.
    pub record: bool,
    /// Stall transactions that fault.
    pub stalls: bool,
    /// What TTB0 and TTB1 translate, unless disabled.
    pub regions: [Option<Region>; 2],
    /// Bits of output address.
    pub output_bits: u32,
    /// Faults on a clear access flag.
    pub access_faults: bool,
    /// What may be written is not executed.
    pub write_execute_never: bool,
    pub mair: u64,
    /// What translates its tables' addresses and its results.
    pub under: Option<Stage2>,
}

/// One half of the input space.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Region {
    pub table: u64,
    pub input_bits: u32,
    /// log2 of the granule.
    pub granule: u32,
    /// Level of the root table, or of several side by side.
    pub start: u32,
    /// The top byte of the address does not count.
    pub ignores_top_byte: bool,
}

impl Context {
    /// §5.4.2, validity of CD; `Err` is a C_BAD_CD and why.
    pub fn decode(words: &Words, ste: &Stage1, features: &Features) -> Result<Self, &'static str> {
        let first = words[0];
        let illegal = |bits: u64, why: &'static str| match first & bits {
            0 => Ok(()),
            _ => Err(why),
        };
        let wanted = |bits: u64, why: &'static str| match first & bits {
            0 => Err(why),
            _ => Ok(()),
        };
        wanted(VALID, "V is 0")?;
        wanted(ABORT, "A is 0, though IDR0.TERM_MODEL only aborts")?;
        wanted(AA64, "AA64 is 0, though IDR0.TTF has no AArch32 tables")?;
        if !ste.stallable {
            illegal(
                STALL,
                "S, though STE.S1STALLD or IDR0.STALL_MODEL have no stalls",
            )?;
        }
        illegal(ENDI, "ENDI, though IDR0.TTENDIAN is little")?;
        illegal(HD_HA, "HA or HD without IDR0.HTTU")?;
        let asid = (first >> 48) as u16;
        if !features.asid16 && asid > 255 {
            return Err("an ASID of more than 8 bits");
        }
        let output_bits = address_bits((first >> 32) as u32);
        rule(
            output_bits <= features.output_bits,
            "§5.4: IPS is more than IDR5.OAS, which software must not rely on",
        );
        rule(
            words[4..].iter().all(|&word| word == 0),
            "§5.4: AMAIR or reserved words of a CD are set",
        );
        let output_bits = output_bits.min(features.output_bits);
        let upper = ste.world != World::El2;
        Ok(Self {
            world: ste.world,
            stage2: false,
            vmid: ste.vmid,
            asid: if upper { asid } else { 0 },
            record: first & RECORD != 0,
            stalls: first & STALL != 0,
            regions: [
                region(words, 0, features, output_bits)?,
                match upper {
                    true => region(words, 1, features, output_bits)?,
                    false => None,
                },
            ],
            output_bits,
            access_faults: first & AFFD == 0,
            write_execute_never: first & WXN != 0,
            mair: words[3],
            under: ste.under,
        })
    }

    /// Whether translations made through `other` may stand in for these: what
    /// §5.4.1 requires of contexts with the same tags.
    pub fn is_interchangeable(&self, other: &Self) -> bool {
        let (record, stalls) = (self.record, self.stalls);
        let other = Self {
            record,
            stalls,
            ..*other
        };
        *self == other
    }
}

/// The bits that hardware looks at in a CD whose first word is `first`.
pub(super) fn used(first: u64) -> Option<Words> {
    (first & VALID != 0).then_some([!0, !0, !0, !0, !0, !0, !0, !0])
}

/// The half that TTB0 or TTB1 translates.
fn region(
    words: &Words,
    half: usize,
    features: &Features,
    output_bits: u32,
) -> Result<Option<Region>, &'static str> {
    let first = words[0] >> (16 * half);
    if first & EPD0 != 0 {
        return Ok(None);
    }
    // TG0 and TG1 are encoded differently (§5.4).
    let granule = match (half, first >> 6 & 0b11) {
        (0, 0b00) | (1, 0b10) => 12,
        (0, 0b10) | (1, 0b01) => 14,
        (0, 0b01) | (1, 0b11) => 16,
        _ => return Err("a reserved TG"),
    };
    if !features.has_granule(granule) {
        return Err("a granule that IDR5 does not have");
    }
    let size = (first & 0x3f) as u32;
    if !(16..=39).contains(&size) {
        return Err("TxSZ is not 16 to 39");
    }
    let levels = (64 - size - granule).div_ceil(granule - 3);
    let region = Region {
        table: words[1 + half] & TTB,
        input_bits: 64 - size,
        granule,
        start: 4 - levels,
        ignores_top_byte: words[0] & TBI0 << half != 0,
    };
    if region.table >> output_bits != 0 {
        return Err("TTB is beyond the output size");
    }
    let top = region.input_bits - granule - (levels - 1) * (granule - 3);
    rule(
        region.table & ((1 << (top + 3)) - 1) == 0,
        "§5.4: TTB is not aligned to its table, and the low bits are dropped",
    );
    Ok(Some(region))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smmu::ste::CdTable;

    /// 39 bits, 4 KiB, EPD1, V, 44 bits out, AA64, R, A, ASET, ASID 5.
    const GOOD: Words = [
        25 | 1 << 30 | 1 << 31 | 4 << 32 | 1 << 41 | 1 << 45 | 1 << 46 | 1 << 47 | 5 << 48,
        0x4000_1000,
        0,
        0x04_44ff,
        0,
        0,
        0,
        0,
    ];

    fn decode(change: impl FnOnce(&mut Words)) -> Result<Context, &'static str> {
        let ste = Stage1 {
            cds: CdTable::one(0),
            world: World::El1,
            vmid: 0,
            privileged: false,
            stallable: false,
            under: None,
        };
        let mut words = GOOD;
        change(&mut words);
        Context::decode(&words, &ste, &Features::virt())
    }

    #[test]
    fn a_usual_descriptor() {
        let context = decode(|_| {}).unwrap();
        let region = Region {
            table: 0x4000_1000,
            input_bits: 39,
            granule: 12,
            start: 1,
            ignores_top_byte: false,
        };
        assert_eq!(context.regions, [Some(region), None]);
        assert_eq!((context.asid, context.output_bits), (5, 44));
        assert!(context.record && context.access_faults);
    }

    #[test]
    fn illegal_ones() {
        for (bit, why) in [
            (31, "V"),
            (46, "A"),
            (44, "S"),
            (41, "AA64"),
            (43, "HA"),
            (15, "ENDI"),
            (30, "EPD1, so TG1 counts"),
            (5, "T0SZ"),
        ] {
            assert!(decode(|words| words[0] ^= 1 << bit).is_err(), "{why}");
        }
        assert!(decode(|words| words[1] = 1 << 44).is_err(), "TTB0");
    }

    #[test]
    #[should_panic(expected = "§5.4: TTB is not aligned")]
    fn a_misaligned_table_is_a_breach() {
        let _ = decode(|words| words[1] += 64);
    }

    #[test]
    #[should_panic(expected = "§5.4: IPS")]
    fn a_reserved_output_size_is_a_breach() {
        let _ = decode(|words| words[0] |= 7 << 32);
    }
}

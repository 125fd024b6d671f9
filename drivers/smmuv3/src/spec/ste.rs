//! Stream table entries (IHI 0070 §5.2) and the descriptors of a 2-level table's
//! first level (§5.1).
#![allow(
    missing_docs,
    reason = "register_bitfields! makes constants that it cannot document"
)]

use tock_registers::fields::{Field, FieldValue};
use tock_registers::{LocalRegisterCopy, RegisterLongName, register_bitfields};

use super::Access;

register_bitfields![u64,
    /// First word of an STE.
    pub STE0 [
        /// Valid.
        V OFFSET(0) NUMBITS(1) [],
        /// What happens to the stream's transactions.
        CONFIG OFFSET(1) NUMBITS(3) [
            Abort = 0b000,
            Bypass = 0b100,
            Stage1 = 0b101,
            Stage2 = 0b110,
            Nested = 0b111
        ],
        /// Format of the CD table.
        S1FMT OFFSET(4) NUMBITS(2) [Linear = 0b00, TwoLevel4K = 0b01, TwoLevel64K = 0b10],
        /// Bits 55 to 6 of the CD's address.
        S1CONTEXTPTR OFFSET(6) NUMBITS(50) [],
        /// log2 of the number of CDs; 0 for one, and no substreams.
        S1CDMAX OFFSET(59) NUMBITS(5) []
    ],
    /// Second word of an STE.
    pub STE1 [
        /// Transactions without a substream where there are substreams.
        S1DSS OFFSET(0) NUMBITS(2) [Terminate = 0b00, Bypass = 0b01, Substream0 = 0b10],
        /// Access to CDs, inner cacheability.
        S1CIR OFFSET(2) NUMBITS(2) [],
        /// Access to CDs, outer cacheability.
        S1COR OFFSET(4) NUMBITS(2) [],
        /// Access to CDs, shareability.
        S1CSH OFFSET(6) NUMBITS(2) [],
        /// Use of stage 2 descriptors' bits 59 to 62.
        S2HWU OFFSET(8) NUMBITS(4) [],
        /// Similar events may be merged.
        MEV OFFSET(19) NUMBITS(1) [],
        /// Stage 2 attributes override stage 1's.
        S2FWB OFFSET(25) NUMBITS(1) [],
        /// Stage 1 faults never stall.
        S1STALLD OFFSET(27) NUMBITS(1) [],
        /// ATS requests and translated traffic.
        EATS OFFSET(28) NUMBITS(2) [],
        /// Translation regime.
        STRW OFFSET(30) NUMBITS(2) [NsEl1 = 0b00, El2 = 0b10],
        /// Everything that may be overridden of the stream's transactions, SHCFG
        /// included.
        OVERRIDES OFFSET(32) NUMBITS(20) [],
        /// Shareability of the stream's transactions.
        SHCFG OFFSET(44) NUMBITS(2) [NonShareable = 0b00, Incoming = 0b01]
    ],
    /// Third word of an STE.
    pub STE2 [
        /// The tag of translations of one stage 2, or 0.
        S2VMID OFFSET(0) NUMBITS(16) [],
        /// 64 less the bits of input address of stage 2.
        S2T0SZ OFFSET(32) NUMBITS(6) [],
        /// First level of its walk, encoded by granule.
        S2SL0 OFFSET(38) NUMBITS(2) [],
        /// Its walks, inner cacheability.
        S2IR0 OFFSET(40) NUMBITS(2) [],
        /// Its walks, outer cacheability.
        S2OR0 OFFSET(42) NUMBITS(2) [],
        /// Its walks, shareability.
        S2SH0 OFFSET(44) NUMBITS(2) [],
        /// Its granule.
        S2TG OFFSET(46) NUMBITS(2) [K4 = 0b00, K64 = 0b01, K16 = 0b10],
        /// Size of its output addresses, as IDR5.OAS.
        S2PS OFFSET(48) NUMBITS(3) [],
        /// VMSAv8-64 tables.
        S2AA64 OFFSET(51) NUMBITS(1) [],
        /// Big-endian tables.
        S2ENDI OFFSET(52) NUMBITS(1) [],
        /// Descriptors with AF = 0 do not fault.
        S2AFFD OFFSET(53) NUMBITS(1) [],
        /// Stage 1 walks that stage 2 maps as device memory fault.
        S2PTW OFFSET(54) NUMBITS(1) [],
        /// Hardware updates dirty state.
        S2HD OFFSET(55) NUMBITS(1) [],
        /// Hardware updates the access flag.
        S2HA OFFSET(56) NUMBITS(1) [],
        /// Stage 2 faults stall.
        S2S OFFSET(57) NUMBITS(1) [],
        /// Stage 2 faults are recorded.
        S2R OFFSET(58) NUMBITS(1) []
    ],
    /// Fourth word of an STE.
    pub STE3 [
        /// Bits 51 to 4 of the root table of stage 2.
        S2TTB OFFSET(4) NUMBITS(48) []
    ],
    /// A level 1 descriptor.
    pub L1STD [
        /// 0: no streams; n: 2^(n-1) entries.
        SPAN OFFSET(0) NUMBITS(5) [],
        /// Bits 55 to 6 of the level 2 table's address.
        L2PTR OFFSET(6) NUMBITS(50) []
    ]
];

/// What a stage 2 regime is made of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stage2 {
    /// Tag of the translations.
    pub vmid: u16,
    /// The root table.
    pub ttb: u64,
    /// log2 of the granule: 12, 14 or 16.
    pub granule: u32,
    /// Bits of input address.
    pub input_bits: u32,
    /// Level of the root table.
    pub start_level: u8,
    /// Size of output addresses, encoded as in IDR5.OAS.
    pub ps: u64,
    /// How the walker reads the tables.
    pub access: Access,
}

/// Where the CDs of a stream's substreams are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CdTable {
    /// The CDs, or the first of two levels; the second has tables of 4 KiB.
    pub base: u64,
    /// Which of both.
    pub two_level: bool,
    /// log2 of the number of CDs.
    pub bits: u32,
    /// What becomes of transactions without a SubstreamID.
    pub plain: Plain,
}

/// What becomes of transactions without a SubstreamID (S1DSS).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Plain {
    /// They abort, and an event is recorded.
    Terminate,
    /// They pass stage 1 by.
    Bypass,
    /// They use CD 0, and those of substream 0 abort.
    Substream0,
}

/// A stream table entry.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Ste(pub [u64; Ste::WORDS]);

impl Ste {
    /// 64-bit words of an entry.
    pub const WORDS: usize = 8;
    /// Bytes of an entry.
    pub const BYTES: usize = 8 * Self::WORDS;

    /// Transactions abort, and no event is recorded for them.
    pub const ABORT: Self = Self([1, 0, 0, 0, 0, 0, 0, 0]);

    /// Transactions pass with their address unchanged.
    pub fn bypass() -> Self {
        let word0 = STE0::V::SET + STE0::CONFIG::Bypass;
        let word1 = STE1::MEV::SET + STE1::SHCFG::Incoming;
        Self([word0.value, word1.value, 0, 0, 0, 0, 0, 0])
    }

    /// Transactions are translated by the one CD at `cd`.
    ///
    /// `stall_disable` is for hardware on which stalling is configurable; on any
    /// other the bit is illegal (§5.2 S1STALLD).
    pub fn stage1(cd: u64, access: Access, stall_disable: bool) -> Self {
        let word0 = STE0::V::SET + STE0::CONFIG::Stage1 + STE0::S1CONTEXTPTR.val(cd >> 6);
        let cacheability = access.cacheability();
        let word1 = STE1::S1DSS::Substream0
            + STE1::S1CIR.val(cacheability)
            + STE1::S1COR.val(cacheability)
            + STE1::S1CSH.val(access.shareability())
            // A device that faults on every word of a page is to be told about
            // once, if the hardware can do that.
            + STE1::MEV::SET
            + STE1::S1STALLD.val(stall_disable.into())
            + STE1::STRW::NsEl1
            + STE1::SHCFG::Incoming;
        Self([word0.value, word1.value, 0, 0, 0, 0, 0, 0])
    }

    /// Transactions are translated by the CDs of their substreams.
    pub fn substreams(table: CdTable, access: Access, stall_disable: bool) -> Self {
        let mut ste = Self::stage1(table.base, access, stall_disable);
        let format = match table.two_level {
            true => STE0::S1FMT::TwoLevel4K,
            false => STE0::S1FMT::Linear,
        };
        ste.0[0] |= (format + STE0::S1CDMAX.val(table.bits.into())).value;
        ste.0[1] &= !mask(STE1::S1DSS);
        ste.0[1] |= match table.plain {
            Plain::Terminate => STE1::S1DSS::Terminate,
            Plain::Bypass => STE1::S1DSS::Bypass,
            Plain::Substream0 => STE1::S1DSS::Substream0,
        }
        .value;
        ste
    }

    /// Transactions are translated by a stage 2, whose faults abort and are recorded.
    pub fn stage2(regime: Stage2) -> Self {
        let word0 = STE0::V::SET + STE0::CONFIG::Stage2;
        let word1 = STE1::MEV::SET + STE1::SHCFG::Incoming;
        let cacheability = regime.access.cacheability();
        // Level 2 and above is 0 with 4 KiB, level 3 with larger granules.
        let (granule, lowest) = match regime.granule {
            12 => (STE2::S2TG::K4, 2),
            14 => (STE2::S2TG::K16, 3),
            _ => (STE2::S2TG::K64, 3),
        };
        let word2 = STE2::S2VMID.val(regime.vmid.into())
            + STE2::S2T0SZ.val(64 - u64::from(regime.input_bits))
            + STE2::S2SL0.val(lowest - u64::from(regime.start_level))
            + STE2::S2IR0.val(cacheability)
            + STE2::S2OR0.val(cacheability)
            + STE2::S2SH0.val(regime.access.shareability())
            + granule
            + STE2::S2PS.val(regime.ps)
            + STE2::S2AA64::SET
            + STE2::S2R::SET;
        let word3 = STE3::S2TTB.val(regime.ttb >> 4);
        let [word0, word1] = [word0.value, word1.value];
        Self([word0, word1, word2.value, word3.value, 0, 0, 0, 0])
    }

    /// Transactions are translated by the one CD at `cd`, and what comes out of that by
    /// a stage 2, as are `cd` itself and the addresses of the CD's tables.
    pub fn nested(cd: u64, access: Access, stall_disable: bool, regime: Stage2) -> Self {
        let first = Self::stage1(cd, access, stall_disable);
        let second = Self::stage2(regime);
        let word0 = STE0::CONFIG::Nested.value | first.0[0];
        Self([word0, first.0[1], second.0[2], second.0[3], 0, 0, 0, 0])
    }

    /// The bits that the hardware looks at, which its configuration decides (§5.2):
    /// nothing but V of an invalid entry, Config too of one that aborts.
    pub fn used(&self) -> [u64; Self::WORDS] {
        let word0 = LocalRegisterCopy::<u64, STE0::Register>::new(self.0[0]);
        let mut used = [0; Self::WORDS];
        used[0] = STE0::V::SET.value;
        if !word0.is_set(STE0::V) {
            return used;
        }
        used[0] |= mask(STE0::CONFIG);
        let config = word0.read(STE0::CONFIG);
        if config & 0b100 == 0 {
            return used;
        }
        used[1] = mask(STE1::MEV) | mask(STE1::OVERRIDES);
        if config & 0b001 != 0 {
            used[0] |= mask(STE0::S1FMT) | mask(STE0::S1CONTEXTPTR) | mask(STE0::S1CDMAX);
            used[1] |= mask(STE1::S1DSS)
                | mask(STE1::S1CIR)
                | mask(STE1::S1COR)
                | mask(STE1::S1CSH)
                | mask(STE1::S1STALLD)
                | mask(STE1::EATS)
                | mask(STE1::STRW);
            used[2] |= mask(STE2::S2VMID);
        }
        if config & 0b010 != 0 {
            used[1] |= mask(STE1::S2HWU) | mask(STE1::S2FWB) | mask(STE1::EATS);
            // From S2T0SZ up to S2R everything means something.
            used[2] |= mask(STE2::S2VMID) | 0x07ff_ffff << 32;
            used[3] |= mask(STE3::S2TTB);
        }
        used
    }

    /// The address of its CD, if it translates at stage 1.
    pub fn cd(&self) -> Option<u64> {
        let word0 = LocalRegisterCopy::<u64, STE0::Register>::new(self.0[0]);
        let stage1 = word0.is_set(STE0::V) && word0.read(STE0::CONFIG) & 0b101 == 0b101;
        stage1.then(|| word0.read(STE0::S1CONTEXTPTR) << 6)
    }

    /// What it does, in words.
    pub fn config(&self) -> &'static str {
        let word0 = LocalRegisterCopy::<u64, STE0::Register>::new(self.0[0]);
        if !word0.is_set(STE0::V) {
            return "invalid";
        }
        match word0.read(STE0::CONFIG) {
            0b100 => "bypass",
            0b101 => "stage 1",
            0b110 => "stage 2",
            0b111 => "stage 1 and 2",
            _ => "abort",
        }
    }

    /// Its fields by their architected names.
    pub fn fields(&self) -> [(&'static str, u64); 27] {
        let [w0, w1, w2, w3, ..] = self.0;
        [
            ("V", STE0::V.read(w0)),
            ("Config", STE0::CONFIG.read(w0)),
            ("S1Fmt", STE0::S1FMT.read(w0)),
            ("S1ContextPtr", STE0::S1CONTEXTPTR.read(w0) << 6),
            ("S1CDMax", STE0::S1CDMAX.read(w0)),
            ("S1DSS", STE1::S1DSS.read(w1)),
            ("S1CIR", STE1::S1CIR.read(w1)),
            ("S1COR", STE1::S1COR.read(w1)),
            ("S1CSH", STE1::S1CSH.read(w1)),
            ("MEV", STE1::MEV.read(w1)),
            ("S1STALLD", STE1::S1STALLD.read(w1)),
            ("EATS", STE1::EATS.read(w1)),
            ("STRW", STE1::STRW.read(w1)),
            ("SHCFG", STE1::SHCFG.read(w1)),
            ("S2VMID", STE2::S2VMID.read(w2)),
            ("S2T0SZ", STE2::S2T0SZ.read(w2)),
            ("S2SL0", STE2::S2SL0.read(w2)),
            ("S2IR0", STE2::S2IR0.read(w2)),
            ("S2OR0", STE2::S2OR0.read(w2)),
            ("S2SH0", STE2::S2SH0.read(w2)),
            ("S2TG", STE2::S2TG.read(w2)),
            ("S2PS", STE2::S2PS.read(w2)),
            ("S2AA64", STE2::S2AA64.read(w2)),
            ("S2AFFD", STE2::S2AFFD.read(w2)),
            ("S2PTW", STE2::S2PTW.read(w2)),
            ("S2R", STE2::S2R.read(w2)),
            ("S2TTB", STE3::S2TTB.read(w3) << 4),
        ]
    }
}

/// All bits of a field.
fn mask<R: RegisterLongName>(field: Field<u64, R>) -> u64 {
    field.mask << field.shift
}

/// A level 1 descriptor of a 2-level stream table.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct L1Std(pub u64);

impl L1Std {
    /// Bytes of a descriptor.
    pub const BYTES: usize = 8;

    /// The level 2 table at `l2`, with 2^`split` entries.
    pub fn table(l2: u64, split: u32) -> Self {
        let word: FieldValue<u64, L1STD::Register> =
            L1STD::SPAN.val(u64::from(split) + 1) + L1STD::L2PTR.val(l2 >> 6);
        Self(word.value)
    }

    /// Its fields by their architected names.
    pub fn fields(&self) -> [(&'static str, u64); 2] {
        [
            ("Span", L1STD::SPAN.read(self.0)),
            ("L2Ptr", L1STD::L2PTR.read(self.0) << 6),
        ]
    }
}

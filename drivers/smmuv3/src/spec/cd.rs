//! Context descriptors: a stage 1 translation regime (IHI 0070 §5.4).
#![allow(
    missing_docs,
    reason = "register_bitfields! makes constants that it cannot document"
)]

use tock_registers::register_bitfields;

use super::Access;

register_bitfields![u64,
    /// First word of a CD.
    pub CD0 [
        /// 64 less the bits of input address of TTB0.
        T0SZ OFFSET(0) NUMBITS(6) [],
        /// Granule of TTB0.
        TG0 OFFSET(6) NUMBITS(2) [K4 = 0b00, K64 = 0b01, K16 = 0b10],
        /// Walks by TTB0, inner cacheability.
        IR0 OFFSET(8) NUMBITS(2) [],
        /// Walks by TTB0, outer cacheability.
        OR0 OFFSET(10) NUMBITS(2) [],
        /// Walks by TTB0, shareability.
        SH0 OFFSET(12) NUMBITS(2) [],
        /// No walks by TTB0.
        EPD0 OFFSET(14) NUMBITS(1) [],
        /// Big-endian tables.
        ENDI OFFSET(15) NUMBITS(1) [],
        /// No walks by TTB1; then the fields of TTB1 are ignored.
        EPD1 OFFSET(30) NUMBITS(1) [],
        /// Valid.
        V OFFSET(31) NUMBITS(1) [],
        /// Size of output addresses, as IDR5.OAS.
        IPS OFFSET(32) NUMBITS(3) [],
        /// Descriptors with AF = 0 do not fault.
        AFFD OFFSET(35) NUMBITS(1) [],
        /// VMSAv8-64 tables.
        AA64 OFFSET(41) NUMBITS(1) [],
        /// Hardware updates dirty state.
        HD OFFSET(42) NUMBITS(1) [],
        /// Hardware updates the access flag.
        HA OFFSET(43) NUMBITS(1) [],
        /// Faults stall.
        S OFFSET(44) NUMBITS(1) [],
        /// Faults are recorded.
        R OFFSET(45) NUMBITS(1) [],
        /// Faults abort (rather than read as zero, write as ignored).
        A OFFSET(46) NUMBITS(1) [],
        /// The ASID is not shared with CPUs.
        ASET OFFSET(47) NUMBITS(1) [],
        /// Tag of the translations.
        ASID OFFSET(48) NUMBITS(16) []
    ],
    /// Second word of a CD.
    pub CD1 [
        /// Bits 55 to 4 of the root table's address.
        TTB0 OFFSET(4) NUMBITS(52) []
    ],
    /// A level 1 descriptor of a 2-level table (§5.3).
    pub L1CD [
        /// Valid.
        V OFFSET(0) NUMBITS(1) [],
        /// Bits 55 to 12 of the level 2 table's address.
        L2PTR OFFSET(12) NUMBITS(44) []
    ]
];

/// A level 1 descriptor of a 2-level table of CDs.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct L1Cd(pub u64);

impl L1Cd {
    /// Bytes of a descriptor.
    pub const BYTES: usize = 8;

    /// The level 2 table at `l2`.
    pub fn table(l2: u64) -> Self {
        Self((L1CD::V::SET + L1CD::L2PTR.val(l2 >> 12)).value)
    }

    /// Its fields by their architected names.
    pub fn fields(&self) -> [(&'static str, u64); 2] {
        [
            ("V", L1CD::V.read(self.0)),
            ("L2Ptr", L1CD::L2PTR.read(self.0) << 12),
        ]
    }
}

/// What a stage 1 regime is made of.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stage1 {
    /// Tag of the translations.
    pub asid: u16,
    /// The root table.
    pub ttb0: u64,
    /// log2 of the granule: 12, 14 or 16.
    pub granule: u32,
    /// Bits of input address.
    pub input_bits: u32,
    /// Size of output addresses, encoded as in IDR5.OAS.
    pub ips: u64,
    /// Memory attributes that descriptors refer to by index.
    pub mair: u64,
    /// How the walker reads the tables.
    pub access: Access,
}

/// A context descriptor.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Cd(pub [u64; Cd::WORDS]);

impl Cd {
    /// 64-bit words of a descriptor.
    pub const WORDS: usize = 8;
    /// Bytes of a descriptor.
    pub const BYTES: usize = 8 * Self::WORDS;

    /// A regime in the lower half of the address space, whose
    /// faults abort and are recorded.
    pub fn stage1(regime: Stage1) -> Self {
        let cacheability = regime.access.cacheability();
        let word0 = CD0::T0SZ.val(64 - u64::from(regime.input_bits))
            + match regime.granule {
                12 => CD0::TG0::K4,
                14 => CD0::TG0::K16,
                _ => CD0::TG0::K64,
            }
            + CD0::IR0.val(cacheability)
            + CD0::OR0.val(cacheability)
            + CD0::SH0.val(regime.access.shareability())
            + CD0::EPD1::SET
            + CD0::V::SET
            + CD0::IPS.val(regime.ips)
            + CD0::AA64::SET
            + CD0::R::SET
            + CD0::A::SET
            + CD0::ASET::SET
            + CD0::ASID.val(regime.asid.into());
        let word1 = CD1::TTB0.val(regime.ttb0 >> 4);
        Self([word0.value, word1.value, 0, regime.mair, 0, 0, 0, 0])
    }

    /// Its fields by their architected names.
    pub fn fields(&self) -> [(&'static str, u64); 17] {
        let [w0, w1, _, mair, ..] = self.0;
        [
            ("V", CD0::V.read(w0)),
            ("AA64", CD0::AA64.read(w0)),
            ("ASID", CD0::ASID.read(w0)),
            ("ASET", CD0::ASET.read(w0)),
            ("TTB0", CD1::TTB0.read(w1) << 4),
            ("T0SZ", CD0::T0SZ.read(w0)),
            ("TG0", CD0::TG0.read(w0)),
            ("IR0", CD0::IR0.read(w0)),
            ("OR0", CD0::OR0.read(w0)),
            ("SH0", CD0::SH0.read(w0)),
            ("EPD0", CD0::EPD0.read(w0)),
            ("EPD1", CD0::EPD1.read(w0)),
            ("IPS", CD0::IPS.read(w0)),
            ("S", CD0::S.read(w0)),
            ("R", CD0::R.read(w0)),
            ("A", CD0::A.read(w0)),
            ("MAIR", mair),
        ]
    }
}

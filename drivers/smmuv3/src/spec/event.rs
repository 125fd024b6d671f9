//! Event records (IHI 0070 §7.3): 32 bytes each, read by what they say.
#![allow(
    missing_docs,
    reason = "register_bitfields! makes constants that it cannot document"
)]

use tock_registers::register_bitfields;

register_bitfields![u64,
    /// First word.
    pub EVENT0 [
        /// Which event.
        CODE OFFSET(0) NUMBITS(8) [],
        /// The transaction had a SubstreamID.
        SSV OFFSET(11) NUMBITS(1) [],
        /// It.
        SUBSTREAMID OFFSET(12) NUMBITS(20) [],
        /// The stream.
        STREAMID OFFSET(32) NUMBITS(32) []
    ],
    /// Second word.
    pub EVENT1 [
        /// Identifies a stalled transaction, or an implementation defined reason.
        STAG OFFSET(0) NUMBITS(16) [],
        /// The transaction waits to be resumed.
        STALL OFFSET(31) NUMBITS(1) [],
        /// It was privileged.
        PNU OFFSET(33) NUMBITS(1) [],
        /// It fetched an instruction.
        IND OFFSET(34) NUMBITS(1) [],
        /// It was a read.
        RNW OFFSET(35) NUMBITS(1) [],
        /// Stage 2 faulted.
        S2 OFFSET(39) NUMBITS(1) [],
        /// What the faulting stage was translating.
        CLASS OFFSET(40) NUMBITS(2) [Cd = 0b00, Ttd = 0b01, In = 0b10]
    ]
];

/// Event numbers, by the names of §7.3.
pub mod code {
    pub const F_UUT: u8 = 0x01;
    pub const C_BAD_STREAMID: u8 = 0x02;
    pub const F_STE_FETCH: u8 = 0x03;
    pub const C_BAD_STE: u8 = 0x04;
    pub const F_BAD_ATS_TREQ: u8 = 0x05;
    pub const F_STREAM_DISABLED: u8 = 0x06;
    pub const F_TRANSL_FORBIDDEN: u8 = 0x07;
    pub const C_BAD_SUBSTREAMID: u8 = 0x08;
    pub const F_CD_FETCH: u8 = 0x09;
    pub const C_BAD_CD: u8 = 0x0a;
    pub const F_WALK_EABT: u8 = 0x0b;
    pub const F_TRANSLATION: u8 = 0x10;
    pub const F_ADDR_SIZE: u8 = 0x11;
    pub const F_ACCESS: u8 = 0x12;
    pub const F_PERMISSION: u8 = 0x13;
    pub const F_TLB_CONFLICT: u8 = 0x20;
    pub const F_CFG_CONFLICT: u8 = 0x21;
    pub const E_PAGE_REQUEST: u8 = 0x24;
    pub const F_VMS_FETCH: u8 = 0x25;
}

/// An event record.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Event(pub [u64; Event::WORDS]);

impl Event {
    /// 64-bit words of a record.
    pub const WORDS: usize = 4;
    /// Bytes of a record.
    pub const BYTES: usize = 8 * Self::WORDS;

    /// Which event.
    pub fn code(&self) -> u8 {
        EVENT0::CODE.read(self.0[0]) as u8
    }

    /// Its architected name, if it has one.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self.code() {
            code::F_UUT => "F_UUT",
            code::C_BAD_STREAMID => "C_BAD_STREAMID",
            code::F_STE_FETCH => "F_STE_FETCH",
            code::C_BAD_STE => "C_BAD_STE",
            code::F_BAD_ATS_TREQ => "F_BAD_ATS_TREQ",
            code::F_STREAM_DISABLED => "F_STREAM_DISABLED",
            code::F_TRANSL_FORBIDDEN => "F_TRANSL_FORBIDDEN",
            code::C_BAD_SUBSTREAMID => "C_BAD_SUBSTREAMID",
            code::F_CD_FETCH => "F_CD_FETCH",
            code::C_BAD_CD => "C_BAD_CD",
            code::F_WALK_EABT => "F_WALK_EABT",
            code::F_TRANSLATION => "F_TRANSLATION",
            code::F_ADDR_SIZE => "F_ADDR_SIZE",
            code::F_ACCESS => "F_ACCESS",
            code::F_PERMISSION => "F_PERMISSION",
            code::F_TLB_CONFLICT => "F_TLB_CONFLICT",
            code::F_CFG_CONFLICT => "F_CFG_CONFLICT",
            code::E_PAGE_REQUEST => "E_PAGE_REQUEST",
            code::F_VMS_FETCH => "F_VMS_FETCH",
            _ => return None,
        })
    }

    /// The stream.
    pub fn stream(&self) -> u32 {
        EVENT0::STREAMID.read(self.0[0]) as u32
    }

    /// The SubstreamID, where the transaction had one. C_BAD_SUBSTREAMID always
    /// has one and no flag for it (§7.3.9).
    pub fn substream(&self) -> Option<u32> {
        let valid = EVENT0::SSV.is_set(self.0[0]) || self.code() == code::C_BAD_SUBSTREAMID;
        valid.then(|| EVENT0::SUBSTREAMID.read(self.0[0]) as u32)
    }

    /// Whether it comes from a translation: then stage, class and stall have a
    /// meaning.
    pub fn is_translation(&self) -> bool {
        matches!(
            self.code(),
            code::F_WALK_EABT
                | code::F_TRANSLATION
                | code::F_ADDR_SIZE
                | code::F_ACCESS
                | code::F_PERMISSION
        )
    }

    /// The input address, where the event has one.
    pub fn input_address(&self) -> Option<u64> {
        let has = self.is_translation()
            || matches!(
                self.code(),
                code::F_UUT
                    | code::F_BAD_ATS_TREQ
                    | code::F_TRANSL_FORBIDDEN
                    | code::F_TLB_CONFLICT
                    | code::E_PAGE_REQUEST
            );
        has.then_some(self.0[2])
    }

    /// The address that the hardware itself could not read, where the event has
    /// one.
    pub fn fetch_address(&self) -> Option<u64> {
        let has = matches!(
            self.code(),
            code::F_STE_FETCH | code::F_CD_FETCH | code::F_WALK_EABT | code::F_VMS_FETCH
        );
        has.then_some(self.0[3] & 0x00ff_ffff_ffff_fff8)
    }

    /// Whether the transaction read, where the event says.
    pub fn is_read(&self) -> Option<bool> {
        let has = self.is_translation()
            || matches!(
                self.code(),
                code::F_UUT | code::F_TRANSL_FORBIDDEN | code::F_TLB_CONFLICT
            );
        has.then(|| EVENT1::RNW.is_set(self.0[1]))
    }

    /// Whether the transaction fetched an instruction, as far as the event says.
    pub fn is_instruction(&self) -> bool {
        self.is_read().is_some() && EVENT1::IND.is_set(self.0[1])
    }

    /// Whether the transaction was privileged, as far as the event says.
    pub fn is_privileged(&self) -> bool {
        self.is_read().is_some() && EVENT1::PNU.is_set(self.0[1])
    }

    /// The stage that faulted, where one did.
    pub fn stage(&self) -> Option<u8> {
        let stage2 = EVENT1::S2.is_set(self.0[1]);
        self.is_translation().then_some(if stage2 { 2 } else { 1 })
    }

    /// What stage 2 was to translate, where that faulted (§7.3.13 IPA).
    pub fn intermediate_address(&self) -> Option<u64> {
        let has = self.stage() == Some(2) && self.code() != code::F_WALK_EABT;
        has.then_some(self.0[3] & 0x00ff_ffff_ffff_f000)
    }

    /// What the faulting stage was translating, in the architecture's words.
    pub fn class(&self) -> Option<&'static str> {
        self.is_translation()
            .then(|| match EVENT1::CLASS.read(self.0[1]) {
                0b00 => "CD",
                0b01 => "TTD",
                0b10 => "IN",
                _ => "reserved",
            })
    }

    /// The tag of the transaction, if it stalls.
    pub fn stalled(&self) -> Option<u16> {
        let stalls = self.is_translation()
            && self.code() != code::F_WALK_EABT
            && EVENT1::STALL.is_set(self.0[1]);
        stalls.then(|| EVENT1::STAG.read(self.0[1]) as u16)
    }
}

//! Commands (IHI 0070 §4): 16 bytes each, made from what they are about.
#![allow(
    missing_docs,
    reason = "register_bitfields! makes constants that it cannot document"
)]

use tock_registers::register_bitfields;

register_bitfields![u64,
    /// First word: what all commands share.
    pub CMD0 [
        /// Which command.
        OPCODE OFFSET(0) NUMBITS(8) [],
        /// Range invalidation: multiplier less 1.
        NUM OFFSET(12) NUMBITS(5) [],
        /// Range invalidation: log2 of the unit in granules.
        SCALE OFFSET(20) NUMBITS(5) [],
        /// Completion signal of a sync.
        CS OFFSET(12) NUMBITS(2) [None = 0b00, Irq = 0b01],
        /// Shareability of a sync's message.
        MSH OFFSET(22) NUMBITS(2) [Inner = 0b11],
        /// Memory type of a sync's message.
        MSIATTR OFFSET(24) NUMBITS(4) [WriteBack = 0b1111],
        /// What a sync's message writes.
        MSIDATA OFFSET(32) NUMBITS(32) [],
        /// The substream, in invalidations of structures.
        SUBSTREAMID OFFSET(12) NUMBITS(20) [],
        /// The stream.
        STREAMID OFFSET(32) NUMBITS(32) [],
        /// Tag of stage 2.
        VMID OFFSET(32) NUMBITS(16) [],
        /// Tag of stage 1.
        ASID OFFSET(48) NUMBITS(16) []
    ],
    /// Second word of a sync.
    pub SYNC1 [
        /// Bits 55 to 2 of where its message goes.
        MSIADDRESS OFFSET(2) NUMBITS(54) []
    ],
    /// Second word of an invalidation of structures.
    pub CFGI1 [
        /// Only the last level.
        LEAF OFFSET(0) NUMBITS(1) [],
        /// log2 of the number of streams, less 1.
        RANGE OFFSET(0) NUMBITS(5) []
    ],
    /// Second word of an invalidation of translations.
    pub TLBI1 [
        /// Only the last level.
        LEAF OFFSET(0) NUMBITS(1) [],
        /// Level of the leaves, 0 where unknown.
        TTL OFFSET(8) NUMBITS(2) [],
        /// Granule; 0 for an invalidation that is not of a range.
        TG OFFSET(10) NUMBITS(2) [None = 0b00, K4 = 0b01, K16 = 0b10, K64 = 0b11],
        /// Bits 63 to 12 of the address.
        ADDRESS OFFSET(12) NUMBITS(52) []
    ]
];

/// Opcodes (§4.1.1).
pub mod opcode {
    /// Invalidate one STE.
    pub const CFGI_STE: u8 = 0x03;
    /// Invalidate a range of STEs; with range 31, everything (CMD_CFGI_ALL).
    pub const CFGI_STE_RANGE: u8 = 0x04;
    /// Invalidate one CD.
    pub const CFGI_CD: u8 = 0x05;
    /// Invalidate all NS-EL1 translations of a VMID that stage 1 has a part in.
    pub const TLBI_NH_ALL: u8 = 0x10;
    /// Invalidate all NS-EL1 translations of an ASID.
    pub const TLBI_NH_ASID: u8 = 0x11;
    /// Invalidate NS-EL1 translations of addresses.
    pub const TLBI_NH_VA: u8 = 0x12;
    /// Invalidate all EL2 translations.
    pub const TLBI_EL2_ALL: u8 = 0x20;
    /// Invalidate all translations of a VMID, of both stages.
    pub const TLBI_S12_VMALL: u8 = 0x28;
    /// Invalidate stage 2 translations of addresses.
    pub const TLBI_S2_IPA: u8 = 0x2a;
    /// Invalidate all NS-EL1 translations of both stages.
    pub const TLBI_NSNH_ALL: u8 = 0x30;
    /// Complete everything before it.
    pub const SYNC: u8 = 0x46;
}

/// What cached translations are told apart by, as the first words of the commands
/// about them have it: those that name an address, and those for all.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Tag {
    address: u64,
    all: u64,
}

impl Tag {
    /// Stage 1 translations of an ASID, without a stage 2 (VMID 0).
    pub fn asid(asid: u16) -> Self {
        let tag = CMD0::ASID.val(asid.into());
        Self {
            address: (CMD0::OPCODE.val(opcode::TLBI_NH_VA.into()) + tag).value,
            all: (CMD0::OPCODE.val(opcode::TLBI_NH_ASID.into()) + tag).value,
        }
    }

    /// The same of an ASID above the stage 2 of this VMID.
    pub fn under(self, vmid: u16) -> Self {
        let vmid = CMD0::VMID.val(vmid.into()).value;
        Self {
            address: self.address | vmid,
            all: self.all | vmid,
        }
    }

    /// Stage 2 translations of a VMID, without a stage 1.
    pub fn vmid(vmid: u16) -> Self {
        let tag = CMD0::VMID.val(vmid.into());
        Self {
            address: (CMD0::OPCODE.val(opcode::TLBI_S2_IPA.into()) + tag).value,
            all: (CMD0::OPCODE.val(opcode::TLBI_S12_VMALL.into()) + tag).value,
        }
    }
}

/// A range of leaves, as range invalidation takes it (§4.4.1.1): (`num` + 1) <<
/// `scale` granules, all of them in leaves at level `level`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// NUM.
    pub num: u8,
    /// SCALE.
    pub scale: u8,
    /// log2 of the granule.
    pub granule: u32,
    /// Level of the leaves, 1 to 3.
    pub level: u8,
}

/// A command.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Command(pub [u64; 2]);

impl Command {
    /// Bytes of a command.
    pub const BYTES: usize = 16;

    /// Completes everything before it, without a signal (§4.7.3, CS = SIG_NONE).
    pub const SYNC: Self = Self([opcode::SYNC as u64, 0]);
    /// The same, and then `data` is written to `address`, in memory that the CPUs
    /// share by their caches. Illegal without IDR0.MSI.
    #[inline]
    pub fn sync_telling(address: u64, data: u32) -> Self {
        let word0 = CMD0::OPCODE.val(opcode::SYNC.into())
            + CMD0::CS::Irq
            + CMD0::MSH::Inner
            + CMD0::MSIATTR::WriteBack
            + CMD0::MSIDATA.val(data.into());
        Self([word0.value, SYNC1::MSIADDRESS.val(address >> 2).value])
    }

    /// Drops all cached STEs, CDs and level 1 descriptors (§4.3.6).
    pub const CFGI_ALL: Self = Self([opcode::CFGI_STE_RANGE as u64, 31]);
    /// Drops all cached translations of EL2 (§4.4.2.7). Illegal without IDR0.HYP.
    pub const TLBI_EL2_ALL: Self = Self([opcode::TLBI_EL2_ALL as u64, 0]);
    /// Drops all cached non-secure translations but those of EL2 (§4.4.4.1).
    pub const TLBI_NSNH_ALL: Self = Self([opcode::TLBI_NSNH_ALL as u64, 0]);

    /// Drops the cached STE of a stream and all CDs fetched through it (§4.3.1);
    /// without `leaf` also the level 1 descriptor that led to it.
    #[inline]
    pub fn cfgi_ste(stream: u32, leaf: bool) -> Self {
        let word0 = CMD0::OPCODE.val(opcode::CFGI_STE.into()) + CMD0::STREAMID.val(stream.into());
        Self([word0.value, CFGI1::LEAF.val(leaf.into()).value])
    }

    /// Drops the cached CD of a substream (§4.3.3); without `leaf` also the level 1
    /// descriptor that led to it.
    #[inline]
    pub fn cfgi_cd(stream: u32, substream: u32, leaf: bool) -> Self {
        let word0 = CMD0::OPCODE.val(opcode::CFGI_CD.into())
            + CMD0::SUBSTREAMID.val(substream.into())
            + CMD0::STREAMID.val(stream.into());
        Self([word0.value, CFGI1::LEAF.val(leaf.into()).value])
    }

    /// Drops all cached translations of a tag (§4.4.2.2, §4.4.3.1).
    #[inline]
    pub fn tlbi_all(tag: Tag) -> Self {
        Self([tag.all, 0])
    }

    /// Drops all cached translations of a VMID that stage 1 has a part in: those of
    /// stage 2 alone are what an invalidation by intermediate address takes, and those
    /// of both are what it leaves (§4.4.2.1, §4.4.3.2).
    #[inline]
    pub fn tlbi_nh_all(vmid: u16) -> Self {
        let word0 = CMD0::OPCODE.val(opcode::TLBI_NH_ALL.into()) + CMD0::VMID.val(vmid.into());
        Self([word0.value, 0])
    }

    /// Drops the cached leaf that translates `address` (§4.4.2.4, §4.4.3.2).
    #[inline]
    pub fn tlbi_address(tag: Tag, address: u64) -> Self {
        let word1 = TLBI1::LEAF::SET + TLBI1::ADDRESS.val(address >> 12);
        Self([tag.address, word1.value])
    }

    /// Drops the cached leaves that translate a span of addresses. Illegal without
    /// IDR3.RIL.
    #[inline]
    pub fn tlbi_span(tag: Tag, address: u64, span: Span) -> Self {
        let range = CMD0::NUM.val(span.num.into()) + CMD0::SCALE.val(span.scale.into());
        // 4, 16 and 64 KiB are 1, 2 and 3.
        let granule = u64::from(span.granule - 10) / 2;
        let word1 = TLBI1::LEAF::SET
            + TLBI1::TTL.val(span.level.into())
            + TLBI1::TG.val(granule)
            + TLBI1::ADDRESS.val(address >> 12);
        Self([tag.address | range.value, word1.value])
    }

    /// The addresses whose translations it drops, first and length, if it drops those of
    /// some addresses of `tag` only. Without range invalidation a leaf's size is not in
    /// it: then the length is 1.
    pub fn range(&self, tag: Tag) -> Option<(u64, u64)> {
        let [word0, word1] = self.0;
        let span = CMD0::NUM.mask << 12 | CMD0::SCALE.mask << 20;
        if word0 & !span != tag.address {
            return None;
        }
        let address = TLBI1::ADDRESS.read(word1) << 12;
        let granule = match TLBI1::TG.read(word1) {
            0 => return Some((address, 1)),
            granule => 10 + 2 * granule,
        };
        let units = (CMD0::NUM.read(word0) + 1) << CMD0::SCALE.read(word0);
        Some((address, units << granule))
    }

    /// Its architected name, as far as this driver knows it.
    pub fn name(&self) -> &'static str {
        match self.opcode() {
            opcode::CFGI_STE => "CMD_CFGI_STE",
            opcode::CFGI_STE_RANGE => "CMD_CFGI_STE_RANGE",
            opcode::CFGI_CD => "CMD_CFGI_CD",
            opcode::TLBI_NH_ALL => "CMD_TLBI_NH_ALL",
            opcode::TLBI_NH_ASID => "CMD_TLBI_NH_ASID",
            opcode::TLBI_NH_VA => "CMD_TLBI_NH_VA",
            opcode::TLBI_EL2_ALL => "CMD_TLBI_EL2_ALL",
            opcode::TLBI_S12_VMALL => "CMD_TLBI_S12_VMALL",
            opcode::TLBI_S2_IPA => "CMD_TLBI_S2_IPA",
            opcode::TLBI_NSNH_ALL => "CMD_TLBI_NSNH_ALL",
            opcode::SYNC => "CMD_SYNC",
            _ => "unknown command",
        }
    }

    /// Which command.
    pub fn opcode(&self) -> u8 {
        CMD0::OPCODE.read(self.0[0]) as u8
    }
}

//! Registers: offsets (IHI 0070 §6.2.1, §6.2.2), names and fields (§6.3). Only what
//! a non-secure driver of stage 1 needs.
#![allow(
    missing_docs,
    reason = "register_bitfields! makes constants that it cannot document"
)]

use core::marker::PhantomData;

use tock_registers::{RegisterLongName, UIntLike, register_bitfields};

/// Bytes of the two 64 KiB pages that hold all registers used here (§6.1).
pub const WINDOW: u64 = 0x2_0000;

/// A register: where it is, what it is called, and the type of its fields.
pub struct Register<W: UIntLike, F: RegisterLongName> {
    /// Offset from the base of page 0.
    pub offset: usize,
    /// Architected name.
    pub name: &'static str,
    fields: PhantomData<(W, F)>,
}

impl<W: UIntLike, F: RegisterLongName> Clone for Register<W, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W: UIntLike, F: RegisterLongName> Copy for Register<W, F> {}

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident: $width:ty, $fields:ident, $offset:literal;)*) => {$(
        $(#[$doc])*
        pub const $name: Register<$width, $fields::Register> = Register {
            offset: $offset,
            name: concat!("SMMU_", stringify!($name)),
            fields: PhantomData,
        };
    )*};
}

registers! {
    /// §6.3.1
    IDR0: u32, IDR0, 0x0000;
    /// §6.3.2
    IDR1: u32, IDR1, 0x0004;
    /// §6.3.4
    IDR3: u32, IDR3, 0x000c;
    /// §6.3.6
    IDR5: u32, IDR5, 0x0014;
    /// §6.3.8
    AIDR: u32, AIDR, 0x001c;
    /// §6.3.9
    CR0: u32, CR0, 0x0020;
    /// §6.3.10
    CR0ACK: u32, CR0, 0x0024;
    /// §6.3.11
    CR1: u32, CR1, 0x0028;
    /// §6.3.12
    CR2: u32, CR2, 0x002c;
    /// §6.3.14
    GBPA: u32, GBPA, 0x0044;
    /// §6.3.16
    IRQ_CTRL: u32, IRQ_CTRL, 0x0050;
    /// §6.3.17
    IRQ_CTRLACK: u32, IRQ_CTRL, 0x0054;
    /// §6.3.18
    GERROR: u32, GERROR, 0x0060;
    /// §6.3.19
    GERRORN: u32, GERROR, 0x0064;
    /// §6.3.20
    GERROR_IRQ_CFG0: u64, IRQ_CFG0, 0x0068;
    /// §6.3.22
    GERROR_IRQ_CFG1: u32, IRQ_CFG1, 0x0070;
    /// §6.3.23
    GERROR_IRQ_CFG2: u32, IRQ_CFG2, 0x0074;
    /// §6.3.24
    STRTAB_BASE: u64, STRTAB_BASE, 0x0080;
    /// §6.3.25
    STRTAB_BASE_CFG: u32, STRTAB_BASE_CFG, 0x0088;
    /// §6.3.26
    CMDQ_BASE: u64, QUEUE_BASE, 0x0090;
    /// §6.3.27
    CMDQ_PROD: u32, CMDQ_PROD, 0x0098;
    /// §6.3.28
    CMDQ_CONS: u32, CMDQ_CONS, 0x009c;
    /// §6.3.29
    EVENTQ_BASE: u64, QUEUE_BASE, 0x00a0;
    /// §6.3.32
    EVENTQ_IRQ_CFG0: u64, IRQ_CFG0, 0x00b0;
    /// §6.3.33
    EVENTQ_IRQ_CFG1: u32, IRQ_CFG1, 0x00b8;
    /// §6.3.34
    EVENTQ_IRQ_CFG2: u32, IRQ_CFG2, 0x00bc;
    /// §6.3.30, in page 1
    EVENTQ_PROD: u32, EVENTQ_PROD, 0x1_00a8;
    /// §6.3.31, in page 1
    EVENTQ_CONS: u32, EVENTQ_CONS, 0x1_00ac;
}

register_bitfields![u32,
    /// What is implemented.
    pub IDR0 [
        /// Stage 2 translation.
        S2P OFFSET(0) NUMBITS(1) [],
        /// Stage 1 translation.
        S1P OFFSET(1) NUMBITS(1) [],
        /// Translation table formats.
        TTF OFFSET(2) NUMBITS(2) [AArch32 = 0b01, AArch64 = 0b10, Both = 0b11],
        /// Coherent access to tables and queues.
        COHACC OFFSET(4) NUMBITS(1) [],
        /// Broadcast TLB maintenance.
        BTM OFFSET(5) NUMBITS(1) [],
        /// Hardware update of access flag (and dirty state).
        HTTU OFFSET(6) NUMBITS(2) [],
        /// EL2 translation contexts.
        HYP OFFSET(9) NUMBITS(1) [],
        /// PCIe address translation service.
        ATS OFFSET(10) NUMBITS(1) [],
        /// ASIDs of 16 bits rather than 8.
        ASID16 OFFSET(12) NUMBITS(1) [],
        /// Message interrupts.
        MSI OFFSET(13) NUMBITS(1) [],
        /// Events to CPUs that wait for one.
        SEV OFFSET(14) NUMBITS(1) [],
        /// PCIe page requests.
        PRI OFFSET(16) NUMBITS(1) [],
        /// VMIDs of 16 bits rather than 8.
        VMID16 OFFSET(18) NUMBITS(1) [],
        /// 2-level tables of context descriptors.
        CD2L OFFSET(19) NUMBITS(1) [],
        /// Endianness of translation tables.
        TTENDIAN OFFSET(21) NUMBITS(2) [Mixed = 0b00, Little = 0b10, Big = 0b11],
        /// Stalling of faulting transactions.
        STALL_MODEL OFFSET(24) NUMBITS(2) [Configurable = 0b00, None = 0b01, Forced = 0b10],
        /// Terminated transactions always abort (CD.A must be 1).
        TERM_MODEL OFFSET(26) NUMBITS(1) [],
        /// Stream table formats.
        ST_LEVEL OFFSET(27) NUMBITS(2) [Linear = 0b00, TwoLevel = 0b01]
    ],
    /// Sizes.
    pub IDR1 [
        /// Bits of a StreamID.
        SIDSIZE OFFSET(0) NUMBITS(6) [],
        /// Bits of a SubstreamID.
        SSIDSIZE OFFSET(6) NUMBITS(5) [],
        /// log2 of the event queue's most entries.
        EVENTQS OFFSET(16) NUMBITS(5) [],
        /// log2 of the command queue's most entries.
        CMDQS OFFSET(21) NUMBITS(5) [],
        /// Table and queue addresses are offsets from elsewhere.
        REL OFFSET(28) NUMBITS(1) [],
        /// The queues are where the implementation put them.
        QUEUES_PRESET OFFSET(29) NUMBITS(1) [],
        /// The stream table is where the implementation put it.
        TABLES_PRESET OFFSET(30) NUMBITS(1) []
    ],
    /// More features.
    pub IDR3 [
        /// Range invalidation and level hints.
        RIL OFFSET(10) NUMBITS(1) [],
        /// Break-before-make level.
        BBML OFFSET(11) NUMBITS(2) []
    ],
    /// Addresses.
    pub IDR5 [
        /// Output address size.
        OAS OFFSET(0) NUMBITS(3) [],
        /// 4 KiB granule.
        GRAN4K OFFSET(4) NUMBITS(1) [],
        /// 16 KiB granule.
        GRAN16K OFFSET(5) NUMBITS(1) [],
        /// 64 KiB granule.
        GRAN64K OFFSET(6) NUMBITS(1) []
    ],
    /// Architecture version.
    pub AIDR [
        /// x of SMMUv3.x.
        MINOR OFFSET(0) NUMBITS(4) [],
        /// 0 is version 3.
        MAJOR OFFSET(4) NUMBITS(4) []
    ],
    /// Enables, and their acknowledgement.
    pub CR0 [
        /// Translation.
        SMMUEN OFFSET(0) NUMBITS(1) [],
        /// Writes of page requests.
        PRIQEN OFFSET(1) NUMBITS(1) [],
        /// Writes of events.
        EVENTQEN OFFSET(2) NUMBITS(1) [],
        /// Consumption of commands.
        CMDQEN OFFSET(3) NUMBITS(1) [],
        /// Translated ATS traffic is checked against the stream's entry.
        ATSCHK OFFSET(4) NUMBITS(1) []
    ],
    /// Attributes of the accesses to tables and queues.
    pub CR1 [
        /// Queues, inner cacheability.
        QUEUE_IC OFFSET(0) NUMBITS(2) [],
        /// Queues, outer cacheability.
        QUEUE_OC OFFSET(2) NUMBITS(2) [],
        /// Queues, shareability.
        QUEUE_SH OFFSET(4) NUMBITS(2) [],
        /// Stream table, inner cacheability.
        TABLE_IC OFFSET(6) NUMBITS(2) [],
        /// Stream table, outer cacheability.
        TABLE_OC OFFSET(8) NUMBITS(2) [],
        /// Stream table, shareability.
        TABLE_SH OFFSET(10) NUMBITS(2) []
    ],
    /// Behaviour.
    pub CR2 [
        /// EL2 contexts are those of a host with virtualization extensions.
        E2H OFFSET(0) NUMBITS(1) [],
        /// StreamIDs out of range are recorded.
        RECINVSID OFFSET(1) NUMBITS(1) [],
        /// Broadcast TLB maintenance is ignored.
        PTM OFFSET(2) NUMBITS(1) []
    ],
    /// What happens to transactions while translation is off.
    pub GBPA [
        /// They abort.
        ABORT OFFSET(20) NUMBITS(1) [],
        /// A write is under way; a write takes effect only with it.
        UPDATE OFFSET(31) NUMBITS(1) []
    ],
    /// Interrupt enables, and their acknowledgement.
    pub IRQ_CTRL [
        /// Global errors.
        GERROR_IRQEN OFFSET(0) NUMBITS(1) [],
        /// Page requests.
        PRIQ_IRQEN OFFSET(1) NUMBITS(1) [],
        /// Events.
        EVENTQ_IRQEN OFFSET(2) NUMBITS(1) []
    ],
    /// Global errors: one is active while its bits here and in GERRORN differ.
    pub GERROR [
        /// The command queue stopped.
        CMDQ_ERR OFFSET(0) NUMBITS(1) [],
        /// A write of an event aborted.
        EVENTQ_ABT_ERR OFFSET(2) NUMBITS(1) [],
        /// A write of a page request aborted.
        PRIQ_ABT_ERR OFFSET(3) NUMBITS(1) [],
        /// The message of a sync aborted.
        MSI_CMDQ_ABT_ERR OFFSET(4) NUMBITS(1) [],
        /// The message of the event queue aborted.
        MSI_EVENTQ_ABT_ERR OFFSET(5) NUMBITS(1) [],
        /// The message of the PRI queue aborted.
        MSI_PRIQ_ABT_ERR OFFSET(6) NUMBITS(1) [],
        /// The message of a global error aborted.
        MSI_GERROR_ABT_ERR OFFSET(7) NUMBITS(1) [],
        /// Service failure mode: nothing is translated any more.
        SFM_ERR OFFSET(8) NUMBITS(1) [],
        /// An error of a command queue control page.
        CMDQP_ERR OFFSET(9) NUMBITS(1) [],
        /// A device permission table look-up failed.
        DPT_ERR OFFSET(10) NUMBITS(1) []
    ],
    /// What a message interrupt writes.
    pub IRQ_CFG1 [
        /// The value.
        DATA OFFSET(0) NUMBITS(32) []
    ],
    /// How a message interrupt is written.
    pub IRQ_CFG2 [
        /// Memory type.
        MEMATTR OFFSET(0) NUMBITS(4) [DeviceNGnRE = 0b0001],
        /// Shareability, of Normal memory.
        SH OFFSET(4) NUMBITS(2) []
    ],
    /// Shape of the stream table.
    pub STRTAB_BASE_CFG [
        /// Bits of StreamID that the table covers.
        LOG2SIZE OFFSET(0) NUMBITS(6) [],
        /// Bits of StreamID that a level 2 table covers.
        SPLIT OFFSET(6) NUMBITS(5) [],
        /// Levels.
        FMT OFFSET(16) NUMBITS(2) [Linear = 0b00, TwoLevel = 0b01]
    ],
    /// Where software writes next.
    pub CMDQ_PROD [
        /// Index, and the wrap bit above it.
        WR OFFSET(0) NUMBITS(20) []
    ],
    /// Where the hardware reads next, and what stopped it.
    pub CMDQ_CONS [
        /// Index, and the wrap bit above it.
        RD OFFSET(0) NUMBITS(20) [],
        /// Reason of an active CMDQ_ERR (§7.1).
        ERR OFFSET(24) NUMBITS(7) [None = 0, Ill = 1, Abt = 2, AtcInvSync = 3]
    ],
    /// Where the hardware writes next.
    pub EVENTQ_PROD [
        /// Index, and the wrap bit above it.
        WR OFFSET(0) NUMBITS(20) [],
        /// Toggles when events were lost (§7.4).
        OVFLG OFFSET(31) NUMBITS(1) []
    ],
    /// Where software reads next.
    pub EVENTQ_CONS [
        /// Index, and the wrap bit above it.
        RD OFFSET(0) NUMBITS(20) [],
        /// Set to OVFLG by whoever has seen it.
        OVACKFLG OFFSET(31) NUMBITS(1) []
    ]
];

register_bitfields![u64,
    /// Address of the stream table.
    pub STRTAB_BASE [
        /// Bits 55 to 6 of the address.
        ADDR OFFSET(6) NUMBITS(50) [],
        /// Read-allocate hint.
        RA OFFSET(62) NUMBITS(1) []
    ],
    /// Address and size of a queue.
    pub QUEUE_BASE [
        /// log2 of the number of entries.
        LOG2SIZE OFFSET(0) NUMBITS(5) [],
        /// Bits 55 to 5 of the address.
        ADDR OFFSET(5) NUMBITS(51) [],
        /// Allocate hint.
        ALLOCATE OFFSET(62) NUMBITS(1) []
    ],
    /// Target of a message interrupt; 0 selects the wired one.
    pub IRQ_CFG0 [
        /// Bits 55 to 2 of the address.
        ADDR OFFSET(2) NUMBITS(54) []
    ]
];

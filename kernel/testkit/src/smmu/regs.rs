//! Where the registers are and what their bits mean (IHI 0070 §6.2, §6.3).

pub(super) const IDR0: u64 = 0x00;
pub(super) const IDR1: u64 = 0x04;
pub(super) const IDR3: u64 = 0x0c;
pub(super) const IDR5: u64 = 0x14;
pub(super) const AIDR: u64 = 0x1c;
pub(super) const CR0: u64 = 0x20;
pub(super) const CR0ACK: u64 = 0x24;
pub(super) const CR1: u64 = 0x28;
pub(super) const CR2: u64 = 0x2c;
pub(super) const STATUSR: u64 = 0x40;
pub(super) const GBPA: u64 = 0x44;
pub(super) const IRQ_CTRL: u64 = 0x50;
pub(super) const IRQ_CTRLACK: u64 = 0x54;
pub(super) const GERROR: u64 = 0x60;
pub(super) const GERRORN: u64 = 0x64;
pub(super) const GERROR_IRQ_CFG0: u64 = 0x68;
pub(super) const GERROR_IRQ_CFG2: u64 = 0x74;
pub(super) const STRTAB_BASE: u64 = 0x80;
pub(super) const STRTAB_BASE_CFG: u64 = 0x88;
pub(super) const CMDQ_BASE: u64 = 0x90;
pub(super) const CMDQ_PROD: u64 = 0x98;
pub(super) const CMDQ_CONS: u64 = 0x9c;
pub(super) const EVENTQ_BASE: u64 = 0xa0;
pub(super) const EVENTQ_IRQ_CFG0: u64 = 0xb0;
pub(super) const EVENTQ_IRQ_CFG2: u64 = 0xbc;
/// Of the optional PRI queue, which the model lacks.
pub(super) const PRIQ_IRQ_CFG0: u64 = 0xd0;
pub(super) const PRIQ_IRQ_CFG2: u64 = 0xdc;
/// In page 1.
pub(super) const EVENTQ_PROD: u64 = 0x1_00a8;
pub(super) const EVENTQ_CONS: u64 = 0x1_00ac;

/// The 64-bit registers of those above.
pub(super) const WIDE: [u64; 6] = [
    GERROR_IRQ_CFG0,
    STRTAB_BASE,
    CMDQ_BASE,
    EVENTQ_BASE,
    EVENTQ_IRQ_CFG0,
    PRIQ_IRQ_CFG0,
];

/// CR0 and CR0ACK (§6.3.9).
pub(super) const SMMUEN: u32 = 1 << 0;
pub(super) const EVENTQEN: u32 = 1 << 2;
pub(super) const CMDQEN: u32 = 1 << 3;
pub(super) const CR0_DEFINED: u32 = SMMUEN | EVENTQEN | CMDQEN;

/// CR1 (§6.3.11): attributes of queue accesses, then of table accesses.
pub(super) const CR1_QUEUE: u32 = 0x3f;
pub(super) const CR1_TABLE: u32 = 0xfc0;

/// CR2 (§6.3.12).
pub(super) const E2H: u32 = 1 << 0;
pub(super) const RECINVSID: u32 = 1 << 1;
pub(super) const PTM: u32 = 1 << 2;

/// GBPA (§6.3.14).
pub(super) const GBPA_UPDATE: u32 = 1 << 31;
pub(super) const GBPA_ABORT: u32 = 1 << 20;
/// What QEMU and many SoCs reset to: bypass, incoming shareability.
pub(super) const GBPA_RESET: u32 = 1 << 12;

/// IRQ_CTRL and IRQ_CTRLACK (§6.3.16).
pub(super) const GERROR_IRQEN: u32 = 1 << 0;
pub(super) const EVENTQ_IRQEN: u32 = 1 << 2;
pub(super) const IRQ_DEFINED: u32 = GERROR_IRQEN | EVENTQ_IRQEN;

/// GERROR and GERRORN (§6.3.19).
pub(super) const CMDQ_ERR: u32 = 1 << 0;
pub(super) const EVENTQ_ABT_ERR: u32 = 1 << 2;
pub(super) const MSI_CMDQ_ABT_ERR: u32 = 1 << 4;
pub(super) const MSI_EVENTQ_ABT_ERR: u32 = 1 << 5;
pub(super) const MSI_GERROR_ABT_ERR: u32 = 1 << 7;
pub(super) const SFM_ERR: u32 = 1 << 8;

/// EVENTQ_PROD.OVFLG and EVENTQ_CONS.OVACKFLG (§7.4).
pub(super) const OVERFLOW: u32 = 1 << 31;

/// The address field of a base register, and its read-allocate hint.
pub(super) const BASE_ADDRESS: u64 = 0x00ff_ffff_ffff_ffe0;
pub(super) const READ_ALLOCATE: u64 = 1 << 62;

/// CMDQ_CONS.ERR (§7.1).
pub(super) const CERROR_ILL: u32 = 1;
pub(super) const CERROR_ABT: u32 = 2;
pub(super) const CERROR_ATC_INV_SYNC: u32 = 3;
pub(super) const ERR_SHIFT: u32 = 24;

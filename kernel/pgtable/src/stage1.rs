//! Attributes of stage 1 leaf descriptors, as pure functions on their bits.
//!
//! One set serves the CPU and the SMMU. Masters behind an SMMU issue
//! unprivileged transactions unless told otherwise, so IOMMU mappings are `user`
//! and not `global` (a global entry survives an invalidation by ASID); the CPU's
//! kernel mappings are neither user's nor, with one address space, need they be
//! non-global.
//!
//! Layout: DDI 0487 §D8.3.1 (block and page descriptors: lower attributes in
//! bits 11 to 2, upper ones from bit 50 on), §D8.4 (access permissions), §D8.6
//! (memory types and shareability).

/// Indices of [`MAIR`], one per [`Memory`].
const NORMAL: u64 = 0xff;
const NON_CACHEABLE: u64 = 0x44;
const DEVICE_NGNRE: u64 = 0x04;

/// What MAIR_EL1 and an SMMU's CD.MAIR must hold for [`Memory`] to mean what it
/// says: index 0 normal write-back read/write-allocate, 1 normal non-cacheable,
/// 2 Device-nGnRE (DDI 0487 MAIR_EL1; IHI 0070 §5.4 CD.MAIR).
pub const MAIR: u64 = NORMAL | NON_CACHEABLE << 8 | DEVICE_NGNRE << 16;

/// AttrIndx, bits [4:2].
const MEMORY_SHIFT: u32 = 2;
/// AP[1], bit 6: unprivileged accesses are allowed.
const USER: u64 = 1 << 6;
/// AP[2], bit 7: read only.
const READ_ONLY: u64 = 1 << 7;
/// SH, bits [9:8].
const SHAREABILITY_SHIFT: u32 = 8;
/// AF, bit 10: without it the first access faults.
const ACCESSED: u64 = 1 << 10;
/// nG, bit 11: the translation belongs to one ASID.
const NON_GLOBAL: u64 = 1 << 11;
/// PXN, bit 53.
const PRIVILEGED_EXECUTE_NEVER: u64 = 1 << 53;
/// UXN, bit 54.
const UNPRIVILEGED_EXECUTE_NEVER: u64 = 1 << 54;

/// Every bit of a leaf that is neither output address nor type.
const ATTRIBUTES: u64 = 0xffc | 0xffff << 48;

/// Which accesses are allowed; stage 1 has no write-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads and writes.
    ReadWrite,
    /// Reads.
    ReadOnly,
}

/// Who may fetch instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exec {
    /// Nobody: both execute-never bits.
    Never,
    /// The privileged level.
    Kernel,
}

/// Memory type, by its index in [`MAIR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Normal, write-back, allocating.
    Normal = 0,
    /// Normal, not cacheable: buffers of a device that does not snoop.
    NonCacheable = 1,
    /// Device-nGnRE: registers, MSI doorbells.
    Device = 2,
}

/// Shareability domain; ignored (outer) for device and non-cacheable memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shareability {
    /// Only the observer itself.
    Non = 0b00,
    /// The outer domain.
    Outer = 0b10,
    /// The inner domain: what all CPUs and coherent masters share.
    Inner = 0b11,
}

/// What a leaf allows and how the memory behind it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attrs {
    /// Allowed accesses.
    pub access: Access,
    /// Allowed instruction fetches.
    pub exec: Exec,
    /// Memory type.
    pub memory: Memory,
    /// Shareability domain.
    pub shareability: Shareability,
    /// Unprivileged accesses too: what masters behind an SMMU need.
    pub user: bool,
    /// In every address space: not tagged with an ASID.
    pub global: bool,
}

/// The attribute bits of a block or page descriptor, access flag set.
#[inline]
pub const fn encode(attrs: Attrs) -> u64 {
    let mut bits = ACCESSED
        | (attrs.memory as u64) << MEMORY_SHIFT
        | (attrs.shareability as u64) << SHAREABILITY_SHIFT
        | UNPRIVILEGED_EXECUTE_NEVER;
    if matches!(attrs.access, Access::ReadOnly) {
        bits |= READ_ONLY;
    }
    if matches!(attrs.exec, Exec::Never) {
        bits |= PRIVILEGED_EXECUTE_NEVER;
    }
    if attrs.user {
        bits |= USER;
    }
    if !attrs.global {
        bits |= NON_GLOBAL;
    }
    bits
}

/// The attributes of a leaf descriptor, or `None` where it holds something that
/// [`encode`] never makes (another's table, or a corrupted one).
pub const fn decode(descriptor: u64) -> Option<Attrs> {
    let memory = match descriptor >> MEMORY_SHIFT & 0b111 {
        0 => Memory::Normal,
        1 => Memory::NonCacheable,
        2 => Memory::Device,
        _ => return None,
    };
    let shareability = match descriptor >> SHAREABILITY_SHIFT & 0b11 {
        0b00 => Shareability::Non,
        0b10 => Shareability::Outer,
        0b11 => Shareability::Inner,
        _ => return None,
    };
    let attrs = Attrs {
        access: if descriptor & READ_ONLY == 0 {
            Access::ReadWrite
        } else {
            Access::ReadOnly
        },
        exec: if descriptor & PRIVILEGED_EXECUTE_NEVER == 0 {
            Exec::Kernel
        } else {
            Exec::Never
        },
        memory,
        shareability,
        user: descriptor & USER != 0,
        global: descriptor & NON_GLOBAL == 0,
    };
    if encode(attrs) == descriptor & ATTRIBUTES {
        Some(attrs)
    } else {
        None
    }
}

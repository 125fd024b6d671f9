//! Registers that point to a table in memory: GITS_BASER, GITS_CBASER,
//! GICR_PROPBASER and GICR_PENDBASER share the encoding of memory attributes
//! (IHI 0069 §12.19.1), at two places.

/// Shareability, the same field in all of them.
pub const SHAREABILITY: u64 = 0b11 << 10;
/// Inner shareable.
pub const INNER_SHAREABLE: u64 = 0b01 << 10;
/// InnerCache: normal, non-cacheable.
pub const NON_CACHEABLE: u64 = 0b001;
/// InnerCache: normal, write-back, allocating on read and write. OuterCache 0
/// means: as InnerCache.
pub const WRITE_BACK: u64 = 0b111;

/// Where InnerCache is in the ITS' registers.
pub const ITS_CACHE_SHIFT: u32 = 59;
/// Where InnerCache is in the redistributor's registers.
pub const REDISTRIBUTOR_CACHE_SHIFT: u32 = 7;

/// The attributes for a table whose user snoops the CPU's caches, or does not.
pub const fn attributes(cache_shift: u32, coherent: bool) -> u64 {
    if coherent {
        WRITE_BACK << cache_shift | INNER_SHAREABLE
    } else {
        NON_CACHEABLE << cache_shift
    }
}

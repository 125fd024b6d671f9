//! Layouts of the Virtual I/O Device specification, version 1.3, no algorithms. In
//! this crate "virtio" and a section number mean that document.

pub mod event;
pub mod feature;
pub mod pci;
pub mod property;
pub mod request;
pub mod ring;

#[cfg(test)]
mod tests;

/// A little-endian word at an offset of a structure, which has it.
pub(crate) fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(core::array::from_fn(|index| bytes[at + index]))
}

/// The same, 64 bits.
pub(crate) fn word64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(core::array::from_fn(|index| bytes[at + index]))
}

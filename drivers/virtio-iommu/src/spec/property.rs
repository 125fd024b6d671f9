//! Properties of an endpoint, as PROBE gives them (virtio §5.13.6.8).

use mastiff_core::iommu::Reserved;

use super::word64;

const NONE: u16 = 0;
const RESERVED_MEMORY: u16 = 1;
/// The type is in the lower bits; the upper ones are reserved.
const TYPE: u16 = 0xfff;
/// Bytes before a property's value: type and length.
const HEAD: usize = 4;
/// Bytes of the value of a memory property.
const MEMORY: usize = 20;

/// The memory properties in the buffer that the device filled. Properties of other
/// types are passed over; one that does not fit ends the list, as the empty one does.
pub fn reserved(mut bytes: &[u8]) -> impl Iterator<Item = Reserved> {
    core::iter::from_fn(move || {
        loop {
            let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
            let [t0, t1, l0, l1] = *head;
            let kind = u16::from_le_bytes([t0, t1]) & TYPE;
            let (value, rest) = rest.split_at_checked(u16::from_le_bytes([l0, l1]).into())?;
            bytes = rest;
            match kind {
                NONE => return None,
                RESERVED_MEMORY if value.len() >= MEMORY => {
                    return Some(Reserved {
                        first: word64(value, 4),
                        last: word64(value, 12),
                        doorbell: value[0] == 1,
                    });
                }
                _ => {}
            }
        }
    })
}

//! Properties of an endpoint, as PROBE gives them (virtio §5.13.6.8).

use core::fmt;

use super::word64;

const NONE: u16 = 0;
const RESERVED_MEMORY: u16 = 1;
/// The type is in the lower bits; the upper ones are reserved.
const TYPE: u16 = 0xfff;
/// Bytes before a property's value: type and length.
const HEAD: usize = 4;
/// Bytes of the value of a memory property.
const MEMORY: usize = 20;

/// Input addresses that an endpoint does not send through its domain.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Reserved {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// Whether what is written there raises interrupts; else it goes nowhere.
    pub doorbell: bool,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.doorbell { "for MSI" } else { "reserved" };
        write!(f, "{:#x} to {:#x} ({what})", self.first, self.last)
    }
}

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

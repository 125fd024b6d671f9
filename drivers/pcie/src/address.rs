//! Where a function is: bus, device, function (PCIe Base 7.2.2), which is its
//! Requester ID as well.

use core::fmt;

/// A function's place on its host.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bdf {
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl Bdf {
    /// The Requester ID that its transactions carry (PCIe Base 2.2.4.2).
    pub const fn requester(self) -> u16 {
        (self.bus as u16) << 8 | self.devfn() as u16
    }

    /// Device and function in one byte.
    pub const fn devfn(self) -> u8 {
        self.device << 3 | self.function
    }

    /// The first cell of an address of its configuration space in the tree
    /// (IEEE 1275 PCI bus binding 2.2.1.1).
    pub const fn phys_hi(self) -> u32 {
        (self.requester() as u32) << 8
    }

    /// Where its 4 KiB are in the megabyte of its bus (PCIe Base 7.2.2).
    pub const fn offset_in_bus(self) -> usize {
        (self.devfn() as usize) << 12
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

impl fmt::Debug for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The pin (1 is INTA) that a device's interrupt arrives at on the bus above its
/// bridge: bridges turn pins by the device number (PCI-to-PCI Bridge 9.1).
pub const fn swizzle(pin: u8, device: u8) -> u8 {
    (pin - 1 + device) % 4 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_function_in_all_its_forms() {
        let bdf = Bdf {
            bus: 2,
            device: 31,
            function: 7,
        };
        assert_eq!(bdf.requester(), 0x02ff);
        assert_eq!(bdf.phys_hi(), 0x0002_ff00);
        assert_eq!(bdf.offset_in_bus(), 0xff000);
        assert_eq!(std::format!("{bdf}"), "02:1f.7");
    }

    #[test]
    fn pins_turn_with_the_device() {
        assert_eq!(swizzle(1, 0), 1);
        assert_eq!(swizzle(1, 1), 2);
        assert_eq!(swizzle(4, 1), 1);
        assert_eq!(swizzle(3, 31), 2);
    }
}

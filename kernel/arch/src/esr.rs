//! What a syndrome says, in words (DDI 0487 §D24.2.40, ESR_EL1).

use core::fmt;

/// A value of ESR_EL1.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Syndrome(pub u64);

/// Exception classes that are told apart here.
const UNKNOWN: u64 = 0x00;
const INSTRUCTION_ABORT: u64 = 0x21;
const DATA_ABORT: u64 = 0x25;

impl Syndrome {
    fn class(self) -> u64 {
        self.0 >> 26 & 0x3f
    }

    fn bit(self, bit: u32) -> bool {
        self.0 & 1 << bit != 0
    }

    /// An instruction that the CPU does not know, or may not execute.
    pub fn is_undefined(self) -> bool {
        self.class() == UNKNOWN
    }

    /// Whether FAR holds the address that was accessed (FnV, bit 10, says where
    /// an external abort did not record it).
    pub fn has_address(self) -> bool {
        match self.class() {
            INSTRUCTION_ABORT | DATA_ABORT => !(self.status() == 0x10 && self.bit(10)),
            0x22 | 0x34 | 0x35 => true,
            _ => false,
        }
    }

    /// DFSC or IFSC, bits [5:0].
    fn status(self) -> u64 {
        self.0 & 0x3f
    }
}

fn class_name(class: u64) -> &'static str {
    match class {
        UNKNOWN => "undefined instruction",
        0x01 => "trapped WFI or WFE",
        0x07 => "access to floating point or SVE",
        0x0a => "trapped LD64B or ST64B",
        0x0d => "branch target",
        0x0e => "illegal execution state",
        0x11 | 0x15 => "SVC",
        0x12 | 0x16 => "HVC",
        0x13 | 0x17 => "SMC",
        0x18 => "trapped access to a system register",
        0x19 => "access to SVE",
        0x1c => "pointer authentication",
        0x20 => "instruction abort from EL0",
        INSTRUCTION_ABORT => "instruction abort",
        0x22 => "misaligned PC",
        0x24 => "data abort from EL0",
        DATA_ABORT => "data abort",
        0x26 => "misaligned SP",
        0x2c => "floating point",
        0x2f => "SError",
        0x30 | 0x31 => "breakpoint",
        0x32 | 0x33 => "software step",
        0x34 | 0x35 => "watchpoint",
        0x3c => "BRK instruction",
        _ => "exception of an unknown class",
    }
}

/// Fault status codes (DFSC, IFSC) without the level in their last two bits.
fn status_name(status: u64) -> (&'static str, bool) {
    match status {
        0b00_0000..=0b00_0011 => ("address size fault", true),
        0b00_0100..=0b00_0111 => ("translation fault", true),
        0b00_1000..=0b00_1011 => ("access flag fault", true),
        0b00_1100..=0b00_1111 => ("permission fault", true),
        0b01_0000 => ("external abort", false),
        0b01_0001 => ("tag check fault", false),
        0b01_0100..=0b01_0111 => ("external abort on a table walk", true),
        0b01_1000 => ("parity or ECC error", false),
        0b01_1100..=0b01_1111 => ("parity or ECC error on a table walk", true),
        0b10_0001 => ("alignment fault", false),
        0b11_0000 => ("TLB conflict", false),
        0b11_0001 => ("unsupported atomic update", false),
        0b11_0100 => ("lockdown", false),
        0b11_0101 => ("unsupported exclusive or atomic access", false),
        _ => ("unknown fault status", false),
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(class_name(self.class()))?;
        match self.class() {
            INSTRUCTION_ABORT | DATA_ABORT => {
                let (name, levelled) = status_name(self.status());
                write!(f, ": {name}")?;
                if levelled {
                    write!(f, " at level {}", self.status() & 3)?;
                }
                if self.class() == DATA_ABORT {
                    // CM, bit 8: cache maintenance counts as a write.
                    f.write_str(match (self.bit(8), self.bit(6)) {
                        (true, _) => ", on cache maintenance",
                        (false, true) => ", on a write",
                        (false, false) => ", on a read",
                    })?;
                } else {
                    f.write_str(", on a fetch")?;
                }
            }
            0x3c => write!(f, " {:#x}", self.0 & 0xffff)?,
            _ => {}
        }
        write!(f, " (ESR {:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn syndromes_in_words() {
        for (esr, text) in [
            (
                0x9600_0047,
                "data abort: translation fault at level 3, on a write (ESR 0x96000047)",
            ),
            (
                0x9600_0004,
                "data abort: translation fault at level 0, on a read (ESR 0x96000004)",
            ),
            (
                0x9600_004f,
                "data abort: permission fault at level 3, on a write (ESR 0x9600004f)",
            ),
            (
                0x9600_0050,
                "data abort: external abort, on a write (ESR 0x96000050)",
            ),
            (
                0x9600_0021,
                "data abort: alignment fault, on a read (ESR 0x96000021)",
            ),
            (
                0x9600_0145,
                "data abort: translation fault at level 1, on cache maintenance (ESR 0x96000145)",
            ),
            (
                0x8600_000d,
                "instruction abort: permission fault at level 1, on a fetch (ESR 0x8600000d)",
            ),
            (0x0200_0000, "undefined instruction (ESR 0x2000000)"),
            (0xf200_0001, "BRK instruction 0x1 (ESR 0xf2000001)"),
            (0xbe00_0011, "SError (ESR 0xbe000011)"),
            (
                0xfe00_0000,
                "exception of an unknown class (ESR 0xfe000000)",
            ),
        ] {
            assert_eq!(Syndrome(esr).to_string(), text);
        }
    }

    #[test]
    fn address_only_where_it_was_recorded() {
        assert!(Syndrome(0x9600_0047).has_address());
        assert!(Syndrome(0x9600_0050).has_address());
        assert!(!Syndrome(0x9600_0450).has_address());
        assert!(!Syndrome(0x0200_0000).has_address());
        assert!(Syndrome(0x0200_0000).is_undefined());
    }
}

//! An `interrupts` entry of the tree, as the bindings of GICv2 and GICv3 define it:
//! kind, number, flags; and on a GICv3 perhaps a fourth cell, the CPUs that a
//! private interrupt is for.

use alloc::format;

use mastiff_core::error::Fault;
use mastiff_core::irq::{IrqSpec, Trigger};

/// First INTID of the private (per-CPU) interrupts.
const FIRST_PPI: u32 = 16;
/// First INTID of the shared interrupts.
const FIRST_SPI: u32 = 32;

const KIND_SPI: u32 = 0;
const KIND_PPI: u32 = 1;
const KIND_EXTENDED_SPI: u32 = 2;
const KIND_EXTENDED_PPI: u32 = 3;

/// The trigger, in the low bits of the flags. Above them GICv2's binding has a mask
/// of CPUs for private interrupts, which says nothing new to the one that asks.
const TRIGGER: u32 = 0xf;
const UNSAID: u32 = 0;
const RISING: u32 = 1;
const FALLING: u32 = 2;
const HIGH: u32 = 4;
const LOW: u32 = 8;

/// Decodes a specifier for a GIC that has INTIDs below `lines`.
pub fn decode(cells: &[u32], lines: u32) -> Result<IrqSpec, Fault> {
    let (kind, number, flags) = match *cells {
        [kind, number, flags] | [kind, number, flags, 0] => (kind, number, flags),
        [_, _, _, partition] => {
            return Err(Fault::Unsupported {
                what: "an interrupt that is private to some CPUs only",
                seen: u64::from(partition),
            });
        }
        _ => {
            return Err(Fault::invalid(format!(
                "a GIC interrupt specifier has 3 or 4 cells, not {}",
                cells.len()
            )));
        }
    };
    let private = kind == KIND_PPI;
    let (first, end) = match kind {
        KIND_SPI => (FIRST_SPI, lines),
        KIND_PPI => (FIRST_PPI, FIRST_SPI),
        KIND_EXTENDED_SPI | KIND_EXTENDED_PPI => {
            return Err(Fault::Unsupported {
                what: "interrupts of the extended SPI and PPI ranges",
                seen: u64::from(kind),
            });
        }
        _ => {
            return Err(Fault::invalid(format!(
                "a GIC interrupt is of kind 0 (SPI) or 1 (PPI), not {kind}"
            )));
        }
    };
    let intid = first.saturating_add(number);
    if intid >= end {
        return Err(Fault::IrqOutOfRange { intid });
    }
    let trigger = match flags & TRIGGER {
        RISING => Trigger::Edge,
        // What resets to a level stays one where the tree does not say.
        HIGH | UNSAID => Trigger::Level,
        // Only a private interrupt can be wired with the other polarity.
        FALLING if private => Trigger::Edge,
        LOW if private => Trigger::Level,
        other => {
            return Err(Fault::invalid(format!(
                "a GIC interrupt triggers by 1 (rising edge) or 4 (high level), not {other}"
            )));
        }
    };
    Ok(IrqSpec { intid, trigger })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intid(cells: &[u32]) -> Option<(u32, Trigger)> {
        let spec = decode(cells, 288).ok()?;
        Some((spec.intid, spec.trigger))
    }

    #[test]
    fn kinds_have_their_ranges() {
        assert_eq!(intid(&[0, 1, 4]), Some((33, Trigger::Level)));
        assert_eq!(intid(&[0, 74, 1]), Some((106, Trigger::Edge)));
        assert_eq!(intid(&[0, 255, 4]), Some((287, Trigger::Level)));
        assert_eq!(intid(&[0, 256, 4]), None, "beyond what the GIC has");
        assert_eq!(intid(&[0, u32::MAX, 4]), None);
        assert_eq!(intid(&[1, 11, 4]), Some((27, Trigger::Level)));
        assert_eq!(intid(&[1, 16, 4]), None, "16 private interrupts");
    }

    #[test]
    fn extended_ranges_are_named() {
        for kind in [2, 3] {
            let fault = decode(&[kind, 0, 4], 288).unwrap_err();
            assert!(format!("{fault}").contains("extended"), "{fault}");
        }
        assert!(matches!(
            decode(&[4, 0, 4], 288),
            Err(Fault::Invalid { .. })
        ));
    }

    #[test]
    fn polarity_is_fixed_for_shared_interrupts() {
        assert_eq!(intid(&[1, 13, 0xf08]), Some((29, Trigger::Level)));
        assert_eq!(intid(&[1, 13, 2]), Some((29, Trigger::Edge)));
        assert_eq!(intid(&[0, 13, 8]), None);
        assert_eq!(intid(&[0, 13, 2]), None);
        assert_eq!(intid(&[0, 13, 3]), None, "both edges");
        assert_eq!(intid(&[0, 13, 0]), Some((45, Trigger::Level)));
    }

    #[test]
    fn cell_counts() {
        assert_eq!(intid(&[]), None);
        assert_eq!(intid(&[0, 1]), None);
        assert_eq!(intid(&[1, 7, 4, 0]), Some((23, Trigger::Level)));
        assert_eq!(intid(&[1, 7, 4, 3]), None, "a partition of CPUs");
        assert_eq!(intid(&[0, 1, 4, 0, 0]), None);
    }
}

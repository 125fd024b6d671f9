//! The line speed, for a UART that nobody has set up: firmware's choice is not
//! touched, and without a clock of known frequency there is nothing to compute.

use mastiff_dt::Node;

const USUAL_BAUD: u32 = 115_200;

/// The baud rate divisor, in 64ths.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Divisor(pub u32);

impl Divisor {
    /// What makes `baud` of a clock of `hz` (DDI 0183 §3.3.6), if that fits.
    pub fn of(hz: u64, baud: u32) -> Option<Self> {
        // The bit clock is a sixteenth; in 64ths of the divisor that is a factor
        // of 4. Rounded to the nearest.
        let baud = u64::from(baud);
        let divisor = hz
            .checked_mul(4)?
            .checked_add(baud / 2)?
            .checked_div(baud)?;
        let fits = (64..=0xffff * 64).contains(&divisor);
        fits.then_some(Self(divisor as u32))
    }

    /// For the integer divisor register.
    pub fn integer(self) -> u32 {
        self.0 / 64
    }

    /// For the fractional divisor register.
    pub fn fraction(self) -> u32 {
        self.0 % 64
    }
}

/// The speed that the tree says, as the node's property or as an option of
/// `stdout-path`.
pub fn baud_for(node: Node<'_>) -> u32 {
    let own = node.cell("current-speed").ok().flatten();
    let tree = node.tree();
    let option = || {
        let options = tree
            .stdout_options()
            .filter(|_| tree.stdout() == Some(node))?;
        let end = options.find(|c: char| !c.is_ascii_digit());
        options[..end.unwrap_or(options.len())].parse().ok()
    };
    own.or_else(option)
        .filter(|&baud| baud != 0)
        .unwrap_or(USUAL_BAUD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mastiff_dt::build::TreeBuilder;

    #[test]
    fn divisor_as_the_manual_computes_it() {
        // DDI 0183 §3.3.6: 4 MHz, 230400 baud: 1 and 5/64.
        let divisor = Divisor::of(4_000_000, 230_400).unwrap();
        assert_eq!((divisor.integer(), divisor.fraction()), (1, 5));
        let divisor = Divisor::of(24_000_000, 115_200).unwrap();
        assert_eq!((divisor.integer(), divisor.fraction()), (13, 1));
    }

    #[test]
    fn impossible_speeds_are_none() {
        assert_eq!(Divisor::of(24_000_000, 0), None);
        assert_eq!(Divisor::of(24_000_000, 3_000_000), None, "below 1");
        assert_eq!(Divisor::of(1 << 32, 1), None, "above 65535");
        assert_eq!(Divisor::of(u64::MAX, 1), None);
        assert_eq!(Divisor::of(0, 115_200), None);
    }

    fn with(stdout: &str, own: Option<u32>) -> u32 {
        let tree = TreeBuilder::new()
            .node("chosen", |n| n.string("stdout-path", stdout))
            .node("other", |n| n)
            .node("serial@9000000", |n| match own {
                Some(baud) => n.u32("current-speed", baud),
                None => n,
            })
            .tree()
            .unwrap();
        baud_for(tree.find("/serial").unwrap())
    }

    #[test]
    fn speed_is_the_trees() {
        assert_eq!(with("/serial@9000000:9600n8", None), 9600);
        assert_eq!(with("/serial@9000000:9600n8", Some(38_400)), 38_400);
        assert_eq!(with("/serial@9000000", None), 115_200);
        assert_eq!(with("/other:9600", None), 115_200, "another's speed");
        assert_eq!(with("/serial@9000000:0", None), 115_200);
        assert_eq!(with("/serial@9000000:99999999999", None), 115_200);
    }
}

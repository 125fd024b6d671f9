//! The line speed, for a UART that nobody has set up: firmware's choice is not
//! touched, and without a clock of known frequency there is nothing to compute.

use mastiff_dt::{Node, SupplierClass};

const USUAL_BAUD: u32 = 115_200;

/// The baud rate divisor, in 64ths.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Divisor(pub u32);

impl Divisor {
    /// What makes `baud` of a clock of `hz` (DDI 0183 §3.3.6), if that fits.
    pub fn of(hz: u32, baud: u32) -> Option<Self> {
        // The bit clock is a sixteenth; in 64ths of the divisor that is a factor
        // of 4. Rounded to the nearest.
        let divisor = (u64::from(hz) * 4 + u64::from(baud) / 2).checked_div(u64::from(baud))?;
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

/// The divisor for a UART's node, where its clock is one of fixed frequency.
pub fn divisor_for(node: Node<'_>) -> Option<Divisor> {
    let clock = node
        .suppliers()
        .into_iter()
        .find(|edge| edge.class == SupplierClass::Clock)?;
    let clock = node.tree().node(clock.target.ok()?);
    if !clock.is_compatible("fixed-clock") {
        return None;
    }
    let hz = clock.cell("clock-frequency").ok()??;
    Divisor::of(hz, baud_for(node))
}

/// What the tree says, as the node's property or as an option of `stdout-path`.
fn baud_for(node: Node<'_>) -> u32 {
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
        assert_eq!(Divisor::of(u32::MAX, 1), None, "above 65535");
        assert_eq!(Divisor::of(0, 115_200), None);
    }

    fn with(stdout: &str, clock: &str) -> Option<Divisor> {
        let tree = TreeBuilder::new()
            .node("chosen", |n| n.string("stdout-path", stdout))
            .node("clk", |n| {
                n.compatible(&[clock])
                    .phandle(7)
                    .u32("#clock-cells", 0)
                    .u32("clock-frequency", 24_000_000)
            })
            .node("serial@9000000", |n| n.cells("clocks", &[7]))
            .tree()
            .unwrap();
        divisor_for(tree.find("/serial").unwrap())
    }

    #[test]
    fn speed_is_the_trees() {
        let usual = Divisor::of(24_000_000, 115_200);
        let slow = Divisor::of(24_000_000, 9600);
        assert_eq!(with("/serial@9000000:9600n8", "fixed-clock"), slow);
        assert_eq!(with("/serial@9000000", "fixed-clock"), usual);
        assert_eq!(with("/clk:9600", "fixed-clock"), usual, "another's speed");
        assert_eq!(with("/serial@9000000:0", "fixed-clock"), usual);
        assert_eq!(with("/serial@9000000:9600", "some,pll"), None);
    }
}

//! Synopsys' DesignWare host (`snps,dw-pcie`) over a link that firmware brought up.
//!
//! Power, clocks, the PHY and the link's training are the board's and its firmware's; here
//! it is only asked whether the link is up. From there on a host is its address
//! translation: `link` and `atu` are its registers, `space` makes configuration space of them.
//!
//! Not here: interrupts by message at the host itself (functions send theirs to the
//! controller that `msi-map` names), wired interrupts, inbound translation (what firmware
//! left is in force), I/O windows.

mod atu;
mod link;
mod space;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;
use mastiff_dt::{Node, Range};

use crate::host::{Functions, bus_range};
use crate::scan::Scanner;
use crate::window;
use atu::Atu;
use space::Space;

/// The driver.
pub struct DesignWare;

const MATCHES: &[Match] = &[
    Match::compatible("snps,dw-pcie"),
    Match::compatible("rockchip,rk3588-pcie"),
];

/// Registers that are used wherever the translation unit's are: the port's configuration
/// space, its own registers in it.
const REGISTERS: u64 = 0x1000;
/// What a window on configuration space shows at a time.
const FUNCTION: u64 = 0x1000;
/// What a translation unit has for one region.
const UNIT: u64 = 0x200;

impl<P: Platform> Driver<P> for DesignWare {
    fn name(&self) -> &'static str {
        "dw-pcie"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        let (first, last) = bus_range(node)?.unwrap_or((0, u8::MAX));
        let ranges = window::of_host(node)?;
        let registers = Arc::new(probe.mmio(required(node, "dbi")?, REGISTERS)?);
        let index = required(node, "config")?;
        let config = (probe.mmio(index, FUNCTION)?, probe.window(index)?);
        let own = match named(node, "atu") {
            Some(index) => Some(probe.mmio(index, UNIT)?),
            None => None,
        };
        link::wait(probe.platform(), &*registers)?;
        let unit = Atu::new(probe.platform(), &registers, own)?;
        let space = Space::new(registers.clone(), config, first, unit);
        let ways = Ways {
            space: space.clone(),
            ranges,
        };
        ways.space.open(&ways.ranges)?;
        let root = Scanner::new(&mut space.clone(), first, last).scan(node)?;
        let functions = Functions::publish(probe, node, &ways.ranges, root)?;
        Ok(Box::new(Host {
            functions,
            registers,
            platform: probe.platform().clone(),
            ways,
        }))
    }
}

/// The host, for as long as it is bound.
struct Host<P: Platform> {
    // Dropped before what it is reached by.
    functions: Functions<P>,
    registers: Arc<P::Mmio>,
    platform: P,
    ways: Ways<P>,
}

/// The ways out of the host; closed in the end.
struct Ways<P: Platform> {
    space: Arc<Space<P>>,
    ranges: Vec<Range>,
}

impl<P: Platform> Drop for Ways<P> {
    fn drop(&mut self) {
        self.space.close();
    }
}

impl<P: Platform> Bound for Host<P> {
    fn quiesce(&self) {
        self.functions.quiesce();
    }

    fn suspend(&self) -> Result<(), Fault> {
        self.functions.suspend();
        // Power takes the translation, too.
        self.ways.space.close();
        Ok(())
    }

    fn resume(&self) -> Result<(), Fault> {
        link::wait(&self.platform, &*self.registers)?;
        self.ways.space.open(&self.ways.ranges)?;
        self.functions.resume();
        Ok(())
    }
}

/// The index of the window of this name.
fn named(node: Node<'_>, name: &str) -> Option<usize> {
    let names = node.prop("reg-names")?;
    names.strings().position(|known| known == name)
}

fn required(node: Node<'_>, name: &str) -> Result<usize, Fault> {
    named(node, name).ok_or_else(|| Fault::invalid(format!("`reg-names` has no `{name}`")))
}

//! The generic host (`pci-host-ecam-generic`): configuration space is memory, all of it
//! at once.

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;
use mastiff_dt::Node;

use crate::config::BusSpace;
use crate::host::{Functions, bus_range};
use crate::scan::{Buses, Scanner};
use crate::window;

/// The driver.
pub struct Pcie;

const MATCHES: &[Match] = &[Match::compatible("pci-host-ecam-generic")];

/// Configuration space of one bus (PCIe Base 7.2.2).
const BUS_SPACE: u64 = 1 << 20;

impl<P: Platform> Driver<P> for Pcie {
    fn name(&self) -> &'static str {
        "pcie"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let node = probe.require_node()?;
        let window = probe.window(0)?;
        let (first, last) = buses_of(node, window)?;
        let ranges = window::of_host(node)?;
        let mut ecam = Ecam {
            start: window.start,
            first,
            probe,
        };
        let root = Scanner::new(&mut ecam, first, last).scan(node)?;
        Ok(Box::new(PcieHost(Functions::publish(
            probe, node, &ranges, root,
        )?)))
    }
}

/// Configuration space, mapped bus by bus.
struct Ecam<'a, 'p, P: Platform> {
    start: PhysAddr,
    first: u8,
    probe: &'a mut Probe<'p, P>,
}

impl<P: Platform> Buses for Ecam<'_, '_, P> {
    fn open(&mut self, number: u8) -> Result<BusSpace, Fault> {
        let start = self.start.add(u64::from(number - self.first) * BUS_SPACE);
        let len = BUS_SPACE;
        Ok(Arc::new(self.probe.map(PhysRange { start, len })?))
    }
}

/// The host, for as long as it is bound.
struct PcieHost<P: Platform>(Functions<P>);

impl<P: Platform> Bound for PcieHost<P> {
    fn quiesce(&self) {
        self.0.quiesce();
    }

    fn suspend(&self) -> Result<(), Fault> {
        self.0.suspend();
        Ok(())
    }

    fn resume(&self) -> Result<(), Fault> {
        self.0.resume();
        Ok(())
    }
}

/// First and last bus number. Configuration space starts with the first one's
/// (`host-generic-pci.yaml` in the devicetree bindings) and must cover them all.
fn buses_of(node: Node<'_>, ecam: PhysRange) -> Result<(u8, u8), Fault> {
    let too_small = |need| Fault::WindowTooSmall {
        index: 0,
        have: ecam.len,
        need,
    };
    let buses = ecam.len / BUS_SPACE;
    if buses == 0 {
        return Err(too_small(BUS_SPACE));
    }
    match bus_range(node)? {
        None => Ok((0, (buses - 1).min(255) as u8)),
        Some((first, last)) => match u64::from(last - first) + 1 {
            count if count <= buses => Ok((first, last)),
            count => Err(too_small(count * BUS_SPACE)),
        },
    }
}

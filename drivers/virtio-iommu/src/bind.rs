//! The bus' and the device tree's side: in which order an instance comes and goes.

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::IrqHandler;
use mastiff_core::platform::Platform;
use mastiff_core::probe::{Interrupt, Probe, Service};

use crate::published::Published;
use crate::spec::pci::{DEVICE_ID, VENDOR_ID};
use crate::transport::Transport;
use crate::viommu::{Identity, Line, Viommu};

/// The driver.
pub struct VirtioIommu;

/// It is a bus master itself: its queues are in memory.
const MATCHES: &[Match] = &[Match::pci(VENDOR_ID, DEVICE_ID).master()];

impl<P: Platform> Driver<P> for VirtioIommu {
    fn name(&self) -> &'static str {
        "virtio-iommu"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        // Without a node no master can name it as its IOMMU.
        let node = probe.require_node()?;
        let platform = probe.platform().clone();
        let identity = Identity {
            node: node.id(),
            name: probe.owned_name(),
            faults: probe.fault_log(),
        };
        let transport = Transport::find(probe)?;
        let dma = probe.dma()?;
        let viommu = Arc::new(Viommu::new(&platform, identity, transport, dma)?);
        let interrupt = connect(probe, &viommu)?;
        // Everything is there; from here on the device is written to, and whatever
        // fails is undone by dropping this.
        let bound = Instance { viommu, interrupt };
        bound.viommu.start()?;
        probe.publish(Service::Iommu(Arc::new(Published(bound.viommu.clone()))))?;
        Ok(Box::new(bound))
    }
}

/// Connects the interrupt, without which faults are seen when somebody asks for the
/// status: that is no reason to leave masters without their IOMMU.
fn connect<P: Platform>(
    probe: &mut Probe<'_, P>,
    viommu: &Arc<Viommu<P>>,
) -> Result<Option<Interrupt>, ProbeError> {
    match probe.interrupt(handler(viommu)) {
        Ok(interrupt) => {
            viommu.line.call_once(|| match interrupt.is_message() {
                true => Line::Message,
                false => Line::Pin,
            });
            Ok(Some(interrupt))
        }
        Err(ProbeError::Fail(fault)) => {
            let name = probe.name();
            log::warn!("{name}: {fault}; faults are seen when its status is asked for");
            Ok(None)
        }
        Err(later @ ProbeError::Defer(_)) => Err(later),
    }
}

fn handler<P: Platform>(viommu: &Arc<Viommu<P>>) -> Arc<dyn IrqHandler> {
    let weak = Arc::downgrade(viommu);
    Arc::new(move || {
        if let Some(viommu) = weak.upgrade() {
            viommu.serve();
        }
    })
}

/// A bound instance.
struct Instance<P: Platform> {
    viommu: Arc<Viommu<P>>,
    // Dropped after the device was reset, and so raises none.
    #[expect(dead_code, reason = "held for its drop")]
    interrupt: Option<Interrupt>,
}

impl<P: Platform> Instance<P> {
    fn stop(&self) -> Result<(), Fault> {
        self.viommu.stop()
    }
}

impl<P: Platform> Bound for Instance<P> {
    /// Off while it may still master the bus, which its queues need.
    fn quiesce(&self) {
        if let Err(fault) = self.stop() {
            log::error!("{}: {fault}", self.viommu.name());
        }
    }

    fn suspend(&self) -> Result<(), Fault> {
        self.stop()
    }

    fn resume(&self) -> Result<(), Fault> {
        self.viommu.start()
    }
}

impl<P: Platform> Drop for Instance<P> {
    fn drop(&mut self) {
        if let Err(fault) = self.stop() {
            let name = self.viommu.name();
            log::error!("{name}: could not be turned off, its memory is quarantined: {fault}");
        }
    }
}

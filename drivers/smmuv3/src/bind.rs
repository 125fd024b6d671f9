//! The device tree's side: what is taken from the node, and in which order an
//! instance comes and goes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::StreamId;
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::IrqLine;
use mastiff_core::platform::Platform;
use mastiff_core::probe::{Probe, Service};
use mastiff_dt::{IdMap, Node, NodeId, Tree};
use mastiff_pgtable::TableMem;

use crate::features::{Features, Idr};
use crate::interrupts;
use crate::smmu::{Identity, Published, Smmu, Wishes};
use crate::spec::registers::WINDOW;
use crate::window::Window;

/// What the driver needs of the machine: it is a platform, and there is memory for
/// translation tables.
pub trait Machine: Platform + TableMem {}

impl<T: Platform + TableMem> Machine for T {}

/// The driver.
pub struct Smmuv3;

impl<P: Machine> Driver<P> for Smmuv3 {
    fn name(&self) -> &'static str {
        "smmuv3"
    }

    fn matches(&self) -> &'static [Match] {
        const { &[Match::compatible("arm,smmu-v3")] }
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let window = Arc::new(Window::new(
            probe.mmio(0, WINDOW)?,
            probe.platform().clone(),
        ));
        let bound = bring_up(probe, &window);
        if let Err(ProbeError::Fail(_)) = &bound {
            close(probe, &window);
        }
        bound
    }
}

fn bring_up<P: Machine>(
    probe: &mut Probe<'_, P>,
    window: &Arc<Window<P>>,
) -> Result<Box<dyn Bound>, ProbeError> {
    let node = probe.require_node()?;
    let features = Features::decode(Idr::read(window))?;
    let coherent = coherent(&node, &features, probe.name());
    let identity = Identity {
        node: node.id(),
        name: probe.owned_name(),
        faults: probe.fault_log(),
    };
    let wishes = Wishes {
        highest: highest_stream(probe.tree(), node.id()),
        granule: probe.policy().granule,
    };
    let platform = probe.platform().clone();
    let smmu = Arc::new(Smmu::new(
        platform,
        identity,
        window.clone(),
        features,
        coherent,
        wishes,
    )?);
    let lines = interrupts::connect(probe, &node, &smmu)?;
    // Everything is there; from here on the hardware is written to, and
    // whatever fails is undone by dropping this.
    let bound = Instance { smmu, lines };
    bound.smmu.start()?;
    log::debug!("{}: {}", probe.name(), bound.smmu.words().join(", "));
    probe.publish(Service::Iommu(Arc::new(Published(bound.smmu.clone()))))?;
    Ok(Box::new(bound))
}

/// An SMMU that will not be used lets nothing through, whatever reset or firmware
/// made of it, unless policy has masters go on without.
fn close<P: Machine>(probe: &Probe<'_, P>, window: &Window<P>) {
    if !Idr::read(window).is_of_an_smmu() || probe.policy().allows_direct() {
        log::warn!("{}: left as it is", probe.name());
        return;
    }
    match window.shut() {
        Ok(()) => log::warn!("{}: not used, and closed: all DMA aborts", probe.name()),
        Err(fault) => log::error!("{}: not used, and may be open: {fault}", probe.name()),
    }
}

/// Whether the hardware snoops: the tree knows the system that it was put into,
/// the hardware only how it was configured.
fn coherent(node: &Node<'_>, features: &Features, name: &str) -> bool {
    let tree = node.has("dma-coherent");
    if tree != features.coherent {
        let (says, but) = match tree {
            true => ("coherent", "not coherent"),
            false => ("not coherent", "coherent"),
        };
        log::warn!(
            "{name}: the tree says that its walks are {says}. IDR0.COHACC says that they are {but}; the tree counts."
        );
    }
    tree
}

/// The highest StreamID of this SMMU that the tree speaks of. What is malformed is
/// for whoever uses it to complain of.
fn highest_stream(tree: &Tree, smmu: NodeId) -> StreamId {
    let first = |cells: &[u32]| cells.first().copied().unwrap_or(0);
    let highest = |node: Node<'_>| {
        let own = node.iommus().unwrap_or_default().into_iter();
        let own = own
            .filter(|entry| entry.iommu == smmu)
            .map(|entry| first(&entry.cells));
        let mapped = node.id_ranges(IdMap::Iommu).unwrap_or_default().into_iter();
        let mapped = mapped
            .filter(|range| range.target == Some(smmu) && range.count > 0)
            .map(|range| first(&range.output).saturating_add(range.count - 1));
        own.chain(mapped).max().unwrap_or(0)
    };
    StreamId(tree.nodes().map(highest).max().unwrap_or(0))
}

/// A bound instance: on while it lives.
struct Instance<P: Machine> {
    smmu: Arc<Smmu<P>>,
    // Dropped after the hardware has been told to raise none.
    #[expect(dead_code, reason = "held for its drop")]
    lines: Vec<IrqLine>,
}

impl<P: Machine> Bound for Instance<P> {
    fn suspend(&self) -> Result<(), Fault> {
        self.smmu.suspend()
    }

    fn resume(&self) -> Result<(), Fault> {
        self.smmu.resume()
    }
}

impl<P: Machine> Drop for Instance<P> {
    fn drop(&mut self) {
        if let Err(fault) = self.smmu.stop() {
            let name = self.smmu.name();
            log::error!("{name}: could not be turned off, its memory is quarantined: {fault}");
        }
        // Contexts end here, and not under the lock.
        let routes = self.smmu.streams.lock().clear();
        drop(routes);
    }
}

//! What a driver may do while it probes. Everything it acquires here is its own
//! and is released by `Drop`; everything it publishes is staged and becomes
//! visible only if the probe succeeds, so a half-made IOMMU is never seen.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::{IdMap, InterruptSpec, Node, NodeId, SupplierClass, Tree};

use crate::addr::PhysRange;
use crate::bus::{BusFunction, Child, PciId};
use crate::claims::Claim;
use crate::dma::{Dma, Lease};
use crate::engine::Context;
use crate::error::{Dependency, Fault, ProbeError};
use crate::iommu::{FaultLog, Iommu, Managed};
use crate::irq::{IrqChip, IrqHandler, IrqLine, MsiChip};
use crate::platform::{Mmio, Platform};
use crate::policy::Policy;
use crate::supply::{GpioBank, GpioLine, LineSetup, On, Switches};

/// A device under probe.
pub struct Probe<'a, P: Platform> {
    pub(crate) context: &'a Arc<Context<P>>,
    pub(crate) name: &'a str,
    pub(crate) node: Option<NodeId>,
    pub(crate) child: Option<&'a Child>,
    // The node of the bus that the child is on.
    pub(crate) bus: Option<NodeId>,
    pub(crate) lease: Option<&'a Lease<P>>,
    pub(crate) dma: Option<Dma<P>>,
    pub(crate) managed: Option<Managed<P>>,
    pub(crate) held: &'a [On],
    pub(crate) claims: &'a mut Vec<Claim>,
    pub(crate) staged: Staged,
}

/// What a probe publishes if it succeeds.
#[derive(Default)]
pub(crate) struct Staged {
    pub services: Vec<(NodeId, Service)>,
    pub children: Vec<Child>,
    // Whether the nodes below the device's own are devices on it.
    pub nodes: bool,
}

/// Something that other devices depend on.
#[derive(Clone)]
pub enum Service {
    /// An IOMMU.
    Iommu(Arc<dyn Iommu>),
    /// A root interrupt controller.
    Irq(Arc<dyn IrqChip>),
    /// A frame for message interrupts.
    Msi(Arc<dyn MsiChip>),
    /// Clocks, power domains, regulators or resets.
    Switches(SupplierClass, Arc<dyn Switches>),
    /// General-purpose lines.
    Gpio(Arc<GpioBank>),
    /// Something that is ready, and about which nothing else is to be said here.
    Ready(SupplierClass),
}

impl Service {
    /// The class of supplier that it makes of its node.
    pub fn class(&self) -> SupplierClass {
        match self {
            Self::Iommu(_) => SupplierClass::Iommu,
            Self::Irq(_) => SupplierClass::Interrupt,
            Self::Msi(_) => SupplierClass::Msi,
            Self::Gpio(_) => SupplierClass::Gpio,
            Self::Switches(class, _) | Self::Ready(class) => *class,
        }
    }
}

/// A device's interrupt, wired or by message. Dropping it silences the source
/// first.
pub struct Interrupt {
    source: Source,
    line: IrqLine,
}

/// An interrupt by message, and what the device is to write where.
pub struct MessageLine {
    /// Dropped when the device writes no more.
    pub line: IrqLine,
    /// The address as the device has it.
    pub address: u64,
    /// The value.
    pub data: u32,
}

/// What makes a device signal.
enum Source {
    Message(Arc<dyn BusFunction>, u32),
    Pin(Arc<dyn BusFunction>),
    /// A line that is always there.
    Wire,
}

impl Interrupt {
    /// Whether it comes as a memory write.
    pub fn is_message(&self) -> bool {
        matches!(self.source, Source::Message(..))
    }

    /// The interrupt's number at its controller.
    pub fn intid(&self) -> u32 {
        self.line.intid()
    }

    /// Has CPU `cpu` take it, as [`IrqLine::steer`] does.
    pub fn steer(&self, cpu: usize) -> Result<(), Fault> {
        self.line.steer(cpu)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        match &self.source {
            Source::Message(function, index) => function.clear_message(*index),
            Source::Pin(function) => function.set_pin(false),
            Source::Wire => {}
        }
    }
}

impl<'a, P: Platform> Probe<'a, P> {
    /// The device's name: its path in the tree.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The machine.
    pub fn platform(&self) -> &'a P {
        &self.context.platform
    }

    /// What was decided for this boot.
    pub fn policy(&self) -> &'a Policy {
        &self.context.policy
    }

    /// The device tree.
    pub fn tree(&self) -> &'a Tree {
        &self.context.tree
    }

    /// Where the device's capabilities of this kind are, in the order of its list, on
    /// a bus that has such a list.
    pub fn capabilities(&self, id: u8) -> Vec<u16> {
        let function = self.child.map(|child| &child.function);
        function.map_or_else(Vec::new, |function| function.capabilities(id))
    }

    /// A word of the device's configuration space; all ones where it has none.
    pub fn config_read(&self, offset: u16) -> u32 {
        let function = self.child.map(|child| &child.function);
        function.map_or(u32::MAX, |function| function.config_read(offset))
    }

    /// The node that describes the device, if one does.
    pub fn node(&self) -> Option<Node<'a>> {
        self.node.map(|id| self.context.tree.node(id))
    }

    /// The node, for devices that cannot be without one.
    pub fn require_node(&self) -> Result<Node<'a>, Fault> {
        self.node()
            .ok_or_else(|| Fault::invalid("the device has no tree node"))
    }

    /// What the device says it is, on a bus that asks it.
    pub fn pci(&self) -> Option<PciId> {
        self.child.map(|child| child.pci)
    }

    /// Where the device's register window `index` is: an entry of `reg`, or a BAR.
    pub fn window(&self, index: usize) -> Result<PhysRange, Fault> {
        if let Some(child) = self.child {
            return child.function.window(index);
        }
        let regions = self.require_node()?.reg()?;
        let region = regions.get(index).ok_or(Fault::NoWindow { index })?;
        Ok(PhysRange {
            start: crate::addr::PhysAddr(region.base),
            len: region.size,
        })
    }

    /// Maps window `index`, of which the driver uses the first `need` bytes.
    pub fn mmio(&mut self, index: usize, need: u64) -> Result<P::Mmio, Fault> {
        let range = self.window(index)?;
        if range.len < need {
            return Err(Fault::WindowTooSmall {
                index,
                have: range.len,
                need,
            });
        }
        let window = self.map(range)?;
        debug_assert!(window.len() as u64 >= need);
        Ok(window)
    }

    /// Claims and maps registers that are not a whole window of the device: a part
    /// of one, or those of a node below the device's own.
    pub fn map(&mut self, range: PhysRange) -> Result<P::Mmio, Fault> {
        let claim = self.context.claims.take(range, self.name)?;
        let window = self.context.platform.map_mmio(range)?;
        self.claims.push(claim);
        Ok(window)
    }

    /// Connects the device's wired interrupt `index` of the tree. A device on a bus
    /// that has to be told to use its pin wants [`interrupt`](Self::interrupt).
    pub fn irq(
        &mut self,
        index: usize,
        handler: Arc<dyn IrqHandler>,
    ) -> Result<IrqLine, ProbeError> {
        let spec = match self.child {
            Some(child) if index == 0 => child.function.interrupt()?,
            Some(_) => None,
            None => self.require_node()?.interrupts()?.into_iter().nth(index),
        };
        let spec = spec.ok_or(Fault::NoInterrupt { index })?;
        self.connect(&spec, handler)
    }

    fn connect(
        &self,
        spec: &InterruptSpec,
        handler: Arc<dyn IrqHandler>,
    ) -> Result<IrqLine, ProbeError> {
        let dependency = Dependency {
            node: spec.controller,
            class: SupplierClass::Interrupt,
        };
        let Some(Service::Irq(chip)) = self.context.find(dependency) else {
            return Err(self.context.missing(dependency));
        };
        let irq = chip.translate(&spec.cells)?;
        let hub = self.context.platform.irqs();
        Ok(hub.connect(chip, irq, self.name, handler)?)
    }

    /// Connects interrupts of the device, one for each handler as far as it can send
    /// messages and a controller has them, and the first one in any case.
    pub fn interrupts(
        &mut self,
        handlers: impl IntoIterator<Item = Arc<dyn IrqHandler>>,
    ) -> Result<Vec<Interrupt>, ProbeError> {
        let mut all: Vec<Interrupt> = Vec::new();
        for (index, handler) in (0..).zip(handlers) {
            if index == 0 {
                all.push(self.interrupt(handler)?);
                continue;
            }
            match self.message(index, handler)? {
                Some(Ok(interrupt)) if all[0].is_message() => all.push(interrupt),
                Some(Err(fault)) => {
                    log::warn!("{}: no message interrupt {index}: {fault}", self.name);
                    break;
                }
                _ => break,
            }
        }
        Ok(all)
    }

    /// Connects an interrupt of the device, by message where the device, the tree
    /// and a controller have it, wired otherwise.
    pub fn interrupt(&mut self, handler: Arc<dyn IrqHandler>) -> Result<Interrupt, ProbeError> {
        let unsent = match self.message(0, handler.clone())? {
            Some(Ok(interrupt)) => return Ok(interrupt),
            Some(Err(fault)) => Some(fault),
            None => None,
        };
        let line = match (self.irq(0, handler), unsent) {
            // Why there is no message says more than that there is no wire either.
            (Err(ProbeError::Fail(Fault::NoInterrupt { .. })), Some(fault)) => {
                return Err(fault.into());
            }
            (line, Some(fault)) => {
                let name = self.name;
                log::warn!("{name}: no message interrupt, wired instead: {fault}");
                line?
            }
            (line, None) => line?,
        };
        let source = match self.child {
            None => Source::Wire,
            Some(child) => {
                child.function.set_pin(true);
                Source::Pin(child.function.clone())
            }
        };
        Ok(Interrupt { source, line })
    }

    /// Interrupt `index` by message, or why it cannot be had; none where there is nothing
    /// that could be told to send it.
    fn message(
        &self,
        index: u32,
        handler: Arc<dyn IrqHandler>,
    ) -> Result<Option<Result<Interrupt, Fault>>, Fault> {
        let (Some(child), Some(bus), Some(lease)) = (self.child, self.bus, self.lease) else {
            return Ok(None);
        };
        let Some(&requester) = child.requesters.first() else {
            return Ok(None);
        };
        if child.function.messages() <= index {
            return Ok(None);
        }
        let node = self.context.tree.node(bus);
        let Some(target) = node.map_id(IdMap::Msi, requester)? else {
            return Ok(None);
        };
        let dependency = Dependency {
            node: target.target,
            class: SupplierClass::Msi,
        };
        let Some(Service::Msi(chip)) = self.context.find(dependency) else {
            return Ok(None);
        };
        let id = target.cells.first().copied().unwrap_or(requester);
        Ok(Some(self.send_messages(
            index,
            (child, lease),
            (chip, id),
            handler,
        )))
    }

    fn send_messages(
        &self,
        index: u32,
        (child, lease): (&Child, &Lease<P>),
        (chip, id): (Arc<dyn MsiChip>, u32),
        handler: Arc<dyn IrqHandler>,
    ) -> Result<Interrupt, Fault> {
        let vector = chip.allocate(id)?;
        let hub = self.context.platform.irqs();
        let line = hub.connect_msi(chip, vector, self.name, handler)?;
        // The doorbell is a DMA target like any other: behind an IOMMU it has an
        // IOVA, and that is what the function must write to.
        let address = lease.doorbell(vector.doorbell)?;
        child.function.set_message(index, address, vector.data)?;
        Ok(Interrupt {
            source: Source::Message(child.function.clone(), index),
            line,
        })
    }

    /// An interrupt by message for a device that is told where to write by its own
    /// registers: from the controller that `msi-parent` names, if there is one.
    pub fn message_line(
        &mut self,
        handler: Arc<dyn IrqHandler>,
    ) -> Result<Option<MessageLine>, Fault> {
        let Some(node) = self.node() else {
            return Ok(None);
        };
        let class = SupplierClass::Msi;
        let mut parents = node
            .suppliers()
            .into_iter()
            .filter(|edge| edge.class == class);
        let found = parents.find_map(|edge| {
            let node = edge.target.ok()?;
            match self.context.find(Dependency { node, class }) {
                Some(Service::Msi(chip)) => Some((chip, edge.cells)),
                _ => None,
            }
        });
        let Some((chip, cells)) = found else {
            return Ok(None);
        };
        let vector = chip.allocate(cells.first().copied().unwrap_or(0))?;
        let hub = self.context.platform.irqs();
        let line = hub.connect_msi(chip, vector, self.name, handler)?;
        let address = match self.lease {
            Some(lease) => lease.doorbell(vector.doorbell)?,
            None => vector.doorbell.0,
        };
        let data = vector.data;
        Ok(Some(MessageLine {
            line,
            address,
            data,
        }))
    }

    /// The device's DMA. There is one, set up before the probe, for drivers whose
    /// match entry says that the device is a master.
    pub fn dma(&mut self) -> Result<Dma<P>, Fault> {
        self.dma.take().ok_or(Fault::Revoked)
    }

    /// The device's streams, for drivers whose match entry says that they manage them
    /// by themselves. Nothing is attached to them yet.
    pub fn managed(&mut self) -> Result<Managed<P>, Fault> {
        self.managed.take().ok_or(Fault::Revoked)
    }

    /// Hertz of the device's clock of this name in `clock-names`, or of its first one,
    /// where it is known. All of its clocks are on.
    pub fn clock_rate(&self, name: Option<&str>) -> Option<u64> {
        let node = self.node()?;
        let index = match name {
            None => 0,
            Some(name) => node
                .prop("clock-names")?
                .strings()
                .position(|known| known == name)?,
        };
        let clocks = node.suppliers().into_iter();
        let edge = clocks.filter(|edge| edge.property == "clocks").nth(index)?;
        let dependency = Dependency {
            node: edge.target.ok()?,
            class: SupplierClass::Clock,
        };
        match self.context.find(dependency)? {
            Service::Switches(_, clocks) => clocks.switch(&edge.cells).ok()?.rate(),
            _ => None,
        }
    }

    /// What is held on for the device: its clocks, power domains, regulators, resets.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(|on| on.switch().name())
    }

    /// Claims line `index` of a property such as `enable-gpios`, as an output.
    pub fn gpio(
        &mut self,
        property: &str,
        index: usize,
        setup: LineSetup,
    ) -> Result<GpioLine, ProbeError> {
        let edges = self.require_node()?.suppliers().into_iter();
        let edge = edges
            .filter(|edge| edge.class == SupplierClass::Gpio && edge.property == property)
            .nth(index)
            .ok_or_else(|| Fault::invalid(format!("no line {index} in {property}")))?;
        let dependency = Dependency {
            node: edge.target?,
            class: SupplierClass::Gpio,
        };
        match self.context.find(dependency) {
            Some(Service::Gpio(bank)) => Ok(bank.claim(&edge.cells, self.name, setup)?),
            _ => Err(self.context.missing(dependency)),
        }
    }

    /// Where an IOMMU reports what masters did.
    pub fn fault_log(&self) -> Arc<FaultLog> {
        self.context.faults.clone()
    }

    /// Publishes a service of the device's own node.
    pub fn publish(&mut self, service: Service) -> Result<(), Fault> {
        let node = self.require_node()?.id();
        self.staged.services.push((node, service));
        Ok(())
    }

    /// Publishes a service of a node below the device's own.
    pub fn publish_at(&mut self, node: NodeId, service: Service) {
        self.staged.services.push((node, service));
    }

    /// Publishes a device on the bus that this device is.
    pub fn publish_child(&mut self, child: Child) {
        self.staged.children.push(child);
    }

    /// Publishes the devices that the tree describes below this one, on the bus that
    /// it is.
    pub fn publish_nodes(&mut self) {
        self.staged.nodes = true;
    }

    /// The name as an owned string, for what outlives the probe.
    pub fn owned_name(&self) -> Box<str> {
        self.name.into()
    }
}

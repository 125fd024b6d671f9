//! Interrupts: by message where the SMMU, the tree and a controller have them, else
//! by wire. They are configured while they are off and known to be, as the
//! architecture has it (IHI 0070 §6.3.21, §6.3.32), each time that the SMMU is
//! turned on.
//!
//! Two sources are served. A sync is awaited, and page requests are not enabled.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::{IrqHandler, IrqLine};
use mastiff_core::platform::Platform;
use mastiff_core::probe::{MessageLine, Probe};
use mastiff_dt::Node;

use crate::bind::Machine;
use crate::smmu::{Smmu, State};
use crate::spec::registers::{self as regs, Register};
use crate::window::Window;

/// What is written where for an interrupt.
#[derive(Copy, Clone)]
struct Target {
    address: u64,
    data: u32,
}

/// The messages of both sources; without one it is the wire that counts.
#[derive(Default)]
pub(crate) struct Messages {
    events: Option<Target>,
    errors: Option<Target>,
}

impl Messages {
    /// Whether any interrupt comes by message.
    pub fn are_used(&self) -> bool {
        self.events.is_some()
    }

    /// Tells an SMMU that has these registers. Only while both interrupts are off.
    pub fn configure<P: Platform>(&self, window: &Window<P>) {
        set(
            window,
            self.events,
            regs::EVENTQ_IRQ_CFG0,
            regs::EVENTQ_IRQ_CFG1,
            regs::EVENTQ_IRQ_CFG2,
        );
        set(
            window,
            self.errors,
            regs::GERROR_IRQ_CFG0,
            regs::GERROR_IRQ_CFG1,
            regs::GERROR_IRQ_CFG2,
        );
    }
}

fn set<P: Platform>(
    window: &Window<P>,
    target: Option<Target>,
    address: Register<u64, regs::IRQ_CFG0::Register>,
    data: Register<u32, regs::IRQ_CFG1::Register>,
    attributes: Register<u32, regs::IRQ_CFG2::Register>,
) {
    // Address 0 selects the wire.
    let at = target.map_or(0, |target| target.address);
    window.write64(address, regs::IRQ_CFG0::ADDR.val(at >> 2));
    window.write(data, target.map_or(0, |target| target.data));
    window.write(attributes, regs::IRQ_CFG2::MEMATTR::DeviceNGnRE);
}

/// Connects the interrupts that the driver serves.
pub(crate) fn connect<P: Machine>(
    probe: &mut Probe<'_, P>,
    node: &Node<'_>,
    smmu: &Arc<Smmu<P>>,
) -> Result<Vec<IrqLine>, ProbeError> {
    if smmu.features.msi {
        match by_message(probe, smmu) {
            Ok(Some(lines)) => return Ok(lines),
            Ok(None) => {}
            Err(fault) => log::warn!(
                "{}: no message interrupts, wired instead: {fault}",
                probe.name()
            ),
        }
    }
    by_wire(probe, node, smmu)
}

/// Both, or none.
fn by_message<P: Machine>(
    probe: &mut Probe<'_, P>,
    smmu: &Arc<Smmu<P>>,
) -> Result<Option<Vec<IrqLine>>, Fault> {
    let Some(events) = probe.message_line(events(smmu, false))? else {
        return Ok(None);
    };
    let Some(errors) = probe.message_line(errors(smmu))? else {
        return Ok(None);
    };
    smmu.event_irq.store(events.line.intid(), Ordering::Relaxed);
    let target = |message: &MessageLine| {
        Some(Target {
            address: message.address,
            data: message.data,
        })
    };
    *smmu.messages.lock() = Messages {
        events: target(&events),
        errors: target(&errors),
    };
    Ok(Some(Vec::from([events.line, errors.line])))
}

fn by_wire<P: Machine>(
    probe: &mut Probe<'_, P>,
    node: &Node<'_>,
    smmu: &Arc<Smmu<P>>,
) -> Result<Vec<IrqLine>, ProbeError> {
    let names = node.prop("interrupt-names");
    let position = |wanted: &str| {
        let mut names = names.iter().flat_map(|names| names.strings());
        names.position(|name| name == wanted)
    };
    let combined = position("combined");
    let mut lines = Vec::new();
    if let Some(index) = combined.or_else(|| position("eventq")) {
        let line = probe.irq(index, events(smmu, combined.is_some()))?;
        smmu.event_irq.store(line.intid(), Ordering::Relaxed);
        lines.push(line);
    }
    if combined.is_none()
        && let Some(index) = position("gerror")
    {
        lines.push(probe.irq(index, errors(smmu))?);
    }
    if lines.is_empty() {
        log::warn!(
            "{}: no interrupts; faults are seen when its status is asked for",
            probe.name()
        );
    }
    Ok(lines)
}

/// Serves events, and errors too if they share the interrupt.
fn events<P: Machine>(smmu: &Arc<Smmu<P>>, both: bool) -> Arc<dyn IrqHandler> {
    let weak = Arc::downgrade(smmu);
    Arc::new(move || {
        if let Some(smmu) = weak.upgrade() {
            smmu.serve_events();
            if both {
                serve_errors(&smmu);
            }
        }
    })
}

/// Serves errors, and events too: one of the errors is that nobody heard of these.
fn errors<P: Machine>(smmu: &Arc<Smmu<P>>) -> Arc<dyn IrqHandler> {
    let weak = Arc::downgrade(smmu);
    Arc::new(move || {
        if let Some(smmu) = weak.upgrade() {
            serve_errors(&smmu);
            smmu.serve_events();
        }
    })
}

fn serve_errors<P: Machine>(smmu: &Smmu<P>) {
    // One that was on its way when it was turned off is about nothing any more.
    if smmu.state() == State::Running
        && let Err(fault) = smmu.serve_errors()
    {
        log::error!("{}: {fault}", smmu.name());
    }
}

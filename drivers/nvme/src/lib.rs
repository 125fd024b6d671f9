//! NVM Express driver: one admin queue, a pair of I/O queues for each CPU, reading.
//!
//! A controller is brought up in the order of the specification, every wait is
//! bounded by what the controller says it needs, and whatever fails, the
//! controller is disabled before any memory that it knows of is given back: first
//! the device stops, then mappings go, then pages are free.
//!
//! Layout: [`spec`] is the specification in types, `queue` a queue pair,
//! `controller` the device's life, `disk` the reading, `turns` who reads by which pair.
//!
//! Not here: writing, more namespaces than the first, metadata, SGLs, namespaces and
//! errors that the controller announces by itself.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod controller;
mod disk;
mod queue;
pub mod spec;
mod turns;

use alloc::boxed::Box;
use alloc::sync::Arc;

use mastiff_core::driver::{Bound, Disk, DmaProof, DmaTest, Driver, Match, Pace, Pieces};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::IrqHandler;
use mastiff_core::platform::Platform;
use mastiff_core::probe::Probe;

use controller::{Completions, Controller, REGISTERS};
use disk::Reader;
use spec::command::Identify;
use spec::identify::{self, Namespace};
use spec::register::VERSION_1_1;
use turns::Turns;

/// The driver.
pub struct Nvme;

/// Mass storage, non-volatile memory, NVM Express I/O (PCI Code and ID 1.2).
const MATCHES: &[Match] = &[Match::pci_class(0x01_08_02).master()];

impl<P: Platform> Driver<P> for Nvme {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let registers = probe.mmio(0, REGISTERS)?;
        let dma = probe.dma()?;
        dma.set_mask(64)?;
        let platform = probe.platform();
        let pairs = platform.cpus();
        let memory = dma.alloc(controller::memory(pairs))?;
        let controller = Arc::new(Controller::new(
            probe.owned_name(),
            platform,
            registers,
            memory,
            pairs,
        )?);
        let handler = |pair| {
            let controller = controller.clone();
            let handler: Arc<dyn IrqHandler> = Arc::new(Completions { controller, pair });
            handler
        };
        let mut interrupts = probe.interrupts((0..pairs).map(handler))?;
        controller.enable()?;
        let found = look(&controller, probe.name())?;
        controller.create_io_queues(interrupts.len())?;
        interrupts.truncate(controller.pairs());
        let Found {
            id,
            namespace,
            limit,
        } = found;
        let reader = Reader::new(&controller, dma, id, namespace, limit);
        Ok(Box::new(BoundNvme {
            turns: Turns::new(interrupts),
            reader,
            namespace,
            platform: platform.clone(),
            controller,
        }))
    }
}

/// What Identify said.
struct Found {
    id: u32,
    namespace: Namespace,
    limit: Option<u64>,
}

/// Asks the controller what it is and what is on it.
fn look<P: Platform>(controller: &Controller<P>, name: &str) -> Result<Found, Fault> {
    let answer = controller.identify(Identify::Controller)?;
    let identity = identify::Controller(&answer);
    identity.check()?;
    let id = if controller.version() >= VERSION_1_1 {
        identify::first_namespace(&controller.identify(Identify::ActiveNamespaces)?)?
    } else {
        1
    };
    let namespace = Namespace::decode(&controller.identify(Identify::Namespace(id))?)?;
    log::info!(
        "{name}: {} {}, namespace {id}: {} blocks of {} bytes",
        identity.model(),
        identity.serial(),
        namespace.blocks,
        1 << namespace.block_log
    );
    Ok(Found {
        id,
        namespace,
        limit: identity.max_transfer(),
    })
}

struct BoundNvme<P: Platform> {
    // Gone first: the handlers of its interrupts use the controller.
    turns: Turns,
    reader: Reader<P>,
    namespace: Namespace,
    platform: P,
    controller: Arc<Controller<P>>,
}

impl<P: Platform> Bound for BoundNvme<P> {
    fn quiesce(&self) {
        if let Err(fault) = self.controller.shut_down() {
            let name = self.controller.name();
            log::error!("{name}: it cannot be stopped: {fault}");
        }
    }

    fn suspend(&self) -> Result<(), Fault> {
        self.controller.shut_down()
    }

    fn resume(&self) -> Result<(), Fault> {
        self.controller.restart()
    }

    fn disk(&self) -> Option<&dyn Disk> {
        Some(self)
    }

    fn dma_test(&self) -> Option<&dyn DmaTest> {
        Some(self)
    }
}

impl<P: Platform> DmaTest for BoundNvme<P> {
    fn round_trip(&self) -> Result<DmaProof, Fault> {
        let turn = self.turns.take(&self.platform)?;
        self.reader.verify(turn.pair())
    }
}

impl<P: Platform> Disk for BoundNvme<P> {
    fn block_size(&self) -> u32 {
        1 << self.namespace.block_log
    }

    fn blocks(&self) -> u64 {
        self.namespace.blocks
    }

    fn read(&self, first: u64, count: u64, sink: &mut dyn FnMut(&[u8])) -> Result<DmaProof, Fault> {
        let turn = self.turns.take(&self.platform)?;
        self.reader.read(turn.pair(), first, count, sink)
    }

    fn fetch(&self, pace: &Pace, pieces: &mut dyn Pieces) -> Result<DmaProof, Fault> {
        let turn = self.turns.take(&self.platform)?;
        self.reader.fetch(turn.pair(), pace, pieces)
    }
}

//! What the device interrupts for: faults of endpoints, and errors of its own.

use core::sync::atomic::Ordering;

use alloc::format;
use alloc::string::String;

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::iommu::{Access, FaultReport};
use mastiff_core::platform::Platform;

use crate::events;
use crate::spec::event::Event;
use crate::viommu::{Line, Power, Viommu};

/// Faults that are taken out at a time.
const AT_A_TIME: usize = 8;
/// Faults that are reported before whoever waits for this CPU gets a turn: a master
/// that faults faster than its faults are reported must not keep it. So many were
/// not all there when the interrupt came, so there will be another one for the rest.
const AT_A_TURN: usize = 256;
const _: () = assert!(AT_A_TURN > 2 * events::SIZE as usize);

impl<P: Platform> Viommu<P> {
    /// Serves the interrupt.
    pub fn serve(&self) {
        // Messages do not show in the interrupt status.
        let changed = match self.line.get() {
            Some(Line::Message) => true,
            _ => self.transport.acknowledge(),
        };
        if changed && self.power() == Power::Running && self.transport.needs_reset() {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
            self.enter(Power::Failed);
            log::error!(
                "{}: the device met an error and needs a reset; unbind and bind it",
                self.name()
            );
        }
        self.serve_events();
    }

    /// Reports every fault that there is.
    pub fn serve_events(&self) {
        let mut taken = 0;
        while self.power() == Power::Running {
            let mut events = self.events.lock();
            let mut batch = [const { None }; AT_A_TIME];
            for place in &mut batch {
                *place = events.take();
            }
            let count = batch.iter().flatten().count();
            if count > 0 {
                events.publish(&self.transport);
            }
            // Reporting may take long: not under the lock.
            drop(events);
            for event in batch.into_iter().flatten() {
                match event {
                    Ok(event) => {
                        self.counters.events.fetch_add(1, Ordering::Relaxed);
                        let (node, name) = (self.identity.node, self.name());
                        let faults = &self.identity.faults;
                        faults.report_with(node, name, report(&event), || self.explain(&event));
                    }
                    Err(fault) => {
                        self.counters.errors.fetch_add(1, Ordering::Relaxed);
                        log::error!("{}: {fault}", self.name());
                    }
                }
            }
            taken += count;
            if count < AT_A_TIME || taken >= AT_A_TURN {
                return;
            }
        }
    }

    /// What is known of where an event came from.
    fn explain(&self, event: &Event) -> String {
        let state = self.state.lock();
        let domain = state.endpoints.get(&event.endpoint);
        let space = domain.and_then(|domain| Some((domain, state.spaces.get(domain)?)));
        match (space, event.address()) {
            (Some((domain, space)), Some(iova)) => {
                format!("domain {domain:#x}, {}", space.mappings.explain(iova))
            }
            _ => String::new(),
        }
    }
}

/// An event in the core's terms.
pub(crate) fn report(event: &Event) -> FaultReport {
    let access = match (event.is_execute(), event.is_write(), event.is_read()) {
        (true, _, _) => Access::Execute,
        (_, true, _) => Access::Write,
        (_, _, true) => Access::Read,
        _ => Access::Unknown,
    };
    FaultReport {
        event: event.name(),
        stream: Some(StreamId(event.endpoint)),
        iova: event.address().map(Iova),
        access,
        stage: 0,
        detail: String::from(event.meaning()),
    }
}

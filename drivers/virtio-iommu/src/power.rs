//! On and off. From the first moment in which the device can be told so, an endpoint
//! without a domain is blocked: at power-on it may reach all memory.

use core::sync::atomic::Ordering;

use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use crate::agreed::Agreed;
use crate::ids::Ids;
use crate::queue::Shared;
use crate::spec::feature::Features;
use crate::state::State;
use crate::viommu::{Line, Power, Viommu};
use crate::{events, requests};

/// What the driver cannot do without.
const NEEDED: Features = Features(Features::VERSION_1.0 | Features::MAP_UNMAP.0);

impl<P: Platform> Viommu<P> {
    /// Brings the device up from whatever state it is in, and tells it everything that
    /// it knew before. On an error it is as it may be; [`stop`](Self::stop) is to
    /// follow.
    pub fn start(&self) -> Result<(), Fault> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        // What it does until the end of this is not known.
        self.enter(Power::Failed);
        let transport = &self.transport;
        transport.reset()?;
        let features = transport.negotiate(Features::WANTED, NEEDED)?;
        if features.has(Features::BYPASS_CONFIG) {
            transport.block_bypass()?;
        }
        let agreed = Agreed::new(features, transport.config()?)?;
        self.check_same(state, agreed)?;
        self.set_up_queues(state, agreed)?;
        transport.ready();
        self.enter(Power::Running);
        self.events.lock().fill(transport);
        let attachments = state.attachments();
        self.ask(&mut state.requests, attachments)?;
        let live = state.spaces.iter().filter(|(_, space)| space.endpoints > 0);
        let live: alloc::vec::Vec<u32> = live.map(|(&domain, _)| domain).collect();
        live.into_iter()
            .try_for_each(|domain| self.tell_mappings(state, domain))
    }

    /// What was mapped and numbered under other limits cannot be told again.
    fn check_same(&self, state: &mut State<P>, agreed: Agreed) -> Result<(), Fault> {
        match state.agreed {
            None => {
                state.agreed = Some(agreed);
                state.ids = Some(Ids::new(agreed.domains.0, agreed.domains.1));
                Ok(())
            }
            Some(before) if before == agreed => Ok(()),
            Some(_) => Err(Fault::invalid(
                "the IOMMU came back with other features or limits than it had",
            )),
        }
    }

    fn set_up_queues(&self, state: &mut State<P>, agreed: Agreed) -> Result<(), Fault> {
        let transport = &self.transport;
        let line = self.line.get();
        let message = (line == Some(&Line::Message)).then_some(0);
        transport.set_config_message(message)?;

        let requests = &mut state.requests;
        let size = transport.queue_size(requests::QUEUE, requests::SIZE)?;
        requests.clear(size)?;
        if agreed.features.has(Features::PROBE) {
            requests.allow_probe(&self.dma, agreed.probe_size)?;
        }
        self.check_reach(agreed.features, requests.memory())?;
        let at = requests.queue.addresses();
        requests.doorbell = Some(transport.enable_queue(requests::QUEUE, size, &at, None)?);

        let mut events = self.events.lock();
        let size = transport.queue_size(events::QUEUE, events::SIZE)?;
        events.queue.clear(size, line.is_none());
        self.check_reach(agreed.features, events.memory())?;
        let at = events.queue.addresses();
        events.doorbell = Some(transport.enable_queue(events::QUEUE, size, &at, message)?);
        Ok(())
    }

    /// A device without `ACCESS_PLATFORM` uses physical addresses, whatever stands
    /// between it and memory (virtio §6.1).
    fn check_reach<'a>(
        &self,
        features: Features,
        mut memory: impl Iterator<Item = &'a Shared<P>>,
    ) -> Result<(), Fault> {
        let passes = features.has(Features::ACCESS_PLATFORM);
        match passes || memory.all(|shared| shared.iova().0 == shared.pa().0) {
            true => Ok(()),
            false => Err(Fault::Unsupported {
                what: "a device without ACCESS_PLATFORM where bus addresses are not physical ones (features)",
                seen: features.0,
            }),
        }
    }

    /// Turns the device off; when this returns `Ok` it blocks every endpoint and uses
    /// no memory. What it knew is kept. On an error it may do anything.
    pub fn stop(&self) -> Result<(), Fault> {
        self.serve_events();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match self.power() {
            Power::Off => return Ok(()),
            Power::Failed => {}
            Power::Running => {
                // The reset would do it too; but a device that can still be asked is
                // first told what is meant.
                let detachments = state.detachments();
                if let Err(fault) = self.ask(&mut state.requests, detachments) {
                    log::warn!("{}: {fault}", self.name());
                }
            }
        }
        let reset = self.transport.reset();
        if reset.is_err() {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.enter(match reset {
            Ok(()) => Power::Off,
            Err(_) => Power::Failed,
        });
        reset
    }
}

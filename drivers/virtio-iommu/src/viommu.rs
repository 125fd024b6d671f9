//! The instance: endpoints, domains, and when the device is told of them.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use mastiff_core::addr::{Iova, PhysAddr};
use mastiff_core::dma::Dma;
use mastiff_core::error::Fault;
use mastiff_core::iommu::{FaultLog, Permission, Reserved};
use mastiff_core::platform::Platform;
use mastiff_dt::NodeId;
use spin::{Mutex, Once};

use crate::events::Events;
use crate::mappings::Mapping;
use crate::requests::Requests;
use crate::spec::feature::Features;
use crate::spec::request::Request;
use crate::state::{Space, State};
use crate::transport::Transport;

/// Whether the device takes requests.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Power {
    /// It does not, and blocks everything: it was reset, or never touched. What is
    /// asked for meanwhile is noted, and it is told when it runs again.
    Off,
    /// It does.
    Running,
    /// It stopped answering: what it does is not known.
    Failed,
}

/// Who the instance is, for messages and for the fault log.
pub(crate) struct Identity {
    pub node: NodeId,
    pub name: Box<str>,
    pub faults: Arc<FaultLog>,
}

/// How it interrupts.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// By its pin, which it lets go of when the interrupt status is read.
    Pin,
    /// By message 0.
    Message,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub events: AtomicU64,
    pub errors: AtomicU64,
}

pub(crate) struct Viommu<P: Platform> {
    pub identity: Identity,
    pub transport: Transport<P>,
    pub dma: Dma<P>,
    /// Held across requests: there is one queue, and requests about one domain have
    /// an order.
    pub state: Mutex<State<P>>,
    pub events: Mutex<Events<P>>,
    /// Nothing where it has no interrupt.
    pub line: Once<Line>,
    pub counters: Counters,
    power: AtomicU8,
}

/// A device that could not be stopped may use its queues for ever.
impl<P: Platform> Drop for Viommu<P> {
    fn drop(&mut self) {
        if self.power() == Power::Failed {
            self.state.get_mut().requests.park();
            self.events.get_mut().park();
        }
    }
}

impl<P: Platform> Viommu<P> {
    /// Takes the memory that the instance needs. The device is not touched.
    pub fn new(
        platform: &P,
        identity: Identity,
        transport: Transport<P>,
        dma: Dma<P>,
    ) -> Result<Self, Fault> {
        Ok(Self {
            state: Mutex::new(State::new(Requests::new(platform, &dma)?)),
            events: Mutex::new(Events::new(platform, &dma)?),
            identity,
            transport,
            dma,
            line: Once::new(),
            counters: Counters::default(),
            power: AtomicU8::new(Power::Off as u8),
        })
    }

    pub fn name(&self) -> &str {
        &self.identity.name
    }

    pub fn power(&self) -> Power {
        match self.power.load(Ordering::Acquire) {
            0 => Power::Off,
            1 => Power::Running,
            _ => Power::Failed,
        }
    }

    pub fn enter(&self, power: Power) {
        self.power.store(power as u8, Ordering::Release);
    }

    /// Whether the device is to be told of a change.
    fn is_running(&self) -> Result<bool, Fault> {
        match self.power() {
            Power::Off => Ok(false),
            Power::Running => Ok(true),
            Power::Failed => Err(Fault::Device {
                during: "use of the IOMMU",
                status: "it failed and takes no more requests",
                code: 0,
            }),
        }
    }

    /// Has the device do all of these.
    pub fn ask(
        &self,
        requests: &mut Requests<P>,
        list: impl IntoIterator<Item = Request>,
    ) -> Result<(), Fault> {
        let result = requests.run(&self.transport, list);
        self.notice(requests);
        result
    }

    fn notice(&self, requests: &Requests<P>) {
        if requests.is_broken() && self.power() == Power::Running {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
            self.enter(Power::Failed);
        }
    }

    /// A new domain, which the device hears of with its first endpoint.
    pub fn new_space(&self, bypass: bool) -> Result<u32, Fault> {
        let mut state = self.state.lock();
        let agreed = state.agreed()?;
        if bypass && !agreed.features.has(Features::BYPASS_CONFIG) {
            return Err(Fault::Unsupported {
                what: "identity domains on an IOMMU without BYPASS_CONFIG (features)",
                seen: agreed.features.0,
            });
        }
        let domain = state.ids.as_mut().ok_or(Fault::Revoked)?.take()?;
        state.spaces.insert(domain, Space::new(bypass));
        Ok(domain)
    }

    /// Nobody has the domain any more.
    pub fn end_space(&self, domain: u32) {
        let mut state = self.state.lock();
        // One that the device could not be made to leave stays, and so does its ID.
        let unused = state.space(domain).is_ok_and(|space| space.endpoints == 0);
        if unused && let Some(ids) = &mut state.ids {
            ids.give(domain);
            let space = state.spaces.remove(&domain);
            drop(state);
            drop(space);
        }
    }

    /// Sends an endpoint through a domain. One that is in another goes through abort
    /// in between.
    pub fn attach(&self, endpoint: u32, domain: u32) -> Result<(), Fault> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if !self.is_running()? {
            return Err(Fault::Revoked);
        }
        if state.endpoints.get(&endpoint) == Some(&domain) {
            return Ok(());
        }
        let reserved = self.ask_reserved(state, endpoint)?;
        let space = state.space(domain)?;
        space.admit(&reserved)?;
        let bypass = space.bypass;
        self.detach(state, endpoint)?;
        let attach = Request::Attach {
            domain,
            endpoint,
            bypass,
        };
        self.ask(&mut state.requests, [attach])?;
        if !state.note_attached(endpoint, domain)? {
            return Ok(());
        }
        // The device made the domain just now. What was mapped before it did follows;
        // an endpoint gets all of it or none.
        let mapped = self.tell_mappings(state, domain);
        if mapped.is_err()
            && let Err(fault) = self.detach(state, endpoint)
        {
            log::error!("{}: endpoint {endpoint:#x}: {fault}", self.name());
        }
        mapped
    }

    /// Makes a domain's mappings on the device.
    pub fn tell_mappings(&self, state: &mut State<P>, domain: u32) -> Result<(), Fault> {
        let features = state.agreed()?.features;
        let State {
            requests, spaces, ..
        } = state;
        let Some(space) = spaces.get(&domain) else {
            return Ok(());
        };
        let all = space.mappings.iter();
        self.ask(
            requests,
            all.map(|mapping| mapping.request(domain, features)),
        )
    }

    /// What an endpoint does not send through its domain.
    pub fn reserved(&self, endpoint: u32) -> Result<Vec<Reserved>, Fault> {
        match self.is_running()? {
            true => self.ask_reserved(&mut self.state.lock(), endpoint),
            false => Err(Fault::Revoked),
        }
    }

    /// The device is asked once for every endpoint.
    fn ask_reserved(&self, state: &mut State<P>, endpoint: u32) -> Result<Vec<Reserved>, Fault> {
        if let Some(known) = state.reserved.get(&endpoint) {
            return Ok(known.clone());
        }
        let probe_size = state.agreed()?.probe_size;
        let requests = &mut state.requests;
        let found = requests.probe(&self.transport, endpoint, probe_size);
        self.notice(requests);
        let found = found?;
        for reserved in &found {
            log::debug!("{}: endpoint {endpoint:#x}: {reserved}", self.name());
        }
        state.reserved.insert(endpoint, found.clone());
        Ok(found)
    }

    /// Blocks an endpoint; when this returns `Ok` nothing of it is under way any more.
    pub fn block(&self, endpoint: u32) -> Result<(), Fault> {
        self.detach(&mut self.state.lock(), endpoint)
    }

    fn detach(&self, state: &mut State<P>, endpoint: u32) -> Result<(), Fault> {
        let Some(&domain) = state.endpoints.get(&endpoint) else {
            return Ok(());
        };
        if self.is_running()? {
            let detach = Request::Detach { domain, endpoint };
            self.ask(&mut state.requests, [detach])?;
        }
        state.note_detached(endpoint);
        Ok(())
    }

    pub fn map(
        &self,
        domain: u32,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<(), Fault> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let agreed = state.agreed()?;
        let mapping = Mapping::new(iova, pa, len, access, agreed.granule, agreed.input)?;
        let space = state.space(domain)?;
        space.check(&mapping)?;
        let known = space.endpoints > 0;
        if self.is_running()? && known {
            let request = mapping.request(domain, agreed.features);
            self.ask(&mut state.requests, [request])?;
        }
        state.space(domain)?.mappings.insert(mapping);
        Ok(())
    }

    pub fn unmap(&self, domain: u32, iova: Iova, len: u64) -> Result<(), Fault> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let space = state.space(domain)?;
        let mapping = space.mappings.exactly(iova, len)?;
        let known = space.endpoints > 0;
        if self.is_running()? && known {
            let request = Request::Unmap {
                domain,
                first: mapping.first,
                last: mapping.last,
            };
            self.ask(&mut state.requests, [request])?;
        }
        state.space(domain)?.mappings.remove(&mapping);
        Ok(())
    }

    /// What an address leads to, in words and as an address.
    pub fn look_up(&self, domain: u32, iova: Iova) -> (u64, Box<str>) {
        let mut state = self.state.lock();
        let space = state.space(domain);
        match space.ok().and_then(|space| space.mappings.at(iova.0)) {
            None => (0, "nothing is mapped: faults".into()),
            Some(mapping) => {
                let words = mapping.words();
                let text = format!("{words} (as the driver keeps it: the device shows no table)");
                (mapping.output(iova.0), text.into())
            }
        }
    }
}

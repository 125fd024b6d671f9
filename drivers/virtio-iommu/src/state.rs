//! What the driver knows of domains and endpoints. It is what the device knows, too,
//! while that runs, and what the device is told again after a reset.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use mastiff_core::addr::Iova;
use mastiff_core::error::Fault;
use mastiff_core::iommu::Reserved;
use mastiff_core::platform::Platform;

use crate::agreed::Agreed;
use crate::ids::Ids;
use crate::mappings::{Mapping, Mappings};
use crate::requests::Requests;
use crate::spec::request::Request;

/// A domain. The device has it only while an endpoint is attached.
pub(crate) struct Space {
    pub bypass: bool,
    pub endpoints: usize,
    pub mappings: Mappings,
    /// Of all endpoints that were ever attached.
    reserved: Vec<Reserved>,
}

pub(crate) struct State<P: Platform> {
    pub requests: Requests<P>,
    /// Nothing until the device was brought up once.
    pub agreed: Option<Agreed>,
    pub ids: Option<Ids>,
    pub spaces: BTreeMap<u32, Space>,
    /// The domain of every endpoint that is in one.
    pub endpoints: BTreeMap<u32, u32>,
    /// What PROBE said of the endpoints that were asked about.
    pub reserved: BTreeMap<u32, Vec<Reserved>>,
}

impl Space {
    /// One with nothing in it.
    pub fn new(bypass: bool) -> Self {
        Self {
            bypass,
            endpoints: 0,
            mappings: Mappings::default(),
            reserved: Vec::new(),
        }
    }

    /// Whether a mapping can be made.
    pub fn check(&self, mapping: &Mapping) -> Result<(), Fault> {
        self.mappings.check_free(mapping)?;
        let clash = |reserved: &&Reserved| mapping.overlaps(reserved.first, reserved.last);
        match self.reserved.iter().find(clash) {
            None => Ok(()),
            Some(reserved) => Err(cannot_use(mapping, reserved)),
        }
    }

    /// Whether an endpoint that does not send these addresses through its domain can
    /// do with this one.
    pub fn admit(&mut self, reserved: &[Reserved]) -> Result<(), Fault> {
        for reserved in reserved {
            let (first, last) = (reserved.first, reserved.last);
            if let Some(mapping) = self.mappings.overlapping(first, last) {
                return Err(cannot_use(mapping, reserved));
            }
        }
        let new = reserved.iter().filter(|new| !self.reserved.contains(new));
        let new: Vec<Reserved> = new.copied().collect();
        self.reserved.extend(new);
        Ok(())
    }
}

fn cannot_use(mapping: &Mapping, reserved: &Reserved) -> Fault {
    Fault::invalid(format!(
        "IOVA {} cannot be mapped: the IOMMU keeps {reserved} for itself",
        Iova(mapping.first.max(reserved.first))
    ))
}

impl<P: Platform> State<P> {
    pub fn new(requests: Requests<P>) -> Self {
        Self {
            requests,
            agreed: None,
            ids: None,
            spaces: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            reserved: BTreeMap::new(),
        }
    }

    pub fn agreed(&self) -> Result<Agreed, Fault> {
        self.agreed.ok_or(Fault::Revoked)
    }

    pub fn space(&mut self, domain: u32) -> Result<&mut Space, Fault> {
        self.spaces.get_mut(&domain).ok_or(Fault::Revoked)
    }

    /// Notes that an endpoint is in a domain; says whether it is the first there.
    pub fn note_attached(&mut self, endpoint: u32, domain: u32) -> Result<bool, Fault> {
        let space = self.space(domain)?;
        space.endpoints += 1;
        let first = space.endpoints == 1;
        self.endpoints.insert(endpoint, domain);
        Ok(first)
    }

    /// Notes that an endpoint is in none.
    pub fn note_detached(&mut self, endpoint: u32) {
        if let Some(domain) = self.endpoints.remove(&endpoint)
            && let Some(space) = self.spaces.get_mut(&domain)
        {
            space.endpoints -= 1;
        }
    }

    /// The requests that put every endpoint into its domain.
    pub fn attachments(&self) -> Vec<Request> {
        let bypass = |domain| self.spaces.get(domain).is_some_and(|space| space.bypass);
        let all = self
            .endpoints
            .iter()
            .map(|(&endpoint, domain)| Request::Attach {
                domain: *domain,
                endpoint,
                bypass: bypass(domain),
            });
        all.collect()
    }

    /// The requests that take every endpoint out of its domain.
    pub fn detachments(&self) -> Vec<Request> {
        let all = self.endpoints.iter();
        all.map(|(&endpoint, &domain)| Request::Detach { domain, endpoint })
            .collect()
    }
}

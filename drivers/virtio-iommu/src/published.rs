//! What the rest of the kernel sees: the IOMMU and its domains.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use mastiff_core::addr::{Iova, PhysAddr, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{
    Domain, DumpPart, EntryDump, Iommu, Limits, Permission, Reserved, Status, Tag, WalkStep,
};
use mastiff_core::platform::Platform;

use crate::viommu::Viommu;

/// An endpoint's ID has 32 bits (virtio §5.13.6.3), and is its StreamID.
const STREAMS: u64 = 1 << 32;

pub(crate) struct Published<P: Platform>(pub Arc<Viommu<P>>);

impl<P: Platform> Published<P> {
    fn domain(&self, bypass: bool) -> Result<Arc<dyn Domain>, Fault> {
        Ok(Arc::new(Handle {
            viommu: self.0.clone(),
            id: self.0.new_space(bypass)?,
            bypass,
        }))
    }
}

impl<P: Platform> Iommu for Published<P> {
    fn limits(&self) -> Limits {
        let agreed = self.0.state.lock().agreed;
        Limits {
            aperture: agreed.map_or(0, |agreed| agreed.input.1),
            streams: STREAMS,
            page: mastiff_core::addr::PAGE,
        }
    }

    fn paging_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        self.domain(false)
    }

    fn identity_domain(&self) -> Result<Arc<dyn Domain>, Fault> {
        self.domain(true)
    }

    fn block(&self, stream: StreamId) -> Result<(), Fault> {
        self.0.block(stream.0)
    }

    fn reserved(&self, stream: StreamId) -> Result<Vec<Reserved>, Fault> {
        let agreed = self.0.state.lock().agreed()?;
        let mut all = self.0.reserved(stream.0)?;
        // What is below the first input address is no more of use to anybody.
        if let Some(last) = agreed.input.0.checked_sub(1) {
            all.push(Reserved {
                first: 0,
                last,
                doorbell: false,
            });
        }
        Ok(all)
    }

    fn status(&self) -> Status {
        // Without an interrupt nobody else looks.
        self.0.serve_events();
        let state = self.0.state.lock();
        let mut features = state.agreed.map_or_else(Vec::new, |agreed| agreed.words());
        features.push(format!("request queue {}", state.requests.queue.size()));
        Status {
            features,
            streams_attached: state.endpoints.len() as u64,
            domains: state.spaces.len() as u64,
            commands: state.requests.sent,
            syncs: state.requests.notifications,
            accesses: state.requests.notifications,
            events: self.0.counters.events.load(Ordering::Relaxed),
            errors: self.0.counters.errors.load(Ordering::Relaxed),
            // The device reports what a blocked endpoint does as well, so cutting one
            // off would not make it silent.
            quarantined: 0,
        }
    }

    fn live_streams(&self) -> Vec<StreamId> {
        let state = self.0.state.lock();
        state.endpoints.keys().copied().map(StreamId).collect()
    }

    /// The device keeps no entry in memory: this is what it was told.
    fn describe(&self, stream: StreamId) -> Result<EntryDump, Fault> {
        let state = self.0.state.lock();
        let Some(domain) = state.endpoints.get(&stream.0) else {
            let config = "abort";
            return Ok(EntryDump {
                config,
                parts: Vec::new(),
            });
        };
        let space = state.spaces.get(domain);
        let bypass = space.is_some_and(|space| space.bypass);
        let mappings = space.map_or(0, |space| space.mappings.len());
        let mut fields = Vec::from([
            ("domain", u64::from(*domain)),
            ("BYPASS", u64::from(bypass)),
            ("mappings", mappings as u64),
        ]);
        for reserved in state.reserved.get(&stream.0).into_iter().flatten() {
            let names = match reserved.doorbell {
                true => ("MSI first", "MSI last"),
                false => ("RESV first", "RESV last"),
            };
            fields.extend([(names.0, reserved.first), (names.1, reserved.last)]);
        }
        let part = DumpPart {
            substream: None,
            name: "ATTACH",
            pa: PhysAddr(0),
            words: Vec::new(),
            fields,
        };
        Ok(EntryDump {
            config: if bypass { "bypass" } else { "translate" },
            parts: Vec::from([part]),
        })
    }
}

/// A domain; its ID is free for another when this goes.
struct Handle<P: Platform> {
    viommu: Arc<Viommu<P>>,
    id: u32,
    bypass: bool,
}

impl<P: Platform> Drop for Handle<P> {
    fn drop(&mut self) {
        self.viommu.end_space(self.id);
    }
}

impl<P: Platform> Domain for Handle<P> {
    fn attach(&self, stream: StreamId) -> Result<(), Fault> {
        self.viommu.attach(stream.0, self.id)
    }

    fn map(&self, iova: Iova, pa: PhysAddr, len: u64, access: Permission) -> Result<(), Fault> {
        match self.bypass {
            false => self.viommu.map(self.id, iova, pa, len, access),
            true if iova.0 == pa.0 => Ok(()),
            true => Err(Fault::BadRange {
                iova,
                len,
                why: "in an identity domain the address is the physical one",
            }),
        }
    }

    fn unmap(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        match self.bypass {
            false => self.viommu.unmap(self.id, iova, len),
            true => Ok(()),
        }
    }

    /// One step, without a table: see [`crate::mappings`].
    fn walk(&self, iova: Iova) -> Vec<WalkStep> {
        if self.bypass {
            return Vec::new();
        }
        let (descriptor, meaning): (u64, Box<str>) = self.viommu.look_up(self.id, iova);
        Vec::from([WalkStep {
            stage: 1,
            level: 0,
            table: PhysAddr(0),
            index: 0,
            descriptor,
            meaning,
            attributes: Vec::new(),
        }])
    }

    fn tag(&self) -> Option<Tag> {
        Some(Tag::Domain(self.id))
    }
}

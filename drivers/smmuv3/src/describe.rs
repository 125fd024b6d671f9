//! What people see of an instance: its counters, and a stream's structures as the
//! hardware reads them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::addr::{PhysAddr, StreamId, SubstreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{DumpPart, EntryDump, Status};

use crate::bind::Machine;
use crate::smmu::{Smmu, State};

impl<P: Machine> Smmu<P> {
    /// What it is and how it is used.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.features.words();
        words.push(format!(
            "pages of {} KiB",
            self.geometry.granule.size() >> 10
        ));
        if self.commands.has_messages() {
            words.push("syncs by message".to_string());
        }
        if self.messages.lock().are_used() {
            words.push("interrupts by message".to_string());
        }
        words
    }

    pub fn status(&self) -> Status {
        if self.state() == State::Running {
            // Without interrupts nobody else looks.
            self.serve_events();
            if let Err(fault) = self.serve_errors() {
                log::error!("{}: {fault}", self.name());
            }
        }
        let issued = self.commands.issued();
        let streams = self.streams.lock();
        Status {
            features: self.words(),
            streams_attached: streams.count(),
            domains: self.counters.domains.get(),
            commands: issued.commands,
            syncs: issued.syncs,
            accesses: issued.accesses,
            events: self.counters.events.get(),
            errors: self.counters.errors.get(),
            quarantined: streams.quarantined(),
        }
    }

    pub fn describe(&self, stream: StreamId) -> Result<EntryDump, Fault> {
        let streams = self.streams.lock();
        let mut parts = Vec::new();
        if let Some((pa, l1)) = streams.table.read_level1(stream)? {
            parts.push(part("L1STD", pa, &[l1.0], &l1.fields()));
        }
        let Some((pa, ste)) = streams.table.read(stream)? else {
            // Nobody attached a stream near it: it ends at the level 1 descriptor.
            let config = "abort";
            return Ok(EntryDump { config, parts });
        };
        parts.push(part("STE", pa, &ste.0, &ste.fields()));
        if let Some(table) = streams.substreams(stream) {
            for &index in table.contexts().keys() {
                let of = |part| DumpPart {
                    substream: Some(SubstreamId(index)),
                    ..part
                };
                if let Some((pa, l1)) = table.level1(index) {
                    parts.push(of(part("L1CD", pa, &[l1.0], &l1.fields())));
                }
                if let Some((pa, cd)) = table.cd(index) {
                    parts.push(of(part("CD", pa, &cd.0, &cd.fields())));
                }
            }
        } else {
            let context = streams.context(stream, None);
            let context = context.filter(|_| ste.cd().is_some());
            if let Some((pa, cd)) = context.and_then(|context| context.cd()) {
                parts.push(part("CD", pa, &cd.0, &cd.fields()));
            }
        }
        let config = ste.config();
        Ok(EntryDump { config, parts })
    }
}

fn part(name: &'static str, pa: u64, words: &[u64], fields: &[(&'static str, u64)]) -> DumpPart {
    DumpPart {
        name,
        substream: None,
        pa: PhysAddr(pa),
        words: words.to_vec(),
        fields: fields.to_vec(),
    }
}

//! Who owns which stream: the one place that knows, for a StreamID of an IOMMU,
//! the devices behind it and the live group that they share.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use mastiff_dt::NodeId;
use spin::Mutex;

use super::Group;
use crate::addr::StreamId;
use crate::error::Fault;

/// A stream of one IOMMU.
pub type StreamKey = (NodeId, StreamId);

/// The devices behind a stream.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Their names, joined by `+` where the hardware cannot tell them apart.
    pub devices: Box<str>,
    /// The driver bound to one of them.
    pub driver: Option<&'static str>,
}

/// All streams that the tree and the buses speak of.
#[derive(Default)]
pub struct Streams {
    entries: Mutex<BTreeMap<StreamKey, Entry>>,
}

#[derive(Default)]
struct Entry {
    devices: Vec<(Box<str>, Option<&'static str>)>,
    group: Weak<Group>,
}

impl Streams {
    /// Notes that `device` issues these streams, and the driver bound to it.
    pub(crate) fn note(&self, keys: &[StreamKey], device: &str, driver: Option<&'static str>) {
        let mut entries = self.entries.lock();
        for key in keys {
            let devices = &mut entries.entry(*key).or_default().devices;
            match devices.iter_mut().find(|(name, _)| &**name == device) {
                Some(known) => known.1 = driver,
                None => devices.push((device.into(), driver)),
            }
        }
    }

    /// Forgets `device`: its bus is gone.
    pub(crate) fn forget(&self, keys: &[StreamKey], device: &str) {
        let mut entries = self.entries.lock();
        for key in keys {
            if let Some(entry) = entries.get_mut(key) {
                entry.devices.retain(|(name, _)| &**name != device);
                if entry.devices.is_empty() && entry.group.strong_count() == 0 {
                    entries.remove(key);
                }
            }
        }
    }

    /// Who a stream belongs to.
    pub fn owner(&self, iommu: NodeId, stream: StreamId) -> Option<Owner> {
        let entries = self.entries.lock();
        let entry = entries.get(&(iommu, stream))?;
        let mut devices = String::new();
        for (name, _) in &entry.devices {
            if !devices.is_empty() {
                devices.push('+');
            }
            devices.push_str(name);
        }
        Some(Owner {
            devices: devices.into_boxed_str(),
            driver: entry.devices.iter().find_map(|(_, driver)| *driver),
        })
    }

    /// The live group that covers any of these streams. It must be one: a device
    /// whose streams are in two groups would join them behind their backs.
    pub(crate) fn group(&self, keys: &[StreamKey]) -> Result<Option<Arc<Group>>, Fault> {
        let entries = self.entries.lock();
        let mut found: Option<Arc<Group>> = None;
        for key in keys {
            let Some(group) = entries.get(key).and_then(|entry| entry.group.upgrade()) else {
                continue;
            };
            match &found {
                Some(first) if !Arc::ptr_eq(first, &group) => {
                    return Err(Fault::StreamsSpanGroups { stream: key.1 });
                }
                _ => found = Some(group),
            }
        }
        Ok(found)
    }

    pub(crate) fn set_group(&self, keys: &[StreamKey], group: &Weak<Group>) {
        let mut entries = self.entries.lock();
        for key in keys {
            entries.entry(*key).or_default().group = group.clone();
        }
    }

    /// The live groups.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let entries = self.entries.lock();
        let mut groups: Vec<Arc<Group>> = Vec::new();
        for group in entries.values().filter_map(|entry| entry.group.upgrade()) {
            if !groups.iter().any(|known| Arc::ptr_eq(known, &group)) {
                groups.push(group);
            }
        }
        groups
    }

    /// Every known stream with its owners.
    pub fn all(&self) -> Vec<(NodeId, StreamId, Owner)> {
        let keys: Vec<StreamKey> = self.entries.lock().keys().copied().collect();
        keys.into_iter()
            .filter_map(|(node, stream)| Some((node, stream, self.owner(node, stream)?)))
            .collect()
    }
}

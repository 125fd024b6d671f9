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
    // The same for devices that are not isolated from each other.
    isolation: Mutex<BTreeMap<Box<str>, Hold>>,
}

#[derive(Default)]
struct Entry {
    devices: Vec<(Box<str>, Option<&'static str>)>,
    hold: Hold,
}

/// In whose hands something is: a group's or one driver's.
#[derive(Default)]
struct Hold {
    group: Weak<Group>,
    // The device whose driver manages the stream.
    reserved: Option<Box<str>>,
}

impl Hold {
    fn is_free(&self) -> bool {
        self.group.strong_count() == 0 && self.reserved.is_none()
    }

    /// Who has it.
    fn by(&self) -> Option<Box<str>> {
        let members = |group: Arc<Group>| group.info().members.join("+").into_boxed_str();
        self.reserved
            .clone()
            .or_else(|| self.group.upgrade().map(members))
    }
}

/// Streams that one device has for itself.
pub(crate) struct Reservation {
    streams: Arc<Streams>,
    keys: Vec<StreamKey>,
    isolation: Option<Box<str>>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(isolation) = &self.isolation {
            self.streams.isolation.lock().remove(isolation);
        }
        let mut entries = self.streams.entries.lock();
        for key in &self.keys {
            if let Some(entry) = entries.get_mut(key) {
                entry.hold.reserved = None;
            }
        }
    }
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
                if entry.devices.is_empty() && entry.hold.is_free() {
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

    /// Gives `device` these streams for itself. Nobody may be in a group with them,
    /// nor with those that it is not isolated from.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        keys: &[StreamKey],
        isolation: Option<&str>,
        device: &str,
    ) -> Result<Reservation, Fault> {
        let mut shared = self.isolation.lock();
        if let Some(by) = isolation.and_then(|key| shared.get(key)?.by()) {
            return Err(Fault::NotIsolated { from: by });
        }
        let mut entries = self.entries.lock();
        for key in keys {
            if let Some(by) = entries.get(key).and_then(|entry| entry.hold.by()) {
                return Err(Fault::StreamTaken { stream: key.1, by });
            }
        }
        for key in keys {
            entries.entry(*key).or_default().hold.reserved = Some(device.into());
        }
        if let Some(key) = isolation {
            shared.entry(key.into()).or_default().reserved = Some(device.into());
        }
        Ok(Reservation {
            streams: self.clone(),
            keys: keys.to_vec(),
            isolation: isolation.map(Into::into),
        })
    }

    /// The live group that covers any of these streams, or whose members are not
    /// isolated from this device. It must be one: a device whose streams are in two
    /// groups would join them behind their backs.
    pub(crate) fn group(
        &self,
        keys: &[StreamKey],
        isolation: Option<&str>,
    ) -> Result<Option<Arc<Group>>, Fault> {
        let shared = self.isolation.lock();
        let mut found: Option<Arc<Group>> = None;
        if let Some(hold) = isolation.and_then(|key| shared.get(key)) {
            if let Some(from) = hold.reserved.clone() {
                return Err(Fault::NotIsolated { from });
            }
            found = hold.group.upgrade();
        }
        let entries = self.entries.lock();
        for key in keys {
            let Some(entry) = entries.get(key) else {
                continue;
            };
            if let Some(by) = entry.hold.reserved.clone() {
                return Err(Fault::StreamTaken { stream: key.1, by });
            }
            let Some(group) = entry.hold.group.upgrade() else {
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

    pub(crate) fn set_group(
        &self,
        keys: &[StreamKey],
        isolation: Option<&str>,
        group: &Weak<Group>,
    ) {
        if let Some(isolation) = isolation {
            let mut shared = self.isolation.lock();
            shared.entry(isolation.into()).or_default().group = group.clone();
            shared.retain(|_, hold| !hold.is_free());
        }
        let mut entries = self.entries.lock();
        for key in keys {
            entries.entry(*key).or_default().hold.group = group.clone();
        }
    }

    /// The live groups.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let entries = self.entries.lock();
        let mut groups: Vec<Arc<Group>> = Vec::new();
        for group in entries
            .values()
            .filter_map(|entry| entry.hold.group.upgrade())
        {
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

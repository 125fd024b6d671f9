//! The streams that a device's transactions carry, as the tree gives them: what the
//! groups, the fault log and the search for its IOMMUs go by.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use mastiff_dt::{IdMap, NodeId};

use super::Engine;
use super::device::{Device, DeviceId, State, Stream};
use crate::addr::StreamId;
use crate::error::Fault;
use crate::platform::Platform;

/// One device has no more streams than this; real ones have up to a few hundred.
const MOST_STREAMS: usize = 4096;

impl<P: Platform> Engine<P> {
    /// Where the device's streams are, from its own node or its bus's map; its own
    /// `iommus` wins over the map.
    pub(super) fn streams_of(&self, device: &Device<P>) -> Result<Vec<Stream>, Fault> {
        let tree = &self.context.tree;
        let mut streams = Vec::new();
        // An alias may give the same stream twice.
        let mut known = BTreeSet::new();
        let mut push = |iommu, cells: &[u32], property| -> Result<(), Fault> {
            for id in stream_ids(cells)? {
                if known.insert((iommu, id)) {
                    streams.push(Stream {
                        iommu,
                        id,
                        property,
                    });
                }
            }
            match known.len() {
                ..=MOST_STREAMS => Ok(()),
                _ => Err(too_many_streams()),
            }
        };
        let own = device.node.map(|node| tree.node(node));
        if let Some(node) = own
            && node.has("iommus")
        {
            for reference in node.iommus()? {
                push(reference.iommu, &reference.cells, "iommus")?;
            }
            return Ok(streams);
        }
        if let (Some(child), Some(bus)) = (&device.child, self.bus_node(device)) {
            for &requester in &child.requesters {
                if let Some(target) = tree.node(bus).map_id(IdMap::Iommu, requester)? {
                    push(target.target, &target.cells, "iommu-map")?;
                }
            }
        }
        Ok(streams)
    }

    /// Tells the fault log who is behind every stream that can be told now, bound
    /// or not: a master that nobody drives can still be hostile.
    pub(super) fn note_streams(&mut self, id: DeviceId) {
        let device = &self.devices[id.index()];
        if matches!(device.state, State::Disabled) {
            return;
        }
        let Ok(streams) = self.streams_of(device) else {
            return; // said when, and if, the device is tried
        };
        self.context
            .streams
            .note(&keys(&streams), &device.name, None);
        self.devices[id.index()].streams = streams;
    }
}

/// The streams as the registry of owners keys them.
pub(super) fn keys(streams: &[Stream]) -> Vec<(NodeId, StreamId)> {
    streams
        .iter()
        .map(|stream| (stream.iommu, stream.id))
        .collect()
}

fn too_many_streams() -> Fault {
    Fault::invalid(format!("more than {MOST_STREAMS} streams for one device"))
}

/// A specifier of an IOMMU as StreamIDs: none means that the IOMMU cannot tell its
/// masters apart, one is the ID, and in two the second has the bits of it that do not
/// matter (Arm's SMMUv2 binding).
fn stream_ids(cells: &[u32]) -> Result<Vec<StreamId>, Fault> {
    let (id, mask) = match *cells {
        [] => (0, 0),
        [id] => (id, 0),
        [id, mask] => (id, mask),
        _ => {
            return Err(Fault::invalid(format!(
                "an IOMMU specifier of {} cells: a StreamID and a mask are understood",
                cells.len()
            )));
        }
    };
    if 1 << mask.count_ones() > MOST_STREAMS as u64 {
        return Err(too_many_streams());
    }
    // Every subset of the mask, in ascending order.
    let mut subset = 0u32;
    let mut ids = Vec::new();
    loop {
        ids.push(StreamId((id & !mask) | subset));
        subset = subset.wrapping_sub(mask) & mask;
        if subset == 0 {
            return Ok(ids);
        }
    }
}

//! What a plan says of a device, as data: the firmware's own record, with the
//! streams by IOMMU, and the map of a bus whose devices are not in the tree.

use mastiff_core::engine::{Device, Engine};
use mastiff_dt::{IdMap, IdRange, Node, Tree};
use mastiff_shell::records::{CauseRecord, DeviceRecord, WaitedRecord};
use serde::Serialize;

use crate::paper::Paper;

/// One device.
#[derive(Serialize)]
pub struct PlanRecord {
    kind: &'static str,
    /// Its path.
    pub name: Box<str>,
    compatible: Vec<String>,
    /// The driver for it.
    pub driver: Option<&'static str>,
    /// Its state.
    pub state: &'static str,
    attempts: u32,
    probes: u32,
    /// What it waited for.
    pub waited: Vec<WaitedRecord>,
    /// From the device to the root cause, where it waits or failed.
    pub cause: Vec<CauseRecord>,
    iommu: Option<String>,
    /// Its streams, and for a bus those that its map gives to what is on it.
    pub streams: Vec<StreamsRecord>,
    group: Option<String>,
    domain: &'static str,
    /// What policy decided about it.
    pub decision: Option<String>,
    /// Its place in the order of binding.
    pub order: Option<u32>,
    /// What is wrong with its map.
    pub map_error: Option<String>,
}

/// Streams of one IOMMU.
#[derive(Serialize)]
pub struct StreamsRecord {
    /// The IOMMU's path.
    pub iommu: String,
    /// The StreamIDs of the device itself.
    pub ids: Vec<u32>,
    /// The property that says so: `iommus` or `iommu-map`.
    pub property: &'static str,
    /// The ranges of the map.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeRecord>,
    /// The bits of an ID that the map looks at, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<u32>,
}

/// An entry of `iommu-map`.
#[derive(Serialize)]
pub struct RangeRecord {
    /// The first ID on the bus (a PCI function's Requester ID).
    pub first: u32,
    /// The StreamID that it becomes.
    pub id: u32,
    /// How many IDs.
    pub count: u32,
}

impl PlanRecord {
    /// What came of a device.
    pub fn new(engine: &Engine<Paper>, device: &Device<Paper>) -> Self {
        let tree = &engine.context().tree;
        let known = DeviceRecord::new(engine, device);
        let mut streams: Vec<StreamsRecord> = Vec::new();
        for stream in &device.streams {
            let iommu = tree.node(stream.iommu).path();
            match streams.iter_mut().find(|known| known.iommu == iommu) {
                Some(known) => known.ids.push(stream.id.0),
                None => streams.push(StreamsRecord {
                    iommu,
                    ids: vec![stream.id.0],
                    property: stream.property,
                    ranges: Vec::new(),
                    mask: None,
                }),
            }
        }
        let map = device.node.map(|node| map_streams(tree, tree.node(node)));
        let map_error = match map {
            Some(Ok(map)) => {
                streams.extend(map);
                None
            }
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        };
        Self {
            kind: "device",
            name: known.name,
            compatible: known.compatible,
            driver: known.driver,
            state: known.state,
            attempts: known.attempts,
            probes: known.probes,
            waited: known.waited,
            cause: known.cause,
            iommu: known.iommu,
            streams,
            group: known.group,
            domain: known.domain,
            decision: known.decision,
            order: known.order,
            map_error,
        }
    }
}

/// What the `iommu-map` of a bus says, by IOMMU.
fn map_streams(tree: &Tree, bus: Node<'_>) -> Result<Vec<StreamsRecord>, mastiff_dt::PropError> {
    let ranges = bus.id_ranges(IdMap::Iommu)?;
    let mask = Some(bus.id_mask(IdMap::Iommu)?).filter(|&mask| mask != u32::MAX);
    let mut streams: Vec<StreamsRecord> = Vec::new();
    for IdRange {
        first,
        target,
        output,
        count,
        ..
    } in ranges
    {
        let Some(target) = target else { continue };
        let iommu = tree.node(target).path();
        let range = RangeRecord {
            first,
            id: output.first().copied().unwrap_or(0),
            count,
        };
        match streams.iter_mut().find(|known| known.iommu == iommu) {
            Some(known) => known.ranges.push(range),
            None => streams.push(StreamsRecord {
                iommu,
                ids: Vec::new(),
                property: "iommu-map",
                ranges: vec![range],
                mask,
            }),
        }
    }
    Ok(streams)
}

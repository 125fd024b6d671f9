//! IOMMUs, streams, domains, walks and faults.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::platform::Platform;

use super::{Failure, device, number};
use crate::records::{DomainRecord, EntryRecord, Record, StreamRecord, WalkRecord, name_at};
use crate::shell::Shell;

pub fn list<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    out.extend(shell.iommus().map(Record::Iommu));
    Ok(())
}

pub fn streams<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let context = shell.engine.context();
    for (node, stream, owner) in context.streams.all() {
        let (config, error) = match context.iommu(node) {
            None => (None, Some("its IOMMU is not bound".into())),
            Some(iommu) => match iommu.describe(stream) {
                Ok(entry) => (Some(entry.config), None),
                Err(fault) => (None, Some(fault.to_string())),
            },
        };
        out.push(Record::Stream(StreamRecord {
            iommu: name_at(&shell.engine, node),
            stream: stream.0,
            config,
            device: owner.devices,
            driver: owner.driver,
            error,
        }));
    }
    Ok(())
}

pub fn ste<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let device = device(shell, arguments[0])?;
    let iommu = device
        .node
        .and_then(|node| shell.engine.context().iommu(node))
        .ok_or_else(|| Failure::new(format!("{} is no bound IOMMU", device.name)))?;
    let stream = number(arguments[1], "the stream")?;
    let stream = u32::try_from(stream)
        .map(StreamId)
        .map_err(|_| Failure::new("a StreamID has 32 bits at most"))?;
    let entry = iommu.describe(stream)?;
    out.push(Record::Entry(EntryRecord::new(&device.name, stream, entry)));
    Ok(())
}

pub fn walk<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let device = device(shell, arguments[0])?;
    let iova = number(arguments[1], "the IOVA")?;
    let walk = WalkRecord::new(device, Iova(iova))
        .ok_or_else(|| Failure::new(format!("{} is attached to no domain", device.name)))?;
    if walk.levels.is_empty() && walk.domain != "identity" {
        return Err(Failure::new(format!(
            "{iova:#x} is beyond the addresses of its tables, or none is attached"
        )));
    }
    out.push(Record::Walk(walk));
    Ok(())
}

pub fn domains<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let engine = &shell.engine;
    let groups = engine.context().streams.groups();
    let groups = groups.iter().map(|group| {
        let kind = if group.is_identity() {
            "identity"
        } else {
            "dma"
        };
        (kind, group.info())
    });
    let spaces = engine.devices().flat_map(|device| device.spaces());
    let spaces = spaces.map(|info| ("managed", info));
    for (kind, info) in groups.chain(spaces) {
        out.push(Record::Domain(DomainRecord::new(engine, kind, info)));
    }
    Ok(())
}

pub fn faults<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    out.extend(shell.faults().map(Record::Fault));
    Ok(())
}

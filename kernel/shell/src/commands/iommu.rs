//! IOMMUs, streams, domains, walks and faults.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::iommu::Iommu;
use mastiff_core::platform::Platform;

use super::{Failure, number};
use crate::records::Record;
use crate::render;
use crate::shell::Shell;

pub fn list<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    for record in shell.iommu_records() {
        if shell.options.records {
            shell.record(Record::Iommu(record));
            continue;
        }
        let driver = record.driver.unwrap_or("-");
        shell.say(format_args!("{} ({driver})\n", record.name));
        shell.say(format_args!("  features: {}\n", record.features.join(", ")));
        shell.say(format_args!(
            "  {} streams attached, {} domains, {} commands ({} syncs), {} events, {} errors\n",
            record.streams_attached,
            record.domains,
            record.commands,
            record.syncs,
            record.events,
            record.errors
        ));
    }
    Ok(())
}

pub fn streams<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    let context = shell.engine.context();
    let mut rows = Vec::new();
    for (node, stream, owner) in context.streams.all() {
        let config = match context.iommu(node) {
            None => String::from("IOMMU not bound"),
            Some(iommu) => match iommu.describe(stream) {
                Ok(entry) => entry.config.into(),
                Err(fault) => format!("{fault}"),
            },
        };
        rows.push(Vec::from([
            context.tree.node(node).path(),
            format!("{stream}"),
            config,
            owner.devices.into_string(),
            owner.driver.unwrap_or("-").into(),
        ]));
    }
    let head = ["iommu", "stream", "goes", "device", "driver"];
    shell.say(format_args!("{}", render::table(&head, &rows)));
    Ok(())
}

pub fn ste<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let iommu = find(shell, arguments[0])?;
    let stream = number(arguments[1], "the stream")?;
    let stream =
        u32::try_from(stream).map_err(|_| Failure::new("a StreamID has 32 bits at most"))?;
    let entry = iommu.describe(StreamId(stream))?;
    shell.say(format_args!("stream {stream:#x}: {}\n", entry.config));
    for part in entry.parts {
        shell.say(format_args!("{} at {}\n", part.name, part.pa));
        for (index, word) in part.words.iter().enumerate() {
            shell.say(format_args!("  [{index}] {word:#018x}\n"));
        }
        for (name, value) in part.fields {
            shell.say(format_args!("  {name:<12} {value:#x}\n"));
        }
    }
    Ok(())
}

pub fn walk<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let device = super::device(shell, arguments[0])?;
    let iova = Iova(number(arguments[1], "the IOVA")?);
    let group = device
        .group()
        .ok_or_else(|| Failure::new(format!("{} is attached to no domain", device.name)))?;
    if group.is_identity() {
        shell.say(format_args!(
            "{iova}: identity domain, the address passes unchanged\n"
        ));
        return Ok(());
    }
    for step in group.walk(iova) {
        shell.say(format_args!(
            "level {}  table {}  [{:3}]  {:#018x}  {}\n",
            step.level, step.table, step.index, step.descriptor, step.meaning
        ));
    }
    Ok(())
}

pub fn domains<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    let context = shell.engine.context();
    let mut rows = Vec::new();
    for group in context.streams.groups() {
        let info = group.info();
        let streams: Vec<String> = info
            .streams
            .iter()
            .map(|(node, stream)| format!("{}:{stream}", context.tree.node(*node).path()))
            .collect();
        let members: Vec<&str> = info.members.iter().map(|member| &**member).collect();
        rows.push(Vec::from([
            String::from(if info.identity { "identity" } else { "dma" }),
            info.tag.map_or(String::from("-"), |tag| format!("{tag}")),
            render::size(info.mapped),
            streams.join(" "),
            members.join(" "),
        ]));
    }
    let head = ["domain", "ASID", "IOVA in use", "streams", "members"];
    shell.say(format_args!("{}", render::table(&head, &rows)));
    Ok(())
}

pub fn faults<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    let faults = shell.fault_lines();
    if shell.options.records {
        for fault in faults {
            shell.record(Record::Fault(fault));
        }
        return Ok(());
    }
    if faults.is_empty() {
        shell.say(format_args!("no faults\n"));
    }
    for record in shell.engine.context().faults.records() {
        shell.say(format_args!("{:>6} x  {record}\n", record.count));
    }
    Ok(())
}

/// The IOMMU of a path or the end of one.
fn find<P: Platform>(shell: &Shell<'_, P>, name: &str) -> Result<Arc<dyn Iommu>, Failure> {
    let device = super::device(shell, name)?;
    device
        .node
        .and_then(|node| shell.engine.context().iommu(node))
        .ok_or_else(|| Failure::new(format!("{} is no bound IOMMU", device.name)))
}

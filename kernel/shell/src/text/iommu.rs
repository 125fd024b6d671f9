//! IOMMUs, streams, domains, walks and faults as people read them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::format::{count, size};
use super::{View, list};
use crate::records::{
    DomainRecord, EntryRecord, FaultRecord, IommuRecord, StreamRecord, WalkRecord,
};

pub fn iommu(record: &IommuRecord) -> View {
    let driver = record.driver.unwrap_or("-");
    let quarantined = match record.quarantined {
        0 => String::new(),
        some => format!(", {} quarantined", count(some, "stream")),
    };
    View::Lines(format!(
        "{} ({driver})\n  features: {}\n  {} attached, {}, {} ({}), {}, {}{quarantined}\n",
        record.name,
        record.features.join(", "),
        count(record.streams_attached, "stream"),
        count(record.domains, "domain"),
        count(record.commands, "command"),
        count(record.syncs, "sync"),
        count(record.events, "event"),
        count(record.errors, "error"),
    ))
}

pub fn stream(record: &StreamRecord) -> View {
    let config = record.config.or(record.error.as_deref());
    View::Row(
        &["iommu", "stream", "goes", "device", "driver"],
        Vec::from([
            record.iommu.clone(),
            format!("{:#x}", record.stream),
            config.unwrap_or("-").into(),
            record.device.clone().into_string(),
            record.driver.unwrap_or("-").into(),
        ]),
    )
}

pub fn entry(record: &EntryRecord) -> View {
    let (iommu, stream) = (&record.iommu, record.stream);
    let mut text = format!("{iommu}, stream {stream:#x}: {}\n", record.config);
    for part in &record.parts {
        if let Some(substream) = part.substream {
            text.push_str(&format!("substream {substream:#x}: "));
        }
        // What was said by requests is nowhere in memory.
        match part.words.is_empty() {
            true => text.push_str(&format!("{}\n", part.name)),
            false => text.push_str(&format!("{} at {:#x}\n", part.name, part.pa)),
        }
        for (index, word) in part.words.iter().enumerate() {
            text.push_str(&format!("  [{index}] {word}\n"));
        }
        for field in &part.fields {
            text.push_str(&format!("  {:<12} {:#x}\n", field.name, field.value));
        }
    }
    View::Lines(text)
}

pub fn walk(record: &WalkRecord) -> View {
    let mut text = format!("{}, IOVA {:#x}\n", record.device, record.iova);
    match (record.domain, record.levels.is_empty()) {
        ("identity", _) => text.push_str("  identity domain: the address passes unchanged\n"),
        (_, true) => text.push_str("  no tables to walk\n"),
        _ => {}
    }
    for step in &record.levels {
        text.push_str(&format!(
            "  stage {}  level {}  table {:#x}  [{:3}]  {}  {}\n",
            step.stage, step.level, step.table, step.index, step.descriptor, step.meaning
        ));
        let attributes = step.attributes.iter();
        let attributes: Vec<String> = attributes
            .map(|field| format!("{} {:#x}", field.name, field.value))
            .collect();
        if !attributes.is_empty() {
            text.push_str(&format!("    {}\n", attributes.join(", ")));
        }
    }
    View::Lines(text)
}

pub fn domain(record: &DomainRecord) -> View {
    let streams = record.streams.iter();
    let streams = streams.map(|s| match record.substream {
        Some(substream) => format!("{}:{:#x}/{substream:#x}", s.iommu, s.stream),
        None => format!("{}:{:#x}", s.iommu, s.stream),
    });
    let own = record.tag_kind.zip(record.tag);
    let own = own.map_or_else(|| "-".into(), |(kind, tag)| format!("{kind} {tag}"));
    let tag = match record.parent {
        None => own,
        Some(parent) => format!("{own} in VMID {parent}"),
    };
    View::Row(
        &["domain", "tag", "IOVA in use", "streams", "members"],
        Vec::from([
            record.domain.into(),
            tag,
            size(record.mapped),
            list(streams),
            list(&record.members),
        ]),
    )
}

pub fn fault(record: &FaultRecord) -> View {
    let hex = |value: u64| format!("{value:#x}");
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    View::Row(
        &[
            "count", "event", "iommu", "stream", "device", "driver", "access", "address", "stage",
            "detail",
        ],
        Vec::from([
            format!("{}", record.count),
            record.event.into(),
            record.iommu.clone().into_string(),
            known(record.stream.map(u64::from).map(hex)),
            known(record.device.clone().map(Into::into)),
            record.driver.unwrap_or("-").into(),
            record.access.clone(),
            known(record.iova.map(hex)),
            format!("{}", record.stage),
            record.detail.clone(),
        ]),
    )
}

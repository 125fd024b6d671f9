//! Devices, drivers and the tree as people read them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::format::size;
use super::{View, list};
use crate::records::{
    CauseRecord, DeviceRecord, DriverRecord, IsolationRecord, NodeRecord, Reach, WaitedRecord,
    WhyRecord,
};

pub fn device(record: &DeviceRecord) -> View {
    let streams = record.streams.iter().map(|id| format!("{id:#x}"));
    let waited = record.waited.iter().map(|waited| &waited.on);
    let state = match record.suspended {
        true => "suspended",
        false => record.state,
    };
    View::Row(
        &[
            "device",
            "driver",
            "state",
            "domain",
            "streams",
            "tries",
            "waited for",
        ],
        Vec::from([
            record.name.clone().into_string(),
            record.driver.unwrap_or("-").into(),
            state.into(),
            record.domain.into(),
            list(streams),
            format!("{}", record.attempts),
            list(waited),
        ]),
    )
}

/// A device's line of the probe story, its troubles below.
pub fn story(record: &DeviceRecord) -> String {
    let driver = record.driver.unwrap_or("no driver");
    let mut text = format!("  {:<9} {} [{driver}]", record.state, record.name);
    for waited in &record.waited {
        text.push_str(&format!(", waited for {}", supplier(waited)));
    }
    text.push('\n');
    for cause in &record.cause {
        text.push_str(&format!("             {}\n", words(cause)));
    }
    if let Some(decision) = &record.decision {
        text.push_str(&format!("             policy: {decision}\n"));
    }
    text
}

pub fn why(record: &WhyRecord) -> View {
    let mut text = String::new();
    if record.cause.is_empty() {
        let driver = record.driver.unwrap_or("-");
        let waited = record.waited.iter().map(supplier);
        let waited: Vec<String> = waited.collect();
        let after = match waited.is_empty() {
            true => "without waiting".into(),
            false => format!("after waiting for {}", waited.join(", then for ")),
        };
        let device = &record.device;
        text.push_str(&format!("{device}: bound by {driver} {after}\n"));
    }
    for (depth, cause) in record.cause.iter().enumerate() {
        let indent = 2 * depth;
        text.push_str(&format!("{:indent$}{}\n", "", words(cause)));
    }
    if let Some(decision) = &record.decision {
        text.push_str(&format!("policy: {decision}\n"));
    }
    View::Lines(text)
}

fn supplier(waited: &WaitedRecord) -> String {
    let (class, on, property) = (&waited.class, &waited.on, &waited.property);
    format!("{class} {on} ({property})")
}

fn words(cause: &CauseRecord) -> String {
    format!("{}: {}", cause.device, cause.reason)
}

pub fn isolation(record: &IsolationRecord) -> View {
    let mut iommus: Vec<&str> = record.streams.iter().map(|s| &*s.iommu).collect();
    iommus.dedup();
    let streams = record.streams.iter().map(|s| format!("{:#x}", s.stream));
    let reason = &record.reason;
    let reaches = match (record.reach, record.mapped) {
        (Reach::Mapped, Some(bytes)) => {
            format!("only what is mapped: {} now ({reason})", size(bytes))
        }
        (Reach::Mapped, None) => format!("only what is mapped ({reason})"),
        (Reach::Nothing, _) => format!("nothing: {reason}"),
        (Reach::All, _) => format!("all memory that it can address: {reason}"),
        (Reach::Unknown, _) => format!("unknown: {reason}"),
    };
    View::Row(
        &["master", "IOMMU", "streams", "domain", "reaches"],
        Vec::from([
            record.device.clone().into_string(),
            list(iommus),
            list(streams),
            record.domain.into(),
            reaches,
        ]),
    )
}

pub fn node(record: &NodeRecord) -> View {
    let disabled = if record.enabled { "" } else { "  (disabled)" };
    let mut text = format!("{}{disabled}\n", record.path);
    for property in &record.properties {
        let name = &property.name;
        match &property.value {
            None => text.push_str(&format!("    {name}\n")),
            Some(value) => text.push_str(&format!("    {name} = {value}\n")),
        }
    }
    View::Lines(text)
}

pub fn driver(record: &DriverRecord) -> View {
    View::Row(
        &["driver", "state", "devices"],
        Vec::from([
            record.name.into(),
            record.state.into(),
            format!("{}", record.bound),
        ]),
    )
}

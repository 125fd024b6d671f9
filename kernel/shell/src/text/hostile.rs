//! What a hostile master tried, as people read it.

use alloc::format;
use alloc::vec::Vec;

use super::View;
use super::format::{count, size};
use crate::records::{HostileRecord, StormRecord};

pub fn hostile(record: &HostileRecord) -> View {
    let result = record.result.name();
    let moved = match record.moved {
        0 => "-".into(),
        moved => format!("{moved} of {}", record.bytes),
    };
    View::Row(
        &[
            "target", "access", "address", "result", "events", "bytes", "detail",
        ],
        Vec::from([
            record.target.clone(),
            record.access.into(),
            format!("{:#x}", record.at),
            match record.ok {
                true => result.into(),
                false => result.to_uppercase(),
            },
            format!("{}", record.events),
            moved,
            record.detail.clone(),
        ]),
    )
}

pub fn storm(record: &StormRecord) -> View {
    let lost = match record.errors {
        0 => "none lost",
        _ => "others were lost",
    };
    let then = match record.quarantined {
        true => "its streams abort until it is attached anew",
        false => "its streams were not cut off",
    };
    let disk = match &record.disk {
        Some(disk) if record.ok => format!("; {disk} read right all the while"),
        _ => "".into(),
    };
    View::Lines(format!(
        "  {}: {} of faults, {} heard, {lost}; {then}{disk}\n",
        record.device,
        size(record.bytes),
        count(record.events, "event"),
    ))
}

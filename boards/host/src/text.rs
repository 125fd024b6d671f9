//! A plan for people: who is bound and after whom, who is not and why, and how many
//! of each.

use std::fmt::Write;

use crate::record::{PlanRecord, StreamsRecord};

/// The whole story, ending in a summary.
pub fn story(records: &[PlanRecord]) -> String {
    let mut text = String::new();
    let mut bound: Vec<_> = records
        .iter()
        .filter_map(|record| Some((record.order?, record)))
        .collect();
    bound.sort_by_key(|(order, _)| *order);
    for (order, record) in bound {
        let driver = record.driver.unwrap_or("");
        add(
            &mut text,
            &format!("{:>5}  {}  {driver}", order + 1, record.name),
        );
        details(&mut text, record);
    }
    for record in records.iter().filter(|record| is_stuck(record)) {
        add(&mut text, &format!("{:>7}  {}", record.state, record.name));
        for cause in &record.cause {
            let who = match cause.device == record.name {
                true => String::new(),
                false => format!("{}: ", cause.device),
            };
            add(&mut text, &format!("           {who}{}", cause.reason));
        }
    }
    let left = records.iter().filter(|record| record.state == "unclaimed");
    for record in left {
        add(&mut text, &format!("      -  {}  no driver", record.name));
        details(&mut text, record);
    }
    add(&mut text, &summary(records));
    text
}

/// How many devices there are in each state.
pub fn summary(records: &[PlanRecord]) -> String {
    let count = |state| {
        records
            .iter()
            .filter(|record| record.state == state)
            .count()
    };
    let states = ["bound", "waiting", "failed", "unclaimed", "disabled"];
    let counts = states.map(|state| format!("{} {state}", count(state)));
    format!("{} devices: {}", records.len(), counts.join(", "))
}

/// Whether a device is to be bound and is not.
pub fn is_stuck(record: &PlanRecord) -> bool {
    matches!(record.state, "waiting" | "failed")
}

fn details(text: &mut String, record: &PlanRecord) {
    for waited in &record.waited {
        let line = format!("after {} {} ({})", waited.class, waited.on, waited.property);
        detail(text, &line);
    }
    for streams in &record.streams {
        detail(text, &stream_words(streams));
    }
    for line in record.decision.iter().chain(&record.map_error) {
        detail(text, line);
    }
}

fn stream_words(streams: &StreamsRecord) -> String {
    let mut words = format!("{} {}:", streams.property, streams.iommu);
    for id in &streams.ids {
        let _ = write!(words, " {id:#x}");
    }
    for range in &streams.ranges {
        let (first, id, count) = (range.first, range.id, range.count);
        let _ = write!(words, " {first:#x}+{count:#x} -> {id:#x}");
    }
    if let Some(mask) = streams.mask {
        let _ = write!(words, " (mask {mask:#x})");
    }
    words
}

fn detail(text: &mut String, line: &str) {
    add(text, &format!("         {line}"));
}

fn add(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

//! Records as people read them. Every kind has one view: a row of a table, or text
//! of its own. Rows that follow each other under the same head become one table.

mod device;
pub mod format;
mod hostile;
mod iommu;
mod machine;
mod supply;

pub(crate) use device::story;
pub(crate) use machine::proof;

use alloc::string::String;
use alloc::vec::Vec;
use core::mem::take;

use crate::records::Record;

/// How a record looks.
enum View {
    /// A row of the table with this head.
    Row(Head, Vec<String>),
    /// Whole lines.
    Lines(String),
}

type Head = &'static [&'static str];

/// Records as text.
pub(crate) fn text(records: &[Record]) -> String {
    let mut text = String::new();
    let mut rows = Vec::new();
    let mut open: Head = &[];
    for record in records {
        let view = view(record);
        let head = match &view {
            View::Row(head, _) => head,
            View::Lines(_) => [].as_slice(),
        };
        if head != open && !rows.is_empty() {
            text.push_str(&format::table(open, &take(&mut rows)));
        }
        open = head;
        match view {
            View::Row(_, row) => rows.push(row),
            View::Lines(lines) => text.push_str(&lines),
        }
    }
    if !rows.is_empty() {
        text.push_str(&format::table(open, &rows));
    }
    plain(text)
}

/// Text as it may be shown: a line of it that begins as records do, since somebody
/// typed it so, is not to be read as one.
pub(crate) fn plain(text: String) -> String {
    match text.starts_with('@') || text.contains("\n@") {
        false => text,
        true => text
            .split_inclusive('\n')
            .fold(String::new(), |mut all, line| {
                all.push_str(if line.starts_with('@') { " " } else { "" });
                all.push_str(line);
                all
            }),
    }
}

fn view(record: &Record) -> View {
    match record {
        Record::Device(device) => device::device(device),
        Record::Why(why) => device::why(why),
        Record::Isolation(isolation) => device::isolation(isolation),
        Record::Node(node) => device::node(node),
        Record::Driver(driver) => device::driver(driver),
        Record::Iommu(iommu) => iommu::iommu(iommu),
        Record::Stream(stream) => iommu::stream(stream),
        Record::Entry(entry) => iommu::entry(entry),
        Record::Walk(walk) => iommu::walk(walk),
        Record::Domain(domain) => iommu::domain(domain),
        Record::Fault(fault) => iommu::fault(fault),
        Record::Boot(boot) => machine::boot(boot),
        Record::Dma(dma) => View::Lines(proof(dma)),
        Record::Space(space) => machine::space(space),
        Record::Hostile(hostile) => hostile::hostile(hostile),
        Record::Storm(storm) => hostile::storm(storm),
        Record::Data(data) => machine::data(data),
        Record::Switch(switch) => supply::switch(switch),
        Record::Cpu(cpu) => machine::cpu(cpu),
        Record::Together(together) => machine::together(together),
        Record::Scale(scale) => machine::scale(scale),
        Record::Irq(irq) => machine::irq(irq),
        Record::Memory(memory) => machine::memory(memory),
        Record::Log(log) => machine::log(log),
        Record::Uptime(uptime) => machine::uptime(uptime),
        Record::Bench(bench) => machine::bench(bench),
        Record::Command(command) => machine::command(command),
        Record::Step(step) => machine::step(step),
    }
}

/// A list in one cell; a dash for an empty one.
fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(item.as_ref());
    }
    if text.is_empty() { "-".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{
        EntryRecord, FieldRecord, LogRecord, MemoryRecord, PartRecord, Record, WalkRecord,
    };
    use alloc::vec;

    fn memory(name: &'static str) -> Record {
        Record::Memory(MemoryRecord { name, bytes: 1 })
    }

    #[test]
    fn rows_under_one_head_are_one_table() {
        let line = Record::Log(LogRecord { text: "x".into() });
        let records = [memory("a"), memory("b"), line, memory("c")];
        assert_eq!(
            text(&records),
            "memory  size\na       1 B\nb       1 B\nx\nmemory  size\nc       1 B\n"
        );
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn no_line_of_text_looks_like_a_record() {
        let line = |text: &str| Record::Log(LogRecord { text: text.into() });
        assert_eq!(text(&[line("a@b"), line("@{}")]), "a@b\n @{}\n");
        assert_eq!(plain("@: no\nat".into()), " @: no\nat");
    }

    #[test]
    fn an_entry_is_shown_raw_and_decoded() {
        let entry = EntryRecord {
            iommu: "/smmu".into(),
            stream: 8,
            config: "stage 1",
            parts: vec![PartRecord {
                name: "STE",
                substream: None,
                pa: 0x1000,
                words: vec!["0x0b".into()],
                fields: vec![FieldRecord {
                    name: "Config",
                    value: 5,
                }],
            }],
        };
        assert_eq!(
            text(&[Record::Entry(entry.clone())]),
            "/smmu, stream 0x8: stage 1\nSTE at 0x1000\n  [0] 0x0b\n  Config       0x5\n"
        );
        assert_eq!(
            Record::Entry(entry).line(),
            "@{\"kind\":\"entry\",\"iommu\":\"/smmu\",\"stream\":8,\"config\":\"stage 1\",\
             \"parts\":[{\"name\":\"STE\",\"substream\":null,\"pa\":4096,\"words\":[\"0x0b\"],\
             \"fields\":[{\"name\":\"Config\",\"value\":5}]}]}"
        );
    }

    #[test]
    fn a_walk_through_nothing_has_no_levels() {
        let walk = Record::Walk(WalkRecord {
            device: "/a".into(),
            iova: 0x10,
            domain: "managed",
            levels: Vec::new(),
        });
        assert_eq!(text(&[walk]), "/a, IOVA 0x10\n  no tables to walk\n");
    }
}

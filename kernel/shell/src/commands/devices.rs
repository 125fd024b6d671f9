//! Devices, drivers and the tree.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::platform::Platform;
use mastiff_dt::{Node, Prop, Status};

use super::{Failure, wrong_words};
use crate::records::{DeviceRecord, Record};
use crate::render;
use crate::shell::Shell;

pub fn list<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    let records = shell.device_records();
    if shell.options.records {
        for record in records {
            shell.record(Record::Device(record));
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    let head = [
        "device",
        "driver",
        "state",
        "domain",
        "streams",
        "tries",
        "waited for",
    ];
    shell.say(format_args!("{}", render::table(&head, &rows)));
    Ok(())
}

/// A device as a line of the table.
fn row(record: &DeviceRecord) -> Vec<String> {
    let waited: Vec<&str> = record.waited.iter().map(|waited| &*waited.on).collect();
    let streams: Vec<String> = record.streams.iter().map(|id| format!("{id:#x}")).collect();
    Vec::from([
        record.name.clone().into_string(),
        record.driver.unwrap_or("-").into(),
        record.state.into(),
        record.domain.into(),
        streams.join(","),
        format!("{}", record.attempts),
        waited.join(" "),
    ])
}

pub fn why<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let device = super::device(shell, arguments[0])?;
    let record = DeviceRecord::new(&shell.engine, device);
    if shell.options.records {
        shell.record(Record::Device(record));
        return Ok(());
    }
    for (depth, cause) in record.cause.iter().enumerate() {
        let indent = 2 * depth;
        shell.say(format_args!(
            "{:indent$}{}: {}\n",
            "", cause.device, cause.reason
        ));
    }
    if record.cause.is_empty() {
        let driver = record.driver.unwrap_or("no driver");
        shell.say(format_args!("{}: bound by {driver}", record.name));
        for waited in &record.waited {
            let (class, on, property) = (&waited.class, &waited.on, waited.property);
            shell.say(format_args!(
                ", after waiting for {class} {on} ({property})"
            ));
        }
        shell.say(format_args!("\n"));
    }
    if let Some(decision) = record.decision {
        shell.say(format_args!("policy: {decision}\n"));
    }
    Ok(())
}

pub fn bind<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    Ok(shell.engine.bind(arguments[0])?)
}

pub fn unbind<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    Ok(shell.engine.unbind(arguments[0])?)
}

pub fn driver<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    match arguments {
        ["list"] => {
            for driver in shell.engine.drivers() {
                shell.say(format_args!("{:<12} {}\n", driver.name, driver.state));
            }
            Ok(())
        }
        ["add", name] => Ok(shell.engine.add_driver(name)?),
        _ => Err(wrong_words::<P>("driver")),
    }
}

pub fn tree<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let tree = &shell.engine.context().tree;
    let node = match arguments.first() {
        None => tree.root(),
        Some(path) => tree
            .find(path)
            .ok_or_else(|| Failure::new(format!("no node {path} in the tree")))?,
    };
    show(shell, node, 0);
    Ok(())
}

fn show<P: Platform>(shell: &Shell<'_, P>, node: Node<'_>, depth: usize) {
    let indent = 2 * depth;
    let name = if node.parent().is_none() {
        "/"
    } else {
        node.name()
    };
    let disabled = match node.status() {
        Status::Enabled => "",
        Status::Disabled { .. } => "  (disabled)",
    };
    shell.say(format_args!("{:indent$}{name}{disabled}\n", ""));
    for prop in node.props() {
        shell.say(format_args!(
            "{:indent$}  {}{}\n",
            "",
            prop.name(),
            value(&prop)
        ));
    }
    for child in node.children() {
        show(shell, child, depth + 1);
    }
}

/// A property's value as the source of a tree writes it.
fn value(prop: &Prop<'_>) -> String {
    if prop.bytes().is_empty() {
        return String::new();
    }
    let printable = |text: &str| !text.is_empty() && text.chars().all(|c| !c.is_control());
    let strings: Vec<&str> = prop.strings().collect();
    let length: usize = strings.iter().map(|text| text.len() + 1).sum();
    if length == prop.bytes().len() && strings.iter().all(|text| printable(text)) {
        let quoted: Vec<String> = strings.iter().map(|text| format!("\"{text}\"")).collect();
        return format!(" = {}", quoted.join(", "));
    }
    match prop.as_cells() {
        Ok(cells) => {
            let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:#x}")).collect();
            format!(" = <{}>", cells.join(" "))
        }
        Err(_) => {
            let bytes: Vec<String> = prop
                .bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!(" = [{}]", bytes.join(" "))
        }
    }
}

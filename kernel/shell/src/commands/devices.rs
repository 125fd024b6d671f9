//! Devices, drivers and the tree.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::engine::Engine;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_dt::{Node, Prop};

use super::{Failure, device, wrong_words};
use crate::records::{DeviceRecord, DriverRecord, NodeRecord, PropertyRecord, Record, WhyRecord};
use crate::shell::Shell;

pub fn list<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    out.extend(shell.devices().map(Record::Device));
    Ok(())
}

pub fn why<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let device = device(shell, arguments[0])?;
    out.push(Record::Why(WhyRecord::new(&shell.engine, device)));
    Ok(())
}

pub fn isolation<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    out.extend(shell.isolation().map(Record::Isolation));
    Ok(())
}

pub fn bind<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let name = device(shell, arguments[0])?.name.clone();
    change(shell, out, |engine| engine.bind(&name))
}

pub fn unbind<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let name = device(shell, arguments[0])?.name.clone();
    change(shell, out, |engine| engine.unbind(&name))
}

pub fn rescan<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    change(shell, out, Engine::rescan)
}

pub fn suspend<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    change(shell, out, Engine::suspend)
}

pub fn resume<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    change(shell, out, Engine::resume)
}

pub fn driver<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    match arguments {
        ["list"] => {
            out.extend(drivers(&shell.engine));
            Ok(())
        }
        ["add", name] => change(shell, out, |engine| engine.add_driver(name)),
        ["remove", name] => change(shell, out, |engine| engine.remove_driver(name)),
        _ => Err(wrong_words::<P>("driver")),
    }
}

fn drivers<P: Platform>(engine: &Engine<P>) -> impl Iterator<Item = Record> {
    engine.drivers().into_iter().map(|driver| {
        let devices = engine.devices().filter(|device| {
            device.bound().is_some() && engine.driver_of(device) == Some(driver.name)
        });
        Record::Driver(DriverRecord {
            name: driver.name,
            state: driver.state,
            bound: devices.count(),
        })
    })
}

/// Has the engine do something, and answers with the devices whose state it changed.
fn change<P: Platform>(
    shell: &mut Shell<'_, P>,
    out: &mut Vec<Record>,
    action: impl FnOnce(&mut Engine<P>) -> Result<(), Fault>,
) -> Result<(), Failure> {
    let state = |device: &DeviceRecord| (device.state, device.suspended);
    let before: BTreeMap<Box<str>, _> = shell
        .devices()
        .map(|device| (device.name.clone(), state(&device)))
        .collect();
    let result = action(&mut shell.engine);
    let after = shell.devices();
    let changed = after.filter(|device| before.get(&device.name) != Some(&state(device)));
    out.extend(changed.map(Record::Device));
    // What stood on a bus that was unbound is no device any more.
    for name in before.keys() {
        let engine = &shell.engine;
        if !engine.devices().any(|device| device.name == *name)
            && let Some(gone) = engine.device(name)
        {
            out.push(Record::Device(DeviceRecord::new(engine, gone)));
        }
    }
    Ok(result?)
}

pub fn tree<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let tree = &shell.engine.context().tree;
    let node = match arguments.first() {
        None => tree.root(),
        Some(path) => tree
            .find(path)
            .ok_or_else(|| Failure::new(format!("no node {path} in the tree")))?,
    };
    nodes(node, out);
    Ok(())
}

/// A node and all below it; trees are not deep.
fn nodes(node: Node<'_>, out: &mut Vec<Record>) {
    let properties = node.props().map(|prop| PropertyRecord {
        name: prop.name().into(),
        value: value(&prop),
    });
    out.push(Record::Node(NodeRecord {
        path: node.path(),
        enabled: node.status().is_enabled(),
        properties: properties.collect(),
    }));
    for child in node.children() {
        nodes(child, out);
    }
}

/// A property's value as the source of a tree writes it.
fn value(prop: &Prop<'_>) -> Option<String> {
    if prop.bytes().is_empty() {
        return None;
    }
    let printable = |text: &str| !text.is_empty() && text.chars().all(|c| !c.is_control());
    let strings: Vec<&str> = prop.strings().collect();
    let length: usize = strings.iter().map(|text| text.len() + 1).sum();
    if length == prop.bytes().len() && strings.iter().all(|text| printable(text)) {
        let quoted: Vec<String> = strings.iter().map(|text| format!("{text:?}")).collect();
        return Some(quoted.join(", "));
    }
    Some(match prop.as_cells() {
        Ok(cells) => {
            let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:#x}")).collect();
            format!("<{}>", cells.join(" "))
        }
        Err(_) => {
            let bytes = prop.bytes().iter();
            let bytes: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
            format!("[{}]", bytes.join(" "))
        }
    })
}

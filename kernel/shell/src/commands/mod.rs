//! What commands share: being found in the table, finding things by name, and
//! saying in one line what was wrong. A command answers with records; how they are
//! shown is not its business.

mod devices;
mod dma;
mod hostile;
mod iommu;
mod machine;
mod space;
mod supply;
mod table;
mod together;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use mastiff_core::engine::Device;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use crate::records::{CommandRecord, Record};
use crate::shell::Shell;
use crate::text::format;
use table::{Command, table};

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self(format!("{fault}"))
    }
}

/// Finds and runs a command. What it answers is in `out` even if it fails in the
/// end.
pub(crate) fn run<P: Platform>(
    shell: &mut Shell<'_, P>,
    name: &str,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let command = find::<P>(name)?;
    let (fewest, most) = command.count;
    if arguments.len() < fewest || arguments.len() > most {
        return Err(usage(&command));
    }
    if command.awake && shell.engine.is_suspended() {
        return Err(Failure::new("the devices are suspended; `resume` first"));
    }
    (command.action)(shell, arguments, out)
}

/// What is said where a command that succeeded has nothing to show.
pub(crate) fn nothing<P: Platform>(name: &str) -> &'static str {
    find::<P>(name).map_or("", |command| command.nothing)
}

fn find<P: Platform>(name: &str) -> Result<Command<P>, Failure> {
    let mut commands = table::<P>().into_iter();
    let found = commands.find(|command| command.name == name);
    found.ok_or_else(|| Failure::new("no such command; `help` lists them"))
}

fn usage<P: Platform>(command: &Command<P>) -> Failure {
    let text = format!("usage: {} {}", command.name, command.arguments);
    Failure::new(text.trim_end())
}

/// The usage of a command whose arguments are right in number only.
fn wrong_words<P: Platform>(name: &str) -> Failure {
    match find::<P>(name) {
        Ok(command) => usage(&command),
        Err(failure) => failure,
    }
}

fn help<P: Platform>(
    _: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let record = |command: &Command<P>, more| {
        Record::Command(CommandRecord {
            name: command.name,
            arguments: command.arguments,
            help: command.help,
            more,
        })
    };
    match arguments.first() {
        None => out.extend(table::<P>().iter().map(|command| record(command, None))),
        Some(name) => {
            let command = find::<P>(name)?;
            out.push(record(&command, Some(command.more)));
        }
    }
    Ok(())
}

/// The device of a name or of the end of one, or why there is none.
fn device<'a, P: Platform>(shell: &'a Shell<'_, P>, name: &str) -> Result<&'a Device<P>, Failure> {
    if let Some(device) = shell.engine.device(name) {
        return Ok(device);
    }
    let devices = shell.engine.devices();
    let ending: Vec<&str> = devices
        .map(|device| &*device.name)
        .filter(|full| full.rsplit('/').next() == Some(name))
        .collect();
    Err(Failure::new(match ending.len() {
        0 => format!("no device {name}; `devices` lists them"),
        _ => format!(
            "{name} is ambiguous, give the whole path: {}",
            ending.join(", ")
        ),
    }))
}

/// A number, or what was expected instead.
fn number(text: &str, what: &str) -> Result<u64, Failure> {
    format::number(text).ok_or_else(|| Failure::new(format!("{what} must be a number, not {text}")))
}

//! The table of commands, and what they share: finding things by name, and saying
//! in one line what was wrong.

mod devices;
mod dma;
mod iommu;
mod machine;

use alloc::format;
use alloc::string::String;
use core::fmt;

use mastiff_core::engine::Device;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use crate::shell::Shell;

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

type Action<P> = fn(&mut Shell<'_, P>, &[&str]) -> Result<(), Failure>;

/// One command.
struct Command<P: Platform> {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
    /// Fewest and most arguments.
    count: (usize, usize),
    action: Action<P>,
}

/// All of them, in the order that `help` shows.
fn table<P: Platform>() -> [Command<P>; 25] {
    let command = |name, arguments, count, action, help| Command {
        name,
        arguments,
        help,
        count,
        action,
    };
    [
        command(
            "help",
            "[command]",
            (0, 1),
            help,
            "this list, or one line of it",
        ),
        command(
            "devices",
            "",
            (0, 0),
            devices::list,
            "every device, its driver, state and domain",
        ),
        command(
            "why",
            "<device>",
            (1, 1),
            devices::why,
            "why a device waits or failed, to the root cause",
        ),
        command(
            "tree",
            "[path]",
            (0, 1),
            devices::tree,
            "the device tree below a path",
        ),
        command(
            "driver",
            "list | add <driver>",
            (1, 2),
            devices::driver,
            "the drivers of this image; register a late one",
        ),
        command(
            "bind",
            "<device>",
            (1, 1),
            devices::bind,
            "try a device that is not bound",
        ),
        command(
            "unbind",
            "<device>",
            (1, 1),
            devices::unbind,
            "take a device from its driver, its users first",
        ),
        command(
            "iommu",
            "",
            (0, 0),
            iommu::list,
            "the IOMMUs: features and counters",
        ),
        command(
            "streams",
            "",
            (0, 0),
            iommu::streams,
            "every known stream, whose it is and where it goes",
        ),
        command(
            "ste",
            "<iommu> <stream>",
            (2, 2),
            iommu::ste,
            "a stream's entry, decoded",
        ),
        command(
            "walk",
            "<device> <iova>",
            (2, 2),
            iommu::walk,
            "every level of an address's translation",
        ),
        command(
            "domains",
            "",
            (0, 0),
            iommu::domains,
            "the live domains and their members",
        ),
        command(
            "faults",
            "",
            (0, 0),
            iommu::faults,
            "what masters did wrong",
        ),
        command(
            "dma",
            "verify [device] | read <device> <iova> [bytes]",
            (1, 4),
            dma::dma,
            "prove a master's DMA; aim it at an address",
        ),
        command(
            "disk",
            "<device> hash | read <block> [blocks]",
            (2, 4),
            dma::disk,
            "a disk's SHA-256; its blocks",
        ),
        command(
            "irqs",
            "",
            (0, 0),
            machine::irqs,
            "the interrupts that are connected",
        ),
        command("mem", "", (0, 0), machine::mem, "memory by use"),
        command("dmesg", "", (0, 0), machine::dmesg, "the log so far"),
        command(
            "boot",
            "",
            (0, 0),
            machine::boot,
            "what is known of this boot",
        ),
        command("uptime", "", (0, 0), machine::uptime, "time since entry"),
        command(
            "sleep",
            "<milliseconds>",
            (1, 1),
            machine::sleep,
            "wait, and serve interrupts meanwhile",
        ),
        command("echo", "[words]", (0, 64), machine::echo, "print the words"),
        command(
            "run",
            "",
            (0, 0),
            run_main_job,
            "the main job: prove every master's DMA",
        ),
        command(
            "reboot",
            "",
            (0, 0),
            machine::reboot,
            "start the machine over",
        ),
        command(
            "poweroff",
            "[status]",
            (0, 1),
            machine::poweroff,
            "end the machine; the status is 0 to 255",
        ),
    ]
}

/// Finds and runs a command.
pub(crate) fn run<P: Platform>(
    shell: &mut Shell<'_, P>,
    name: &str,
    arguments: &[&str],
) -> Result<(), Failure> {
    let Some(command) = table::<P>()
        .into_iter()
        .find(|command| command.name == name)
    else {
        return Err(Failure::new("no such command; `help` lists them"));
    };
    let (fewest, most) = command.count;
    if arguments.len() < fewest || arguments.len() > most {
        return Err(usage(&command));
    }
    (command.action)(shell, arguments)
}

fn usage<P: Platform>(command: &Command<P>) -> Failure {
    let text = format!("usage: {} {}", command.name, command.arguments);
    Failure::new(text.trim_end())
}

/// The usage of a command whose arguments are right in number only.
fn wrong_words<P: Platform>(name: &str) -> Failure {
    match table::<P>().iter().find(|command| command.name == name) {
        Some(command) => usage(command),
        None => Failure::new("wrong arguments"),
    }
}

fn help<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let mut found = false;
    for command in table::<P>() {
        if arguments.first().is_none_or(|name| *name == command.name) {
            found = true;
            let what = format!("{} {}", command.name, command.arguments);
            shell.say(format_args!("{what:<52} {}\n", command.help));
        }
    }
    if found {
        Ok(())
    } else {
        Err(Failure::new("no such command; `help` lists them"))
    }
}

fn run_main_job<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    match shell.main_job() {
        0 => Ok(()),
        _ => Err(Failure::new("not every proof succeeded; see above")),
    }
}

/// The device of a name, or why there is none.
fn device<'a, P: Platform>(shell: &'a Shell<'_, P>, name: &str) -> Result<&'a Device<P>, Failure> {
    shell
        .engine
        .device(name)
        .ok_or_else(|| Failure::new(format!("no device {name}; `devices` lists them")))
}

/// A number, or what was expected instead.
fn number(text: &str, what: &str) -> Result<u64, Failure> {
    crate::render::number(text)
        .ok_or_else(|| Failure::new(format!("{what} must be a number, not {text}")))
}

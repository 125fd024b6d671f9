//! Every command with right, wrong and missing arguments.

mod devices;
mod hostile;
mod iommus;
mod machine;
mod masters;
mod usage;

use mastiff_shell::Ending;

use crate::bench::*;

/// What a command shows on the usual machine, where it succeeds.
fn shows(command: &str) -> String {
    let booted = Bench::new().run(command);
    assert_eq!(booted.ending, Ending::PowerOff(0), "{}", booted.shown);
    booted.shown
}

/// What is wrong with a command that fails: one line that begins with it.
fn fails(command: &str) -> String {
    let booted = Bench::new().run(&format!("{command}; echo not reached"));
    assert_eq!(booted.ending, Ending::PowerOff(1), "{}", booted.shown);
    let last = booted.shown.lines().last().unwrap_or_default();
    let said = last.strip_prefix(&format!("{command}: "));
    said.unwrap_or_else(|| panic!("{command}: {}", booted.shown))
        .to_owned()
}

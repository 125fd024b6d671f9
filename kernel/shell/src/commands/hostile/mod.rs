//! What can a hostile master reach? A device that can be aimed is sent to where it has
//! no business, memory is compared byte by byte, and each attempt is told with what
//! stopped it. Its own memory comes first: a device that does not even reach that
//! proves nothing.
//!
//! - `attempt`: one transfer, and what came of it
//! - `targets`: where it is sent
//! - `outlast`: it is still under way when its binding ends, or the machine sleeps
//! - `window`: it comes too late, by so much
//! - `storm`: it faults as fast as it can, beside another master's work

mod attempt;
mod noise;
mod outlast;
mod storm;
mod targets;
mod window;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PhysAddr};
use mastiff_core::driver::{Hostile, Way};
use mastiff_core::platform::Platform;

use super::{Failure, device, number, wrong_words};
use crate::records::{HostileRecord, Outcome, Record};
use crate::shell::Shell;
use attempt::{Attacker, LEN, Memory, Target};

pub fn hostile<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let name = device(shell, arguments[0])?.name.clone();
    match arguments[1..] {
        [] => {
            targets::all(shell, &name, out)?;
            verdict(out)
        }
        ["read", at] => aim(shell, &name, Way::Read, (at, None), out),
        ["read", at, bytes] => aim(shell, &name, Way::Read, (at, Some(bytes)), out),
        ["write", at] => aim(shell, &name, Way::Write, (at, None), out),
        ["write", at, bytes] => aim(shell, &name, Way::Write, (at, Some(bytes)), out),
        ["window"] => {
            window::window(shell, &name, out)?;
            verdict(out)
        }
        ["storm"] => brew(shell, (name, &[]), None, out),
        ["storm", "with", ref others @ ..] => brew(shell, (name, others), None, out),
        ["storm", disk] => brew(shell, (name, &[]), Some(disk), out),
        ["storm", disk, "with", ref others @ ..] => brew(shell, (name, others), Some(disk), out),
        [phase] => match outlast::Phase::named(phase) {
            Some(phase) => {
                outlast::outlast(shell, &name, phase, out)?;
                verdict(out)
            }
            None => Err(wrong_words::<P>("hostile")),
        },
        _ => Err(wrong_words::<P>("hostile")),
    }
}

/// A storm of a device and others.
fn brew<P: Platform>(
    shell: &Shell<'_, P>,
    (name, others): (Box<str>, &[&str]),
    disk: Option<&str>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let disk = disk.map(|disk| Ok::<_, Failure>(device(shell, disk)?.name.clone()));
    let disk = disk.transpose()?;
    let mut names = Vec::from([name]);
    for other in others {
        let other = &device(shell, other)?.name;
        if names.contains(other) {
            return Err(Failure::new(format!("{other} is named twice")));
        }
        names.push(other.clone());
    }
    storm::storm(shell, &names, disk.as_deref(), out)
}

/// The device as a hostile master, while it is bound.
pub fn master<'a, P: Platform>(
    shell: &'a Shell<'_, P>,
    name: &str,
) -> Result<&'a dyn Hostile, Failure> {
    let device = device(shell, name)?;
    let master = device.bound().and_then(|bound| bound.hostile());
    master.ok_or_else(|| {
        let name = &device.name;
        Failure::new(format!("{name} is no bound master that can be aimed"))
    })
}

/// One attempt at an address of the user's choice.
fn aim<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    way: Way,
    (at, bytes): (&str, Option<&str>),
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let at = number(at, "the address")?;
    let bytes = match bytes {
        None => LEN as u64,
        Some(bytes) => number(bytes, "the number of bytes")?,
    };
    let most = master(shell, name)?.capacity();
    if bytes == 0 || bytes > most as u64 {
        let text = format!("1 to {most} bytes can be moved at a time");
        return Err(Failure::new(text));
    }
    let target = Target {
        bytes: bytes as usize,
        ..Target::new("this address", Iova(at), Memory::Live(PhysAddr(at)))
    };
    let mut attacker = Attacker::new(shell, name)?;
    out.push(Record::Hostile(match way {
        Way::Read => attacker.read(&target)?,
        Way::Write => attacker.write(&target)?,
    }));
    verdict(out)
}

/// Whether all attempts ended as they should.
fn verdict(out: &[Record]) -> Result<(), Failure> {
    let attempts = || {
        out.iter().filter_map(|record| match record {
            Record::Hostile(record) => Some(record),
            _ => None,
        })
    };
    let through = |record: &&HostileRecord| !record.ok && record.result == Outcome::Reached;
    let all = attempts().count();
    match attempts().filter(through).count() {
        0 if attempts().all(|record| record.ok) => Ok(()),
        0 => Err(Failure::new(
            "it does not even reach its own memory, so nothing is proved",
        )),
        bad => Err(Failure::new(format!(
            "{bad} of {all} attempts got through; see above"
        ))),
    }
}

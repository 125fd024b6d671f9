//! The machine itself.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::platform::{Platform, wait};

use super::{Failure, number};
use crate::records::Record;
use crate::render;
use crate::shell::Shell;

pub fn irqs<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    let hub = shell.engine.context().platform.irqs();
    let rows: Vec<Vec<String>> = hub
        .table()
        .into_iter()
        .map(|irq| {
            Vec::from([
                format!("{}", irq.intid),
                format!("{}", irq.count),
                irq.owner.into_string(),
            ])
        })
        .collect();
    shell.say(format_args!(
        "{}",
        render::table(&["irq", "count", "device"], &rows)
    ));
    shell.say(format_args!("{} without a handler\n", hub.spurious()));
    Ok(())
}

pub fn mem<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    for (name, bytes) in shell.system.memory() {
        shell.say(format_args!("{name:<24} {:>14}\n", render::size(bytes)));
    }
    Ok(())
}

pub fn dmesg<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    shell
        .system
        .dmesg(&mut |text| shell.say(format_args!("{text}")));
    Ok(())
}

pub fn boot<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    let record = shell.boot_record();
    if shell.options.records {
        shell.record(Record::Boot(record));
        return Ok(());
    }
    shell.say(format_args!(
        "Mastiff {} on {}, {} CPU, entered at EL{}; {} devices: {} bound, {} waiting, {} failed\n",
        record.version,
        record.board,
        record.cpus,
        record.el,
        record.devices,
        record.bound,
        record.waiting,
        record.failed
    ));
    Ok(())
}

pub fn uptime<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    let us = shell.system.uptime_us();
    shell.say(format_args!(
        "{}.{:06} s since entry\n",
        us / 1_000_000,
        us % 1_000_000
    ));
    if let Some(count) = shell.system.instructions() {
        shell.say(format_args!("{count} instructions retired\n"));
    }
    Ok(())
}

pub fn sleep<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let ms = number(arguments[0], "the time")?;
    if ms > 60_000 {
        return Err(Failure::new("60000 ms at most"));
    }
    wait(&shell.engine.context().platform, ms * 1000, || None::<()>);
    Ok(())
}

pub fn echo<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    shell.say(format_args!("{}\n", arguments.join(" ")));
    Ok(())
}

pub fn reboot<P: Platform>(shell: &mut Shell<'_, P>, _: &[&str]) -> Result<(), Failure> {
    Err(shell.system.reboot().into())
}

pub fn poweroff<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let status = match arguments.first() {
        None => 0,
        Some(text) => u8::try_from(number(text, "the status")?)
            .map_err(|_| Failure::new("the status is 0 to 255"))?,
    };
    if shell.options.records {
        shell.record(Record::Boot(shell.boot_record()));
    }
    Err(shell.system.power_off(status).into())
}

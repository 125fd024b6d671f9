//! The machine itself.

use alloc::vec::Vec;

use mastiff_core::platform::{Platform, wait};

use super::{Failure, number};
use crate::bench;
use crate::records::{CpuRecord, IrqRecord, LogRecord, MemoryRecord, Record, UptimeRecord};
use crate::shell::{Ending, Shell};
use crate::text::plain;

/// The longest `sleep`.
const LONGEST_MS: u64 = 60_000;

pub fn cpus<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let cpus = shell.system.cpus().into_iter();
    out.extend(cpus.map(|cpu| {
        Record::Cpu(CpuRecord {
            cpu: cpu.path,
            number: cpu.number,
            affinity: cpu.affinity,
            why: cpu.why,
        })
    }));
    Ok(())
}

pub fn irqs<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let hub = shell.engine.context().platform.irqs();
    out.extend(hub.table().into_iter().map(|irq| {
        Record::Irq(IrqRecord {
            intid: Some(irq.intid),
            count: irq.count,
            device: Some(irq.owner.into_string()),
        })
    }));
    out.push(Record::Irq(IrqRecord {
        intid: None,
        count: u64::from(hub.spurious()),
        device: None,
    }));
    Ok(())
}

pub fn mem<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let memory = shell.system.memory().into_iter();
    out.extend(memory.map(|(name, bytes)| Record::Memory(MemoryRecord { name, bytes })));
    Ok(())
}

pub fn dmesg<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    shell.system.dmesg(&mut |line| {
        let text = line.trim_end_matches('\n').into();
        out.push(Record::Log(LogRecord { text }));
    });
    Ok(())
}

pub fn boot<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    out.push(Record::Boot(shell.boot()));
    Ok(())
}

pub fn uptime<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    out.push(Record::Uptime(UptimeRecord {
        us: shell.system.uptime_us(),
        insn: shell.system.instructions(),
    }));
    Ok(())
}

pub fn bench<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    match arguments.first() {
        Some(&"cores") => bench::cores(shell, out),
        name => bench::run(shell, name.copied(), out),
    }
}

pub fn sleep<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    _: &mut Vec<Record>,
) -> Result<(), Failure> {
    let ms = number(arguments[0], "the time")?;
    if ms > LONGEST_MS {
        return Err(Failure::new("60000 ms at most"));
    }
    wait(&shell.engine.context().platform, ms * 1000, || None::<()>);
    Ok(())
}

pub fn echo<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    _: &mut Vec<Record>,
) -> Result<(), Failure> {
    let words = plain(arguments.join(" "));
    shell.say(format_args!("{words}\n"));
    Ok(())
}

pub fn reboot<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    _: &mut Vec<Record>,
) -> Result<(), Failure> {
    shell.ending = Some(Ending::Reboot);
    Ok(())
}

pub fn poweroff<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    _: &mut Vec<Record>,
) -> Result<(), Failure> {
    let status = match arguments.first() {
        None => 0,
        Some(text) => u8::try_from(number(text, "the status")?)
            .map_err(|_| Failure::new("the status is 0 to 255"))?,
    };
    shell.ending = Some(Ending::PowerOff(status));
    Ok(())
}

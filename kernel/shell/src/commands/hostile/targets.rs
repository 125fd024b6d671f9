//! Where a hostile master is sent: its own memory first, then all that it has no
//! business with, then what was its own until a moment ago.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE, PhysAddr};
use mastiff_core::driver::Way;
use mastiff_core::engine::DmaSetup;
use mastiff_core::platform::Platform;

use super::attempt::{Attacker, LEN, Memory, Rights, Target};
use super::{Failure, device, master};
use crate::records::{HostileRecord, Record};
use crate::shell::Shell;

/// Bytes that are read of registers: few of them mind.
const REGISTER: usize = 8;
/// Random addresses of each kind.
const RANDOM: usize = 8;
/// Bits of a random address: as many as an IOMMU translates, and as many as a small
/// device has.
const BITS: [u32; 2] = [48, 28];

/// Every attempt on a device that is bound.
pub fn all<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    // What is lent to it does not stay behind, whatever happens.
    let result = attempts(shell, name, out);
    master(shell, name)?.take_back();
    result
}

fn attempts<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let mut attacker = Attacker::new(shell, name)?;
    let secret = attacker.noise().bytes(PAGE as usize);
    let lent = attacker.hostile().lend(&secret)?;
    let own = Target::new("its own buffer", lent.iova, Memory::Still(lent.pa));
    attacker.both(&own.rights(Rights::All), out)?;
    if !out.iter().all(is_ok) {
        return Ok(());
    }
    let mut targets = kernel(shell);
    targets.extend(tables(shell, name, lent.iova)?);
    targets.extend(registers(shell, name));
    targets.extend(doorbells(shell, name)?);
    targets.extend(random(shell, &mut attacker));
    for target in &targets {
        attacker.both(target, out)?;
    }
    for way in [Way::Read, Way::Write] {
        for at_iova in [true, false] {
            out.push(Record::Hostile(taken_back(&mut attacker, way, at_iova)?));
        }
    }
    Ok(())
}

/// What was its own until a moment ago, at the address that was mapped or at the one
/// where it really was.
fn taken_back<P: Platform>(
    attacker: &mut Attacker<'_, P>,
    way: Way,
    at_iova: bool,
) -> Result<HostileRecord, Failure> {
    let secret = attacker.noise().bytes(PAGE as usize);
    let lent = attacker.hostile().lend(&secret)?;
    // While the page is lent: it is the next to be used once it is free.
    attacker.arm(LEN)?;
    attacker.hostile().take_back();
    let (what, at) = match at_iova {
        true => ("its buffer, unmapped", lent.iova),
        false => ("the page of that, freed", Iova(lent.pa.0)),
    };
    // Whoever gets the page next may use it.
    let target = Target::new(what, at, Memory::Live(lent.pa)).rights(Rights::None);
    match way {
        Way::Read => attacker.read_armed(&target),
        Way::Write => attacker.write_armed(&target),
    }
}

fn is_ok(record: &Record) -> bool {
    !matches!(record, Record::Hostile(record) if !record.ok)
}

fn memory(name: impl Into<String>, pa: PhysAddr) -> Target {
    Target::new(name, Iova(pa.0), Memory::Live(pa))
}

/// The kernel's own memory.
fn kernel<P: Platform>(shell: &Shell<'_, P>) -> Vec<Target> {
    let places = shell.system.places().into_iter();
    places.map(|place| memory(place.name, place.at)).collect()
}

/// What its IOMMU reads to translate for it.
fn tables<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    iova: Iova,
) -> Result<Vec<Target>, Failure> {
    let device = device(shell, name)?;
    let mut targets = Vec::new();
    for stream in &device.streams {
        let iommu = shell.engine.context().iommu(stream.iommu);
        let entry = iommu.and_then(|iommu| iommu.describe(stream.id).ok());
        let parts = entry.map(|entry| entry.parts).unwrap_or_default();
        // What was said by requests is nowhere in memory.
        let parts = parts.into_iter().filter(|part| !part.words.is_empty());
        targets.extend(parts.map(|part| memory(format!("its {}", part.name), part.pa)));
    }
    for step in device.walk(iova).unwrap_or_default() {
        let what = format!("its table of level {}", step.level);
        // The fake of a table that tests have is nowhere.
        if step.table.0 != 0 {
            targets.push(memory(what, step.table));
        }
    }
    Ok(targets)
}

/// Registers of devices, on its own bus too.
fn registers<P: Platform>(shell: &Shell<'_, P>, name: &str) -> Vec<Target> {
    let bound = shell
        .engine
        .devices()
        .filter(|other| other.bound().is_some());
    let others = bound.filter(|other| *other.name != *name);
    let windows = others.filter_map(|other| {
        let tree = &shell.engine.context().tree;
        let window = match (&other.child, other.node) {
            (Some(child), _) => child.function.window(0).ok()?.start.0,
            (None, Some(node)) => tree.node(node).reg().ok()?.first()?.base,
            (None, None) => return None,
        };
        let name = format!("registers of {}", other.name);
        Some(Target {
            bytes: REGISTER,
            ..Target::new(name, Iova(window), Memory::Unknown)
        })
    });
    windows.collect()
}

/// Where it sends its interrupts: the one piece of hardware that it may write to, and
/// where that really is.
fn doorbells<P: Platform>(shell: &Shell<'_, P>, name: &str) -> Result<Vec<Target>, Failure> {
    let DmaSetup::Group(info) = device(shell, name)?.dma() else {
        return Ok(Vec::new());
    };
    let targets = info.doorbells.into_iter().flat_map(|(pa, iova)| {
        let here = Target::new("its doorbell", iova, Memory::Unknown).rights(Rights::Some);
        let there = Target::new("its doorbell, past the IOMMU", Iova(pa.0), Memory::Unknown);
        [here, there].map(|target| Target {
            bytes: REGISTER,
            ..target
        })
    });
    Ok(targets.collect())
}

/// Anywhere: in memory, and in the address space.
fn random<P: Platform>(shell: &Shell<'_, P>, attacker: &mut Attacker<'_, P>) -> Vec<Target> {
    let (first, last) = shell.engine.context().platform.ram_span();
    let noise = attacker.noise();
    // Whole cells of what is moved at a time, so that none ends beyond.
    let mut within = |start: u64, size: u64| start + noise.next() % size / 256 * 256;
    let mut targets = Vec::new();
    for _ in 0..RANDOM {
        let pa = within(first.0, (last.0 - first.0).max(1));
        targets.push(memory("somewhere in memory", PhysAddr(pa)));
    }
    for bits in BITS {
        for _ in 0..RANDOM / 2 {
            let at = Iova(within(PAGE, (1 << bits) - 2 * PAGE));
            targets.push(Target::new("somewhere", at, Memory::Live(PhysAddr(at.0))));
        }
    }
    targets
}

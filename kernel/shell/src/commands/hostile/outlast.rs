//! A transfer that is still under way when its master's binding ends, when its IOMMU
//! goes, or when the machine is suspended. While nobody has the device, its bus would
//! hold it back as well; it is let through there, so that what stands is the IOMMU.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE, PhysAddr};
use mastiff_core::driver::Way;
use mastiff_core::error::Fault;
use mastiff_core::platform::{PageRequest, Pages, Platform, wait};

use super::attempt::{
    Ear, LEN, Memory, Rights, Target, differences, is_cut_off, judge, look, words,
};
use super::noise::Noise;
use super::{Failure, device, master};
use crate::records::{Outcome, Record};
use crate::shell::Shell;

/// Longer than a transfer takes on any machine that is not held up itself.
const WAIT_US: u64 = 250_000;

/// When a transfer arrives.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Phase {
    Unbound,
    Waiting,
    Suspended,
}

impl Phase {
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Unbound, Self::Waiting, Self::Suspended];
        all.into_iter().find(|phase| phase.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Waiting => "waiting",
            Self::Suspended => "suspended",
        }
    }
}

/// What it is aimed at.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Aim {
    /// Memory that was never its own.
    Others,
    /// What was mapped for it as long as it was bound.
    Own,
}

/// Reads and writes that arrive in that phase.
pub fn outlast<P: Platform>(
    shell: &mut Shell<'_, P>,
    name: &str,
    phase: Phase,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    master(shell, name)?;
    // In a suspend what is mapped stays so.
    let aims: &[Aim] = match phase {
        Phase::Suspended => &[Aim::Others],
        Phase::Unbound | Phase::Waiting => &[Aim::Others, Aim::Own],
    };
    let platform = shell.engine.context().platform.clone();
    let victim = platform.alloc_pages(PageRequest::new(PAGE))?;
    for &aim in aims {
        for way in [Way::Read, Way::Write] {
            once(shell, name, phase, (way, aim), &victim, out)?;
        }
    }
    Ok(())
}

fn once<P: Platform>(
    shell: &mut Shell<'_, P>,
    name: &str,
    phase: Phase,
    (way, aim): (Way, Aim),
    victim: &P::Pages,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let mut noise = Noise::new(shell.engine.context().platform.now().0);
    let (held, secret) = (noise.bytes(LEN), noise.bytes(PAGE as usize));
    victim.write(0, &secret);
    let hostile = master(shell, name)?;
    hostile.arm(&held)?;
    let lent = hostile.lend(&secret)?;
    let (at, memory) = match aim {
        Aim::Others => (Iova(victim.pa().0), victim.pa()),
        Aim::Own => (lent.iova, lent.pa),
    };
    hostile.launch(way, at, LEN)?;
    let away = away(shell, name, phase, |shell| {
        let ear = Ear::new(shell, name, way, at)?;
        let platform = &shell.engine.context().platform;
        wait(platform, WAIT_US, || None::<()>);
        let seen = seen(shell, (aim, memory), victim);
        Ok((ear.heard(), seen, guard(shell, name, phase)?))
    });
    let (heard, seen, guard) = away?;
    let hostile = master(shell, name)?;
    hostile.land()?;
    let moved = match (way, aim, seen) {
        (Way::Read, ..) => words(&held, &hostile.loot(LEN)?, &secret),
        (Way::Write, Aim::Others, Some(seen)) => differences(&secret, &seen),
        // It is free by now, and whoever gets it next may use it.
        (Way::Write, Aim::Own, Some(seen)) => words(&secret, &seen, &held),
        (Way::Write, _, None) => 0,
    };
    hostile.take_back();
    let what: String = match aim {
        Aim::Others => "memory of others".into(),
        Aim::Own => "what was mapped for it".into(),
    };
    let target = Target::new(
        format!("{what}, {}", phase.name()),
        at,
        Memory::Still(memory),
    );
    let target = target.rights(Rights::None);
    let mut record = judge(name, &target, way, moved, &heard);
    if record.result == Outcome::Silent {
        record.detail = guard;
    }
    out.push(Record::Hostile(record));
    Ok(())
}

/// What holds the device back in that phase, where no event says so.
fn guard<P: Platform>(shell: &Shell<'_, P>, name: &str, phase: Phase) -> Result<String, Failure> {
    Ok(match phase {
        Phase::Suspended => "its bus and its IOMMU are suspended".into(),
        Phase::Waiting => "its IOMMU is off".into(),
        Phase::Unbound if is_cut_off(shell, name)? => "its streams abort".into(),
        Phase::Unbound => "its bus mastering is off".into(),
    })
}

/// All of the page that was aimed at, as the CPU sees it.
fn seen<P: Platform>(
    shell: &Shell<'_, P>,
    (aim, memory): (Aim, PhysAddr),
    victim: &P::Pages,
) -> Option<Vec<u8>> {
    let mut seen = vec![0; PAGE as usize];
    match aim {
        Aim::Own => look(shell, Memory::Still(memory), PAGE as usize),
        Aim::Others => {
            victim.read(0, &mut seen);
            Some(seen)
        }
    }
}

/// Does something while the device is in that phase, and brings it back in any case.
fn away<P: Platform, T>(
    shell: &mut Shell<'_, P>,
    name: &str,
    phase: Phase,
    action: impl FnOnce(&Shell<'_, P>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let engine = &mut shell.engine;
    let subject = match phase {
        Phase::Unbound | Phase::Suspended => name.into(),
        Phase::Waiting => {
            let stream = engine
                .device(name)
                .and_then(|device| device.streams.first());
            let iommu = stream.and_then(|stream| engine.device_at(stream.iommu));
            let iommu = iommu.ok_or_else(|| Fault::invalid("it has no IOMMU to wait for"))?;
            iommu.name.clone()
        }
    };
    match phase {
        Phase::Suspended => engine.suspend()?,
        Phase::Unbound | Phase::Waiting => engine.unbind(&subject)?,
    }
    let unchained = phase != Phase::Suspended && unchain(shell, name, true)?;
    let result = action(shell);
    if unchained {
        unchain(shell, name, false)?;
    }
    match phase {
        Phase::Suspended => shell.engine.resume()?,
        Phase::Unbound | Phase::Waiting => shell.engine.bind(&subject)?,
    }
    result
}

/// Lets the device through on its bus although nobody has it, or no more; not where
/// there is no IOMMU behind that.
fn unchain<P: Platform>(shell: &Shell<'_, P>, name: &str, on: bool) -> Result<bool, Failure> {
    let device = device(shell, name)?;
    match &device.child {
        Some(child) if !device.streams.is_empty() => {
            child.function.set_master(on);
            Ok(true)
        }
        _ => Ok(false),
    }
}

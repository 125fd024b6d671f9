//! One transfer to where a master has no business: what it brought back or left, and
//! what the IOMMU said of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE, PhysAddr};
use mastiff_core::driver::{Hostile, Way};
use mastiff_core::engine::DmaSetup;
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Access, FaultReport};
use mastiff_core::platform::Platform;

use super::noise::Noise;
use super::{Failure, device, master};
use crate::records::{HostileRecord, Outcome, Record, name_at};
use crate::shell::Shell;

/// Bytes of an attempt: enough to tell, and few enough events to be no storm.
pub const LEN: usize = 64;
/// Bytes are compared in words: a byte is the same as another by chance too often.
const WORD: usize = 8;

/// Where a master is sent.
pub struct Target {
    pub name: String,
    pub at: Iova,
    pub memory: Memory,
    pub bytes: usize,
    pub rights: Rights,
}

/// What is behind a target.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Memory {
    /// Memory that nobody else changes meanwhile.
    Still(PhysAddr),
    /// Memory that is in use.
    Live(PhysAddr),
    /// Registers, or nothing that is known.
    Unknown,
}

/// What a master may do with a target.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Rights {
    /// Nothing. What a write would do if it got through is no harm.
    None,
    /// Nothing, and one that gets through ends the experiment: it is tried only where
    /// a read was stopped.
    NoneAndFragile,
    /// Anything: it must get through, or the device does nothing at all.
    All,
    /// It may get through, by design.
    Some,
    /// It was unmapped a moment ago, lazily.
    Late,
}

impl Target {
    /// A target that its master has no business with.
    pub fn new(name: impl Into<String>, at: Iova, memory: Memory) -> Self {
        Self {
            name: name.into(),
            at,
            memory,
            bytes: LEN,
            rights: Rights::NoneAndFragile,
        }
    }

    pub fn rights(mut self, rights: Rights) -> Self {
        self.rights = rights;
        self
    }
}

/// A hostile master at work.
pub struct Attacker<'a, P: Platform> {
    shell: &'a Shell<'a, P>,
    name: Box<str>,
    hostile: &'a dyn Hostile,
    noise: Noise,
    // What the device is known to hold.
    armed: Vec<u8>,
}

impl<'a, P: Platform> Attacker<'a, P> {
    pub fn new(shell: &'a Shell<'_, P>, name: &str) -> Result<Self, Failure> {
        let hostile = master(shell, name)?;
        if is_cut_off(shell, name)? {
            let text = "all its streams abort: unbind it and bind it again first";
            return Err(Failure::new(text));
        }
        Ok(Self {
            hostile,
            name: name.into(),
            noise: Noise::new(shell.engine.context().platform.now().0),
            shell,
            armed: Vec::new(),
        })
    }

    pub fn hostile(&self) -> &'a dyn Hostile {
        self.hostile
    }

    pub fn noise(&mut self) -> &mut Noise {
        &mut self.noise
    }

    /// Both ways, the second only if it can do no harm.
    pub fn both(&mut self, target: &Target, out: &mut Vec<Record>) -> Result<(), Failure> {
        let read = self.read(target)?;
        let dare = match target.rights {
            Rights::None | Rights::All | Rights::Late => true,
            Rights::NoneAndFragile => matches!(read.result, Outcome::Stopped | Outcome::Astray),
            Rights::Some => false,
        };
        let skipped = HostileRecord {
            access: "write",
            result: Outcome::Skipped,
            events: 0,
            moved: 0,
            ok: true,
            detail: "nothing stopped the read, and a write would do harm".into(),
            ..read.clone()
        };
        out.push(Record::Hostile(read));
        if dare {
            out.push(Record::Hostile(self.write(target)?));
        } else if target.rights == Rights::NoneAndFragile {
            out.push(Record::Hostile(skipped));
        }
        Ok(())
    }

    /// Has the device fetch what is there.
    pub fn read(&mut self, target: &Target) -> Result<HostileRecord, Failure> {
        self.arm(target.bytes)?;
        self.read_armed(target)
    }

    /// The same, once it holds something else.
    pub fn read_armed(&mut self, target: &Target) -> Result<HostileRecord, Failure> {
        self.read_meanwhile(target, || Ok(()))
    }

    /// The same, with something that is done while it is under way.
    pub fn read_meanwhile(
        &mut self,
        target: &Target,
        meanwhile: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<HostileRecord, Failure> {
        let before = self.look(target);
        let ear = Ear::new(self.shell, &self.name, Way::Read, target.at)?;
        self.hostile.launch(Way::Read, target.at, target.bytes)?;
        meanwhile()?;
        self.hostile.land()?;
        let heard = ear.heard();
        let held = core::mem::take(&mut self.armed);
        let loot = self.hostile.loot(target.bytes)?;
        // Zeroes are what is there, or what a device is left with that got nothing: that
        // depends on whether anything is in its way.
        let open = heard.all == 0 && loot != held && self.is_open()?;
        let source = before.as_ref().unwrap_or(&loot);
        let moved = match open {
            true => loot.len() as u64 - differences(&loot, source),
            false if before.is_none() && heard.all > 0 => 0,
            false => words(&held, &loot, source),
        };
        Ok(judge(&self.name, target, Way::Read, moved, &heard))
    }

    /// Has the device leave noise there.
    pub fn write(&mut self, target: &Target) -> Result<HostileRecord, Failure> {
        self.arm(target.bytes)?;
        self.write_armed(target)
    }

    /// The same, once it holds that noise.
    pub fn write_armed(&mut self, target: &Target) -> Result<HostileRecord, Failure> {
        let before = self.look(target);
        let ear = Ear::new(self.shell, &self.name, Way::Write, target.at)?;
        self.hostile.launch(Way::Write, target.at, target.bytes)?;
        self.hostile.land()?;
        let heard = ear.heard();
        let moved = match (target.memory, before, self.look(target)) {
            // Noise that is there by chance is no less noise.
            (Memory::Still(_), _, Some(after)) if after == self.armed => after.len() as u64,
            (Memory::Still(_), Some(before), Some(after)) => differences(&before, &after),
            (_, Some(before), Some(after)) => words(&before, &after, &self.armed),
            _ => 0,
        };
        Ok(judge(&self.name, target, Way::Write, moved, &heard))
    }

    /// Gives it noise to hold.
    pub fn arm(&mut self, bytes: usize) -> Result<(), Failure> {
        self.armed = self.noise.bytes(bytes);
        Ok(self.hostile.arm(&self.armed)?)
    }

    /// Whether addresses pass unchanged.
    fn is_open(&self) -> Result<bool, Failure> {
        Ok(match device(self.shell, &self.name)?.dma() {
            DmaSetup::Direct => true,
            DmaSetup::Group(info) => info.identity && !is_cut_off(self.shell, &self.name)?,
            DmaSetup::None | DmaSetup::Managed { .. } => false,
        })
    }

    fn look(&self, target: &Target) -> Option<Vec<u8>> {
        look(self.shell, target.memory, target.bytes)
    }
}

/// What the CPU sees there.
pub fn look<P: Platform>(shell: &Shell<'_, P>, memory: Memory, bytes: usize) -> Option<Vec<u8>> {
    let (Memory::Still(pa) | Memory::Live(pa)) = memory else {
        return None;
    };
    let mut seen = vec![0; bytes];
    shell.system.peek(pa, &mut seen).then_some(seen)
}

/// How many bytes came from `source` into `after` and were not in `before`: in whole
/// words of it that are not zero.
pub fn words(before: &[u8], after: &[u8], source: &[u8]) -> u64 {
    let all = before.chunks(WORD).zip(after.chunks(WORD));
    let all = all.zip(source.chunks(WORD));
    let came = all.filter(|((before, after), source)| {
        after == source && after != before && after.iter().any(|&byte| byte != 0)
    });
    came.map(|((_, after), _)| after.len() as u64).sum()
}

/// How many bytes differ.
pub fn differences(before: &[u8], after: &[u8]) -> u64 {
    before.iter().zip(after).filter(|(a, b)| a != b).count() as u64
}

/// Listens to what IOMMUs say of a master.
pub struct Ear<'a, P: Platform> {
    shell: &'a Shell<'a, P>,
    streams: Vec<(String, u32)>,
    count: Box<dyn Fn() -> u64 + 'a>,
    access: Access,
    at: Iova,
    before: (u64, u64),
}

/// What was said meanwhile.
pub struct Heard {
    /// Events of the master.
    pub all: u64,
    /// Those about the address.
    pub here: u64,
    /// Where the last one was.
    pub last: Option<Iova>,
}

impl<'a, P: Platform> Ear<'a, P> {
    pub fn new(shell: &'a Shell<'_, P>, name: &str, way: Way, at: Iova) -> Result<Self, Failure> {
        let device = device(shell, name)?;
        let ids = device.streams.iter();
        let context = shell.engine.context();
        let keys: Vec<_> = device.streams.iter().map(|s| (s.iommu, s.id)).collect();
        let faults = context.faults.clone();
        let mut ear = Self {
            streams: ids
                .map(|stream| (name_at(&shell.engine, stream.iommu), stream.id.0))
                .collect(),
            count: Box::new(move || keys.iter().map(|&(node, id)| faults.count(node, id)).sum()),
            shell,
            access: match way {
                Way::Read => Access::Read,
                Way::Write => Access::Write,
            },
            at,
            before: (0, 0),
        };
        ear.before = ear.count();
        Ok(ear)
    }

    pub fn heard(&self) -> Heard {
        let (all, here) = self.count();
        let records = self.shell.engine.context().faults.records();
        let last = records.iter().rev().find(|record| {
            self.is_mine(&record.iommu, &record.report) && record.report.iova.is_some()
        });
        Heard {
            all: all.saturating_sub(self.before.0),
            here: here.saturating_sub(self.before.1),
            last: last.and_then(|record| record.report.iova),
        }
    }

    fn count(&self) -> (u64, u64) {
        let context = self.shell.engine.context();
        settle(self.shell);
        let records = context.faults.records();
        let here = records.iter().filter(|record| {
            let report = &record.report;
            let page = |iova: Iova| iova.0 / PAGE;
            self.is_mine(&record.iommu, report)
                && (report.access == self.access || report.access == Access::Unknown)
                && report.iova.map(page) == Some(page(self.at))
        });
        ((self.count)(), here.map(|record| record.count).sum())
    }

    fn is_mine(&self, iommu: &str, report: &FaultReport) -> bool {
        let mut streams = self.streams.iter();
        streams.any(|(name, id)| name == iommu && report.stream.map(|s| s.0) == Some(*id))
    }
}

/// Has everybody take in what was announced; an IOMMU without interrupts looks when it
/// is asked.
pub fn settle<P: Platform>(shell: &Shell<'_, P>) {
    let context = shell.engine.context();
    while context.platform.irqs().service() {}
    for (_, iommu) in context.iommus() {
        iommu.status();
    }
}

/// Whether all streams of the device abort, which raises no event.
pub fn is_cut_off<P: Platform>(shell: &Shell<'_, P>, name: &str) -> Result<bool, Failure> {
    let streams = &device(shell, name)?.streams;
    let context = shell.engine.context();
    Ok(!streams.is_empty()
        && streams.iter().all(|stream| {
            let iommu = context.iommu(stream.iommu);
            iommu.is_some_and(|iommu| !iommu.live_streams().contains(&stream.id))
        }))
}

/// What came of it.
pub fn judge(device: &str, target: &Target, way: Way, moved: u64, heard: &Heard) -> HostileRecord {
    let result = match (moved, heard.here, heard.all) {
        (1.., ..) => Outcome::Reached,
        (0, 1.., _) => Outcome::Stopped,
        (0, 0, 1..) => Outcome::Astray,
        // It is mapped, so nothing stops it there, whatever it is that it gets.
        (0, 0, 0) if target.rights == Rights::Some => Outcome::Reached,
        (0, 0, 0) => Outcome::Silent,
    };
    let detail = match (result, heard.last) {
        (Outcome::Reached, _) if target.rights == Rights::All => "its own memory".to_string(),
        (Outcome::Astray, Some(at)) => format!("its bus has it go to {at} instead"),
        _ if target.rights == Rights::Late => "in the window of lazy unmapping".to_string(),
        _ if target.rights == Rights::Some => "mapped so that it can interrupt".to_string(),
        (Outcome::Silent, _) => "nothing was moved, and nobody says why".to_string(),
        _ => String::new(),
    };
    HostileRecord {
        device: device.into(),
        target: target.name.clone(),
        access: match way {
            Way::Read => "read",
            Way::Write => "write",
        },
        at: target.at.0,
        bytes: target.bytes as u64,
        result,
        events: heard.all,
        moved,
        ok: match target.rights {
            Rights::All => moved == target.bytes as u64,
            Rights::Some | Rights::Late => true,
            Rights::None | Rights::NoneAndFragile => result != Outcome::Reached,
        },
        detail,
    }
}

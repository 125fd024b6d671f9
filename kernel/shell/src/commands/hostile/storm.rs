//! A storm: the device faults on every word of the largest transfer that it can make,
//! and if there is a disk, that is read all the while. Its data must be right, the
//! storm must end with the stream cut off, and no event may go unheard. Several devices
//! at once can raise more events than a queue holds: then it must be said that some were
//! lost.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE};
use mastiff_core::driver::{Hostile, Way};
use mastiff_core::platform::Platform;

use super::attempt::{Ear, is_cut_off, settle};
use super::{Failure, master};
use crate::records::{DmaRecord, Record, StormRecord};
use crate::shell::Shell;

/// How often a disk is read at most while the device is under way.
const ROUNDS: usize = 1000;

/// A device that faults.
struct Cloud<'a, P: Platform> {
    name: &'a str,
    hostile: &'a dyn Hostile,
    at: Iova,
    bytes: usize,
    ear: Ear<'a, P>,
}

impl<'a, P: Platform> Cloud<'a, P> {
    fn new(shell: &'a Shell<'_, P>, name: &'a str) -> Result<Self, Failure> {
        let hostile = master(shell, name)?;
        // An address that was mapped a moment ago.
        let at = hostile.lend(&[0])?.iova;
        hostile.take_back();
        Ok(Self {
            name,
            hostile,
            at,
            bytes: hostile.capacity().min(PAGE as usize),
            ear: Ear::new(shell, name, Way::Read, at)?,
        })
    }
}

pub fn storm<P: Platform>(
    shell: &Shell<'_, P>,
    names: &[Box<str>],
    disk: Option<&str>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let clouds = names.iter().map(|name| Cloud::new(shell, name));
    let clouds = clouds.collect::<Result<Vec<_>, _>>()?;
    let before = disk.map(|disk| shell.hash(disk)).transpose()?;
    let errors = errors(shell);
    for cloud in &clouds {
        cloud.hostile.launch(Way::Read, cloud.at, cloud.bytes)?;
    }
    let mut wrong = None;
    let mut last = before.clone();
    for _ in 0..ROUNDS {
        let back = clouds.iter().all(|cloud| cloud.hostile.is_back());
        if let Some(before) = &before {
            let now = shell.hash(&before.device)?;
            wrong = wrong.or_else(|| differs(before, &now));
            last = Some(now);
        }
        // Once more after the storm has broken.
        if back || before.is_none() {
            break;
        }
    }
    for cloud in &clouds {
        cloud.hostile.land()?;
    }
    out.extend(last.map(Record::Dma));
    let errors = self::errors(shell) - errors;
    let mut first = None;
    for cloud in &clouds {
        let record = StormRecord {
            device: cloud.name.into(),
            bytes: cloud.bytes as u64,
            events: cloud.ear.heard().all,
            errors,
            quarantined: is_cut_off(shell, cloud.name)?,
            disk: disk.map(Into::into),
            ok: false,
            error: None,
        };
        let error = wrong.clone();
        let error = error.or_else(|| complaint(&record, clouds.len() == 1));
        out.push(Record::Storm(StormRecord {
            ok: error.is_none(),
            error: error.clone(),
            ..record
        }));
        first = first.or(error);
    }
    match first {
        None => Ok(()),
        Some(error) => Err(Failure::new(error)),
    }
}

fn differs(before: &DmaRecord, now: &DmaRecord) -> Option<String> {
    (before.sha256 != now.sha256).then(|| format!("{} reads otherwise than before", now.device))
}

fn complaint(record: &StormRecord, alone: bool) -> Option<String> {
    match (record.events, record.errors, record.quarantined) {
        // Whose events were lost is not known, but that some were is.
        (_, 1.., _) if !alone => None,
        (0, ..) => Some("no event came of it".into()),
        (events, 1.., _) => Some(format!(
            "the IOMMU had errors of its own: beyond {events} events some were lost"
        )),
        (events, 0, false) => Some(format!("{events} events, and its stream was not cut off")),
        (_, 0, true) => None,
    }
}

/// Errors that IOMMUs had, lost events among them.
fn errors<P: Platform>(shell: &Shell<'_, P>) -> u64 {
    settle(shell);
    let iommus = shell.engine.context().iommus();
    iommus.iter().map(|(_, iommu)| iommu.status().errors).sum()
}

//! A storm: the device faults on every word of the largest transfer that it can make,
//! and if there is a disk, that is read all the while. Its data must be right, the
//! storm must end with the stream cut off, and no event may go unheard.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::addr::PAGE;
use mastiff_core::driver::Way;
use mastiff_core::platform::Platform;

use super::attempt::{Ear, is_cut_off, settle};
use super::{Failure, master};
use crate::records::{DmaRecord, Record, StormRecord};
use crate::shell::Shell;

/// How often a disk is read at most while the device is under way.
const ROUNDS: usize = 1000;

pub fn storm<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    disk: Option<&str>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let hostile = master(shell, name)?;
    let before = disk.map(|disk| shell.hash(disk)).transpose()?;
    // An address that was mapped a moment ago.
    let lent = hostile.lend(&[0])?;
    hostile.take_back();
    let bytes = hostile.capacity().min(PAGE as usize);
    let errors = errors(shell);
    let ear = Ear::new(shell, name, Way::Read, lent.iova)?;
    hostile.launch(Way::Read, lent.iova, bytes)?;
    let mut wrong = None;
    let mut last = before.clone();
    for _ in 0..ROUNDS {
        let back = hostile.is_back();
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
    hostile.land()?;
    let events = ear.heard().all;
    let record = StormRecord {
        device: name.into(),
        bytes: bytes as u64,
        events,
        errors: self::errors(shell) - errors,
        quarantined: is_cut_off(shell, name)?,
        disk: disk.map(Into::into),
        ok: false,
        error: None,
    };
    let error = wrong.or_else(|| complaint(&record));
    out.extend(last.map(Record::Dma));
    out.push(Record::Storm(StormRecord {
        ok: error.is_none(),
        error: error.clone(),
        ..record
    }));
    match error {
        None => Ok(()),
        Some(error) => Err(Failure::new(error)),
    }
}

fn differs(before: &DmaRecord, now: &DmaRecord) -> Option<String> {
    (before.sha256 != now.sha256).then(|| format!("{} reads otherwise than before", now.device))
}

fn complaint(record: &StormRecord) -> Option<String> {
    match (record.events, record.errors, record.quarantined) {
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

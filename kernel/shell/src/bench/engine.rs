//! The engine: one attempt to bind a device, the probe of an IOMMU, and the way to the
//! entries of streams that nobody has used yet. For the length of a row devices are
//! taken down.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use mastiff_core::addr::StreamId;
use mastiff_core::engine::{Device, Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use super::meter::{Meter, SAMPLES, Samples};
use super::{Course, Work};
use crate::commands::Failure;
use crate::records::Record;

/// An attempt that ends with the device waiting for its IOMMU, and an IOMMU's probe.
pub fn probe<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let (node, _) = course.iommu()?;
    let engine = &mut course.shell.engine;
    let Some(iommu) = engine.device_at(node).map(|device| device.name.clone()) else {
        return Err(Failure::new("the IOMMU is no device"));
    };
    engine.unbind(&iommu)?;
    let waiting: Vec<&Device<P>> = engine.devices().filter(|it| is_waiting(it)).collect();
    let masters: BTreeSet<&'static str> = waiting
        .iter()
        .filter_map(|device| engine.driver_of(device))
        .collect();
    let result = masters
        .iter()
        .try_for_each(|name| engine.remove_driver(name))
        .map_err(Failure::from)
        .and_then(|()| {
            let attempts = match masters.first() {
                Some(name) => Some(attempts(engine, &course.meter, name)?),
                None => None,
            };
            Ok((attempts, probes(engine, &course.meter, &iommu)?))
        });
    // Whatever came of it, all is as it was.
    for name in &masters {
        let _ = engine.add_driver(name);
    }
    if engine.device(&iommu).is_some_and(|it| it.bound().is_none()) {
        engine.bind(&iommu)?;
    }
    let (attempts, probes) = result?;
    for (name, samples) in [("attempt", attempts), ("iommu-probe", Some(probes))] {
        match samples {
            Some(samples) => out.push(Record::Bench(course.row(name, samples))),
            None => log::warn!("bench: no master waits for its IOMMU: {name} is left out"),
        }
    }
    Ok(())
}

fn is_waiting<P: Platform>(device: &Device<P>) -> bool {
    matches!(device.state, State::Waiting(_))
}

/// A driver is registered: its devices are tried and wait, each of them once.
fn attempts<P: Platform>(
    engine: &mut Engine<P>,
    meter: &Meter<P>,
    name: &str,
) -> Result<Samples, Fault> {
    let mut samples = Samples::new();
    while samples.len() < SAMPLES {
        let (insn, done) = meter.count(|| engine.add_driver(name));
        done?;
        let tried = engine.devices().filter(|it| is_waiting(it)).count();
        samples.add(insn / tried.max(1) as u32);
        engine.remove_driver(name)?;
    }
    Ok(samples)
}

/// Nobody waits for the IOMMU, so that it is all that is bound.
fn probes<P: Platform>(
    engine: &mut Engine<P>,
    meter: &Meter<P>,
    name: &str,
) -> Result<Samples, Fault> {
    let mut samples = Samples::new();
    while samples.len() < SAMPLES {
        let (insn, done) = meter.count(|| engine.bind(name));
        done?;
        samples.add(insn);
        engine.unbind(name)?;
    }
    Ok(samples)
}

/// The first attachment in each neighbourhood of streams: an IOMMU whose table has two
/// levels makes a part of it for that.
pub fn table<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let (node, iommu) = course.iommu()?;
    let streams = iommu.limits().streams;
    let known = course.shell.engine.context().streams.all();
    let step = streams / (SAMPLES as u64 + 16);
    if step == 0 {
        log::warn!("bench: {streams} streams are too few: table is left out");
        return Ok(());
    }
    let domain = iommu.paging_domain()?;
    let (mut samples, mut work) = (Samples::new(), Work::default());
    let ids = (0..streams).rev().step_by(step as usize);
    let ids = ids.filter_map(|id| u32::try_from(id).ok().map(StreamId));
    let idle = ids.filter(|&id| !known.iter().any(|(at, used, _)| (*at, *used) == (node, id)));
    for id in idle.take(SAMPLES) {
        let before = course.work();
        let (insn, done) = course.meter.count(|| domain.attach(id));
        done?;
        work = work.plus(&course.work().minus(&before));
        samples.add(insn);
        iommu.block(id)?;
    }
    let mut row = course.row("stream-table", samples);
    work.per_operation(&mut row);
    out.push(Record::Bench(row));
    Ok(())
}

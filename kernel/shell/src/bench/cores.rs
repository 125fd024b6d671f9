//! How mapping scales: the same loop on one CPU, then on two, and so on, by the clock.
//! That says something where CPUs run side by side only, so it is no part of the other
//! rows, and needs no counter.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use mastiff_core::addr::PAGE;
use mastiff_core::dma::{Bidirectional, Dma};
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use spin::Mutex;

use crate::commands::Failure;
use crate::records::{Record, ScaleRecord};
use crate::shell::Shell;

/// Mappings that each CPU makes and ends.
const PAIRS: u64 = 1 << 15;

/// Rows for one CPU and for each doubling, all in one domain, and in one of each CPU's
/// own.
pub fn rows<P: Platform>(shell: &Shell<'_, P>, out: &mut Vec<Record>) -> Result<(), Failure> {
    let running = shell.system.facts().cpus as usize;
    let context = shell.engine.context();
    let iommus = context.iommus();
    let (node, _) = iommus
        .first()
        .ok_or_else(|| Failure::new("no IOMMU is bound"))?;
    for shared in [true, false] {
        let mut single = None;
        let counts = core::iter::successors(Some(1), |count| Some(count * 2));
        for count in counts.take_while(|&count| count <= running) {
            let domains = if shared { 1 } else { count };
            let domains = (0..domains).map(|_| context.rehearsal(*node));
            let domains = domains.collect::<Result<Vec<_>, _>>()?;
            let (cpus, per_second) = measure(&context.platform, count, &domains)?;
            let single = *single.get_or_insert(per_second);
            out.push(Record::Scale(ScaleRecord {
                name: if shared { "one-domain" } else { "own-domains" },
                cpus,
                per_second,
                ratio: per_second as f32 / single.max(1) as f32,
            }));
        }
    }
    Ok(())
}

/// Pairs of a mapping and its end per second, on `count` CPUs.
fn measure<P: Platform>(
    platform: &P,
    count: usize,
    domains: &[Dma<P>],
) -> Result<(usize, u64), Failure> {
    let ranks = AtomicUsize::new(0);
    let fault = Mutex::new(None);
    let start = platform.now();
    let cpus = platform.on_cpus(count, &|| {
        let rank = ranks.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = run(&domains[rank % domains.len()]) {
            *fault.lock() = Some(error);
        }
    });
    let us = platform.now().us_since(start).max(1);
    match fault.into_inner() {
        Some(fault) => Err(fault.into()),
        None => Ok((cpus, cpus as u64 * PAIRS * 1_000_000 / us)),
    }
}

fn run<P: Platform>(dma: &Dma<P>) -> Result<(), Fault> {
    let mut pages = dma.pages(PAGE)?;
    for _ in 0..PAIRS {
        let loan = dma.lend::<Bidirectional>(pages);
        pages = loan.map_err(|failure| failure.fault)?.unmap()?;
    }
    Ok(())
}

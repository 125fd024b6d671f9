//! All CPUs at work at the same time: each maps and unmaps in one domain, reads the
//! whole disk and hashes it, and one has another master prove its DMA meanwhile. What
//! they share is then shared in earnest.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

use mastiff_core::addr::PAGE;
use mastiff_core::dma::{Bidirectional, Dma};
use mastiff_core::driver::{Bound, Disk, DmaTest};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Pages, Platform};
use sha2::{Digest, Sha256};
use spin::Mutex;

use super::{Failure, number};
use crate::records::{Record, TogetherRecord};
use crate::shell::Shell;
use crate::text::format::digits;

/// Mappings of each CPU, unless told otherwise.
const ROUNDS: u64 = 1000;
/// After so many the other master goes round once.
const TRIP: u64 = 16;
/// Pages of the lists.
const LIST: usize = 4;

/// What a CPU has to do, and what it did.
struct Part<'s, P: Platform> {
    dma: &'s Dma<P>,
    disk: Option<&'s dyn Disk>,
    /// One of them only has it: it makes one trip at a time.
    master: Option<&'s dyn DmaTest>,
    rounds: u64,
    maps: Cell<u64>,
    trips: Cell<u64>,
}

pub fn together<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let rounds = match arguments.first() {
        None => ROUNDS,
        Some(text) => number(text, "how often")?,
    };
    // Those that are on their way come first.
    shell.system.cpus();
    let context = shell.engine.context();
    let iommus = context.iommus();
    let (node, _) = iommus
        .first()
        .ok_or_else(|| Failure::new("no IOMMU is bound"))?;
    let dma = context.rehearsal(*node)?;
    let bound = || shell.engine.devices().filter_map(|device| device.bound());
    let disk = bound().find_map(Bound::disk);
    let others = bound().filter(|bound| bound.disk().is_none());
    let master = others.into_iter().find_map(Bound::dma_test);
    let (ranks, records) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    context.platform.on_cpus(usize::MAX, &|| {
        let part = Part {
            dma: &dma,
            disk,
            master: master.filter(|_| ranks.fetch_add(1, Ordering::Relaxed) == 0),
            rounds,
            maps: Cell::new(0),
            trips: Cell::new(0),
        };
        let record = part.record(context.platform.cpu());
        records.lock().push(record);
    });
    let mut records = records.into_inner();
    records.sort_by_key(|record| record.cpu);
    let failed = records.iter().find_map(|record| {
        let error = record.error.as_ref()?;
        Some(Failure::new(format!("CPU {}: {error}", record.cpu)))
    });
    out.extend(records.into_iter().map(Record::Together));
    failed.map_or(Ok(()), Err)
}

impl<P: Platform> Part<'_, P> {
    fn record(&self, cpu: usize) -> TogetherRecord {
        let done = self.run();
        let (bytes, sha256) = done.clone().unwrap_or_default();
        TogetherRecord {
            cpu,
            maps: self.maps.get(),
            trips: self.trips.get(),
            bytes,
            sha256: sha256.map(Into::into),
            ok: done.is_ok(),
            error: done.err().map(|fault| fault.to_string()),
        }
    }

    /// How much was read, and its digest.
    fn run(&self) -> Result<(u64, Option<Box<str>>), Fault> {
        for round in 0..self.rounds {
            self.map(round)?;
            if let Some(master) = self.master.filter(|_| round % TRIP == 0) {
                master.round_trip()?;
                self.trips.set(self.trips.get() + 1);
            }
        }
        let Some(disk) = self.disk else {
            return Ok((0, None));
        };
        let mut hash = Sha256::new();
        let mut mapped = Ok(());
        let mut bytes = 0;
        disk.read(0, disk.blocks(), &mut |data| {
            hash.update(data);
            bytes += data.len() as u64;
            if mapped.is_ok() {
                mapped = self.map(bytes);
            }
        })?;
        mapped?;
        Ok((bytes, Some(digits(&hash.finalize()).into())))
    }

    /// Maps a page and a list, and unmaps them; what they hold stays.
    fn map(&self, mark: u64) -> Result<(), Fault> {
        let page = self.dma.pages(PAGE)?;
        page.store64(0, mark);
        let loan = self.dma.lend::<Bidirectional>(page);
        let loan = loan.map_err(|failure| failure.fault)?;
        let list = (0..LIST).map(|_| self.dma.pages(PAGE));
        let list = list.collect::<Result<Vec<_>, _>>()?;
        let list = self.dma.lend_list::<Bidirectional>(list);
        list.map_err(|failure| failure.fault)?.unmap()?;
        let page = loan.unmap()?;
        self.maps.set(self.maps.get() + 1);
        match page.load64(0) {
            seen if seen == mark => Ok(()),
            seen => Err(Fault::Register {
                name: "a page of this CPU alone",
                expected: mark,
                seen,
            }),
        }
    }
}

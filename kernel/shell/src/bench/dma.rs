//! Mapping and what goes with it, on a domain of its own that no stream goes through.

use alloc::vec::Vec;

use mastiff_core::addr::{PAGE, StreamId};
use mastiff_core::dma::{Bidirectional, Dma, DmaLoan};
use mastiff_core::error::Fault;
use mastiff_core::iommu::Iommu;
use mastiff_core::platform::Platform;
use mastiff_dt::NodeId;

use super::meter::{SAMPLES, Samples};
use super::random::Random;
use super::{Course, Work};
use crate::commands::Failure;
use crate::records::Record;

/// Sizes of mappings, and how many are out while some of them are ended and made
/// again.
const SIZES: [(&str, u64, &[usize]); 3] = [
    ("map-4k", 4 << 10, &[1, 16, 256, 4096, 65_536, 1_048_576]),
    ("map-64k", 64 << 10, &[1, 16, 256, 4096]),
    ("map-2m", 2 << 20, &[1, 16, 256]),
];

/// Pages of a list.
const LIST: usize = 32;

type Loan<'d, P> = DmaLoan<'d, P, Bidirectional>;

/// Mappings that are out, to be ended in any order.
struct Held<'d, P: Platform> {
    mappings: Vec<Loan<'d, P>>,
    random: Random,
}

impl<'d, P: Platform> Held<'d, P> {
    /// `count` mappings of `bytes`; `None` where there is no memory for them.
    fn new(dma: &'d Dma<P>, bytes: u64, count: usize) -> Result<Option<Self>, Failure> {
        let mut mappings = Vec::new();
        if mappings.try_reserve_exact(count).is_err() {
            return Ok(None);
        }
        for _ in 0..count {
            match dma.pages(bytes) {
                Ok(pages) => mappings.push(lend(dma, pages)?),
                Err(Fault::OutOfMemory { .. }) => return Ok(None),
                Err(fault) => return Err(fault.into()),
            }
        }
        let random = Random::new();
        Ok(Some(Self { mappings, random }))
    }

    /// One of them, each time another, and the same ones in every boot.
    fn any(&mut self) -> Option<Loan<'d, P>> {
        let index = self.random.below(self.mappings.len() as u64)?;
        Some(self.mappings.swap_remove(index as usize))
    }
}

fn lend<P: Platform>(dma: &Dma<P>, pages: P::Pages) -> Result<Loan<'_, P>, Fault> {
    dma.lend(pages).map_err(|failure| failure.fault)
}

/// Mappings of each size, with few and many others out.
pub fn rows<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    for (name, bytes, counts) in SIZES {
        for &outstanding in counts {
            let dma = course.rehearsal()?;
            match Held::new(&dma, bytes, outstanding)? {
                Some(held) => out.push(steady(course, name, &dma, held)?),
                None => log::warn!("bench: no memory for {outstanding} of {name}: left out"),
            }
        }
    }
    Ok(())
}

/// Ends some mappings in any order, then makes as many again.
fn steady<'d, P: Platform>(
    course: &Course<'_, '_, P>,
    name: &'static str,
    dma: &'d Dma<P>,
    mut held: Held<'d, P>,
) -> Result<Record, Failure> {
    let outstanding = held.mappings.len();
    let (mut maps, mut unmaps) = (Samples::new(), Samples::new());
    let mut spare = Vec::with_capacity(SAMPLES);
    let work = course.work();
    while maps.len() < SAMPLES {
        while spare.len() < SAMPLES
            && let Some(mapping) = held.any()
        {
            let (insn, pages) = course.meter.count(|| mapping.unmap());
            unmaps.add(insn);
            spare.push(pages?);
        }
        for pages in spare.drain(..) {
            let (insn, mapping) = course.meter.count(|| dma.lend(pages));
            maps.add(insn);
            held.mappings
                .push(mapping.map_err(|failure| failure.fault)?);
        }
    }
    let mut row = course.row(name, maps.plus(&unmaps));
    course.since(&work, &mut row);
    row.in_two(maps, unmaps);
    row.outstanding = Some(outstanding as u32);
    Ok(Record::Bench(row))
}

/// Single pages from anywhere as one list, mapped and unmapped.
pub fn lists<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let dma = course.rehearsal()?;
    let pages = (0..LIST).map(|_| dma.pages(PAGE));
    let mut pages: Vec<P::Pages> = pages.collect::<Result<_, _>>()?;
    // Neighbours are no list.
    pages.reverse();
    let (mut maps, mut unmaps) = (Samples::new(), Samples::new());
    let work = course.work();
    for _ in 0..SAMPLES {
        let (insn, list) = course.meter.count(|| dma.lend_list::<Bidirectional>(pages));
        maps.add(insn);
        let list = list.map_err(|failure| failure.fault)?;
        let (insn, done) = course.meter.count(|| list.unmap());
        unmaps.add(insn);
        pages = done?;
    }
    let mut row = course.row("list-32x4k", maps.plus(&unmaps));
    course.since(&work, &mut row);
    row.in_two(maps, unmaps);
    out.push(Record::Bench(row));
    Ok(())
}

/// The first mapping in a domain that was just made.
pub fn first<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let mut samples = Samples::new();
    for _ in 0..SAMPLES {
        let dma = course.rehearsal()?;
        let pages = dma.pages(PAGE)?;
        let (insn, mapping) = course.meter.count(|| dma.lend::<Bidirectional>(pages));
        samples.add(insn);
        mapping.map_err(|failure| failure.fault)?;
    }
    out.push(Record::Bench(course.row("first-map", samples)));
    Ok(())
}

/// A zeroed page that a device shares, made and ended.
pub fn alloc<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let dma = course.rehearsal()?;
    let mut samples = Samples::new();
    let work = course.work();
    for _ in 0..SAMPLES {
        let (insn, done) = course
            .meter
            .count(|| dma.alloc::<Bidirectional>(PAGE).map(drop));
        done?;
        samples.add(insn);
    }
    let mut row = course.row("alloc-4k", samples);
    course.since(&work, &mut row);
    out.push(Record::Bench(row));
    Ok(())
}

/// Sending a stream that nobody uses through a domain, and aborting it again.
pub fn attach<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let (node, iommu) = course.iommu()?;
    let Some(stream) = idle(course, node, &*iommu) else {
        log::warn!("bench: every stream belongs to a device: attach is left out");
        return Ok(());
    };
    let domain = iommu.paging_domain()?;
    let mut times = |name, act: &dyn Fn() -> Result<(), Fault>, undo: &dyn Fn() -> _| {
        let mut samples = Samples::new();
        let mut work = Work::default();
        for _ in 0..SAMPLES {
            let before = course.work();
            let (insn, done) = course.meter.count(act);
            done?;
            work = work.plus(&course.work().minus(&before));
            samples.add(insn);
            undo()?;
        }
        let mut row = course.row(name, samples);
        work.per_operation(&mut row);
        out.push(Record::Bench(row));
        Ok::<(), Failure>(())
    };
    let (attach, block) = (|| domain.attach(stream), || iommu.block(stream));
    times("attach", &attach, &block)?;
    attach()?;
    let result = times("detach", &block, &attach);
    // Whatever came of it, nothing goes through.
    block()?;
    result
}

/// The highest stream that is no device's.
fn idle<P: Platform>(
    course: &Course<'_, '_, P>,
    node: NodeId,
    iommu: &dyn Iommu,
) -> Option<StreamId> {
    let known = course.shell.engine.context().streams.all();
    let taken = |id| {
        known
            .iter()
            .any(|(iommu, stream, _)| (*iommu, stream.0) == (node, id))
    };
    let count = u32::try_from(iommu.limits().streams).unwrap_or(u32::MAX);
    (0..count).rev().find(|&id| !taken(id)).map(StreamId)
}

impl<P: Platform> Course<'_, '_, P> {
    fn rehearsal(&self) -> Result<Dma<P>, Failure> {
        let (node, _) = self.iommu()?;
        Ok(self.shell.engine.context().rehearsal(node)?)
    }
}

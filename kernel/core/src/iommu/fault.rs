//! Faults of masters, as people need them: which device, under which driver, did
//! what at which address. An IOMMU's driver reports what its event said; the log
//! adds who owns the stream, folds repetitions (a device that faults on one page
//! may raise a thousand events) and keeps the latest for the console.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use mastiff_dt::NodeId;
use spin::Mutex;

use super::Streams;
use crate::addr::{Iova, PAGE, StreamId};

/// How many distinct faults are kept; the oldest go first.
const KEPT: usize = 64;
/// How many lines are printed for a stream.
const PRINTED: u32 = 16;

/// What the transaction wanted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To fetch an instruction.
    Execute,
    /// The event does not say.
    Unknown,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
            Self::Unknown => "unknown",
        })
    }
}

/// One event, decoded by the IOMMU's driver.
#[derive(Clone, Debug)]
pub struct FaultReport {
    /// The event's architected name.
    pub event: &'static str,
    /// The stream, where the event has one.
    pub stream: Option<StreamId>,
    /// The input address, where the event has one.
    pub iova: Option<Iova>,
    /// What the transaction wanted.
    pub access: Access,
    /// The stage that faulted, 0 where none is involved.
    pub stage: u8,
    /// What else the event says, in words.
    pub detail: String,
}

/// A fault as the console shows it.
#[derive(Clone, Debug)]
pub struct FaultRecord {
    /// The event.
    pub report: FaultReport,
    /// The IOMMU's path.
    pub iommu: Box<str>,
    /// The devices that the stream belongs to.
    pub device: Option<Box<str>>,
    /// The driver bound to it.
    pub driver: Option<&'static str>,
    /// How often this event came for this page.
    pub count: u64,
}

/// The latest faults of all masters.
pub struct FaultLog {
    streams: Arc<Streams>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<FaultRecord>,
    // By IOMMU and stream: all events ever, and lines that were printed for them.
    totals: BTreeMap<(NodeId, StreamId), (u64, u32)>,
}

impl FaultLog {
    pub(crate) fn new(streams: Arc<Streams>) -> Self {
        Self {
            streams,
            kept: Mutex::new(Kept::default()),
        }
    }

    /// Takes an event of the IOMMU at `node`. Prints the first of its kind for a
    /// page, as long as a stream has not had its share of lines, and counts the rest.
    pub fn report(&self, node: NodeId, iommu: &str, report: FaultReport) {
        self.report_with(node, iommu, report, String::new);
    }

    /// Takes note of what was done about a stream: shown like an event, but none that
    /// the stream raised.
    pub fn remark(&self, node: NodeId, iommu: &str, report: FaultReport) {
        self.take(node, iommu, report, 0, String::new);
    }

    /// The same, with more detail that takes a while to find out: it is asked for
    /// only if it will be read.
    pub fn report_with(
        &self,
        node: NodeId,
        iommu: &str,
        report: FaultReport,
        more: impl FnOnce() -> String,
    ) {
        self.take(node, iommu, report, 1, more);
    }

    fn take(
        &self,
        node: NodeId,
        iommu: &str,
        mut report: FaultReport,
        events: u64,
        more: impl FnOnce() -> String,
    ) {
        let owner = report
            .stream
            .and_then(|stream| self.streams.owner(node, stream));
        let mut kept = self.kept.lock();
        let Kept { records, totals } = &mut *kept;
        let mut nobody = (0, 0);
        let total = match report.stream {
            Some(stream) => totals.entry((node, stream)).or_default(),
            None => &mut nobody,
        };
        total.0 += events;
        // At most KEPT entries: a bound, not a search through anything that grows.
        if let Some(known) = records
            .iter_mut()
            .find(|known| &*known.iommu == iommu && same_place(&known.report, &report))
        {
            known.count += 1;
            return;
        }
        let more = more();
        if !report.detail.is_empty() && !more.is_empty() {
            report.detail.push_str(", ");
        }
        report.detail.push_str(&more);
        let record = FaultRecord {
            report,
            iommu: iommu.into(),
            device: owner.as_ref().map(|owner| owner.devices.clone()),
            driver: owner.and_then(|owner| owner.driver),
            count: 1,
        };
        // A master that sweeps through addresses must not own the console.
        total.1 += 1;
        match total.1 {
            ..PRINTED => log::warn!("{record}"),
            PRINTED => log::warn!("{record}; further ones of its stream are only counted"),
            _ => {}
        }
        if records.len() == KEPT {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// The faults kept, oldest first.
    pub fn records(&self) -> Vec<FaultRecord> {
        self.kept.lock().records.iter().cloned().collect()
    }

    /// Number of events that were ever reported for a stream of an IOMMU.
    pub fn count(&self, node: NodeId, stream: StreamId) -> u64 {
        let kept = self.kept.lock();
        kept.totals.get(&(node, stream)).map_or(0, |total| total.0)
    }
}

fn same_place(a: &FaultReport, b: &FaultReport) -> bool {
    let page = |report: &FaultReport| report.iova.map(|iova| iova.0 / PAGE);
    a.event == b.event && a.stream == b.stream && a.access == b.access && page(a) == page(b)
}

impl fmt::Display for FaultRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.iommu, self.report.event)?;
        if let Some(stream) = self.report.stream {
            write!(f, " stream {stream}")?;
        }
        match (&self.device, self.driver) {
            (Some(device), Some(driver)) => write!(f, " ({device}, driver {driver})")?,
            (Some(device), None) => write!(f, " ({device}, no driver bound)")?,
            (None, _) => f.write_str(" (no known device)")?,
        }
        if let Some(iova) = self.report.iova {
            write!(f, " {} at {iova}", self.report.access)?;
        }
        if self.report.stage != 0 {
            write!(f, ", stage {}", self.report.stage)?;
        }
        if !self.report.detail.is_empty() {
            write!(f, ", {}", self.report.detail)?;
        }
        Ok(())
    }
}

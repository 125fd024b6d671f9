//! A master with one page, which it shares with its driver: what it does when it is
//! asked for a proof of its DMA.

use std::sync::{Arc, Mutex};

use mastiff_core::dma::{Bidirectional, Dma, DmaBuffer};
use mastiff_core::driver::{Bound, Disk, DmaProof, DmaTest, Driver, Hostile, Match, Spaces};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::iommu::FaultLog;
use mastiff_core::platform::{Barrier, Platform};
use mastiff_core::probe::Probe;
use mastiff_dt::NodeId;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::Diary;
use mastiff_testkit::fake_iommu::FakeIommu;

/// What a master is.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Is {
    /// A disk that can prove its DMA.
    Disk,
    /// A disk that breaks after its first block.
    BrokenDisk,
    /// A DMA engine that can be aimed.
    Engine,
    /// One that brings something else back.
    Liar,
    /// Bound, but it can prove nothing.
    Mute,
    /// It fails its probe.
    Dead,
}

pub struct MasterDriver {
    pub(super) name: &'static str,
    pub(super) matches: &'static [Match],
    pub(super) is: Is,
    pub(super) fake: FakeIommu,
    pub(super) sim: Sim,
    pub(super) diary: Diary,
}

impl Driver<Sim> for MasterDriver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn matches(&self) -> &'static [Match] {
        self.matches
    }

    fn probe(&self, probe: &mut Probe<'_, Sim>) -> Result<Box<dyn Bound>, ProbeError> {
        let dma = probe.dma()?;
        if self.is == Is::Dead {
            let fault = Fault::Unsupported {
                what: "a dead device",
                seen: 0,
            };
            return Err(fault.into());
        }
        let node = probe.require_node()?;
        let behind = node.iommus()?.into_iter().next();
        Ok(Box::new(Master {
            is: self.is,
            name: probe.name().into(),
            // Streams beyond the fake IOMMU's go straight to memory.
            stream: behind.as_ref().map_or(0x100, |behind| behind.cells[0]),
            iommu: behind.map(|behind| behind.iommu),
            faults: probe.fault_log(),
            buffer: dma.alloc(4096)?,
            lent: Mutex::default(),
            held: Mutex::new(vec![0; 4096]),
            dma,
            fake: self.fake.clone(),
            sim: self.sim.clone(),
            diary: self.diary.clone(),
            attached: Mutex::default(),
        }))
    }
}

/// A bound master with one page, which it shares with its driver.
pub struct Master {
    pub(super) is: Is,
    pub(super) name: String,
    pub(super) stream: u32,
    pub(super) iommu: Option<NodeId>,
    pub(super) faults: Arc<FaultLog>,
    pub(super) buffer: DmaBuffer<Sim, Bidirectional>,
    pub(super) lent: Mutex<Option<DmaBuffer<Sim, Bidirectional>>>,
    pub(super) held: Mutex<Vec<u8>>,
    pub(super) dma: Dma<Sim>,
    pub(super) fake: FakeIommu,
    pub(super) sim: Sim,
    pub(super) diary: Diary,
    pub(super) attached: Mutex<Option<usize>>,
}

impl Master {
    pub(super) fn proof(&self, bytes: u64) -> DmaProof {
        DmaProof {
            bytes,
            iova: self.buffer.iova(),
            pa: self.buffer.pa(),
        }
    }

    pub(super) fn error(&self) -> Fault {
        Fault::Device {
            during: "transfer",
            status: "ABORTED",
            code: 7,
        }
    }

    /// The device writes to its page, the driver looks.
    pub(super) fn bring(&self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let at = self.buffer.iova().0;
        let result = self.sim.port().write(self.stream, at, bytes);
        result.map_err(|_| self.error())?;
        let mut seen = vec![0; bytes.len()];
        self.buffer.read(0, &mut seen);
        Ok(seen)
    }
}

impl Bound for Master {
    fn quiesce(&self) {
        self.diary.note(format_args!("{}: quiesce", self.name));
    }
    fn disk(&self) -> Option<&dyn Disk> {
        matches!(self.is, Is::Disk | Is::BrokenDisk).then_some(self)
    }
    fn dma_test(&self) -> Option<&dyn DmaTest> {
        (self.is != Is::Mute).then_some(self)
    }
    fn hostile(&self) -> Option<&dyn Hostile> {
        matches!(self.is, Is::Engine | Is::Mute).then_some(self)
    }
    fn spaces(&self) -> Option<&dyn Spaces> {
        (self.is == Is::Engine).then_some(self)
    }
}

impl DmaTest for Master {
    fn begin(&self) -> Result<(), Fault> {
        self.diary.note(format_args!("{}: begin", self.name));
        Ok(())
    }

    fn finish(&self) -> Result<DmaProof, Fault> {
        self.diary.note(format_args!("{}: finish", self.name));
        self.round_trip()
    }

    fn round_trip(&self) -> Result<DmaProof, Fault> {
        let sent = [0x5a; 64];
        self.buffer.write(0, &sent);
        self.sim.barrier(Barrier::Publish);
        let mut inside = [0; 64];
        let at = self.buffer.iova().0;
        let read = self.sim.port().read(self.stream, at, &mut inside);
        read.map_err(|_| self.error())?;
        if self.is == Is::Liar {
            inside[9] = 0;
        }
        let back = self.bring(&inside)?;
        match (0..64).find(|&at| back[at] != sent[at]) {
            None => Ok(self.proof(128)),
            Some(at) => Err(Fault::Mismatch {
                offset: at as u64,
                expected: sent[at],
                seen: back[at],
            }),
        }
    }
}

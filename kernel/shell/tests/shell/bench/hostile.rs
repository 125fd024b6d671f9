//! The master as one that can be aimed anywhere.

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::driver::{Hostile, Lent, Way};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Access, FaultReport};
use mastiff_core::platform::{Barrier, Platform};
use mastiff_testkit::bus::BusError;

use super::IOMMU;
use super::master::{Is, Master};

/// It is there and back at once.
impl Hostile for Master {
    fn capacity(&self) -> usize {
        4096
    }
    fn arm(&self, bytes: &[u8]) -> Result<(), Fault> {
        self.held.lock().unwrap()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn loot(&self, len: usize) -> Result<Vec<u8>, Fault> {
        Ok(self.held.lock().unwrap()[..len].to_vec())
    }
    fn launch(&self, way: Way, at: Iova, len: usize) -> Result<(), Fault> {
        if self.is == Is::Mute {
            return Ok(());
        }
        let mut held = self.held.lock().unwrap();
        // What it puts on the bus is 40 bits wide.
        let to = at.0 & ((1 << 40) - 1);
        let result = match way {
            Way::Read => self.sim.port().read(self.stream, to, &mut held[..len]),
            Way::Write => self.sim.port().write(self.stream, to, &held[..len]),
        };
        if let (Err(BusError::Aborted), Some(iommu)) = (result, self.iommu) {
            // The fake IOMMU has no events of its own. One for each word.
            let words = len as u64 / 4;
            if words > 512 {
                // Nor does it cut anybody off by itself.
                let _ = self.fake.instance().block(StreamId(self.stream));
            }
            for word in 0..words {
                let report = FaultReport {
                    event: "F_TRANSLATION",
                    stream: Some(StreamId(self.stream)),
                    iova: Some(Iova(to + 4 * word)),
                    access: match way {
                        Way::Read => Access::Read,
                        Way::Write => Access::Write,
                    },
                    stage: 1,
                    detail: "by the bench".into(),
                };
                self.faults.report(iommu, IOMMU, report);
            }
        }
        Ok(())
    }
    fn land(&self) -> Result<(), Fault> {
        Ok(())
    }
    fn is_back(&self) -> bool {
        true
    }
    fn lend(&self, bytes: &[u8]) -> Result<Lent, Fault> {
        let page = self.dma.alloc(4096)?;
        page.write(0, bytes);
        self.sim.barrier(Barrier::Publish);
        let (iova, pa) = (page.iova(), page.pa());
        *self.lent.lock().unwrap() = Some(page);
        Ok(Lent { iova, pa })
    }
    fn give_back(&self) -> Result<(), Fault> {
        self.take_back();
        Ok(())
    }
    fn take_back(&self) {
        *self.lent.lock().unwrap() = None;
    }
}

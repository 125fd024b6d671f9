//! The device as a hostile master: it is sent where it has no business, and nobody
//! waits for it. That it is still under way when its driver goes, or when it is
//! suspended, is the point.

use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE};
use mastiff_core::driver::{Hostile, Lent, Way};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Pages, Platform};

use crate::BoundEdu;
use crate::device::BUFFER_LEN;

impl<P: Platform> Hostile for BoundEdu<P> {
    fn capacity(&self) -> usize {
        BUFFER_LEN as usize
    }

    fn arm(&self, bytes: &[u8]) -> Result<(), Fault> {
        in_buffer(bytes.len())?;
        let mut transfer = self.transfer.lock();
        transfer.give(bytes.into())?;
        transfer.given().map(drop)
    }

    fn loot(&self, len: usize) -> Result<Vec<u8>, Fault> {
        let len = in_buffer(len)?;
        let transfer = self.transfer.lock();
        transfer.at_rest()?;
        let mut bytes = transfer.fetch(len)?;
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    fn launch(&self, way: Way, at: Iova, len: usize) -> Result<(), Fault> {
        let len = in_buffer(len)?;
        let mut transfer = self.transfer.lock();
        transfer.at_rest()?;
        transfer.device.start_in_silence(way, at, len)?;
        transfer.launched = true;
        Ok(())
    }

    fn land(&self) -> Result<(), Fault> {
        let mut transfer = self.transfer.lock();
        transfer.device.settle()?;
        transfer.launched = false;
        Ok(())
    }

    fn is_back(&self) -> bool {
        self.transfer.lock().device.is_idle()
    }

    fn lend(&self, bytes: &[u8]) -> Result<Lent, Fault> {
        in_buffer(bytes.len())?;
        let mut transfer = self.transfer.lock();
        let pages = transfer.dma.pages(PAGE)?;
        pages.fill(0, pages.len(), 0);
        pages.write(0, bytes);
        let mapping = transfer.dma.map(pages).map_err(|failure| failure.fault)?;
        transfer.device.barrier(Barrier::Publish);
        let (iova, pa) = (mapping.iova(), mapping.pa());
        transfer.lent = Some(mapping);
        transfer.kept = None;
        Ok(Lent { iova, pa })
    }

    fn take_back(&self) {
        let mut transfer = self.transfer.lock();
        transfer.lent = None;
        transfer.kept = None;
    }

    fn give_back(&self) -> Result<(), Fault> {
        let mut transfer = self.transfer.lock();
        let lent = transfer.lent.take();
        transfer.kept = lent.map(|mapping| mapping.unmap()).transpose()?;
        Ok(())
    }
}

fn in_buffer(len: usize) -> Result<u32, Fault> {
    match len {
        1..=4096 => Ok(len as u32),
        _ => Err(Fault::invalid("edu moves 1 to 4096 bytes at a time")),
    }
}

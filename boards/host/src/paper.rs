//! A machine on paper. It has no registers and no memory, and the types say so:
//! nobody can make a value of [`Nothing`], so there is no code path from here to
//! hardware, not even by mistake.

use std::sync::Arc;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqHub;
use mastiff_core::platform::{Barrier, Instant, Mmio, PageRequest, Pages, Platform};
use mastiff_pgtable::TableMem;

/// A machine whose every register and page is still to be made.
#[derive(Clone, Default)]
pub struct Paper {
    irqs: Arc<IrqHub>,
}

/// A register window or a page that does not exist.
pub enum Nothing {}

impl Platform for Paper {
    type Mmio = Nothing;
    type Pages = Nothing;

    fn now(&self) -> Instant {
        Instant(0)
    }

    fn relax(&self) {}

    fn sleep(&self, _deadline: Instant) {}

    fn irqs(&self) -> &Arc<IrqHub> {
        &self.irqs
    }

    fn map_mmio(&self, range: PhysRange) -> Result<Nothing, Fault> {
        Err(Fault::Unmappable {
            at: range.start,
            why: "there are no registers on paper",
        })
    }

    fn alloc_pages(&self, request: PageRequest) -> Result<Nothing, Fault> {
        Err(Fault::OutOfMemory {
            bytes: request.bytes,
            limit: request.limit,
        })
    }

    fn ram_span(&self) -> (PhysAddr, PhysAddr) {
        (PhysAddr(0), PhysAddr(0))
    }

    fn barrier(&self, _kind: Barrier) {}

    fn quarantine(&self, pages: Nothing) {
        match pages {}
    }
}

/// No table is ever handed out, so none is read or written.
impl TableMem for Paper {
    fn alloc_table(&self, _bytes: u64) -> Option<u64> {
        None
    }

    fn free_table(&self, _pa: u64, _bytes: u64) {}

    fn quarantine_table(&self, _pa: u64, _bytes: u64) {}

    fn load(&self, _pa: u64, _index: usize) -> u64 {
        0
    }

    fn store(&self, _pa: u64, _index: usize, _value: u64) {}

    fn compare_exchange(&self, _pa: u64, _index: usize, old: u64, _new: u64) -> Result<u64, u64> {
        Ok(old)
    }

    fn publish(&self, _pa: u64, _index: usize, _count: usize) {}
}

macro_rules! impossible {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        fn $name(&self, $($argument: $type),*) $(-> $result)? {
            $(let _ = $argument;)*
            match *self {}
        }
    )*};
}

impl Mmio for Nothing {
    impossible! {
        len() -> usize;
        read8(offset: usize) -> u8;
        read16(offset: usize) -> u16;
        read32(offset: usize) -> u32;
        read64(offset: usize) -> u64;
        write8(offset: usize, value: u8);
        write16(offset: usize, value: u16);
        write32(offset: usize, value: u32);
        write64(offset: usize, value: u64);
    }
}

impl Pages for Nothing {
    impossible! {
        pa() -> PhysAddr;
        len() -> usize;
        load32(offset: usize) -> u32;
        store32(offset: usize, value: u32);
        load64(offset: usize) -> u64;
        store64(offset: usize, value: u64);
        read(offset: usize, to: &mut [u8]);
        write(offset: usize, from: &[u8]);
        fill(offset: usize, len: usize, byte: u8);
        clean(offset: usize, len: usize);
        invalidate(offset: usize, len: usize);
    }
}

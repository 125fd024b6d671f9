//! Driver for QEMU's `iommu-testdev` (1b36:0005), from QEMU 11 on: a bus master that
//! only writes, at addresses that software chooses, and whose transfer is over when
//! the register read that triggers it returns. No interrupt, no buffer, no delay: what
//! an IOMMU lets through is known at once. The device is described in QEMU's
//! `docs/specs/iommu-testdev.rst`; that document is what "iommu-testdev specification"
//! means here.
//!
//! It pays no heed to the bus master switch, so nothing but the IOMMU stops it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod device;

use alloc::boxed::Box;
use alloc::vec;

use mastiff_core::addr::{Iova, PAGE, PhysAddr};
use mastiff_core::dma::{Dma, FromDevice};
use mastiff_core::driver::{Bound, DmaProof, DmaTest, Driver, Match};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::{Pages, Platform};
use mastiff_core::probe::Probe;
use spin::Mutex;

use device::{Device, WORD};

/// The driver.
pub struct IommuTestdev;

const MATCHES: &[Match] = &[Match::pci(0x1b36, 0x0005).master()];
/// Two pages, so that a transfer crosses from one to the other.
const TARGET: usize = 2 * PAGE as usize;
/// Where in them a transfer starts, on no boundary of anything, and its length.
const START: usize = PAGE as usize / 2 + 1;
const LEN: usize = PAGE as usize;
/// What the pages hold that the device does not write: no byte of [`WORD`].
const UNTOUCHED: u8 = 0xa5;

impl<P: Platform> Driver<P> for IommuTestdev {
    fn name(&self) -> &'static str {
        "iommu-testdev"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let registers = probe.mmio(0, device::REGISTERS)?;
        let dma = probe.dma()?;
        let device = Device::new(probe.platform(), registers);
        device.check()?;
        Ok(Box::new(BoundTestdev {
            state: Mutex::new(State { device, dma }),
        }))
    }
}

struct BoundTestdev<P: Platform> {
    // One transfer at a time: there is one set of registers.
    state: Mutex<State<P>>,
}

struct State<P: Platform> {
    device: Device<P>,
    dma: Dma<P>,
}

impl<P: Platform> Bound for BoundTestdev<P> {
    fn quiesce(&self) {
        self.state.lock().device.disarm();
    }

    fn resume(&self) -> Result<(), Fault> {
        self.state.lock().device.check()
    }

    fn dma_test(&self) -> Option<&dyn DmaTest> {
        Some(self)
    }
}

impl<P: Platform> DmaTest for BoundTestdev<P> {
    /// The device only writes: what comes round is its pattern, found in memory where
    /// it was to arrive, and nowhere around that.
    ///
    /// It is done twice, to different memory and, with the usual luck of an allocator,
    /// at the same address: a translation of the first that is still in use shows as
    /// bytes in the wrong place.
    fn round_trip(&self) -> Result<DmaProof, Fault> {
        let state = self.state.lock();
        let (before, _) = state.write()?;
        before.fill(0, TARGET, UNTOUCHED);
        let (_, proof) = state.write()?;
        compare(&before, 0)?;
        Ok(DmaProof {
            bytes: 2 * proof.bytes,
            ..proof
        })
    }
}

impl<P: Platform> State<P> {
    /// Lends memory to the device for one transfer: the memory, and where it was.
    fn write(&self) -> Result<(P::Pages, DmaProof), Fault> {
        let target = self.dma.pages(TARGET as u64)?;
        target.fill(0, TARGET, UNTOUCHED);
        let pa = PhysAddr(target.pa().0 + START as u64);
        let target = self
            .dma
            .map::<FromDevice>(target)
            .map_err(|failure| failure.fault)?;
        let iova = Iova(target.iova().0 + START as u64);
        let written = self.device.write(iova, pa, LEN as u32);
        let target = target.unmap()?;
        written?;
        compare(&target, LEN)?;
        let bytes = LEN as u64;
        Ok((target, DmaProof { bytes, iova, pa }))
    }
}

/// Whether the device wrote `len` bytes to these pages, and no more.
fn compare(pages: &impl Pages, len: usize) -> Result<(), Fault> {
    let word = WORD.to_le_bytes();
    let mut bytes = vec![0; TARGET];
    pages.read(0, &mut bytes);
    for (offset, seen) in bytes.into_iter().enumerate() {
        let expected = match offset.checked_sub(START) {
            Some(at) if at < len => word[at % word.len()],
            _ => UNTOUCHED,
        };
        if seen != expected {
            return Err(Fault::Mismatch {
                offset: offset as u64,
                expected,
                seen,
            });
        }
    }
    Ok(())
}

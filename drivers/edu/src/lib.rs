//! Driver for QEMU's `edu` device (1234:11e8), the bus master that proves DMA: it
//! copies between memory and a buffer of its own, 4 KiB at a time, at addresses
//! that software chooses. Its registers are described in QEMU's
//! `docs/specs/edu.rst`; that document is what "edu specification" means here.
//!
//! The device puts 28 address bits on the bus. Where RAM starts above that it
//! reaches memory only through an IOMMU, and without one the probe fails with the
//! reason. So a round trip that succeeds is a proof of translation.
//!
//! A transfer takes 100 ms of the machine's time and ends with an interrupt.
//!
//! Three drivers for the one device: [`Edu`] has its DMA set up by the core.
//! [`EduWide`] does too, and takes a device that QEMU was told to let put all address
//! bits on the bus (`-global edu.dma_mask=0xffffffffffffffff`) at its word: the
//! registers don't tell. [`EduManaged`] manages the IOMMU by itself and switches
//! between two address spaces. A board lists the last two after the first, so that
//! they are bound only where `driver.override=<device>:edu-wide` asks for it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod device;
mod hostile;
mod managed;

pub use managed::EduManaged;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE, PhysAddr};
use mastiff_core::dma::{Bidirectional, Direction, Dma, DmaMapping, FromDevice, ToDevice};
use mastiff_core::driver::{Bound, DmaProof, DmaTest, Driver, Hostile, Match, Way};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::platform::{Barrier, Pages, Platform};
use mastiff_core::probe::{Interrupt, Probe};
use spin::Mutex;

use device::{BUFFER_LEN, Device};

/// The driver.
pub struct Edu;

/// The driver of one with all address bits.
pub struct EduWide;

const MATCHES: &[Match] = &[Match::pci(0x1234, 0x11e8).master()];
/// Address bits that the device puts on the bus (edu specification, DMA).
const MASK_BITS: u32 = 28;
/// Bytes of a round trip, and of the device's buffer: one page.
const LEN: usize = BUFFER_LEN as usize;

impl<P: Platform> Driver<P> for Edu {
    fn name(&self) -> &'static str {
        "edu"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        bind(probe, MASK_BITS)
    }
}

impl<P: Platform> Driver<P> for EduWide {
    fn name(&self) -> &'static str {
        "edu-wide"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        bind(probe, u64::BITS)
    }
}

fn bind<P: Platform>(probe: &mut Probe<'_, P>, bits: u32) -> Result<Box<dyn Bound>, ProbeError> {
    let registers = probe.mmio(0, device::REGISTERS)?;
    let dma = probe.dma()?;
    dma.set_mask(bits)?;
    let device = Arc::new(Device::new(probe.platform(), registers));
    let interrupt = probe.interrupt(device.clone())?;
    device.check()?;
    Ok(Box::new(BoundEdu {
        _interrupt: interrupt,
        transfer: Mutex::new(Transfers {
            device,
            dma,
            begun: None,
            lent: None,
            kept: None,
            launched: false,
        }),
    }))
}

struct BoundEdu<P: Platform> {
    // Gone first: its handler uses the device.
    _interrupt: Interrupt,
    // One transfer at a time: there is one buffer.
    transfer: Mutex<Transfers<P>>,
}

struct Transfers<P: Platform> {
    device: Arc<Device<P>>,
    // The first half of a round trip, if that is under way.
    begun: Option<Begun<P>>,
    // What it may reach until it is told otherwise.
    lent: Option<DmaMapping<P, Bidirectional>>,
    // What it was lent and does not have any more.
    kept: Option<P::Pages>,
    // It was sent somewhere, and nobody has waited for it.
    launched: bool,
    dma: Dma<P>,
}

/// Memory that the device is reading, and what is in it.
struct Begun<P: Platform> {
    source: DmaMapping<P, ToDevice>,
    pa: PhysAddr,
    pattern: Vec<u8>,
}

impl<P: Platform> Bound for BoundEdu<P> {
    fn quiesce(&self) {
        self.transfer.lock().device.silence();
    }

    fn suspend(&self) -> Result<(), Fault> {
        let transfer = self.transfer.lock();
        match transfer.launched {
            // It is up to no good, and whoever sent it wants to see what stops it.
            true => Ok(()),
            false => transfer.device.settle(),
        }
    }

    fn resume(&self) -> Result<(), Fault> {
        self.transfer.lock().device.check()
    }

    fn dma_test(&self) -> Option<&dyn DmaTest> {
        Some(self)
    }

    fn hostile(&self) -> Option<&dyn Hostile> {
        Some(self)
    }
}

impl<P: Platform> DmaTest for BoundEdu<P> {
    fn round_trip(&self) -> Result<DmaProof, Fault> {
        self.transfer.lock().round_trip()
    }

    fn begin(&self) -> Result<(), Fault> {
        self.transfer.lock().begin()
    }

    fn finish(&self) -> Result<DmaProof, Fault> {
        self.transfer.lock().finish()
    }
}

impl<P: Platform> Transfers<P> {
    /// Pattern to the device, back to other memory, compared there.
    fn round_trip(&mut self) -> Result<DmaProof, Fault> {
        self.begin()?;
        self.finish()
    }

    /// Starts to give the device a pattern.
    fn begin(&mut self) -> Result<(), Fault> {
        let pattern = pattern(self.device.now());
        self.give(pattern)
    }

    /// Starts to give the device these bytes.
    fn give(&mut self, pattern: Vec<u8>) -> Result<(), Fault> {
        self.at_rest()?;
        let source = self.dma.pages(PAGE)?;
        source.write(0, &pattern);
        let pa = source.pa();
        let source = self
            .dma
            .map::<ToDevice>(source)
            .map_err(|failure| failure.fault)?;
        self.device.barrier(Barrier::Publish);
        let len = pattern.len() as u32;
        self.device.start(Way::Read, source.iova(), len)?;
        self.begun = Some(Begun {
            source,
            pa,
            pattern,
        });
        Ok(())
    }

    /// Sees to it that the device has the pattern, and compares what comes back.
    fn finish(&mut self) -> Result<DmaProof, Fault> {
        let (iova, pa, pattern) = self.given()?;
        let back = self.fetch(BUFFER_LEN)?;
        compare(&back, &pattern)?;
        Ok(DmaProof {
            bytes: 2 * u64::from(BUFFER_LEN),
            iova,
            pa,
        })
    }

    /// Sees to it that the device has what it was given: where that was, and what.
    fn given(&mut self) -> Result<(Iova, PhysAddr, Vec<u8>), Fault> {
        let begun = self.begun.take();
        let Begun {
            source,
            pa,
            pattern,
        } = begun.ok_or_else(|| Fault::invalid("no round trip was begun"))?;
        let iova = source.iova();
        let finished = self.device.finish();
        Self::release(source, finished)?;
        Ok((iova, pa, pattern))
    }

    fn at_rest(&self) -> Result<(), Fault> {
        match self.begun {
            None => Ok(()),
            Some(_) => Err(Fault::invalid("a round trip is under way; finish it first")),
        }
    }

    /// What the device's buffer holds, by DMA to memory.
    fn fetch(&self, len: u32) -> Result<Vec<u8>, Fault> {
        let target = self.dma.pages(PAGE)?;
        // What the device does not write must not look as if it had.
        target.fill(0, LEN, 0);
        let target = self
            .dma
            .map::<FromDevice>(target)
            .map_err(|failure| failure.fault)?;
        self.device.barrier(Barrier::Publish);
        let transfer = self.device.transfer(Way::Write, target.iova(), len);
        let target = Self::release(target, transfer)?;
        self.device.barrier(Barrier::Acquire);
        let mut bytes = vec![0; LEN];
        target.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Memory after its transfer. One that failed may still be under way, and not
    /// every machine has an IOMMU that would stop it now: its memory is parked.
    fn release<D: Direction>(
        memory: DmaMapping<P, D>,
        transfer: Result<(), Fault>,
    ) -> Result<P::Pages, Fault> {
        match transfer {
            Ok(()) => memory.unmap(),
            Err(fault) => {
                memory.park();
                Err(fault)
            }
        }
    }
}

impl<P: Platform> Drop for Transfers<P> {
    /// A round trip that nobody finished goes with the binding, its memory only when
    /// the device has read it.
    fn drop(&mut self) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        let settled = self.device.settle();
        // On an error the pages are parked, and there is nobody left to tell.
        let _ = Self::release(begun.source, settled);
    }
}

/// Whether these are the bytes that were sent.
fn compare(seen: &[u8], expected: &[u8]) -> Result<(), Fault> {
    match seen.iter().zip(expected).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(Fault::Mismatch {
            offset: at as u64,
            expected: expected[at],
            seen: seen[at],
        }),
    }
}

/// Bytes that differ from call to call and from their neighbours.
fn pattern(seed: u64) -> Vec<u8> {
    // xorshift64 (Marsaglia, 2003); its state must not be 0.
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as u8
    };
    core::iter::repeat_with(next).take(LEN).collect()
}

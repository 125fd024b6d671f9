//! The device's registers, and its one transfer: a fixed word, over and over, to an
//! address on its bus, which it then looks for in memory, past any IOMMU.

use mastiff_core::addr::{Iova, PhysAddr};
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Mmio, Platform, poll};

/// Bytes of registers that are used.
pub const REGISTERS: u64 = 0x24;
/// What it writes, lowest byte first (iommu-testdev specification, DMA operation flow).
pub const WORD: u32 = 0x1234_5678;

// Offsets (iommu-testdev specification, device interface).
const DMA_TRIGGERING: usize = 0x00;
const DMA_GVA_LO: usize = 0x04;
const DMA_GVA_HI: usize = 0x08;
const DMA_LEN: usize = 0x0c;
const DMA_RESULT: usize = 0x10;
const DMA_DBELL: usize = 0x14;
const DMA_ATTRS: usize = 0x18;
const DMA_GPA_LO: usize = 0x1c;
const DMA_GPA_HI: usize = 0x20;

const ARM: u32 = 1;
const DISARM: u32 = 0;
/// No security space is named: transactions are Non-secure.
const NON_SECURE: u32 = 0;

const DONE: u32 = 0;
const IDLE: u32 = 0xffff_ffff;
const ARMED: u32 = 0xffff_fffe;

/// A transfer is over when the read that triggers it returns; this is for a later
/// device that takes its time, as its specification allows it.
const TRANSFER_US: u64 = 100_000;

/// The device.
pub struct Device<P: Platform> {
    platform: P,
    registers: P::Mmio,
}

impl<P: Platform> Device<P> {
    /// The device behind these registers.
    pub fn new(platform: &P, registers: P::Mmio) -> Self {
        Self {
            platform: platform.clone(),
            registers,
        }
    }

    /// Makes sure that it is there and does as it is told; it is idle afterwards.
    pub fn check(&self) -> Result<(), Fault> {
        for (command, expected) in [(ARM, ARMED), (DISARM, IDLE)] {
            self.registers.write32(DMA_DBELL, command);
            let seen = self.registers.read32(DMA_RESULT);
            if seen != expected {
                return Err(Fault::Register {
                    name: "DMA_RESULT",
                    expected: expected.into(),
                    seen: seen.into(),
                });
            }
        }
        Ok(())
    }

    /// Takes back what was armed and not triggered.
    pub fn disarm(&self) {
        self.registers.write32(DMA_DBELL, DISARM);
    }

    /// Writes `len` bytes from `at` on; the device then finds them from `behind` on, or
    /// says that it does not. Nothing is under way any more when this returns.
    pub fn write(&self, at: Iova, behind: PhysAddr, len: u32) -> Result<(), Fault> {
        let halves = |address: u64| (address as u32, (address >> 32) as u32);
        let ((low, high), (behind_low, behind_high)) = (halves(at.0), halves(behind.0));
        for (register, value) in [
            (DMA_GVA_LO, low),
            (DMA_GVA_HI, high),
            (DMA_GPA_LO, behind_low),
            (DMA_GPA_HI, behind_high),
            (DMA_LEN, len),
            (DMA_ATTRS, NON_SECURE),
            (DMA_DBELL, ARM),
        ] {
            self.registers.write32(register, value);
        }
        self.platform.barrier(Barrier::Publish);
        self.registers.read32(DMA_TRIGGERING);
        let ended = || Some(self.registers.read32(DMA_RESULT)).filter(|&result| result != ARMED);
        let result = poll(&self.platform, TRANSFER_US, ended);
        self.platform.barrier(Barrier::Acquire);
        match result {
            Some(DONE) => Ok(()),
            Some(code) => Err(Fault::Device {
                during: "DMA write",
                status: status(code),
                code: code.into(),
            }),
            None => {
                self.disarm();
                Err(Fault::Timeout {
                    awaited: "end of the transfer",
                    register: "DMA_RESULT",
                    seen: ARMED.into(),
                    us: TRANSFER_US,
                })
            }
        }
    }
}

/// What a result means.
fn status(code: u32) -> &'static str {
    match code {
        0xdead_0001 => "bad length",
        0xdead_0002 => "the write did not go through",
        0xdead_0003 => "the memory behind cannot be read",
        0xdead_0004 => "the memory behind holds something else",
        0xdead_0005 => "not armed",
        0xdead_0006 => "bad attributes",
        _ => "unknown result",
    }
}

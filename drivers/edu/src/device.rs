//! The device's registers: identification, and one DMA transfer at a time that
//! ends with an interrupt.

use core::sync::atomic::{AtomicBool, Ordering};

use mastiff_core::addr::Iova;
use mastiff_core::driver::Way;
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqHandler;
use mastiff_core::platform::{Barrier, Mmio, Platform, wait};

/// Bytes of registers that are used.
pub const REGISTERS: u64 = 0x100;
/// Bytes of the device's buffer.
pub const BUFFER_LEN: u32 = 4096;

// Offsets (edu specification, MMIO area).
const IDENTIFICATION: usize = 0x00;
const LIVENESS: usize = 0x04;
const INTERRUPT_STATUS: usize = 0x24;
const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
const DMA_SOURCE: usize = 0x80;
const DMA_DESTINATION: usize = 0x88;
const DMA_COUNT: usize = 0x90;
const DMA_COMMAND: usize = 0x98;

/// Version 1.0 and the signature.
const EDU: u32 = 0x0100_00ed;
/// What it is told to see whether it answers; any value would do.
const ALIVE: u32 = 0x5a5a_1234;
/// Where the device's buffer is for itself.
const BUFFER: u64 = 0x4_0000;

const COMMAND_RUN: u64 = 1 << 0;
const COMMAND_TO_MEMORY: u64 = 1 << 1;
const COMMAND_INTERRUPT: u64 = 1 << 2;
/// The cause that the end of a transfer raises.
const CAUSE_DMA: u32 = 0x100;

/// A transfer takes 100 ms of the machine's time; a slow host may take far longer
/// to let that pass.
const TRANSFER_US: u64 = 5_000_000;
/// How often something else is done during one, where something is.
const TURN_US: u64 = 500;

/// The device.
pub struct Device<P: Platform> {
    platform: P,
    registers: P::Mmio,
    finished: AtomicBool,
}

impl<P: Platform> Device<P> {
    /// The device behind these registers.
    pub fn new(platform: &P, registers: P::Mmio) -> Self {
        Self {
            platform: platform.clone(),
            registers,
            finished: AtomicBool::new(false),
        }
    }

    /// Makes sure that it is an edu, and alive: it answers with the complement of
    /// what it is told.
    pub fn check(&self) -> Result<(), Fault> {
        let seen = self.registers.read32(IDENTIFICATION);
        if seen != EDU {
            return Err(Fault::Register {
                name: "IDENTIFICATION",
                expected: EDU.into(),
                seen: seen.into(),
            });
        }
        self.registers.write32(LIVENESS, ALIVE);
        let seen = self.registers.read32(LIVENESS);
        if seen != !ALIVE {
            return Err(Fault::Register {
                name: "LIVENESS",
                expected: (!ALIVE).into(),
                seen: seen.into(),
            });
        }
        self.silence();
        Ok(())
    }

    /// Acknowledges whatever it interrupts for.
    pub fn silence(&self) {
        let causes = self.registers.read32(INTERRUPT_STATUS);
        self.registers.write32(INTERRUPT_ACKNOWLEDGE, causes);
    }

    /// The machine's time, as a number that differs from call to call.
    pub fn now(&self) -> u64 {
        self.platform.now().0
    }

    /// Orders memory and registers.
    pub fn barrier(&self, kind: Barrier) {
        self.platform.barrier(kind);
    }

    /// Moves `len` bytes between `memory` and the buffer, and waits for the end.
    pub fn transfer(&self, way: Way, memory: Iova, len: u32) -> Result<(), Fault> {
        self.start(way, memory, len)?;
        self.finish()
    }

    /// Starts to move `len` bytes between `memory` and the buffer; an interrupt tells
    /// the end.
    pub fn start(&self, way: Way, memory: Iova, len: u32) -> Result<(), Fault> {
        self.finished.store(false, Ordering::Relaxed);
        self.command(way, memory, len, COMMAND_INTERRUPT)
    }

    /// The same, and nothing tells the end.
    pub fn start_in_silence(&self, way: Way, memory: Iova, len: u32) -> Result<(), Fault> {
        self.command(way, memory, len, 0)
    }

    fn command(&self, way: Way, memory: Iova, len: u32, announce: u64) -> Result<(), Fault> {
        self.idle()?;
        let (source, destination, direction) = match way {
            Way::Read => (memory.0, BUFFER, 0),
            Way::Write => (BUFFER, memory.0, COMMAND_TO_MEMORY),
        };
        self.registers.write64(DMA_SOURCE, source);
        self.registers.write64(DMA_DESTINATION, destination);
        self.registers.write64(DMA_COUNT, len.into());
        self.registers
            .write64(DMA_COMMAND, COMMAND_RUN | announce | direction);
        Ok(())
    }

    /// Waits for the end of what was started.
    pub fn finish(&self) -> Result<(), Fault> {
        let finished = || self.is_finished().then_some(());
        wait(&self.platform, TRANSFER_US, finished).ok_or_else(|| self.timeout("DMA interrupt"))
    }

    /// The same, and calls `busy` time and again until then.
    pub fn finish_while(&self, mut busy: impl FnMut() -> Result<(), Fault>) -> Result<(), Fault> {
        for _ in 0..TRANSFER_US / TURN_US {
            let finished = || self.is_finished().then_some(());
            if wait(&self.platform, TURN_US, finished).is_some() {
                return Ok(());
            }
            busy()?;
        }
        Err(self.timeout("DMA interrupt"))
    }

    fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits until nothing is under way, announced or not.
    pub fn settle(&self) -> Result<(), Fault> {
        let idle = || self.is_idle().then_some(());
        wait(&self.platform, TRANSFER_US, idle).ok_or_else(|| self.timeout("end of the transfer"))
    }

    /// A transfer that timed out may still be under way, and must not be changed.
    fn idle(&self) -> Result<(), Fault> {
        match self.is_idle() {
            true => Ok(()),
            false => Err(self.timeout("end of the transfer before")),
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.registers.read64(DMA_COMMAND) & COMMAND_RUN == 0
    }

    fn timeout(&self, awaited: &'static str) -> Fault {
        Fault::Timeout {
            awaited,
            register: "DMA_COMMAND",
            seen: self.registers.read64(DMA_COMMAND),
            us: TRANSFER_US,
        }
    }
}

impl<P: Platform> IrqHandler for Device<P> {
    fn handle(&self) {
        let causes = self.registers.read32(INTERRUPT_STATUS);
        self.registers.write32(INTERRUPT_ACKNOWLEDGE, causes);
        if causes & CAUSE_DMA != 0 {
            self.finished.store(true, Ordering::Release);
        }
    }
}

//! The device at work: bytes out by polling, bytes in through a ring.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, Ordering};

use mastiff_core::console::Console;
use mastiff_core::platform::{Mmio, Platform, poll};
use spin::Mutex;

use crate::clock::Divisor;
use crate::spec::*;

/// How long a full transmitter may take to make room. At 1200 baud a byte takes
/// 8 ms.
const ROOM_US: u64 = 50_000;
/// How long it may take to send all that it holds, 32 bytes.
const DRAIN_US: u64 = 500_000;
/// How many bytes are kept that nobody has read yet.
const RING: usize = 256;

/// How a UART is set up: what it loses with its power.
pub struct Setup {
    integer: u32,
    fraction: u32,
    line: u32,
    control: u32,
}

/// A PL011.
pub struct Uart<P: Platform> {
    platform: P,
    regs: P::Mmio,
    // The transmitter made no room in time. Until it does, nothing waits for it
    // again: a log over a dead line must not stop the kernel.
    stuck: AtomicBool,
    ring: Mutex<VecDeque<u8>>,
}

impl<P: Platform> Uart<P> {
    /// The UART with these registers, untouched yet.
    pub fn new(platform: P, regs: P::Mmio) -> Self {
        Self {
            platform,
            regs,
            stuck: AtomicBool::new(false),
            ring: Mutex::new(VecDeque::with_capacity(RING)),
        }
    }

    /// Switches it on, if nobody has, and says how it is set up.
    pub fn set_up(&self, divisor: Option<Divisor>) -> Setup {
        let found = Setup {
            integer: self.regs.read32(IBRD),
            fraction: self.regs.read32(FBRD),
            line: self.regs.read32(LCR_H),
            control: self.regs.read32(CR),
        };
        if found.control & CR_ON == CR_ON {
            return found;
        }
        // Where firmware has chosen a speed but left it off, the speed stays.
        let speed = divisor
            .filter(|_| found.integer == 0)
            .map_or((found.integer, found.fraction), |divisor| {
                (divisor.integer(), divisor.fraction())
            });
        let setup = Setup {
            integer: speed.0,
            fraction: speed.1,
            line: LCR_H_8N1_FIFO,
            control: found.control | CR_ON,
        };
        self.bring_back(&setup);
        setup
    }

    /// Sets it up. That may be changed only with the UART off and its transmitter
    /// done (DDI 0183 §3.3.8).
    pub fn bring_back(&self, setup: &Setup) {
        self.regs.write32(CR, setup.control & !CR_UARTEN);
        // If it never ends, what is lost is a few bytes.
        let _ = poll(&self.platform, DRAIN_US, || self.is_clear(FR_BUSY));
        self.regs.write32(IBRD, setup.integer);
        self.regs.write32(FBRD, setup.fraction);
        self.regs.write32(LCR_H, setup.line);
        self.regs.write32(CR, setup.control);
    }

    /// Lets the receiver interrupt, for what came in already too, or lets it not. It
    /// goes on sending either way, for whoever prints last.
    pub fn listen(&self, interrupt: bool) {
        self.regs
            .write32(IMSC, if interrupt { INT_RECEIVE } else { 0 });
    }

    /// Moves what came in to the ring, where what does not fit is lost. The
    /// interrupt is cleared before: a byte that comes later raises it again.
    pub fn take_in(&self) {
        let mut ring = self.ring.lock();
        self.regs.write32(ICR, INT_RECEIVE);
        // Bounded: registers that answer all zeroes look like endless input.
        for _ in 0..RING {
            if self.is_clear(FR_RXFE).is_none() {
                break;
            }
            let data = self.regs.read32(DR);
            if data & DR_DAMAGED == 0 && ring.len() < RING {
                ring.push_back(data as u8);
            }
        }
    }

    fn is_clear(&self, flag: u32) -> Option<()> {
        (self.regs.read32(FR) & flag == 0).then_some(())
    }

    fn has_room(&self) -> bool {
        let room = if self.stuck.load(Ordering::Relaxed) {
            self.is_clear(FR_TXFF)
        } else {
            poll(&self.platform, ROOM_US, || self.is_clear(FR_TXFF))
        };
        self.stuck.store(room.is_none(), Ordering::Relaxed);
        room.is_some()
    }
}

impl<P: Platform> Console for Uart<P> {
    fn write(&self, bytes: &[u8]) {
        for &byte in bytes {
            if self.has_room() {
                self.regs.write32(DR, u32::from(byte));
            }
        }
    }

    fn read(&self) -> Option<u8> {
        self.take_in();
        self.ring.lock().pop_front()
    }
}

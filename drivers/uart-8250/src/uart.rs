//! The device at work: bytes out by polling, bytes in through a ring.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, Ordering};

use mastiff_core::console::Console;
use mastiff_core::platform::{Platform, poll};
use spin::Mutex;

use crate::regs::{Member, Registers};
use crate::spec::*;

/// How long a full transmitter may take to make room. At 1200 baud a byte takes
/// 8 ms, and the FIFO is told to be empty, not to have room.
const ROOM_US: u64 = 150_000;
/// How long it may take to send all that it holds.
const DRAIN_US: u64 = 500_000;
/// How many bytes are kept that nobody has read yet.
const RING: usize = 256;

/// How firmware has set a UART up: what it loses with its power.
pub struct Setup {
    divisor: [u8; 2],
    line: u8,
    modem: u8,
    mode: u8,
}

/// A UART of the family.
pub struct Uart<P: Platform> {
    platform: P,
    regs: Registers<P::Mmio>,
    // As in any of our UARTs: a log over a dead line must not stop the kernel.
    stuck: AtomicBool,
    ring: Mutex<VecDeque<u8>>,
}

impl<P: Platform> Uart<P> {
    /// The UART with these registers, untouched yet.
    pub fn new(platform: P, regs: Registers<P::Mmio>) -> Self {
        Self {
            platform,
            regs,
            stuck: AtomicBool::new(false),
            ring: Mutex::new(VecDeque::with_capacity(RING)),
        }
    }

    /// How it is set up; none where it never was, and has no divisor.
    pub fn found(&self) -> Option<Setup> {
        let line = self.regs.read(LCR);
        self.drain();
        self.regs.write(LCR, line | LCR_LATCH);
        let divisor = [DATA, IER].map(|register| self.regs.read(register));
        self.regs.write(LCR, line & !LCR_LATCH);
        if divisor == [0, 0] {
            return None;
        }
        Some(Setup {
            divisor,
            line: line & !LCR_LATCH,
            modem: self.regs.read(MCR),
            mode: match self.regs.layout.member {
                Member::Ti => self.regs.read(MDR1),
                _ => 0,
            },
        })
    }

    /// Sets it up again.
    pub fn bring_back(&self, setup: &Setup) {
        self.drain();
        self.regs.write(FCR, FCR_ON);
        self.regs.write(LCR, setup.line | LCR_LATCH);
        self.regs.write(DATA, setup.divisor[0]);
        self.regs.write(IER, setup.divisor[1]);
        self.regs.write(LCR, setup.line);
        self.regs.write(MCR, setup.modem);
        if self.regs.layout.member == Member::Ti {
            self.regs.write(MDR1, setup.mode);
        }
    }

    /// Waits until all is sent: the line may not be changed before, and a DW_apb_uart
    /// would ignore it. If it never ends, what is lost is a few bytes.
    fn drain(&self) {
        let _ = poll(&self.platform, DRAIN_US, || self.has(LSR_IDLE));
    }

    /// Lets the receiver interrupt, or lets it not.
    pub fn listen(&self, interrupt: bool) {
        let enabled = if interrupt { IER_RECEIVE } else { 0 };
        self.regs.write(IER, enabled);
    }

    /// Moves what came in to the ring, where what does not fit is lost.
    pub fn take_in(&self) {
        let mut ring = self.ring.lock();
        self.settle();
        // Bounded: registers that answer all ones look like endless input.
        for _ in 0..RING {
            let status = self.regs.read(LSR);
            if status & LSR_READY == 0 {
                break;
            }
            let byte = self.regs.read(DATA);
            if status & LSR_DAMAGED == 0 && ring.len() < RING {
                ring.push_back(byte);
            }
        }
    }

    /// A DW_apb_uart has interrupts that reading bytes does not end: that the line was
    /// changed at work, and a silence after no byte at all.
    fn settle(&self) {
        if self.regs.layout.member != Member::Synopsys {
            return;
        }
        let cause = self.regs.read(IIR) & IIR_CAUSE;
        if cause == IIR_BUSY {
            self.regs.read(USR);
        } else if cause == IIR_TIMEOUT && self.has(LSR_READY).is_none() {
            self.regs.read(DATA);
        }
    }

    fn has(&self, flag: u8) -> Option<()> {
        (self.regs.read(LSR) & flag != 0).then_some(())
    }

    fn has_room(&self) -> bool {
        let room = if self.stuck.load(Ordering::Relaxed) {
            self.has(LSR_ROOM)
        } else {
            poll(&self.platform, ROOM_US, || self.has(LSR_ROOM))
        };
        self.stuck.store(room.is_none(), Ordering::Relaxed);
        room.is_some()
    }
}

impl<P: Platform> Console for Uart<P> {
    fn write(&self, bytes: &[u8]) {
        for &byte in bytes {
            if self.has_room() {
                self.regs.write(DATA, byte);
            }
        }
    }

    fn read(&self) -> Option<u8> {
        self.take_in();
        self.ring.lock().pop_front()
    }
}

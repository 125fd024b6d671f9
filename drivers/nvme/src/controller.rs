//! The controller: enabling and disabling it in the architected order, handing
//! commands in, and waiting for them, always with a bound. A controller that fails
//! to answer is disabled, so that it has let go of all memory when the error
//! reaches the caller.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use mastiff_core::addr::Iova;
use mastiff_core::dma::{Bidirectional, DmaBuffer};
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqHandler;
use mastiff_core::platform::{Mmio, Platform, poll, wait};
use spin::Mutex;

use crate::queue::{Layout, Queue, SLOTS};
use crate::spec::command::{Command, Identify};
use crate::spec::register::*;

/// Bytes of registers that are used: those of the controller, and the doorbells of
/// two queue pairs at the widest stride that is supported.
pub const REGISTERS: u64 = 0x2000;
const PAGE: usize = 4096;
/// Entries of the admin queues.
const ADMIN_ENTRIES: u32 = 16;
/// Entries of the I/O queues: a page of commands.
const IO_ENTRIES: u32 = 64;
const IO_QUEUE: u16 = 1;

// What is where in the buffer that the controller shares, in pages: the queues
// must be aligned to pages, the PRP lists only to their entries.
const ADMIN_SUBMISSIONS: usize = 0;
const ADMIN_COMPLETIONS: usize = PAGE;
const IO_SUBMISSIONS: usize = 2 * PAGE;
const IO_COMPLETIONS: usize = 3 * PAGE;
const PRP_LISTS: usize = 4 * PAGE;
/// Identify is over before the first read, so its answers come where the lists
/// will be.
const ANSWER: usize = PRP_LISTS;
/// Bytes of that buffer.
pub const MEMORY: u64 = 5 * PAGE as u64;
/// Entries of a PRP list: with the first page, which is in the command, 128 KiB.
pub const PRP_LIST: usize = 31;
const PRP_LIST_STRIDE: usize = PAGE / SLOTS;
const _: () = assert!(PRP_LIST * 8 <= PRP_LIST_STRIDE);

/// How long a command may take.
const COMMAND_US: u64 = 30_000_000;
/// How often the wait for it looks whether the controller has failed.
const LOOK_US: u64 = 100_000;
/// How long a shutdown may take. Drives write their caches back meanwhile.
const SHUTDOWN_US: u64 = 10_000_000;
/// How long a change of state is watched closely, and how long the naps are
/// between looks from then on: most take microseconds, some take seconds.
const CLOSE_LOOK_US: u64 = 1_000;
const NAP_US: u64 = 1_000;

/// Which queue a command goes to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum To {
    /// The admin queue.
    Admin,
    /// The I/O queue.
    Io,
}

/// A command that is out.
#[derive(Copy, Clone, Debug)]
pub struct Ticket {
    to: To,
    slot: u16,
    name: &'static str,
}

/// The controller and its shared memory.
pub struct Controller<P: Platform> {
    name: Box<str>,
    platform: P,
    registers: P::Mmio,
    capabilities: Capabilities,
    // None only once the controller could not be stopped: see `Drop`.
    memory: Option<DmaBuffer<P, Bidirectional>>,
    queues: Mutex<Queues>,
    // Whether it may touch memory.
    running: AtomicBool,
    // Why it is not used any more.
    broken: Mutex<Option<Fault>>,
}

struct Queues {
    admin: Queue,
    io: Queue,
}

impl Queues {
    fn get(&mut self, to: To) -> &mut Queue {
        match to {
            To::Admin => &mut self.admin,
            To::Io => &mut self.io,
        }
    }
}

impl<P: Platform> Controller<P> {
    /// The controller behind these registers, with `memory` of [`MEMORY`] bytes
    /// for its queues. Nothing but identification is touched.
    pub fn new(
        name: Box<str>,
        platform: &P,
        registers: P::Mmio,
        memory: DmaBuffer<P, Bidirectional>,
    ) -> Result<Self, Fault> {
        let capabilities = Capabilities(registers.read64(CAP));
        let unsupported = |what| {
            let seen = capabilities.0;
            Fault::Unsupported { what, seen }
        };
        if !capabilities.has_nvm_command_set() {
            return Err(unsupported("CAP.CSS: no NVM command set"));
        }
        if !capabilities.has_4k_pages() {
            return Err(unsupported("CAP.MPSMIN: no 4 KiB pages"));
        }
        let stride = capabilities.doorbell_stride();
        if head_doorbell(IO_QUEUE, stride) + 4 > registers.len() {
            return Err(unsupported(
                "CAP.DSTRD: doorbells beyond the register window",
            ));
        }
        let entries = IO_ENTRIES.min(capabilities.queue_entries());
        if entries < 2 {
            return Err(unsupported("CAP.MQES: queues of one entry"));
        }
        Ok(Self {
            name,
            platform: platform.clone(),
            registers,
            capabilities,
            memory: Some(memory),
            queues: Mutex::new(Queues {
                admin: Queue::new(Layout {
                    id: 0,
                    entries: ADMIN_ENTRIES,
                    submissions: ADMIN_SUBMISSIONS,
                    completions: ADMIN_COMPLETIONS,
                    stride,
                }),
                io: Queue::new(Layout {
                    id: IO_QUEUE,
                    entries,
                    submissions: IO_SUBMISSIONS,
                    completions: IO_COMPLETIONS,
                    stride,
                }),
            }),
            running: AtomicBool::new(false),
            broken: Mutex::new(None),
        })
    }

    fn memory(&self) -> &DmaBuffer<P, Bidirectional> {
        // Taken out by `Drop` alone.
        self.memory
            .as_ref()
            .expect("the controller is in use after its end")
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> u32 {
        self.registers.read32(VS)
    }

    /// Most I/O commands that can be out.
    pub fn depth(&self) -> usize {
        self.queues.lock().io.depth()
    }

    /// Resets it and brings its admin queue up (§3.5.1).
    pub fn enable(&self) -> Result<(), Fault> {
        // Whatever ran it before us may have left it running.
        self.disable()?;
        let memory = self.memory();
        let queues = self.queues.lock();
        let entries = queues.admin.entries() - 1;
        self.registers.write32(AQA, entries << 16 | entries);
        self.registers
            .write64(ASQ, queues.admin.submissions_at(memory).0);
        self.registers
            .write64(ACQ, queues.admin.completions_at(memory).0);
        drop(queues);
        self.running.store(true, Ordering::Release);
        self.registers.write32(CC, CC_ENTRIES | CC_ENABLE);
        let came_up = self
            .await_status("CSTS.RDY = 1", self.capabilities.timeout_us(), |status| {
                status & (CSTS_READY | CSTS_FATAL) != 0
            })
            .and_then(|()| self.check_fatal());
        came_up.map_err(|fault| self.give_up(fault))
    }

    /// Brings it up again after it was shut down, from whatever state it is in.
    pub fn restart(&self) -> Result<(), Fault> {
        if let Some(fault) = &*self.broken.lock() {
            return Err(fault.clone());
        }
        let seen = self.registers.read64(CAP);
        if seen != self.capabilities.0 {
            return Err(Fault::Register {
                name: "CAP",
                expected: self.capabilities.0,
                seen,
            });
        }
        {
            let mut queues = self.queues.lock();
            queues.admin.reset();
            queues.io.reset();
        }
        // Completions from before would look like new ones.
        self.memory().fill(0, PRP_LISTS, 0);
        self.enable()?;
        self.create_io_queues()
    }

    /// Asks for a page of information.
    pub fn identify(&self, what: Identify) -> Result<Vec<u8>, Fault> {
        let at = self.memory().iova().add(ANSWER as u64);
        self.run(&Command::identify(what, at))?;
        let mut page = vec![0; PAGE];
        self.memory().read(ANSWER, &mut page);
        Ok(page)
    }

    /// Creates the I/O queue pair.
    pub fn create_io_queues(&self) -> Result<(), Fault> {
        let memory = self.memory();
        let (completions, submissions) = {
            let io = &self.queues.lock().io;
            let (id, entries) = (io.id(), io.entries());
            (
                Command::create_completion_queue(id, io.completions_at(memory), entries),
                Command::create_submission_queue(id, io.submissions_at(memory), entries),
            )
        };
        self.run(&Command::one_queue_pair())?;
        self.run(&completions)?;
        self.run(&submissions)
    }

    /// Runs an admin command to its end.
    fn run(&self, command: &Command) -> Result<(), Fault> {
        let ticket = self.submit(To::Admin, |_| *command)?;
        self.finish(ticket)
    }

    /// Hands in the command that `make` gives for a slot.
    pub fn submit(&self, to: To, make: impl FnOnce(u16) -> Command) -> Result<Ticket, Fault> {
        if let Some(fault) = &*self.broken.lock() {
            return Err(fault.clone());
        }
        let mut queues = self.queues.lock();
        let queue = queues.get(to);
        let slot = queue.claim()?;
        let command = make(slot);
        let name = command.name;
        queue.submit(
            &self.platform,
            &self.registers,
            self.memory(),
            slot,
            &command,
        );
        Ok(Ticket { to, slot, name })
    }

    /// Waits for a command. An error other than the command's own status means
    /// that the controller was stopped.
    pub fn finish(&self, ticket: Ticket) -> Result<(), Fault> {
        for _ in 0..COMMAND_US / LOOK_US {
            let done = || self.queues.lock().get(ticket.to).take(ticket.slot);
            if let Some(status) = wait(&self.platform, LOOK_US, done) {
                return status.check(ticket.name);
            }
            if let Err(fault) = self.check_fatal() {
                return Err(self.give_up(fault));
            }
        }
        // Has it completed, and only the interrupt got lost?
        let lost = self.reap();
        let awaited = if lost {
            "completion interrupt"
        } else {
            "completion"
        };
        Err(self.give_up(self.timeout(awaited, COMMAND_US)))
    }

    /// Where the PRP list of an I/O command's slot is for the controller, filled
    /// with the pages from `first` on.
    pub fn prp_list(&self, slot: u16, first: Iova, pages: usize) -> Iova {
        let at = PRP_LISTS + usize::from(slot) * PRP_LIST_STRIDE;
        for page in 0..pages {
            self.memory()
                .store64(at + 8 * page, first.0 + (page * PAGE) as u64);
        }
        self.memory().iova().add(at as u64)
    }

    /// Whether it was brought to let go of all memory, or never held any.
    pub fn is_stopped(&self) -> bool {
        !self.running.load(Ordering::Acquire)
    }

    /// Whether it was given up.
    pub fn is_broken(&self) -> bool {
        self.broken.lock().is_some()
    }

    /// Announces the end and disables the controller (§3.6.1). When this returns
    /// `Ok` it does not touch memory any more.
    pub fn shut_down(&self) -> Result<(), Fault> {
        if self.is_stopped() {
            return Ok(());
        }
        if self.broken.lock().is_none() {
            let configuration = self.registers.read32(CC) & !CC_SHUTDOWN;
            self.registers
                .write32(CC, configuration | CC_SHUTDOWN_NORMAL);
            let complete = |status| status & CSTS_SHUTDOWN == CSTS_SHUTDOWN_DONE;
            // One that does not shut down is disabled all the same.
            if let Err(fault) = self.await_status("end of shutdown", SHUTDOWN_US, complete) {
                log::warn!("{}: {fault}", self.name);
            }
        }
        self.disable()
    }

    /// Clears CC.EN and waits until the controller says that it has stopped.
    fn disable(&self) -> Result<(), Fault> {
        let configuration = self.registers.read32(CC);
        let timeout = self.capabilities.timeout_us();
        if configuration & CC_ENABLE != 0 {
            // EN must not go before RDY has come (§3.1.3.5), unless it never does.
            let settled = |status| status & (CSTS_READY | CSTS_FATAL) != 0;
            let _ = self.await_status("CSTS.RDY = 1", timeout, settled);
            self.registers
                .write32(CC, configuration & !CC_ENABLE & !CC_SHUTDOWN);
        }
        self.await_status("CSTS.RDY = 0", timeout, |status| status & CSTS_READY == 0)?;
        self.running.store(false, Ordering::Release);
        Ok(())
    }

    /// Ends the use of the controller, for this reason.
    fn give_up(&self, fault: Fault) -> Fault {
        log::error!("{}: {fault}; the controller is disabled", self.name);
        *self.broken.lock() = Some(fault.clone());
        if let Err(fault) = self.disable() {
            log::error!("{}: it cannot be disabled: {fault}", self.name);
        }
        fault
    }

    fn check_fatal(&self) -> Result<(), Fault> {
        let status = self.registers.read32(CSTS);
        // All ones: it is gone from the bus.
        if status & CSTS_FATAL == 0 {
            return Ok(());
        }
        Err(Fault::Device {
            during: "CSTS",
            status: "Controller Fatal Status",
            code: status.into(),
        })
    }

    fn await_status(
        &self,
        awaited: &'static str,
        us: u64,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), Fault> {
        let platform = &self.platform;
        let deadline = platform.now().after_us(us);
        let look = || done(self.registers.read32(CSTS)).then_some(());
        let mut seen = poll(platform, us.min(CLOSE_LOOK_US), look);
        while seen.is_none() && platform.now() < deadline {
            platform.sleep(platform.now().after_us(NAP_US));
            seen = look();
        }
        seen.ok_or_else(|| self.timeout(awaited, us))
    }

    fn timeout(&self, awaited: &'static str, us: u64) -> Fault {
        Fault::Timeout {
            awaited,
            register: "CSTS",
            seen: self.registers.read32(CSTS).into(),
            us,
        }
    }

    /// Takes in what has completed on either queue.
    fn reap(&self) -> bool {
        if self.is_stopped() {
            return false;
        }
        let mut queues = self.queues.lock();
        let Queues { admin, io } = &mut *queues;
        let reap = |queue: &mut Queue| {
            queue.reap(&self.platform, &self.registers, self.memory(), &self.name)
        };
        // Both, whatever came of the first.
        reap(admin) | reap(io)
    }
}

/// Both queues share one interrupt.
impl<P: Platform> IrqHandler for Controller<P> {
    fn handle(&self) {
        self.reap();
    }
}

impl<P: Platform> Drop for Controller<P> {
    fn drop(&mut self) {
        if let Err(fault) = self.shut_down() {
            log::error!("{}: it cannot be stopped: {fault}", self.name);
            if let Some(mut memory) = self.memory.take() {
                memory.park();
            }
        }
    }
}

//! The controller: enabling and disabling it in the architected order, handing
//! commands in, and waiting for them, always with a bound. A controller that fails
//! to answer is disabled, so that it has let go of all memory when the error
//! reaches the caller.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mastiff_core::addr::Iova;
use mastiff_core::dma::{Bidirectional, DmaBuffer};
use mastiff_core::error::Fault;
use mastiff_core::irq::IrqHandler;
use mastiff_core::platform::{Mmio, Platform, poll, wait};
use spin::{Mutex, Once};

use crate::queue::{LISTS_LEN, Layout, Outcome, Queue, Run};
use crate::spec::command::{Command, Identify, granted_pairs};
use crate::spec::register::*;

/// Bytes of registers that are used: those of the controller, and the doorbells of
/// two queue pairs at the widest stride that is supported.
pub const REGISTERS: u64 = 0x2000;
const PAGE: usize = 4096;
/// Entries of the admin queues.
const ADMIN_ENTRIES: u32 = 16;
/// Entries of the I/O queues: a page of commands.
const IO_ENTRIES: u32 = 64;

// What is where in the buffer that the controller shares: all of it is aligned to
// pages. The I/O pairs follow one another.
const ADMIN_SUBMISSIONS: usize = 0;
const ADMIN_COMPLETIONS: usize = PAGE;
const PAIRS: usize = 2 * PAGE;
const COMPLETIONS: usize = PAGE;
const LISTS: usize = 2 * PAGE;
const PAIR_LEN: usize = LISTS + LISTS_LEN;
/// Identify is over before the first read, so its answers come where the lists of the
/// first pair will be.
const ANSWER: usize = PAIRS + LISTS;

/// Bytes of that buffer for so many I/O pairs.
pub const fn memory(pairs: usize) -> u64 {
    (PAIRS + pairs * PAIR_LEN) as u64
}

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
    /// This one of the I/O queues.
    Io(usize),
}

/// Commands that are out.
#[derive(Copy, Clone, Debug)]
pub struct Ticket {
    to: To,
    run: Run,
}

/// The controller and its shared memory.
pub struct Controller<P: Platform> {
    name: Box<str>,
    platform: P,
    registers: P::Mmio,
    capabilities: Capabilities,
    // None only once the controller could not be stopped: see `Drop`.
    memory: Option<DmaBuffer<P, Bidirectional>>,
    admin: Mutex<Queue>,
    io: Vec<Mutex<Queue>>,
    // How many of them the controller has; 0 as long as there are admin commands.
    pairs: AtomicUsize,
    // Whether it may touch memory.
    running: AtomicBool,
    // Why it is not used any more.
    broken: Once<Fault>,
}

impl<P: Platform> Controller<P> {
    /// The controller behind these registers, with `memory` of [`memory`] bytes for its
    /// queues, `pairs` of them for I/O. Nothing but identification is touched.
    pub fn new(
        name: Box<str>,
        platform: &P,
        registers: P::Mmio,
        memory: DmaBuffer<P, Bidirectional>,
        pairs: usize,
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
        let io: Vec<u16> = (1..)
            .take(pairs)
            .take_while(|&id| head_doorbell(id, stride) + 4 <= registers.len())
            .collect();
        if io.is_empty() {
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
            admin: Mutex::new(Queue::new(Layout {
                id: 0,
                entries: ADMIN_ENTRIES,
                submissions: ADMIN_SUBMISSIONS,
                completions: ADMIN_COMPLETIONS,
                // None of its commands has one.
                lists: ADMIN_COMPLETIONS,
                stride,
            })),
            io: io
                .into_iter()
                .map(|id| {
                    let at = PAIRS + (usize::from(id) - 1) * PAIR_LEN;
                    Mutex::new(Queue::new(Layout {
                        id,
                        entries,
                        submissions: at,
                        completions: at + COMPLETIONS,
                        lists: at + LISTS,
                        stride,
                    }))
                })
                .collect(),
            pairs: AtomicUsize::new(0),
            running: AtomicBool::new(false),
            broken: Once::new(),
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

    fn queue(&self, to: To) -> &Mutex<Queue> {
        match to {
            To::Admin => &self.admin,
            To::Io(pair) => &self.io[pair],
        }
    }

    /// Where something in the shared memory is for the controller.
    fn at(&self, offset: usize) -> u64 {
        self.memory().iova().add(offset as u64).0
    }

    /// Most I/O commands that can be out in a pair.
    pub fn depth(&self) -> usize {
        self.io[0].lock().depth()
    }

    /// How many I/O pairs there are, at least one once they were created.
    pub fn pairs(&self) -> usize {
        self.pairs.load(Ordering::Relaxed)
    }

    /// Resets it and brings its admin queue up (§3.5.1).
    pub fn enable(&self) -> Result<(), Fault> {
        // Whatever ran it before us may have left it running.
        self.disable()?;
        let entries = ADMIN_ENTRIES - 1;
        self.registers.write32(AQA, entries << 16 | entries);
        self.registers.write64(ASQ, self.at(ADMIN_SUBMISSIONS));
        self.registers.write64(ACQ, self.at(ADMIN_COMPLETIONS));
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
        self.check_broken()?;
        let seen = self.registers.read64(CAP);
        if seen != self.capabilities.0 {
            return Err(Fault::Register {
                name: "CAP",
                expected: self.capabilities.0,
                seen,
            });
        }
        self.admin.lock().reset();
        for queue in &self.io {
            queue.lock().reset();
        }
        // Completions from before would look like new ones.
        self.memory().fill(0, self.memory().len(), 0);
        let pairs = self.pairs.swap(0, Ordering::Relaxed);
        self.enable()?;
        self.create_io_queues(pairs)
    }

    /// Asks for a page of information.
    pub fn identify(&self, what: Identify) -> Result<Vec<u8>, Fault> {
        let at = self.memory().iova().add(ANSWER as u64);
        self.run(&Command::identify(what, at))?;
        let mut page = vec![0; PAGE];
        self.memory().read(ANSWER, &mut page);
        Ok(page)
    }

    /// Creates I/O queue pairs, up to `most`: as many as the controller has. The
    /// interrupt of each has its number, counted from 0.
    pub fn create_io_queues(&self, most: usize) -> Result<(), Fault> {
        let wanted = most.clamp(1, self.io.len()) as u16;
        let granted = granted_pairs(self.run(&Command::queue_pairs(wanted))?).min(wanted);
        for (vector, queue) in (0..granted).zip(&self.io) {
            let Layout {
                id,
                entries,
                submissions,
                completions,
                ..
            } = *queue.lock().layout();
            let [submissions, completions] = [submissions, completions].map(|at| Iova(self.at(at)));
            let completions = Command::create_completion_queue(id, completions, entries, vector);
            self.run(&completions)?;
            self.run(&Command::create_submission_queue(id, submissions, entries))?;
        }
        self.pairs.store(granted.into(), Ordering::Relaxed);
        Ok(())
    }

    /// Runs an admin command to its end; gives its result.
    fn run(&self, command: &Command) -> Result<u32, Fault> {
        let ticket = self.launch(To::Admin, 1, |_, _| *command)?;
        match self.finish(ticket)? {
            Ok(()) => Ok(self.admin.lock().result()),
            Err((_, status)) => status.check(command.name).map(|()| 0),
        }
    }

    /// Hands in as many commands as asked for, each as `make` gives it, and tells the
    /// controller once.
    #[inline]
    pub fn launch(
        &self,
        to: To,
        count: usize,
        mut make: impl FnMut(usize, &mut Lists<'_, P>) -> Command,
    ) -> Result<Ticket, Fault> {
        self.check_broken()?;
        let memory = self.memory();
        let queue = &mut *self.queue(to).lock();
        let run = queue.claim(count)?;
        for index in 0..count {
            let command = make(
                index,
                &mut Lists {
                    queue,
                    memory,
                    run,
                    index,
                },
            );
            queue.write(memory, run, index, &command);
        }
        queue.ring(&self.platform, &self.registers);
        Ok(Ticket { to, run })
    }

    /// Waits for commands that were handed in together: all of them have ended then. An
    /// error means that the controller was stopped.
    #[inline]
    pub fn finish(&self, ticket: Ticket) -> Result<Outcome, Fault> {
        for _ in 0..COMMAND_US / LOOK_US {
            let done = || self.queue(ticket.to).lock().take(ticket.run);
            if let Some(outcome) = wait(&self.platform, LOOK_US, done) {
                return Ok(outcome);
            }
            if let Err(fault) = self.check_fatal() {
                return Err(self.give_up(fault));
            }
        }
        // Has it completed, and only the interrupt got lost?
        let lost = self.reap(ticket.to);
        let awaited = if lost {
            "completion interrupt"
        } else {
            "completion"
        };
        Err(self.give_up(self.timeout(awaited, COMMAND_US)))
    }

    /// Whether it was brought to let go of all memory, or never held any.
    pub fn is_stopped(&self) -> bool {
        !self.running.load(Ordering::Acquire)
    }

    /// Whether it was given up.
    pub fn is_broken(&self) -> bool {
        self.broken.is_completed()
    }

    #[inline]
    fn check_broken(&self) -> Result<(), Fault> {
        match self.broken.get() {
            None => Ok(()),
            Some(fault) => Err(fault.clone()),
        }
    }

    /// Announces the end and disables the controller (§3.6.1). When this returns
    /// `Ok` it does not touch memory any more.
    pub fn shut_down(&self) -> Result<(), Fault> {
        if self.is_stopped() {
            return Ok(());
        }
        if !self.is_broken() {
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
        self.broken.call_once(|| fault.clone());
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

    /// Takes in what has completed in a queue. Says whether anything had.
    fn reap(&self, of: To) -> bool {
        if self.is_stopped() {
            return false;
        }
        let mut queue = self.queue(of).lock();
        queue.reap(&self.platform, &self.registers, self.memory(), &self.name)
    }
}

/// The PRP list of a command that is being made.
pub struct Lists<'q, P: Platform> {
    queue: &'q mut Queue,
    memory: &'q DmaBuffer<P, Bidirectional>,
    run: Run,
    index: usize,
}

impl<P: Platform> Lists<'_, P> {
    /// Where it is for the controller, with so many pages from `first` on.
    #[inline]
    pub fn pages(&mut self, first: Iova, pages: usize) -> Iova {
        let (run, index) = (self.run, self.index);
        self.queue.list(self.memory, run, index, (first, pages))
    }
}

/// The interrupt of an I/O pair. The first one is the admin queue's too (§5.5).
pub struct Completions<P: Platform> {
    /// Of this controller.
    pub controller: Arc<Controller<P>>,
    /// The pair.
    pub pair: usize,
}

impl<P: Platform> IrqHandler for Completions<P> {
    fn handle(&self) {
        if self.pair == 0 && self.controller.pairs() == 0 {
            self.controller.reap(To::Admin);
        }
        self.controller.reap(To::Io(self.pair));
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

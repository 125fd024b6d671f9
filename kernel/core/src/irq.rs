//! Interrupts, in two halves. The top half, [`IrqHub::latch`], runs in exception
//! context and touches atomics only: it claims the interrupt, masks it if it is a
//! level, and notes that it is pending. The bottom half, [`IrqHub::service`], runs
//! wherever the kernel waits, in ordinary context, and calls the handlers. So a
//! handler may take locks and print, a driver needs no lock that masks
//! interrupts, and nothing is lost: the note stays until it is served.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::{Mutex, Once, RwLock};

use crate::addr::PhysAddr;
use crate::chores::Chores;
use crate::error::Fault;
use crate::platform::MAX_CPUS;

/// Interrupts below this number index the latches directly: SGIs, PPIs, SPIs.
const WIRED: u32 = 1024;
/// First LPI (IHI 0069 §2.2.1); these follow the wired ones in the latches.
pub const FIRST_LPI: u32 = 8192;
/// How many LPIs the hub has latches for.
pub const LPIS: u32 = 1024;
const SLOTS: usize = (WIRED + LPIS) as usize;
const WORDS: usize = SLOTS / 64;
const _: () = assert!(WORDS <= u32::BITS as usize);

/// How a wired interrupt signals.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Each rising edge counts once.
    Edge,
    /// Asserted until the device is served.
    Level,
}

/// An interrupt as its controller numbers it (GIC INTID).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct IrqSpec {
    /// The controller's number.
    pub intid: u32,
    /// How it signals.
    pub trigger: Trigger,
}

/// A root interrupt controller.
pub trait IrqChip: Send + Sync {
    /// Decodes a tree specifier of `#interrupt-cells` cells.
    fn translate(&self, cells: &[u32]) -> Result<IrqSpec, Fault>;
    /// Configures and unmasks.
    fn enable(&self, irq: IrqSpec) -> Result<(), Fault>;
    /// Masks; completes before it returns, so that no new one is signalled.
    fn mask(&self, intid: u32);
    /// Unmasks again.
    fn unmask(&self, intid: u32);
    /// Acknowledges the highest-priority pending interrupt. Exception context.
    fn claim(&self) -> Option<u32>;
    /// Ends what `claim` returned. Exception context.
    fn complete(&self, intid: u32);
    /// Has the CPU that calls, which is not the one that the controller was bound on,
    /// signalled interrupts too: the private ones that are enabled, nudges, and what is
    /// steered to it. For good; it takes no interrupts meanwhile.
    fn join(&self) -> Result<(), Fault>;
    /// Interrupts CPU `cpu`, which wakes if it sleeps and finds nothing pending. Does
    /// nothing where that has not joined. Any context.
    fn nudge(&self, cpu: usize);
    /// Has a shared interrupt signalled to CPU `cpu` from now on.
    fn steer(&self, intid: u32, cpu: usize) -> Result<(), Fault>;
}

/// A frame that turns memory writes into interrupts (GICv2m, ITS).
pub trait MsiChip: Send + Sync {
    /// Reserves an interrupt for writes of `requester` (what `msi-map` gives).
    fn allocate(&self, requester: u32) -> Result<MsiVector, Fault>;
    /// Gives it back; it is masked before this returns.
    fn release(&self, vector: &MsiVector);
    /// Has it signalled to CPU `cpu` from now on.
    fn steer(&self, vector: &MsiVector, cpu: usize) -> Result<(), Fault>;
}

/// An interrupt that a device signals by a memory write.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MsiVector {
    /// The requester that it was allocated for.
    pub requester: u32,
    /// The interrupt that the write raises.
    pub intid: u32,
    /// Physical address to write to.
    pub doorbell: PhysAddr,
    /// Value to write.
    pub data: u32,
}

/// What is called, in ordinary context, when an interrupt is served. A level
/// interrupt is masked meanwhile.
pub trait IrqHandler: Send + Sync {
    /// Serves the device.
    fn handle(&self);
}

impl<F: Fn() + Send + Sync> IrqHandler for F {
    fn handle(&self) {
        self();
    }
}

/// The latches and the handlers behind them.
pub struct IrqHub {
    chip: RwLock<Option<Arc<dyn IrqChip>>>,
    // CPUs beside the first that the controller signals, a bit each, and whether they
    // are to do without from now on.
    members: AtomicU32,
    closing: AtomicBool,
    // Which words of `pending` may have bits.
    words: AtomicU32,
    pending: [AtomicU64; WORDS],
    level: [AtomicU64; WORDS],
    handlers: Mutex<BTreeMap<u32, Entry>>,
    spurious: AtomicU32,
    served: Once<fn()>,
    chores: Chores,
}

struct Entry {
    handler: Arc<dyn IrqHandler>,
    chip: Option<Arc<dyn IrqChip>>,
    owner: Box<str>,
    count: u64,
}

/// A line of the interrupt table.
#[derive(Clone, Debug)]
pub struct IrqInfo {
    /// The controller's number.
    pub intid: u32,
    /// The device that registered it.
    pub owner: Box<str>,
    /// How often it was served.
    pub count: u64,
}

impl Default for IrqHub {
    fn default() -> Self {
        Self::new()
    }
}

impl IrqHub {
    /// A hub without a controller.
    pub const fn new() -> Self {
        Self {
            chip: RwLock::new(None),
            members: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            words: AtomicU32::new(0),
            pending: [const { AtomicU64::new(0) }; WORDS],
            level: [const { AtomicU64::new(0) }; WORDS],
            handlers: Mutex::new(BTreeMap::new()),
            spurious: AtomicU32::new(0),
            served: Once::new(),
            chores: Chores::new(),
        }
    }

    /// What is put off until the kernel waits.
    pub fn chores(&self) -> &Chores {
        &self.chores
    }

    /// Makes `chip` the controller that the exception vector claims from. The
    /// caller has the controller signal the CPU nothing meanwhile: an interrupt that
    /// [`take`](Self::take) finds here half-way is claimed by nobody, and so comes
    /// again and again.
    pub fn set_chip(&self, chip: Option<Arc<dyn IrqChip>>) {
        let mut place = self.chip.write();
        self.members.store(0, Ordering::SeqCst);
        self.closing.store(chip.is_none(), Ordering::SeqCst);
        *place = chip;
    }

    /// Has CPU `cpu`, which calls, take interrupts; says whether there is a controller
    /// for that. It masks them meanwhile.
    pub fn join(&self, cpu: usize) -> Result<bool, Fault> {
        let chip = self.chip.read();
        let Some(chip) = chip.as_ref() else {
            return Ok(false);
        };
        if self.closing.load(Ordering::SeqCst) {
            return Ok(false);
        }
        chip.join()?;
        self.members.fetch_or(1 << cpu, Ordering::SeqCst);
        Ok(true)
    }

    /// Whether CPU `cpu`, which calls, is woken by interrupts. One that sleeps looks
    /// here, with interrupts masked, before it does.
    pub fn wakes(&self, cpu: usize) -> bool {
        if cpu == 0 {
            return true;
        }
        if self.closing.load(Ordering::SeqCst) {
            self.members.fetch_and(!(1 << cpu), Ordering::SeqCst);
        }
        self.members.load(Ordering::SeqCst) & 1 << cpu != 0
    }

    /// Interrupts CPU `cpu`, so that it looks up from its sleep. Any context.
    pub fn nudge(&self, cpu: usize) {
        if let Some(chip) = self.chip.try_read()
            && let Some(chip) = chip.as_ref()
        {
            chip.nudge(cpu);
        }
    }

    /// Lets CPUs join again after [`close`](Self::close).
    pub fn open(&self) {
        self.closing.store(false, Ordering::SeqCst);
    }

    /// Has all CPUs but the first do without the controller, which is about to go; says
    /// whether none relies on it any more. To be asked again until then, for a while.
    pub fn close(&self) -> bool {
        if !self.closing.swap(true, Ordering::SeqCst) {
            let members = self.members.load(Ordering::SeqCst);
            (0..MAX_CPUS)
                .filter(|cpu| members & 1 << cpu != 0)
                .for_each(|cpu| self.nudge(cpu));
        }
        self.members.load(Ordering::SeqCst) == 0
    }

    /// The controller, if one is bound.
    pub fn chip(&self) -> Option<Arc<dyn IrqChip>> {
        self.chip.read().clone()
    }

    /// The top half: claims and notes everything that is pending now. Says whether
    /// there was a controller to ask; while there is none the interrupt stays
    /// signalled, and the CPU had better not take it again at once.
    pub fn take(&self) -> bool {
        // The lock is held while a controller comes or goes.
        let Some(chip) = self.chip.try_read() else {
            return false;
        };
        let Some(chip) = chip.as_ref() else {
            return false;
        };
        // Bounded: a line that cannot be masked must not keep the CPU here.
        for _ in 0..SLOTS {
            let Some(intid) = chip.claim() else {
                return true;
            };
            if self.is_level(intid) {
                chip.mask(intid);
            }
            self.latch(intid);
            chip.complete(intid);
        }
        true
    }

    /// Notes that `intid` is pending. Atomics only; any context.
    pub fn latch(&self, intid: u32) {
        match slot(intid) {
            Some(slot) => {
                self.pending[slot / 64].fetch_or(1 << (slot % 64), Ordering::Release);
                self.words.fetch_or(1 << (slot / 64), Ordering::Release);
            }
            None => {
                self.spurious.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether something waits to be served. What a sleeping CPU checks, with
    /// interrupts masked, before it waits.
    pub fn is_pending(&self) -> bool {
        self.words.load(Ordering::Acquire) != 0
    }

    /// Has `call` called whenever handlers have run: what they did may be what another
    /// CPU waits for.
    pub fn on_served(&self, call: fn()) {
        self.served.call_once(|| call);
    }

    /// The bottom half: calls the handlers of everything noted; returns whether
    /// there was anything.
    pub fn service(&self) -> bool {
        if self.words.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut words = self.words.swap(0, Ordering::AcqRel);
        while words != 0 {
            let index = words.trailing_zeros() as usize;
            words &= words - 1;
            let mut bits = self.pending[index].swap(0, Ordering::AcqRel);
            while bits != 0 {
                self.serve(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        if let Some(call) = self.served.get() {
            call();
        }
        true
    }

    fn serve(&self, slot: usize) {
        let intid = intid(slot);
        let (handler, chip) = {
            let mut handlers = self.handlers.lock();
            let Some(entry) = handlers.get_mut(&intid) else {
                self.spurious.fetch_add(1, Ordering::Relaxed);
                return;
            };
            entry.count += 1;
            (entry.handler.clone(), entry.chip.clone())
        };
        // Without the lock: a handler may register, release or wait.
        handler.handle();
        if self.is_level(intid)
            && let Some(chip) = chip
            && self.handlers.lock().contains_key(&intid)
        {
            // Not where the handler let the interrupt go: that masked it for good.
            chip.unmask(intid);
        }
    }

    fn is_level(&self, intid: u32) -> bool {
        slot(intid).is_some_and(|slot| {
            self.level[slot / 64].load(Ordering::Relaxed) & 1 << (slot % 64) != 0
        })
    }

    /// Registers a handler for a wired interrupt and enables it.
    pub fn connect(
        self: &Arc<Self>,
        chip: Arc<dyn IrqChip>,
        irq: IrqSpec,
        owner: &str,
        handler: Arc<dyn IrqHandler>,
    ) -> Result<IrqLine, Fault> {
        let slot = slot(irq.intid).ok_or(Fault::IrqOutOfRange { intid: irq.intid })?;
        self.insert(irq.intid, owner, handler, Some(chip.clone()))?;
        // From here the line's drop undoes the registration.
        let line = IrqLine {
            hub: self.clone(),
            intid: irq.intid,
            source: Source::Wired(chip.clone()),
        };
        self.forget(slot, irq.trigger);
        chip.enable(irq)?;
        Ok(line)
    }

    /// Registers a handler for a message that `chip` allocated.
    pub fn connect_msi(
        self: &Arc<Self>,
        chip: Arc<dyn MsiChip>,
        vector: MsiVector,
        owner: &str,
        handler: Arc<dyn IrqHandler>,
    ) -> Result<IrqLine, Fault> {
        let Some(slot) = slot(vector.intid) else {
            chip.release(&vector);
            return Err(Fault::IrqOutOfRange {
                intid: vector.intid,
            });
        };
        self.forget(slot, Trigger::Edge);
        if let Err(fault) = self.insert(vector.intid, owner, handler, None) {
            chip.release(&vector);
            return Err(fault);
        }
        Ok(IrqLine {
            hub: self.clone(),
            intid: vector.intid,
            source: Source::Message(chip, vector),
        })
    }

    /// Forgets what an earlier owner of a number left behind.
    fn forget(&self, slot: usize, trigger: Trigger) {
        let bit = 1 << (slot % 64);
        match trigger {
            Trigger::Level => self.level[slot / 64].fetch_or(bit, Ordering::Relaxed),
            Trigger::Edge => self.level[slot / 64].fetch_and(!bit, Ordering::Relaxed),
        };
        self.pending[slot / 64].fetch_and(!bit, Ordering::Relaxed);
    }

    fn insert(
        &self,
        intid: u32,
        owner: &str,
        handler: Arc<dyn IrqHandler>,
        chip: Option<Arc<dyn IrqChip>>,
    ) -> Result<(), Fault> {
        let mut handlers = self.handlers.lock();
        if let Some(entry) = handlers.get(&intid) {
            return Err(Fault::IrqTaken {
                intid,
                by: entry.owner.clone(),
            });
        }
        handlers.insert(
            intid,
            Entry {
                handler,
                chip,
                owner: owner.into(),
                count: 0,
            },
        );
        Ok(())
    }

    /// Every registered interrupt, by number.
    pub fn table(&self) -> Vec<IrqInfo> {
        let handlers = self.handlers.lock();
        handlers
            .iter()
            .map(|(&intid, entry)| IrqInfo {
                intid,
                owner: entry.owner.clone(),
                count: entry.count,
            })
            .collect()
    }

    /// Interrupts that came in without a handler.
    pub fn spurious(&self) -> u32 {
        self.spurious.load(Ordering::Relaxed)
    }
}

/// A registered interrupt, owned by the driver that asked for it. Dropping it
/// masks the source first, then takes the handler away.
pub struct IrqLine {
    hub: Arc<IrqHub>,
    intid: u32,
    source: Source,
}

enum Source {
    Wired(Arc<dyn IrqChip>),
    Message(Arc<dyn MsiChip>, MsiVector),
}

impl IrqLine {
    /// The controller's number.
    pub fn intid(&self) -> u32 {
        self.intid
    }

    /// Has CPU `cpu` take it from now on rather than the one that the controller was
    /// bound on, so that who waits there is woken and nobody else. Fails where that CPU
    /// takes no interrupts; then the line stays where it was.
    pub fn steer(&self, cpu: usize) -> Result<(), Fault> {
        match &self.source {
            Source::Wired(chip) => chip.steer(self.intid, cpu),
            Source::Message(chip, vector) => chip.steer(vector, cpu),
        }
    }
}

impl Drop for IrqLine {
    fn drop(&mut self) {
        match &self.source {
            Source::Wired(chip) => chip.mask(self.intid),
            Source::Message(chip, vector) => chip.release(vector),
        }
        let entry = self.hub.handlers.lock().remove(&self.intid);
        // The handler may own what drops more; not under the lock.
        drop(entry);
    }
}

fn slot(intid: u32) -> Option<usize> {
    match intid {
        0..WIRED => Some(intid as usize),
        FIRST_LPI.. if intid - FIRST_LPI < LPIS => Some((WIRED + intid - FIRST_LPI) as usize),
        _ => None,
    }
}

fn intid(slot: usize) -> u32 {
    let slot = slot as u32;
    if slot < WIRED {
        slot
    } else {
        FIRST_LPI + slot - WIRED
    }
}

//! The other CPUs: started by PSCI once the boot has nothing better to wait for, given
//! numbers in the tree's order, and then asleep until they are called for work that all
//! do at once. There is no scheduler: who calls takes part, and waits for the others.
//!
//! What firmware cannot start, or does not, is left out and said in one line.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::{asm, global_asm};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};

use aarch64_cpu::registers::{
    ID_AA64MMFR1_EL1, MAIR_EL1, MPIDR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1,
};
use log::{info, warn};
use mastiff_core::platform::{MAX_CPUS, Platform, poll, wait};
use mastiff_dt::Tree;
use tock_registers::interfaces::Readable;

use super::gic::AFFINITY;
use super::machine::Machine;
use super::{cpu, firmware, image, machine, mmu, selftest, timer};

global_asm!(include_str!("secondary.S"), arrive = sym arrive);

unsafe extern "C" {
    /// Where PSCI lets a CPU begin.
    static secondary: u8;
    /// The ends of the stacks that an exception in an exception takes, by CPU
    /// (vectors.S).
    static nested_stacks: [AtomicPtr<u8>; MAX_CPUS];
    /// Writes back and drops the cache lines from one address to another (entry.S).
    safe fn clean_invalidate(from: u64, to: u64);
}

/// How long a CPU may take from CPU_ON to its first words. Firmware may have to power
/// it up.
const PATIENCE_US: u64 = 1_000_000;
/// How long work on other CPUs may take. All waits within it are bounded, so this is for
/// a CPU that is lost.
const WORK_US: u64 = 600_000_000;
/// How long the others may take to notice that it is all over.
const STOP_US: u64 = 10_000;

/// What a CPU must know before it can read anything else; secondary.S has the same.
#[repr(C, align(64))]
struct Start {
    number: AtomicU64,
    mair: AtomicU64,
    tcr: AtomicU64,
    ttbr: AtomicU64,
    sctlr: AtomicU64,
    stack: AtomicU64,
    exception_stack: AtomicU64,
}

/// It was never started.
const ABSENT: u8 = 0;
/// CPU_ON was called.
const STARTING: u8 = 1;
const ONLINE: u8 = 2;
/// It was given up: should it still come, it goes to rest.
const LOST: u8 = 3;
/// It stopped, because the kernel crashed.
const STOPPED: u8 = 4;

struct Core {
    start: Start,
    state: AtomicU8,
    /// What it is to do, where that is borrowed from; null once it is done.
    work: AtomicPtr<Work>,
}

type Work = &'static (dyn Fn() + Sync);

static CORES: [Core; MAX_CPUS] = [const {
    Core {
        start: Start {
            number: AtomicU64::new(0),
            mair: AtomicU64::new(0),
            tcr: AtomicU64::new(0),
            ttbr: AtomicU64::new(0),
            sctlr: AtomicU64::new(0),
            stack: AtomicU64::new(0),
            exception_stack: AtomicU64::new(0),
        },
        state: AtomicU8::new(ABSENT),
        work: AtomicPtr::new(null_mut()),
    }
}; MAX_CPUS];

/// The kernel crashed, and nobody but the CPU that says so goes on.
static STOP: AtomicBool = AtomicBool::new(false);

/// A CPU of the tree.
#[derive(Clone, Debug)]
pub struct CpuInfo {
    /// Its node's path.
    pub path: String,
    /// The affinity fields of its MPIDR_EL1.
    pub affinity: Option<u64>,
    /// Its number, if it runs.
    pub number: Option<usize>,
    /// Why it does not.
    pub why: Option<String>,
}

/// All CPUs of the tree, the first one first where the tree has it.
pub struct Cores {
    machine: Machine,
    all: Vec<CpuInfo>,
    /// Those that were started, with their numbers.
    started: Vec<(usize, usize)>,
    /// A crash that one of them is to bring about.
    crash: Option<&'static str>,
}

impl Cores {
    /// The CPUs of the tree, of which one runs.
    pub fn of(machine: Machine, tree: &Tree) -> Self {
        let own = MPIDR_EL1.get() & AFFINITY;
        let describe = |cpu: mastiff_dt::Cpu<'_>| {
            let affinity = cpu.affinity();
            let here = affinity == Ok(own);
            let why = match (&affinity, cpu.enable_method()) {
                _ if here => None,
                (Err(error), _) => Some(format!("{error}")),
                (_, Some("psci")) if firmware::is_there() => None,
                (_, Some("psci")) => Some("there is no PSCI to start it".into()),
                (_, Some(other)) => Some(format!("its enable-method is {other}, not psci")),
                (_, None) => Some("it has no enable-method".into()),
            };
            CpuInfo {
                path: cpu.node().path(),
                affinity: affinity.ok(),
                number: here.then_some(0),
                why,
            }
        };
        Self {
            machine,
            all: tree.cpus().map(describe).collect(),
            started: Vec::new(),
            crash: selftest::elsewhere(tree.bootargs()),
        }
    }

    /// Has firmware start those that it can start, and waits for none of them.
    pub fn start(&mut self) {
        let mut next = 1;
        for (index, info) in self.all.iter_mut().enumerate() {
            let (Some(affinity), None, None) = (info.affinity, info.number, &info.why) else {
                continue;
            };
            if next == MAX_CPUS {
                info.why = Some(format!("no more than {MAX_CPUS} are made use of"));
                continue;
            }
            match power_on(next, affinity) {
                Ok(()) => self.started.push((index, next)),
                Err(why) => info.why = Some(why),
            }
            // A number is not used again: what was started may come late.
            next += 1;
        }
        self.report();
        if let Some(crash) = self.crash {
            self.settle();
            run(&self.machine, 2, &|| {
                if cpu::number() != 0 {
                    selftest::run(crash);
                }
            });
        }
    }

    /// Says in one line what will not run.
    fn report(&self) {
        let mut parked = self.all.iter().filter(|info| info.why.is_some());
        if let Some(first) = parked.next() {
            let why = first.why.as_deref().unwrap_or_default();
            match parked.count() {
                0 => warn!("{}: not started: {why}", first.path),
                more => warn!("{} and {more} more CPUs: not started: {why}", first.path),
            }
        }
    }

    /// Waits for those that were started, each with a bound from now on; says which do
    /// not come.
    pub fn settle(&mut self) {
        for (index, number) in core::mem::take(&mut self.started) {
            let state = &CORES[number].state;
            let info = &mut self.all[index];
            let came = || (state.load(Ordering::Acquire) == ONLINE).then_some(());
            let order = Ordering::AcqRel;
            if poll(&self.machine, PATIENCE_US, came).is_some()
                || state
                    .compare_exchange(STARTING, LOST, order, Ordering::Acquire)
                    .is_err()
            {
                info.number = Some(number);
                continue;
            }
            let level = info.affinity.map(firmware::affinity_info);
            let seen = level.unwrap_or_default();
            warn!(
                "{}: did not come within {PATIENCE_US} us of PSCI CPU_ON (AFFINITY_INFO: {seen})",
                info.path
            );
            info.why = Some(format!("CPU_ON did not bring it up: {seen}"));
        }
    }

    /// All CPUs.
    pub fn all(&self) -> &[CpuInfo] {
        &self.all
    }
}

/// How many run.
pub fn online() -> usize {
    let running = |core: &&Core| core.state.load(Ordering::Acquire) == ONLINE;
    1 + CORES.iter().filter(running).count()
}

/// Has up to `most` CPUs, the caller among them, run `work`; how many did. See
/// [`Platform::on_cpus`].
pub(crate) fn run(machine: &Machine, most: usize, work: &(dyn Fn() + Sync)) -> usize {
    // SAFETY: the lifetime is that of this call in truth: it returns when every CPU that
    // was given the work has done it.
    let work: Work = unsafe { core::mem::transmute::<&(dyn Fn() + Sync), Work>(work) };
    let at = (&raw const work).cast_mut();
    let take = |core: &&Core| {
        let free = core.state.load(Ordering::Acquire) == ONLINE;
        let order = (Ordering::SeqCst, Ordering::Relaxed);
        let exchange = || core.work.compare_exchange(null_mut(), at, order.0, order.1);
        free && exchange().is_ok()
    };
    let mut helpers = CORES.iter().enumerate().filter(|(_, core)| take(core));
    let mut mine = [false; MAX_CPUS];
    for (number, _) in helpers.by_ref().take(most.saturating_sub(1)) {
        mine[number] = true;
        nudge(number);
    }
    work();
    let helpers = || (0..MAX_CPUS).filter(|&number| mine[number]);
    let is_busy = |&number: &usize| CORES[number].work.load(Ordering::Acquire) == at;
    let back = || helpers().find(is_busy).is_none().then_some(());
    if wait(machine, WORK_US, back).is_none() {
        // It may still use what it was lent.
        let late = helpers().find(is_busy).unwrap_or_default();
        panic!("CPU {late} has not come back from its work within {WORK_US} us");
    }
    1 + helpers().count()
}

fn power_on(number: usize, affinity: u64) -> Result<(), String> {
    let stacks = image::cpu_stacks(number);
    for stack in &stacks {
        mmu::map_stack(stack.memory.clone())
            .map_err(|error| format!("its stacks cannot be mapped: {error}"))?;
    }
    let [main, exception, nested] = stacks.map(|stack| stack.memory.end);
    let core = &CORES[number];
    let start = &core.start;
    let set = |place: &AtomicU64, value| place.store(value, Ordering::Relaxed);
    set(&start.number, number as u64);
    set(&start.mair, MAIR_EL1.get());
    set(&start.tcr, TCR_EL1.get());
    set(&start.ttbr, TTBR0_EL1.get_baddr());
    set(&start.sctlr, SCTLR_EL1.get());
    set(&start.stack, main);
    set(&start.exception_stack, exception);
    // SAFETY: the table that vectors.S has.
    let ends = unsafe { &nested_stacks };
    ends[number].store(nested as *mut u8, Ordering::Relaxed);
    core.state.store(STARTING, Ordering::Release);
    let at = core::ptr::from_ref(start).addr() as u64;
    // It reads with its caches off.
    clean_invalidate(at, at + size_of::<Start>() as u64);
    let entry = (&raw const secondary).addr() as u64;
    firmware::power_on(affinity, entry, at).inspect_err(|_| {
        core.state.store(ABSENT, Ordering::Relaxed);
    })
}

/// A CPU's first Rust code, on its own stack, with the kernel's address space.
extern "C" fn arrive() -> ! {
    if ID_AA64MMFR1_EL1.read(ID_AA64MMFR1_EL1::PAN) != 0 {
        // SAFETY: there is no user's memory to be reached.
        unsafe { asm!(".arch_extension pan", "msr pan, #1", options(nostack)) };
    }
    timer::arrive();
    cpu::unmask_errors();
    let number = cpu::number();
    let core = &CORES[number];
    let (from, to) = (STARTING, ONLINE);
    let order = (Ordering::AcqRel, Ordering::Relaxed);
    if core
        .state
        .compare_exchange(from, to, order.0, order.1)
        .is_ok()
    {
        let Some(machine) = Machine::get() else {
            cpu::halt()
        };
        info!("CPU {number} runs");
        serve(machine, number, core)
    }
    cpu::halt()
}

/// Does what comes, for ever.
fn serve(machine: Machine, number: usize, core: &Core) -> ! {
    let hub = machine.irqs();
    let mut deaf = false;
    loop {
        cpu::mask_interrupts();
        stop_if_told();
        if !hub.wakes(number) && !deaf {
            // The controller is new, or there is none yet.
            match hub.join(number) {
                Ok(_) => {}
                Err(fault) => {
                    deaf = true;
                    warn!("CPU {number} takes no interrupts: {fault}");
                }
            }
        }
        // Masked, none can come between the look and the wait; a pending one ends the
        // wait all the same.
        if core.work.load(Ordering::SeqCst).is_null() {
            if hub.wakes(number) {
                cpu::wait_for_interrupt();
            } else {
                cpu::wait_for_event();
            }
        }
        cpu::unmask_interrupts();
        let work = core.work.load(Ordering::Acquire);
        // SAFETY: the work of a caller that waits until this is null again.
        if let Some(work) = unsafe { work.as_ref() } {
            work();
            core.work.store(null_mut(), Ordering::SeqCst);
            machine::look_again();
        }
    }
}

/// Has a CPU look up, whatever it sleeps by.
pub(crate) fn nudge(number: usize) {
    cpu::send_event();
    machine::nudge(number);
}

/// Rests for ever if another CPU said so. Exception context as well.
pub(crate) fn stop_if_told() {
    if STOP.load(Ordering::Acquire) {
        CORES[cpu::number()].state.store(STOPPED, Ordering::Release);
        cpu::halt();
    }
}

/// Has the other CPUs stop where they are, for a while at most: the caller has the
/// last words.
pub(crate) fn stop_others() {
    STOP.store(true, Ordering::SeqCst);
    let this = cpu::number();
    let running = |&number: &usize| {
        let state = CORES[number].state.load(Ordering::Acquire);
        // The first was never started.
        number != this && state == if number == 0 { ABSENT } else { ONLINE }
    };
    let others = || (0..cpu::count()).filter(running);
    if others().next().is_none() {
        return;
    }
    others().for_each(nudge);
    let deadline = timer::now().after_us(STOP_US);
    while others().next().is_some() && timer::now() < deadline {
        core::hint::spin_loop();
    }
}

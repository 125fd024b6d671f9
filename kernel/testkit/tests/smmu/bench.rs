//! Software that drives the model by hand: the least that the architecture asks
//! for, each step on its own so that tests can leave one out.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};

use mastiff_core::platform::{Barrier, Mmio, PageRequest, Pages, Platform};
use mastiff_pgtable::{
    Access as Allowed, Attrs, Exec, Geometry, Granule, MapError, Memory, PageTable, Shareability,
    Stage,
};
use mastiff_testkit::bus::Shared;
use mastiff_testkit::smmu::{Abort, Access, EventKind, Features, Lines, Smmu, WINDOW};
use mastiff_testkit::{Sim, SimMmio, SimPages};

pub const BASE: u64 = 0x905_0000;
pub const STREAM: u32 = 3;
pub const PAGE: u64 = 0x1000;
/// Where tests map.
pub const IOVA: u64 = 0x10_0000;

pub const CR0: usize = 0x20;
pub const CR0ACK: usize = 0x24;
pub const CR1: usize = 0x28;
pub const CR2: usize = 0x2c;
pub const GBPA: usize = 0x44;
pub const IRQ_CTRL: usize = 0x50;
pub const IRQ_CTRLACK: usize = 0x54;
pub const GERROR: usize = 0x60;
pub const GERRORN: usize = 0x64;
pub const STRTAB_BASE: usize = 0x80;
pub const STRTAB_BASE_CFG: usize = 0x88;
pub const CMDQ_BASE: usize = 0x90;
pub const CMDQ_PROD: usize = 0x98;
pub const CMDQ_CONS: usize = 0x9c;
pub const EVENTQ_BASE: usize = 0xa0;
pub const EVENTQ_PROD: usize = 0x1_00a8;
pub const EVENTQ_CONS: usize = 0x1_00ac;

pub const CMDQEN: u32 = 8;
pub const EVENTQEN: u32 = 4;
pub const SMMUEN: u32 = 1;

/// Sixteen commands, eight events, 32 streams.
pub const CMDQ_BITS: u32 = 4;
pub const EVENTQ_BITS: u32 = 3;
pub const STREAM_BITS: u32 = 5;

pub const SYNC: [u64; 2] = [0x46, 0];
pub const CFGI_ALL: [u64; 2] = [0x04, 31];
pub const NSNH_ALL: [u64; 2] = [0x30, 0];

pub const fn cfgi_ste(stream: u32, leaf: bool) -> [u64; 2] {
    [(stream as u64) << 32 | 0x03, leaf as u64]
}

pub const fn cfgi_cd(stream: u32) -> [u64; 2] {
    [(stream as u64) << 32 | 0x05, 1]
}

pub const fn tlbi_asid(asid: u64) -> [u64; 2] {
    [asid << 48 | 0x11, 0]
}

pub const fn tlbi_va(asid: u64, va: u64, leaf: bool) -> [u64; 2] {
    [asid << 48 | 0x12, va | leaf as u64]
}

/// What DMA mappings look like.
pub const DMA: Attrs = Attrs {
    access: Allowed::ReadWrite,
    exec: Exec::Never,
    memory: Memory::Normal,
    shareability: Shareability::Inner,
    user: true,
    global: false,
};

/// V and Config = abort.
pub const ABORT: u64 = 1;

pub struct Bench {
    pub sim: Sim,
    pub smmu: Shared<Smmu>,
    pub regs: SimMmio,
    pub cmdq: SimPages,
    pub eventq: SimPages,
    pub strtab: SimPages,
    pub prod: Cell<u32>,
}

/// An address space for one or more streams.
pub struct Space {
    pub cd: SimPages,
    pub tables: PageTable<Sim>,
}

/// The message of the breach that `what` commits.
pub fn breach(what: impl FnOnce()) -> String {
    let end = catch_unwind(AssertUnwindSafe(what)).expect_err("no breach");
    match end.downcast::<String>() {
        Ok(message) => *message,
        Err(end) => end.downcast_ref::<&str>().expect("a message").to_string(),
    }
}

impl Bench {
    /// An SMMU in reset, and memory for it.
    pub fn new(features: Features) -> Self {
        let sim = Sim::new();
        let smmu = Smmu::install(&sim, BASE, 0..=u32::MAX, features, Lines::VIRT);
        let range = mastiff_core::addr::PhysRange {
            start: mastiff_core::addr::PhysAddr(BASE),
            len: WINDOW,
        };
        let pages = |bytes| sim.alloc_pages(PageRequest::new(bytes)).unwrap();
        let regs = sim.map_mmio(range).unwrap();
        let (cmdq, eventq, strtab) = (pages(PAGE), pages(PAGE), pages(PAGE));
        for stream in 0..1 << STREAM_BITS {
            fill(&strtab, 64 * stream, &[ABORT]);
        }
        Self {
            sim,
            smmu,
            regs,
            cmdq,
            eventq,
            strtab,
            prod: Cell::new(0),
        }
    }

    /// An SMMU that is on, every stream aborting.
    pub fn up(features: Features) -> Self {
        let bench = Self::new(features);
        bench.set_queues();
        bench.set_stream_table();
        bench.enable(CMDQEN);
        bench.clean();
        bench.enable(CMDQEN | EVENTQEN);
        bench.enable(CMDQEN | EVENTQEN | SMMUEN);
        bench
    }

    pub fn pages(&self, bytes: u64) -> SimPages {
        self.sim.alloc_pages(PageRequest::new(bytes)).unwrap()
    }

    pub fn publish(&self) {
        self.sim.barrier(Barrier::Publish);
    }

    pub fn set_queues(&self) {
        self.regs.write32(CR1, 0xd75);
        let base = self.cmdq.pa().0 | u64::from(CMDQ_BITS);
        self.regs.write64(CMDQ_BASE, base);
        self.regs.write32(CMDQ_PROD, 0);
        self.regs.write32(CMDQ_CONS, 0);
        let base = self.eventq.pa().0 | u64::from(EVENTQ_BITS);
        self.regs.write64(EVENTQ_BASE, base);
        self.regs.write32(EVENTQ_PROD, 0);
        self.regs.write32(EVENTQ_CONS, 0);
    }

    /// Linear.
    pub fn set_stream_table(&self) {
        self.regs.write32(CR2, 0b010);
        self.regs.write64(STRTAB_BASE, self.strtab.pa().0);
        self.regs.write32(STRTAB_BASE_CFG, STREAM_BITS);
        self.publish();
    }

    /// Writes CR0 and waits.
    pub fn enable(&self, bits: u32) {
        self.regs.write32(CR0, bits);
        self.wait("CR0ACK", || self.regs.read32(CR0ACK) == bits);
    }

    pub fn wait(&self, what: &str, done: impl Fn() -> bool) {
        assert!((0..100).any(|_| done()), "{what} never came");
    }

    /// Invalidates everything.
    pub fn clean(&self) {
        self.run(&[CFGI_ALL, SYNC, NSNH_ALL]);
    }

    /// Writes commands, without telling.
    pub fn queue(&self, commands: &[[u64; 2]]) {
        for command in commands {
            let slot = self.prod.get() % (1 << CMDQ_BITS);
            fill(&self.cmdq, 16 * slot as usize, command);
            self.prod.set((self.prod.get() + 1) % (2 << CMDQ_BITS));
        }
    }

    /// Tells.
    pub fn submit(&self, commands: &[[u64; 2]]) {
        self.queue(commands);
        self.publish();
        self.regs.write32(CMDQ_PROD, self.prod.get());
    }

    /// Waits until all commands are consumed.
    pub fn drain(&self) {
        self.wait("CONS", || self.regs.read32(CMDQ_CONS) == self.prod.get());
    }

    /// Issues commands and waits for their completion.
    pub fn run(&self, commands: &[[u64; 2]]) {
        self.submit(commands);
        self.submit(&[SYNC]);
        self.drain();
    }

    /// A space, not attached yet.
    pub fn space(&self, asid: u64) -> Space {
        let geometry = Geometry {
            stage: Stage::One,
            granule: Granule::K4,
            input_bits: 39,
            output_bits: 40,
            blocks: true,
        };
        let tables = PageTable::new(self.sim.clone(), geometry).unwrap();
        let cd = self.pages(PAGE);
        // T0SZ 25, EPD1, V, IPS 40 bits, AA64, R, A, ASET.
        let first = 25 | 1 << 30 | 1 << 31 | 2 << 32 | 0b111 << 45 | 1 << 41;
        fill(&cd, 0, &[first | asid << 48, tables.root(), 0, 0x04_44ff]);
        Space { cd, tables }
    }

    pub fn set_ste(&self, stream: u32, words: &[u64]) {
        fill(&self.strtab, 64 * stream as usize, words);
    }

    pub fn set_ste_word(&self, stream: u32, word: usize, value: u64) {
        let offset = 64 * stream as usize + 8 * word;
        self.strtab.store64(offset, value);
    }

    /// From aborting to translating, by the book.
    pub fn attach(&self, stream: u32, space: &Space) {
        let first = space.ste();
        self.set_ste(stream, &[first & !1]);
        self.publish();
        self.run(&[cfgi_ste(stream, true)]);
        self.set_ste_word(stream, 0, first);
        self.publish();
        self.run(&[cfgi_ste(stream, true)]);
    }

    /// From translating to aborting, by the book.
    pub fn detach(&self, stream: u32) {
        self.set_ste_word(stream, 0, ABORT);
        self.publish();
        self.run(&[cfgi_ste(stream, true)]);
    }

    pub fn model(&self) -> MutexGuard<'_, Smmu> {
        // A breach on the way through it is not the end of the test here.
        self.smmu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read(&self, stream: u32, iova: u64) -> Result<u64, Abort> {
        self.access(stream, iova, Access::Read)
    }

    pub fn access(&self, stream: u32, iova: u64, access: Access) -> Result<u64, Abort> {
        self.model().translate(stream, iova, access)
    }

    /// Number and words of the only new event, which is acknowledged.
    pub fn event(&self) -> [u64; 4] {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:x?}");
        events.remove(0)
    }

    /// All new events, acknowledged.
    pub fn events(&self) -> Vec<[u64; 4]> {
        let prod = self.regs.read32(EVENTQ_PROD);
        let mut cons = self.regs.read32(EVENTQ_CONS);
        let mut events = Vec::new();
        while (cons ^ prod) & ((2 << EVENTQ_BITS) - 1) != 0 {
            let slot = (cons % (1 << EVENTQ_BITS)) as usize;
            events.push([0, 8, 16, 24].map(|at| self.eventq.load64(32 * slot + at)));
            cons = (cons + 1) % (2 << EVENTQ_BITS);
        }
        let flag = prod & 1 << 31;
        self.regs.write32(EVENTQ_CONS, cons | flag);
        events
    }
}

/// Writes words and zeroes up to 64 bytes (16 for a command).
pub fn fill(pages: &SimPages, offset: usize, words: &[u64]) {
    let count = if words.len() == 2 { 2 } else { 8 };
    for index in 0..count {
        let value = words.get(index).copied().unwrap_or(0);
        pages.store64(offset + 8 * index, value);
    }
}

impl Space {
    /// V, Config = stage 1, one CD.
    pub fn ste(&self) -> u64 {
        self.cd.pa().0 | 0b101 << 1 | 1
    }

    pub fn map(&self, iova: u64, pa: u64) -> Result<(), MapError> {
        self.tables.map(iova, pa, PAGE, DMA)
    }

    pub fn unmap(&self, iova: u64) {
        self.tables.unmap(iova, PAGE, &mut |_| {}).unwrap();
    }
}

/// A fault with an event.
pub const fn fault(kind: EventKind) -> Result<u64, Abort> {
    Err(Abort::Fault(kind))
}

//! What the tests share: memory that counts, fails and interferes on demand, and
//! a walker of its own that reads tables as the architecture says hardware does.
#![allow(dead_code)] // Each test file uses its part.

pub mod hardware;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use mastiff_pgtable::{
    Access, Attrs, Exec, Geometry, Granule, Memory, PageTable, Shareability, Stage, TableMem,
};

/// Where tables are handed out from: far from any address that tests map.
const FIRST_TABLE: u64 = 0x40_0000_0000;

/// Slots for tables, so that words are reached without a lock.
const TABLES: usize = 4096;

/// What a walker would read of a word that was never published to it: anything.
const NEVER_PUBLISHED: u64 = 0xdead_dead_dead_dead;

/// Bit 55, which hardware ignores in table descriptors.
const IGNORED: u64 = 1 << 55;

/// A descriptor as CPUs see it, and as a walker that does not snoop does.
struct Word {
    stored: AtomicU64,
    published: AtomicU64,
}

/// Table memory of a machine whose walker does not snoop.
pub struct TestMem {
    granule: Granule,
    tables: Vec<OnceLock<Vec<Word>>>,
    /// Addresses given back.
    free: Mutex<Vec<u64>>,
    next: AtomicUsize,
    live: AtomicUsize,
    quarantined: AtomicUsize,
    /// Allocations that still succeed.
    budget: AtomicUsize,
    publishing: Mutex<()>,
    loads: AtomicUsize,
}

impl TestMem {
    pub fn new(granule: Granule) -> Self {
        Self {
            granule,
            tables: (0..TABLES).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(Vec::new()),
            next: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            quarantined: AtomicUsize::new(0),
            budget: AtomicUsize::new(usize::MAX),
            publishing: Mutex::new(()),
            loads: AtomicUsize::new(0),
        }
    }

    /// Tables handed out and not taken back.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// Tables given up for ever.
    pub fn quarantined(&self) -> usize {
        self.quarantined.load(Ordering::SeqCst)
    }

    /// Lets the next `count` allocations succeed and no more.
    pub fn allow(&self, count: usize) {
        self.budget.store(count, Ordering::SeqCst);
    }

    /// Descriptors that were read since the last time that this was asked.
    pub fn loads(&self) -> usize {
        self.loads.swap(0, Ordering::SeqCst)
    }

    fn table(&self, pa: u64) -> &[Word] {
        assert_eq!(pa % self.granule.size(), 0, "table {pa:#x} is misaligned");
        let slot = pa
            .checked_sub(FIRST_TABLE)
            .map(|at| at / self.granule.size());
        slot.and_then(|slot| self.tables.get(slot as usize)?.get())
            .unwrap_or_else(|| panic!("no table was ever at {pa:#x}"))
    }

    /// What a walker that does not snoop reads.
    pub fn walker_reads(&self, pa: u64, index: usize) -> u64 {
        let value = self.table(pa)[index].published.load(Ordering::SeqCst);
        assert_ne!(
            value, NEVER_PUBLISHED,
            "{pa:#x}[{index}] was never published"
        );
        value
    }

    /// Whether all that was stored has been published, but for what hardware
    /// ignores.
    pub fn all_published(&self) -> bool {
        let free = self.free.lock().unwrap();
        let seen = |word: &AtomicU64| word.load(Ordering::SeqCst) | IGNORED;
        (0..self.next.load(Ordering::SeqCst) as u64)
            .map(|slot| FIRST_TABLE + slot * self.granule.size())
            .filter(|pa| !free.contains(pa))
            .flat_map(|pa| self.table(pa))
            .all(|word| seen(&word.stored) == seen(&word.published))
    }
}

impl TableMem for TestMem {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        assert_eq!(bytes, self.granule.size());
        self.budget
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .ok()?;
        self.live.fetch_add(1, Ordering::SeqCst);
        if let Some(pa) = self.free.lock().unwrap().pop() {
            return Some(pa);
        }
        let slot = self.next.fetch_add(1, Ordering::SeqCst);
        self.tables[slot].get_or_init(|| {
            let word = |_| Word {
                stored: AtomicU64::new(0),
                published: AtomicU64::new(NEVER_PUBLISHED),
            };
            (0..self.granule.entries()).map(word).collect()
        });
        Some(FIRST_TABLE + slot as u64 * self.granule.size())
    }

    fn free_table(&self, pa: u64, bytes: u64) {
        assert_eq!(bytes, self.granule.size());
        for word in self.table(pa) {
            word.stored.store(0, Ordering::SeqCst);
            word.published.store(NEVER_PUBLISHED, Ordering::SeqCst);
        }
        let mut free = self.free.lock().unwrap();
        assert!(!free.contains(&pa), "{pa:#x} was freed twice");
        free.push(pa);
        self.live.fetch_sub(1, Ordering::SeqCst);
    }

    fn quarantine_table(&self, pa: u64, bytes: u64) {
        assert_eq!(bytes, self.granule.size());
        // Whoever still looks into it finds that it is not there.
        for word in self.table(pa) {
            word.stored.store(NEVER_PUBLISHED, Ordering::SeqCst);
        }
        self.live.fetch_sub(1, Ordering::SeqCst);
        self.quarantined.fetch_add(1, Ordering::SeqCst);
    }

    fn load(&self, pa: u64, index: usize) -> u64 {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.table(pa)[index].stored.load(Ordering::SeqCst)
    }

    fn store(&self, pa: u64, index: usize, value: u64) {
        let old = self.table(pa)[index].stored.swap(value, Ordering::SeqCst);
        let in_place = old & value & 1 == 1;
        assert!(
            !in_place || old | IGNORED == value | IGNORED,
            "valid {old:#x} was replaced by {value:#x}"
        );
    }

    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        assert!(old & new & 1 == 0, "valid {old:#x} for valid {new:#x}");
        let word = &self.table(pa)[index].stored;
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    fn publish(&self, pa: u64, index: usize, count: usize) {
        // One at a time, lest an older value overtakes a newer one.
        let _one = self.publishing.lock().unwrap();
        for word in &self.table(pa)[index..index + count] {
            let value = word.stored.load(Ordering::SeqCst);
            word.published.store(value, Ordering::SeqCst);
        }
    }
}

/// Memory in which, at the n-th compare-exchange from now, somebody else was
/// faster and stored `value` there, or some entries ahead.
pub struct Rival<'a> {
    pub mem: &'a TestMem,
    pub countdown: Cell<usize>,
    pub value: Cell<u64>,
    pub ahead: Cell<usize>,
}

impl<'a> Rival<'a> {
    pub fn new(mem: &'a TestMem) -> Self {
        Self {
            mem,
            countdown: Cell::new(usize::MAX),
            value: Cell::new(0),
            ahead: Cell::new(0),
        }
    }

    pub fn strike(&self, at: usize, value: u64) {
        self.countdown.set(at);
        self.value.set(value);
    }
}

impl TableMem for Rival<'_> {
    fn alloc_table(&self, bytes: u64) -> Option<u64> {
        self.mem.alloc_table(bytes)
    }
    fn free_table(&self, pa: u64, bytes: u64) {
        self.mem.free_table(pa, bytes);
    }
    fn quarantine_table(&self, pa: u64, bytes: u64) {
        self.mem.quarantine_table(pa, bytes);
    }
    fn load(&self, pa: u64, index: usize) -> u64 {
        self.mem.load(pa, index)
    }
    fn store(&self, pa: u64, index: usize, value: u64) {
        self.mem.store(pa, index, value);
    }
    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        self.countdown.set(self.countdown.get().wrapping_sub(1));
        if self.countdown.get() == 0 {
            let index = index + self.ahead.get();
            self.mem.store(pa, index, self.value.get());
        }
        self.mem.compare_exchange(pa, index, old, new)
    }
    fn publish(&self, pa: u64, index: usize, count: usize) {
        self.mem.publish(pa, index, count);
    }
}

/// What DMA mappings look like.
pub const DMA: Attrs = Attrs {
    access: Access::ReadWrite,
    exec: Exec::Never,
    memory: Memory::Normal,
    shareability: Shareability::Inner,
    user: true,
    global: false,
};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const PAGE: u64 = 4 * KIB;

pub fn k4(input_bits: u32) -> Geometry {
    Geometry {
        stage: Stage::One,
        granule: Granule::K4,
        input_bits,
        output_bits: 44,
        blocks: true,
    }
}

/// Unmaps and returns what was reported.
pub fn unmap<M: TableMem>(
    table: &PageTable<M>,
    va: u64,
    len: u64,
) -> Result<Vec<mastiff_pgtable::Leaves>, mastiff_pgtable::MapError> {
    let mut seen = Vec::new();
    let result = table.unmap(va, len, &mut |leaves| seen.push(leaves));
    assert!(
        result.is_ok() || seen.is_empty(),
        "a failing unmap reported"
    );
    result.map(|()| seen)
}

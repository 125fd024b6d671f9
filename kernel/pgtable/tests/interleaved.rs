//! Every order of a few steps of two CPUs that map neighbouring pages for the first time,
//! and of a walker that looks meanwhile (`make loom`).
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::thread;
use mastiff_pgtable::{
    Access, Attrs, Exec, Geometry, Granule, Hint, Memory, PageTable, Shareability, Stage, TableMem,
};

const PAGE: u64 = 4096;
/// Words that a model has of each table; the others are empty.
const WORDS: usize = 2;
const TABLES: usize = 3;
/// What memory holds before it is a table.
const GARBAGE: u64 = 0xdead_beef;

/// A few tables, with the orderings of the kernel's own.
struct Mem {
    words: Vec<[AtomicU64; WORDS]>,
    next: AtomicUsize,
    freed: AtomicUsize,
}

impl Mem {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(GARBAGE);
        Arc::new(Self {
            words: (0..TABLES).map(|_| [word(), word()]).collect(),
            next: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
        })
    }

    fn word(&self, pa: u64, index: usize) -> Option<&AtomicU64> {
        self.words[(pa / PAGE) as usize - 1].get(index)
    }
}

struct Shared(Arc<Mem>);

impl TableMem for Shared {
    fn alloc_table(&self, _: u64) -> Option<u64> {
        let table = self.0.next.fetch_add(1, Ordering::Relaxed);
        for word in &self.0.words[table] {
            word.store(0, Ordering::Relaxed);
        }
        Some((table as u64 + 1) * PAGE)
    }
    fn free_table(&self, _: u64, _: u64) {
        self.0.freed.fetch_add(1, Ordering::Relaxed);
    }
    fn quarantine_table(&self, _: u64, _: u64) {}
    fn load(&self, pa: u64, index: usize) -> u64 {
        let word = self.0.word(pa, index);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }
    fn store(&self, pa: u64, index: usize, value: u64) {
        let word = self.0.word(pa, index).expect("a word of the model");
        word.store(value, Ordering::Release);
    }
    fn compare_exchange(&self, pa: u64, index: usize, old: u64, new: u64) -> Result<u64, u64> {
        let word = self.0.word(pa, index).expect("a word of the model");
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }
    fn publish(&self, _: u64, _: usize, _: usize) {}
}

const SHAPE: Geometry = Geometry {
    stage: Stage::One,
    granule: Granule::K4,
    input_bits: 30,
    output_bits: 40,
    blocks: true,
};

const DMA: Attrs = Attrs {
    access: Access::ReadWrite,
    exec: Exec::Never,
    memory: Memory::Normal,
    shareability: Shareability::Inner,
    user: true,
    global: false,
};

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn neighbours_share_the_table_that_one_of_them_made() {
    check(|| {
        let mem = Mem::new();
        let table = Arc::new(PageTable::new(Shared(mem.clone()), SHAPE).unwrap());
        let (others, walked) = (table.clone(), table.clone());
        let map = |table: &PageTable<Shared>, page: u64| {
            let va = page * PAGE;
            let hint = table.map_near(Hint::NONE, va, va, PAGE, DMA).unwrap();
            assert_ne!(hint, Hint::NONE);
        };
        let other = thread::spawn(move || map(&others, 1));
        let walker = thread::spawn(move || {
            // It finds nothing, or a page; never what was in the memory before.
            let end = walked.walk(PAGE).end().unwrap().raw;
            assert_ne!(end & !0xfff, GARBAGE & !0xfff);
        });
        map(&table, 0);
        other.join().unwrap();
        walker.join().unwrap();
        for page in 0..2 {
            assert_eq!(table.translate(page * PAGE), Some((page * PAGE, DMA, PAGE)));
        }
        let made = mem.next.load(Ordering::Relaxed);
        let freed = mem.freed.load(Ordering::Relaxed);
        assert_eq!(made - freed, 2, "the root, and one for both");
        drop(table);
        assert_eq!(mem.freed.load(Ordering::Relaxed), made);
    });
}

#[test]
fn of_two_who_map_the_same_page_without_owning_it_one_wins() {
    check(|| {
        let mem = Mem::new();
        let table = Arc::new(PageTable::new(Shared(mem.clone()), SHAPE).unwrap());
        let others = table.clone();
        let other = thread::spawn(move || others.map(0, PAGE, PAGE, DMA).is_ok());
        let mine = table.map(0, 2 * PAGE, PAGE, DMA).is_ok();
        let theirs = other.join().unwrap();
        assert!(mine != theirs);
        let pa = if mine { 2 * PAGE } else { PAGE };
        assert_eq!(table.translate(0), Some((pa, DMA, PAGE)));
    });
}

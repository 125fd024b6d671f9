//! A small machine for boots: a fake IOMMU, masters that really do DMA through it,
//! a bus with a function on it, and a console that keeps what it was shown.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use mastiff_core::addr::{Iova, PhysAddr, PhysRange, StreamId};
use mastiff_core::bus::{BusFunction, Child, PciId};
use mastiff_core::dma::{Bidirectional, Dma, DmaBuffer};
use mastiff_core::driver::{
    Bound, Disk, DmaProof, DmaTest, Driver, Hostile, Lent, Match, Seen, Spaces, Way,
};
use mastiff_core::engine::Engine;
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::iommu::{Access, FaultLog, FaultReport};
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_core::policy::Policy;
use mastiff_core::probe::{Probe, Service};
use mastiff_core::supply::{AlwaysOn, Switch};
use mastiff_dt::build::TreeBuilder;
use mastiff_dt::{InterruptSpec, NodeId, PropError, SupplierClass};
use mastiff_shell::bootargs::BootArgs;
use mastiff_shell::{BootFacts, Core, Ending, Place, Shell, System};
use mastiff_testkit::Sim;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::fake_iommu::FakeIommu;
use serde_json::Value;

pub const IOMMU: &str = "/iommu@1000000";
pub const DISK: &str = "/disk@1";
pub const ENGINE: &str = "/engine@2";

const DISKS: &[Match] = &[Match::compatible("test,disk").master()];
const ENGINES: &[Match] = &[Match::compatible("test,engine").master()];

/// What the disk holds: bytes that repeat every 251.
pub const BLOCK: usize = 512;
pub const BLOCKS: u64 = 128;
/// `sha256sum` of that, computed elsewhere.
pub const DIGEST: &str = "4b640d85ab3ba30fd02c9fc9db4a8928f416322ad27022ea58a65aaee68a4df2";

pub fn content() -> impl Iterator<Item = u8> {
    (0..BLOCK * BLOCKS as usize).map(|at| (at % 251) as u8)
}

/// The console of one boot.
#[derive(Default)]
struct Console {
    shown: RefCell<String>,
    keys: RefCell<VecDeque<u8>>,
    naps: Cell<u32>,
    // Answers to whether it is there; yes when they are used up.
    there: RefCell<VecDeque<bool>>,
    instructions: Option<u64>,
    turns: Option<(Sim, u64)>,
    // Memory, and a page of it that is the kernel's.
    sim: Option<(Sim, PhysAddr)>,
}

impl System for Console {
    fn print(&self, text: fmt::Arguments<'_>) {
        self.shown.borrow_mut().push_str(&text.to_string());
    }
    fn key(&self) -> Option<u8> {
        // Each key only after a nap, as fingers are slow.
        if self.naps.replace(0) == 0 {
            return None;
        }
        let mut keys = self.keys.borrow_mut();
        if keys.is_empty() {
            // Whoever is at the keyboard leaves in the end: ctrl-D, and where that is
            // no end, return before it.
            keys.extend(b"\x04\r");
        }
        keys.pop_front()
    }
    fn listens(&self) -> bool {
        self.there.borrow_mut().pop_front().unwrap_or(true)
    }
    fn idle(&self) {
        self.naps.set(self.naps.get() + 1);
    }
    fn facts(&self) -> BootFacts {
        BootFacts {
            board: "bench",
            version: "1.2.3",
            cpus: 1,
            parked: 3,
            el: 2,
        }
    }
    fn instructions(&self) -> Option<u64> {
        self.instructions
    }
    fn turn(&self, turns: u32) {
        if let Some((sim, each)) = &self.turns {
            sim.retire(each * u64::from(turns) + 5);
        }
    }
    fn uptime_us(&self) -> u64 {
        1_000_002
    }
    fn cpus(&self) -> Vec<Core> {
        let cpu = |number: Option<usize>, affinity: u64| Core {
            path: format!("/cpus/cpu@{affinity:x}"),
            affinity: Some(affinity),
            number,
            why: number
                .is_none()
                .then(|| "there is no PSCI to start it".into()),
        };
        vec![cpu(Some(0), 0), cpu(None, 0x101)]
    }
    fn memory(&self) -> Vec<(&'static str, u64)> {
        vec![("free", 3 << 29), ("quarantined", 0)]
    }
    fn places(&self) -> Vec<Place> {
        let sim = self.sim.iter();
        let place = |(_, at): &(Sim, PhysAddr)| Place {
            name: "the kernel's data",
            at: *at,
        };
        sim.map(place).collect()
    }
    fn peek(&self, at: PhysAddr, to: &mut [u8]) -> bool {
        let sim = self.sim.as_ref();
        sim.is_some_and(|(sim, _)| sim.memory().peek(at.0, to))
    }
    fn dmesg(&self, sink: &mut dyn FnMut(&str)) {
        sink("[    0.000001] first\n");
        sink("[    0.000002] second\n");
    }
}

/// What came of a boot.
pub struct Booted {
    pub ending: Ending,
    /// All that the console showed.
    pub shown: String,
}

impl Booted {
    /// The text among it: every line that is no record.
    pub fn text(&self) -> String {
        let lines = self.shown.lines().filter(|line| !line.starts_with('@'));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// The records of a kind among it, parsed.
    pub fn records(&self, kind: &str) -> Vec<Value> {
        let records = all_records(&self.shown);
        records.filter(|record| record["kind"] == kind).collect()
    }

    pub fn record(&self, kind: &str) -> Value {
        let mut records = self.records(kind);
        assert_eq!(records.len(), 1, "{kind}: {records:?}");
        records.remove(0)
    }
}

pub fn all_records(shown: &str) -> impl Iterator<Item = Value> {
    let lines = shown.lines().filter_map(|line| line.strip_prefix('@'));
    lines.map(|line| serde_json::from_str(line).expect(line))
}

/// The machine under the boots.
pub struct Bench {
    pub sim: Sim,
    pub iommu: FakeIommu,
    pub diary: Diary,
    pub instructions: Option<u64>,
    /// Instructions that a turn takes by the CPU's counter.
    pub turn: u64,
    /// Whether the console is there after each command typed, and after what is done
    /// about it.
    pub there: Vec<bool>,
    keys: Vec<u8>,
}

impl Bench {
    pub fn new() -> Self {
        let sim = Sim::new();
        let iommu = FakeIommu::default();
        sim.translate_by(0..=0xff, iommu.translator());
        Self {
            sim,
            iommu,
            diary: Diary::default(),
            instructions: None,
            turn: 2,
            there: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// What is typed at the prompt; ctrl-D follows.
    pub fn keys(mut self, keys: &[u8]) -> Self {
        self.keys = keys.into();
        self
    }

    /// A driver that makes the IOMMU available, and a clock with it.
    pub fn iommu_driver(&self) -> &'static dyn Driver<Sim> {
        let iommu = self.iommu.clone();
        let publish = Do::Publish(Box::new(move || Service::Iommu(iommu.instance())));
        let clock = || {
            let clock = Switch::with_rate("pll", Some(24_000_000), AlwaysOn);
            Service::Switches(SupplierClass::Clock, Arc::new(clock))
        };
        FakeDriver::new(
            "iommu",
            &[Match::compatible("test,iommu")],
            vec![publish, Do::Publish(Box::new(clock))],
            &self.diary,
        )
    }

    /// A driver for masters of this compatible.
    pub fn master(&self, name: &'static str, is: Is) -> &'static dyn Driver<Sim> {
        let matches = match name {
            "disk" => DISKS,
            _ => ENGINES,
        };
        Box::leak(Box::new(MasterDriver {
            name,
            matches,
            is,
            fake: self.iommu.clone(),
            sim: self.sim.clone(),
            diary: self.diary.clone(),
        }))
    }

    /// A driver for a bus with one function, for which there is no driver.
    pub fn bus_driver(&self) -> &'static dyn Driver<Sim> {
        let child = Do::Child(Box::new(|| Child {
            name: "00:01.0".into(),
            node: None,
            pci: PciId {
                vendor: 0x1234,
                device: 0xabcd,
                class: 0,
            },
            requesters: vec![8],
            isolation: None,
            function: Arc::new(Function),
        }));
        FakeDriver::new(
            "bus",
            &[Match::compatible("test,bus")],
            vec![child],
            &self.diary,
        )
    }

    /// Masters first, so that they have to wait.
    pub fn drivers(&self) -> Vec<&'static dyn Driver<Sim>> {
        vec![
            self.master("disk", Is::Disk),
            self.master("engine", Is::Engine),
            self.bus_driver(),
            self.iommu_driver(),
        ]
    }

    pub fn boot(&self, bootargs: &str) -> Booted {
        self.boot_with(tree(), &self.drivers(), bootargs)
    }

    /// Runs commands on the usual machine.
    pub fn run(&self, commands: &str) -> Booted {
        self.boot(&format!("run=\"{commands}\""))
    }

    pub fn boot_with(
        &self,
        tree: TreeBuilder,
        drivers: &[&'static dyn Driver<Sim>],
        bootargs: &str,
    ) -> Booted {
        let args = BootArgs::parse(bootargs, Policy::default());
        assert_eq!(args.warnings, [""; 0]);
        let tree = tree.tree().expect("the test's tree is sound");
        // Nobody but the kernel has a page with that in it.
        let page = self.sim.alloc_pages(PageRequest::new(4096));
        let page = page.expect("there is memory");
        page.fill(0, 4096, 0xc3);
        self.sim.barrier(Barrier::Publish);
        let mut engine = Engine::new(self.sim.clone(), tree, args.policy, drivers);
        args.start(&mut engine);
        let console = Console {
            keys: RefCell::new(self.keys.iter().copied().collect()),
            there: RefCell::new(self.there.iter().copied().collect()),
            instructions: self.instructions,
            turns: Some((self.sim.clone(), self.turn)),
            sim: Some((self.sim.clone(), page.pa())),
            ..Console::default()
        };
        let ending = Shell::new(engine, &console, &args).serve(args.run.as_deref());
        Booted {
            ending,
            shown: console.shown.into_inner(),
        }
    }
}

pub fn base() -> TreeBuilder {
    TreeBuilder::new()
        .u32("#address-cells", 2)
        .u32("#size-cells", 2)
}

pub fn iommu(tree: TreeBuilder) -> TreeBuilder {
    tree.node("iommu@1000000", |n| {
        n.compatible(&["test,iommu"])
            .u32("#iommu-cells", 1)
            .phandle(1)
    })
}

pub fn master(tree: TreeBuilder, name: &str, kind: &str, iommus: &[u32]) -> TreeBuilder {
    tree.node(name, |n| {
        let n = n.compatible(&[kind]).flag("dma-coherent");
        match iommus {
            [] => n,
            iommus => n.cells("iommus", iommus),
        }
    })
}

/// An IOMMU, a disk and a DMA engine behind it, a bus behind it, something without
/// a driver and something disabled.
pub fn tree() -> TreeBuilder {
    let tree = iommu(base());
    let tree = master(tree, "disk@1", "test,disk", &[1, 5]);
    let tree = master(tree, "engine@2", "test,engine", &[1, 6]);
    tree.node("bus@3", |n| {
        n.compatible(&["test,bus"])
            .cells("iommu-map", &[0, 1, 0, 0x100])
    })
    .node("orphan@4", |n| n.compatible(&["test,orphan"]))
    .node("off@5", |n| {
        n.compatible(&["test,engine"]).string("status", "disabled")
    })
}

/// What a master is.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Is {
    /// A disk that can prove its DMA.
    Disk,
    /// A disk that breaks after its first block.
    BrokenDisk,
    /// A DMA engine that can be aimed.
    Engine,
    /// One that brings something else back.
    Liar,
    /// Bound, but it can prove nothing.
    Mute,
    /// It fails its probe.
    Dead,
}

struct MasterDriver {
    name: &'static str,
    matches: &'static [Match],
    is: Is,
    fake: FakeIommu,
    sim: Sim,
    diary: Diary,
}

impl Driver<Sim> for MasterDriver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn matches(&self) -> &'static [Match] {
        self.matches
    }

    fn probe(&self, probe: &mut Probe<'_, Sim>) -> Result<Box<dyn Bound>, ProbeError> {
        let dma = probe.dma()?;
        if self.is == Is::Dead {
            let fault = Fault::Unsupported {
                what: "a dead device",
                seen: 0,
            };
            return Err(fault.into());
        }
        let node = probe.require_node()?;
        let behind = node.iommus()?.into_iter().next();
        Ok(Box::new(Master {
            is: self.is,
            name: probe.name().into(),
            // Streams beyond the fake IOMMU's go straight to memory.
            stream: behind.as_ref().map_or(0x100, |behind| behind.cells[0]),
            iommu: behind.map(|behind| behind.iommu),
            faults: probe.fault_log(),
            buffer: dma.alloc(4096)?,
            lent: Mutex::default(),
            held: Mutex::new(vec![0; 4096]),
            dma,
            fake: self.fake.clone(),
            sim: self.sim.clone(),
            diary: self.diary.clone(),
            attached: Mutex::default(),
        }))
    }
}

/// A bound master with one page, which it shares with its driver.
struct Master {
    is: Is,
    name: String,
    stream: u32,
    iommu: Option<NodeId>,
    faults: Arc<FaultLog>,
    buffer: DmaBuffer<Sim, Bidirectional>,
    lent: Mutex<Option<DmaBuffer<Sim, Bidirectional>>>,
    held: Mutex<Vec<u8>>,
    dma: Dma<Sim>,
    fake: FakeIommu,
    sim: Sim,
    diary: Diary,
    attached: Mutex<Option<usize>>,
}

impl Master {
    fn proof(&self, bytes: u64) -> DmaProof {
        DmaProof {
            bytes,
            iova: self.buffer.iova(),
            pa: self.buffer.pa(),
        }
    }

    fn error(&self) -> Fault {
        Fault::Device {
            during: "transfer",
            status: "ABORTED",
            code: 7,
        }
    }

    /// The device writes to its page, the driver looks.
    fn bring(&self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let at = self.buffer.iova().0;
        let result = self.sim.port().write(self.stream, at, bytes);
        result.map_err(|_| self.error())?;
        let mut seen = vec![0; bytes.len()];
        self.buffer.read(0, &mut seen);
        Ok(seen)
    }
}

impl Bound for Master {
    fn quiesce(&self) {
        self.diary.note(format_args!("{}: quiesce", self.name));
    }
    fn disk(&self) -> Option<&dyn Disk> {
        matches!(self.is, Is::Disk | Is::BrokenDisk).then_some(self)
    }
    fn dma_test(&self) -> Option<&dyn DmaTest> {
        (self.is != Is::Mute).then_some(self)
    }
    fn hostile(&self) -> Option<&dyn Hostile> {
        matches!(self.is, Is::Engine | Is::Mute).then_some(self)
    }
    fn spaces(&self) -> Option<&dyn Spaces> {
        (self.is == Is::Engine).then_some(self)
    }
}

/// Spaces that are nowhere but in the numbers that it answers with.
impl Spaces for Master {
    fn names(&self) -> &'static [&'static str] {
        &["a", "b"]
    }
    fn attached(&self) -> Option<usize> {
        *self.attached.lock().unwrap()
    }
    fn attach(&self, space: usize) -> Result<(), Fault> {
        *self.attached.lock().unwrap() = Some(space);
        Ok(())
    }
    fn detach(&self) {
        *self.attached.lock().unwrap() = None;
    }
    fn map(&self, at: Iova) -> Result<(), Fault> {
        self.diary.note(format_args!("{}: map {at}", self.name));
        Ok(())
    }
    fn unmap(&self, iova: Iova) -> Result<(), Fault> {
        Err(Fault::NotMapped { iova })
    }
    fn transfer(&self, at: Iova) -> Result<Seen, Fault> {
        Ok(Seen {
            at,
            read: self.attached(),
            written: self.attached(),
            switches: 0,
        })
    }
    fn switch(&self) -> Result<Seen, Fault> {
        let before = self.attached().ok_or(Fault::Revoked)?;
        self.attach(1 - before)?;
        Ok(Seen {
            at: Iova(0x1000),
            read: Some(before),
            written: self.attached(),
            switches: 1,
        })
    }
}

impl DmaTest for Master {
    fn begin(&self) -> Result<(), Fault> {
        self.diary.note(format_args!("{}: begin", self.name));
        Ok(())
    }

    fn finish(&self) -> Result<DmaProof, Fault> {
        self.diary.note(format_args!("{}: finish", self.name));
        self.round_trip()
    }

    fn round_trip(&self) -> Result<DmaProof, Fault> {
        let sent = [0x5a; 64];
        self.buffer.write(0, &sent);
        self.sim.barrier(Barrier::Publish);
        let mut inside = [0; 64];
        let at = self.buffer.iova().0;
        let read = self.sim.port().read(self.stream, at, &mut inside);
        read.map_err(|_| self.error())?;
        if self.is == Is::Liar {
            inside[9] = 0;
        }
        let back = self.bring(&inside)?;
        match (0..64).find(|&at| back[at] != sent[at]) {
            None => Ok(self.proof(128)),
            Some(at) => Err(Fault::Mismatch {
                offset: at as u64,
                expected: sent[at],
                seen: back[at],
            }),
        }
    }
}

/// It is there and back at once.
impl Hostile for Master {
    fn capacity(&self) -> usize {
        4096
    }
    fn arm(&self, bytes: &[u8]) -> Result<(), Fault> {
        self.held.lock().unwrap()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn loot(&self, len: usize) -> Result<Vec<u8>, Fault> {
        Ok(self.held.lock().unwrap()[..len].to_vec())
    }
    fn launch(&self, way: Way, at: Iova, len: usize) -> Result<(), Fault> {
        if self.is == Is::Mute {
            return Ok(());
        }
        let mut held = self.held.lock().unwrap();
        // What it puts on the bus is 40 bits wide.
        let to = at.0 & ((1 << 40) - 1);
        let result = match way {
            Way::Read => self.sim.port().read(self.stream, to, &mut held[..len]),
            Way::Write => self.sim.port().write(self.stream, to, &held[..len]),
        };
        if let (Err(BusError::Aborted), Some(iommu)) = (result, self.iommu) {
            // The fake IOMMU has no events of its own. One for each word.
            let words = len as u64 / 4;
            if words > 512 {
                // Nor does it cut anybody off by itself.
                let _ = self.fake.instance().block(StreamId(self.stream));
            }
            for word in 0..words {
                let report = FaultReport {
                    event: "F_TRANSLATION",
                    stream: Some(StreamId(self.stream)),
                    iova: Some(Iova(to + 4 * word)),
                    access: match way {
                        Way::Read => Access::Read,
                        Way::Write => Access::Write,
                    },
                    stage: 1,
                    detail: "by the bench".into(),
                };
                self.faults.report(iommu, IOMMU, report);
            }
        }
        Ok(())
    }
    fn land(&self) -> Result<(), Fault> {
        Ok(())
    }
    fn is_back(&self) -> bool {
        true
    }
    fn lend(&self, bytes: &[u8]) -> Result<Lent, Fault> {
        let page = self.dma.alloc(4096)?;
        page.write(0, bytes);
        self.sim.barrier(Barrier::Publish);
        let (iova, pa) = (page.iova(), page.pa());
        *self.lent.lock().unwrap() = Some(page);
        Ok(Lent { iova, pa })
    }
    fn take_back(&self) {
        *self.lent.lock().unwrap() = None;
    }
}

impl Disk for Master {
    fn block_size(&self) -> u32 {
        BLOCK as u32
    }
    fn blocks(&self) -> u64 {
        BLOCKS
    }
    fn read(&self, first: u64, count: u64, sink: &mut dyn FnMut(&[u8])) -> Result<DmaProof, Fault> {
        let end = first.checked_add(count).filter(|&end| end <= BLOCKS);
        let end = end.ok_or_else(|| Fault::invalid("beyond the disk's end"))?;
        let all: Vec<u8> = content().collect();
        for (done, block) in all.chunks(BLOCK).enumerate() {
            if (first..end).contains(&(done as u64)) {
                sink(&self.bring(block)?);
            }
            if self.is == Is::BrokenDisk {
                return Err(self.error());
            }
        }
        Ok(self.proof(BLOCK as u64))
    }
}

/// A function that does nothing.
struct Function;

impl BusFunction for Function {
    fn window(&self, index: usize) -> Result<PhysRange, Fault> {
        Err(Fault::NoWindow { index })
    }
    fn set_master(&self, _on: bool) {}
    fn messages(&self) -> u32 {
        0
    }
    fn set_message(&self, _index: u32, _address: u64, _data: u32) -> Result<(), Fault> {
        Ok(())
    }
    fn clear_message(&self, _index: u32) {}
    fn interrupt(&self) -> Result<Option<InterruptSpec>, PropError> {
        Ok(None)
    }
    fn apertures(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }
    fn bus_address(&self, pa: PhysAddr) -> u64 {
        pa.0
    }
}

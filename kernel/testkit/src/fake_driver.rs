//! A driver that follows a script, for tests of the probe engine. Everything it
//! does is noted in a [`Diary`] that tests compare.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex};

use mastiff_core::bus::Child;
use mastiff_core::dma::{Bidirectional, Dma, DmaBuffer, DmaMapping, FromDevice};
use mastiff_core::driver::{Bound, Driver, Match};
use mastiff_core::error::{Dependency, Fault, ProbeError};
use mastiff_core::irq::IrqLine;
use mastiff_core::probe::{Interrupt, Probe, Service};
use mastiff_dt::SupplierClass;

use crate::lock;
use crate::platform::SimMmio;
use crate::sim::Sim;

/// What happened, in order. Clones are the same diary.
#[derive(Clone, Default)]
pub struct Diary {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Diary {
    /// Adds a line.
    pub fn note(&self, line: impl Display) {
        lock(&self.lines).push(line.to_string());
    }

    /// All lines so far; they are taken out.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.lines))
    }

    /// How many lines are exactly this.
    pub fn count(&self, line: &str) -> usize {
        lock(&self.lines)
            .iter()
            .filter(|known| *known == line)
            .count()
    }
}

/// Makes a service anew at each probe.
pub type MakeService = Box<dyn Fn() -> Service + Send + Sync>;
/// Makes a child anew at each probe.
pub type MakeChild = Box<dyn Fn() -> Child + Send + Sync>;
/// Does anything.
pub type Action = Box<dyn Fn(&mut Probe<'_, Sim>) -> Result<(), ProbeError> + Send + Sync>;

/// One line of a script.
pub enum Do {
    /// Maps a register window of which so many bytes are needed.
    Mmio(usize, u64),
    /// Connects a wired interrupt.
    Irq(usize),
    /// Connects an interrupt, by message where that is possible.
    Interrupt,
    /// Sets the DMA mask.
    Mask(u32),
    /// Allocates a buffer.
    Alloc(u64),
    /// Allocates pages and maps them.
    Map(u64),
    /// Publishes a service.
    Publish(MakeService),
    /// Publishes a child.
    Child(MakeChild),
    /// Waits for what the node at this path supplies.
    Defer(SupplierClass, &'static str),
    /// Waits for it at the first probe of the device only.
    DeferOnce(SupplierClass, &'static str),
    /// Fails.
    Fail(Fault),
    /// Anything else.
    Call(Action),
}

/// The driver.
pub struct FakeDriver {
    name: &'static str,
    matches: &'static [Match],
    script: Vec<Do>,
    diary: Diary,
    // How often each device was probed.
    probes: Mutex<BTreeMap<String, u32>>,
}

impl FakeDriver {
    /// A driver for the life of the test, as the engine wants it.
    pub fn new(
        name: &'static str,
        matches: &[Match],
        script: Vec<Do>,
        diary: &Diary,
    ) -> &'static Self {
        Box::leak(Box::new(Self {
            name,
            matches: Box::leak(matches.into()),
            script,
            diary: diary.clone(),
            probes: Mutex::new(BTreeMap::new()),
        }))
    }

    /// One that only publishes a service: the test bench's own suppliers.
    pub fn publisher(
        name: &'static str,
        compatible: &'static str,
        make: impl Fn() -> Service + Send + Sync + 'static,
    ) -> &'static Self {
        let publish = Do::Publish(Box::new(make));
        let matches = [Match::compatible(compatible)];
        Self::new(name, &matches, vec![publish], &Diary::default())
    }
}

/// What a probe acquired; fields drop in this order.
#[derive(Default)]
struct Held {
    interrupts: Vec<Interrupt>,
    lines: Vec<IrqLine>,
    windows: Vec<SimMmio>,
    mappings: Vec<DmaMapping<Sim, FromDevice>>,
    buffers: Vec<DmaBuffer<Sim, Bidirectional>>,
    dma: Option<Dma<Sim>>,
}

struct FakeBound {
    name: String,
    diary: Diary,
    _held: Held,
}

impl Driver<Sim> for FakeDriver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn matches(&self) -> &'static [Match] {
        self.matches
    }

    fn probe(&self, probe: &mut Probe<'_, Sim>) -> Result<Box<dyn Bound>, ProbeError> {
        let name = probe.name().to_owned();
        self.diary.note(format_args!("{name}: probe"));
        let probes = {
            let mut probes = lock(&self.probes);
            let probes = probes.entry(name.clone()).or_default();
            *probes += 1;
            *probes
        };
        let mut held = Held::default();
        for step in &self.script {
            self.step(probe, &mut held, step, probes)?;
        }
        Ok(Box::new(FakeBound {
            name,
            diary: self.diary.clone(),
            _held: held,
        }))
    }
}

impl FakeDriver {
    fn step(
        &self,
        probe: &mut Probe<'_, Sim>,
        held: &mut Held,
        step: &Do,
        probes: u32,
    ) -> Result<(), ProbeError> {
        let diary = self.diary.clone();
        let name = probe.name().to_owned();
        let handler = Arc::new(move || diary.note(format_args!("{name}: interrupt")));
        match step {
            Do::Mmio(index, need) => held.windows.push(probe.mmio(*index, *need)?),
            Do::Irq(index) => held.lines.push(probe.irq(*index, handler)?),
            Do::Interrupt => held.interrupts.push(probe.interrupt(handler)?),
            Do::Mask(bits) => held.dma(probe)?.set_mask(*bits)?,
            Do::Alloc(bytes) => {
                let buffer = held.dma(probe)?.alloc(*bytes)?;
                held.buffers.push(buffer);
            }
            Do::Map(bytes) => {
                let pages = held.dma(probe)?.pages(*bytes)?;
                let mapping = held.dma(probe)?.map(pages);
                held.mappings
                    .push(mapping.map_err(|failure| failure.fault)?);
            }
            Do::Publish(make) => probe.publish(make())?,
            Do::Child(make) => probe.publish_child(make()),
            Do::DeferOnce(..) if probes > 1 => {}
            Do::Defer(class, path) | Do::DeferOnce(class, path) => {
                let node = probe.tree().find(path);
                let node = node.ok_or_else(|| Fault::invalid(format!("no node {path}")))?;
                return Err(ProbeError::Defer(Dependency {
                    node: node.id(),
                    class: *class,
                }));
            }
            Do::Fail(fault) => return Err(ProbeError::Fail(fault.clone())),
            Do::Call(action) => action(probe)?,
        }
        Ok(())
    }
}

impl Held {
    fn dma(&mut self, probe: &mut Probe<'_, Sim>) -> Result<&Dma<Sim>, Fault> {
        if self.dma.is_none() {
            self.dma = Some(probe.dma()?);
        }
        self.dma.as_ref().ok_or(Fault::Revoked)
    }
}

impl Bound for FakeBound {
    fn quiesce(&self) {
        self.diary.note(format_args!("{}: quiesce", self.name));
    }
}

impl Drop for FakeBound {
    fn drop(&mut self) {
        self.diary.note(format_args!("{}: drop", self.name));
    }
}

//! A model of a GIC's wired half, written from the architecture: distributor, SGI
//! frame and both kinds of CPU interface over one state. It is stricter than
//! hardware: what IHI 0048 and IHI 0069 call UNPREDICTABLE stops the test, and what
//! may take effect late does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use mastiff_core::cpu_interface::CpuInterface;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::SimDevice;

/// INTIDs that the model has.
pub const LINES: u32 = 96;
/// The CPU that runs the test, as MPIDR_EL1 and as the redistributors have it.
pub const MPIDR: u64 = 0x01_0002_0003;
const NOTHING: u32 = 1023;
const RWP_GICD: u32 = 1 << 31;
const RWP_GICR: u32 = 1 << 3;

/// One interrupt.
#[derive(Clone, Default, Debug)]
pub struct Line {
    pub group1: bool,
    pub enabled: bool,
    pub pending: bool,
    pub active: bool,
    pub asserted: bool,
    pub edge: bool,
    pub priority: u8,
    /// GICv2: a mask of CPUs; GICv3: an affinity.
    pub target: u64,
}

/// The state behind all frames.
pub struct State {
    pub v3: bool,
    /// A CPU beside the one that the distributor's state is kept with.
    pub other: bool,
    /// GICv2: whether the GIC has a secure state (so software sees group 1).
    pub secure: bool,
    pub lines: Vec<Line>,
    pub ctlr: u32,
    pub cpu_on: bool,
    pub mask: u8,
    pub running: Vec<u32>,
    /// GICv2: the bit of the CPU that looks, and what was written to GICD_SGIR.
    pub bit: u8,
    pub sent: Vec<u64>,
    /// How many looks at RWP a disable takes to be effective.
    pub slow: u32,
    rwp: u32,
    disabling: BTreeSet<u32>,
    pub asleep: bool,
    /// GICR_CTLR.EnableLPIs.
    pub lpis_on: bool,
    /// Pending LPIs, and their configuration as the redistributor has it cached.
    pub lpis: BTreeSet<u32>,
    pub config: BTreeMap<u32, u8>,
}

/// A handle of the model.
#[derive(Clone)]
pub struct Model(Arc<Mutex<State>>);

impl Model {
    pub fn new(v3: bool) -> Self {
        Self(Arc::new(Mutex::new(State::fresh(v3))))
    }

    /// All registers are as after a reset.
    pub fn lose_power(&self) {
        let mut state = self.state();
        *state = State::fresh(state.v3);
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn line(&self, intid: u32) -> Line {
        self.state().lines[intid as usize].clone()
    }

    pub fn pulse(&self, intid: u32) {
        self.state().lines[intid as usize].pending = true;
    }

    pub fn assert(&self, intid: u32, asserted: bool) {
        self.state().lines[intid as usize].asserted = asserted;
    }

    /// Whether the CPU sees an interrupt request.
    pub fn signals(&self) -> bool {
        self.state().highest().is_some()
    }
}

impl State {
    fn fresh(v3: bool) -> Self {
        // What firmware may leave behind: everything on, pending and in disorder.
        let left = Line {
            group1: !v3,
            enabled: true,
            pending: true,
            active: true,
            priority: 0xff,
            ..Line::default()
        };
        let mut lines = vec![left; LINES as usize];
        // Software-generated interrupts are edges whatever is written.
        lines[..16].iter_mut().for_each(|line| line.edge = true);
        Self {
            v3,
            other: false,
            secure: false,
            lines,
            ctlr: 0,
            cpu_on: false,
            mask: 0,
            running: Vec::new(),
            bit: 1,
            sent: Vec::new(),
            slow: 3,
            rwp: 0,
            disabling: BTreeSet::new(),
            asleep: v3,
            lpis_on: false,
            lpis: BTreeSet::new(),
            config: BTreeMap::new(),
        }
    }

    fn group_on(&self, line: &Line) -> bool {
        if self.v3 {
            assert!(
                self.other || self.ctlr & 0x10 != 0,
                "affinity routing is off"
            );
            (self.other || self.ctlr & 0b10 != 0) && line.group1
        } else {
            self.ctlr & 1 != 0 && line.group1 == self.secure
        }
    }

    fn highest(&self) -> Option<u32> {
        if !self.cpu_on || self.asleep {
            return None;
        }
        let wired = (0..LINES).find(|&intid| {
            let line = &self.lines[intid as usize];
            let here = intid < 32 || line.target == if self.v3 { MPIDR } else { 1 };
            let pending = line.pending || line.asserted && !line.edge;
            line.enabled
                && pending
                && !line.active
                && line.priority < self.mask
                && here
                && self.group_on(line)
        });
        let enabled = |lpi: &&u32| self.config.get(lpi).is_some_and(|byte| byte & 1 != 0);
        wired.or_else(|| self.lpis.iter().find(enabled).copied())
    }

    fn acknowledge(&mut self) -> u32 {
        let Some(intid) = self.highest() else {
            return NOTHING;
        };
        if intid < LINES {
            let line = &mut self.lines[intid as usize];
            line.pending = false;
            line.active = true;
        } else {
            self.lpis.remove(&intid);
        }
        self.running.push(intid);
        intid
    }

    fn end(&mut self, intid: u32) {
        assert_eq!(self.running.pop(), Some(intid), "ended out of order");
        if intid < LINES {
            self.lines[intid as usize].active = false;
        }
    }

    /// A look at RWP; what was disabled takes effect when it reads 0.
    fn look(&mut self) -> bool {
        if self.rwp > 0 {
            self.rwp = self.rwp.saturating_sub(u32::from(self.slow != u32::MAX));
            return true;
        }
        for intid in std::mem::take(&mut self.disabling) {
            self.lines[intid as usize].enabled = false;
        }
        false
    }

    fn disable(&mut self, intid: u32) {
        if self.v3 {
            self.disabling.insert(intid);
            self.rwp = self.slow;
        } else {
            self.lines[intid as usize].enabled = false;
        }
    }

    fn bits(&self, intids: Range<u32>, get: impl Fn(&Line) -> bool) -> u64 {
        intids
            .clone()
            .filter(|&intid| self.lines.get(intid as usize).is_some_and(&get))
            .fold(0, |bits, intid| bits | 1 << (intid - intids.start))
    }

    fn each(&mut self, first: u32, bits: u64, mut set: impl FnMut(&mut Self, usize)) {
        for n in (0..32).filter(|n| bits & 1 << n != 0) {
            if first + n < LINES {
                set(self, (first + n) as usize);
            }
        }
    }

    /// The registers per interrupt, of those interrupts that the frame has.
    fn bank_read(&self, at: u64, width: usize, have: Range<u32>) -> u64 {
        let first = (at as u32 & 0x7f) * 8;
        let word = first..first + 32;
        match (at, width) {
            (0x080..0x400, 4) if !have.contains(&first) => 0,
            (0x080..0x100, 4) => self.bits(word, |line| line.group1),
            (0x100..0x200, 4) => self.bits(word, |line| line.enabled),
            (0x200..0x300, 4) => self.bits(word, |line| line.pending),
            (0x300..0x400, 4) => self.bits(word, |line| line.active),
            // A CPU sees itself as the target of what is private to it.
            (0x800..0x820, 1) if !self.v3 => self.bit.into(),
            (0xc00..0xd00, 4) => {
                let first = (at as u32 - 0xc00) * 4;
                let edges = self.bits(first..first + 16, |line| line.edge);
                (0..16).fold(0, |cells, n| cells | (edges >> n & 1) << (2 * n + 1))
            }
            _ => panic!("read of {width} bytes at {at:#x} of a GIC"),
        }
    }

    fn bank_write(&mut self, at: u64, width: usize, value: u64, have: Range<u32>) {
        let first = (at as u32 & 0x7f) * 8;
        match (at, width) {
            (0x080..0x400, 4) if !have.contains(&first) => {}
            (0x080..0x100, 4) => {
                for n in 0..32 {
                    if let Some(line) = self.lines.get_mut((first + n) as usize) {
                        line.group1 = value & 1 << n != 0;
                    }
                }
            }
            (0x100..0x180, 4) => self.each(first, value, |state, n| {
                state.disabling.remove(&(n as u32));
                state.lines[n].enabled = true;
            }),
            (0x180..0x200, 4) => self.each(first, value, |state, n| state.disable(n as u32)),
            (0x280..0x300, 4) => self.each(first, value, |state, n| state.lines[n].pending = false),
            (0x380..0x400, 4) => self.each(first, value, |state, n| state.lines[n].active = false),
            (0x400..0x800, 1 | 4) => {
                for (n, byte) in value.to_le_bytes()[..width].iter().enumerate() {
                    let intid = (at - 0x400) as usize + n;
                    if let Some(line) = self.lines.get_mut(intid) {
                        line.priority = *byte;
                    }
                }
            }
            (0x820..0xc00, 1) if !self.v3 => {
                self.lines[(at - 0x800) as usize].target = value;
            }
            (0xf00, 4) if !self.v3 => self.sent.push(value),
            (0xc00..0xd00, 4) => self.configure((at - 0xc00) as usize * 4, value),
            _ => panic!("write of {width} bytes at {at:#x} of a GIC"),
        }
    }

    fn configure(&mut self, first: usize, value: u64) {
        for n in 0..16 {
            let Some(line) = self.lines.get_mut(first + n) else {
                return;
            };
            let edge = value & 0b10 << (2 * n) != 0;
            assert!(
                line.edge == edge || !line.enabled,
                "the trigger of {} changes while it is enabled",
                first + n
            );
            line.edge = edge || first + n < 16;
        }
    }
}

/// The distributor's frame.
pub struct Distributor(pub Model);

impl Distributor {
    fn have(state: &State) -> Range<u32> {
        if state.v3 { 32..LINES } else { 0..LINES }
    }
}

impl SimDevice for Distributor {
    fn read(&mut self, at: u64, width: usize) -> u64 {
        let mut state = self.0.state();
        match (at, width) {
            (0x0, 4) if state.v3 && state.look() => u64::from(state.ctlr | RWP_GICD),
            (0x0, 4) => u64::from(state.ctlr),
            // Lines, LPIs with 16-bit INTIDs, security.
            (0x4, 4) if state.v3 => u64::from(LINES / 32 - 1) | 1 << 17 | 15 << 19,
            (0x4, 4) => u64::from(LINES / 32 - 1) | u64::from(state.secure) << 10,
            (0xffe8, 4) if state.v3 => 0x3b,
            _ => {
                let have = Self::have(&state);
                state.bank_read(at, width, have)
            }
        }
    }

    fn write(&mut self, at: u64, width: usize, value: u64) {
        let mut state = self.0.state();
        match (at, width) {
            (0x0, 4) => {
                let (old, new) = (state.ctlr, value as u32);
                let on = if state.v3 { 0b11 } else { 0b1 };
                if state.v3 {
                    assert!(old & 0x10 == 0 || new & 0x10 != 0, "ARE goes back to 0");
                    let switched = (old ^ new) & 0x10 != 0;
                    assert!(!switched || (old | new) & on == 0, "ARE with a group on");
                    state.rwp = state.slow;
                }
                state.ctlr = new;
            }
            (0x6000..0x8000, 8) if state.v3 => {
                let intid = ((at - 0x6000) / 8) as usize;
                assert!(intid >= 32, "only shared interrupts are routed");
                if let Some(line) = state.lines.get_mut(intid) {
                    line.target = value;
                }
            }
            _ => {
                let have = Self::have(&state);
                state.bank_write(at, width, value, have);
            }
        }
    }
}

/// GICv2's CPU interface.
pub struct CpuFrame(pub Model);

impl SimDevice for CpuFrame {
    fn read(&mut self, at: u64, width: usize) -> u64 {
        let mut state = self.0.state();
        match (at, width) {
            (0x0, 4) => u64::from(state.cpu_on),
            (0xc, 4) => u64::from(state.acknowledge()),
            _ => panic!("read of {width} bytes at {at:#x} of a GICC"),
        }
    }

    fn write(&mut self, at: u64, width: usize, value: u64) {
        let mut state = self.0.state();
        match (at, width) {
            (0x0, 4) => {
                assert!(value <= 1, "interrupts come as IRQ and end at once");
                state.cpu_on = value != 0;
            }
            (0x4, 4) => state.mask = value as u8,
            (0x10, 4) => state.end(value as u32),
            _ => panic!("write of {width} bytes at {at:#x} of a GICC"),
        }
    }
}

/// The wired half of a redistributor; its LPIs are in `lpi_model`.
pub fn redistributor_read(model: &Model, at: u64, width: usize) -> u64 {
    let mut state = model.state();
    match (at, width) {
        (0x0, 4) => {
            let rwp = if state.look() { RWP_GICR } else { 0 };
            u64::from(rwp | u32::from(state.lpis_on))
        }
        (0x14, 4) if state.asleep => 0b110,
        (0x14, 4) => 0,
        (0x1_0000.., _) => state.bank_read(at - 0x1_0000, width, 0..32),
        _ => panic!("read of {width} bytes at {at:#x} of a redistributor"),
    }
}

/// See [`redistributor_read`].
pub fn redistributor_write(model: &Model, at: u64, width: usize, value: u64) {
    let mut state = model.state();
    match (at, width) {
        (0x14, 4) => state.asleep = value & 0b10 != 0,
        (0x1_0000.., _) => state.bank_write(at - 0x1_0000, width, value, 0..32),
        _ => panic!("write of {width} bytes at {at:#x} of a redistributor"),
    }
}

/// GICv3's CPU interfaces: what `kernel/arch` is on hardware. A thread of the test is a
/// CPU.
pub struct Cpu {
    pub sim: Sim,
    /// By CPU, with the affinity of each.
    pub cpus: [(Model, u64); 2],
}

impl Cpu {
    fn state(&self) -> MutexGuard<'_, State> {
        self.cpus[self.sim.cpu()].0.state()
    }
}

impl CpuInterface for Cpu {
    fn enable(&self) -> Result<(), Fault> {
        let mut state = self.state();
        assert!(!state.asleep, "the redistributor sleeps");
        state.cpu_on = true;
        state.mask = 0xff;
        Ok(())
    }

    fn disable(&self) {
        self.state().cpu_on = false;
    }

    fn acknowledge(&self) -> u32 {
        self.state().acknowledge()
    }

    fn end(&self, intid: u32) {
        self.state().end(intid);
    }

    fn send(&self, affinity: u64) {
        let (to, _) = self.cpus.iter().find(|cpu| cpu.1 == affinity).unwrap();
        to.pulse(0);
    }

    fn affinity(&self) -> u64 {
        self.cpus[self.sim.cpu()].1
    }
}

/// A GICv2m frame with SPIs 64 to 67.
pub struct MsiFrame(pub Model);

impl SimDevice for MsiFrame {
    fn read(&mut self, at: u64, width: usize) -> u64 {
        assert_eq!((at, width), (0x8, 4), "only MSI_TYPER is read");
        64 << 16 | 4
    }

    fn write(&mut self, at: u64, width: usize, value: u64) {
        assert_eq!((at, width), (0x40, 4), "only MSI_SETSPI_NS is written");
        self.0.pulse(value as u32);
    }
}

//! A model of a virtio-iommu, from the specification, that takes nobody's word: a
//! register accessed at the wrong width or time, a ring entry that cannot be, a
//! reserved field that is not zero ends the test. It answers late, and until it has
//! answered nothing has changed; what it is told after the notification it does not
//! see, since memory follows barriers.
//!
//! It shares no code with the driver, layouts included: those are written down here
//! once more.

mod device;
mod registers;
mod requests;
mod ring;
mod tables;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mastiff_testkit::bus::Shared;
use mastiff_testkit::pci::SimFunction;

pub use requests::Kind;
pub use tables::{Tables, Translator};

pub const INPUT_RANGE: u64 = 1 << 0;
pub const DOMAIN_RANGE: u64 = 1 << 1;
pub const MAP_UNMAP: u64 = 1 << 2;
pub const BYPASS: u64 = 1 << 3;
pub const PROBE: u64 = 1 << 4;
pub const MMIO: u64 = 1 << 5;
pub const BYPASS_CONFIG: u64 = 1 << 6;
pub const VERSION_1: u64 = 1 << 32;
pub const ACCESS_PLATFORM: u64 = 1 << 33;

/// What QEMU offers.
pub const OFFERED: u64 = INPUT_RANGE
    | DOMAIN_RANGE
    | MAP_UNMAP
    | PROBE
    | MMIO
    | BYPASS_CONFIG
    | VERSION_1
    | 1 << 28
    | 1 << 29;

/// Function 00:03.0, and its requester.
pub const SLOT: u8 = 3;
pub const OWN: u32 = 0x18;

/// The device. Fields are there for tests to look at and to break.
pub struct SimViommu {
    pub offered: u64,
    pub page_sizes: u64,
    pub input: (u64, u64),
    pub domains: (u32, u32),
    pub probe_size: u32,
    /// How long the queues can be.
    pub queue_sizes: [u16; 2],
    /// Properties of every endpoint, as bytes.
    pub properties: Vec<u8>,
    /// The endpoints that there are: these and above are not.
    pub endpoints: u32,
    /// It does not accept any set of features.
    pub picky: bool,
    /// How often the configuration changes while it is read.
    pub restless: u32,
    /// Looks until a reset is over.
    pub slow_reset: u32,
    /// Rounds until a notification is served.
    pub latency: u32,
    /// It serves no notification any more.
    pub deaf: bool,
    /// What it answers to requests of a kind, instead of serving them.
    pub answers: BTreeMap<Kind, u8>,
    /// It serves the requests of a notification last to first.
    pub backwards: bool,
    /// The buffer that it gives back, whatever was offered.
    pub wrong_head: Option<u32>,
    /// Bytes of an event that it writes.
    pub event_len: u32,
    /// It has no message for the driver.
    pub no_vectors: bool,
    /// Requests that were served, by kind, and what came of them.
    pub served: Vec<(Kind, u8)>,
    /// Notifications of the request queue.
    pub notified: u32,
    /// It keeps faults for which there is no buffer until there is one.
    pub patient: bool,
    /// Faults for which there was no buffer.
    pub dropped: u32,
    /// Resets.
    pub resets: u32,
    registers: registers::Registers,
    tables: Shared<Tables>,
    due: Option<u32>,
}

impl SimViommu {
    /// The device as it comes out of power-on, and its PCI function.
    pub fn function(layout: Layout) -> (Shared<Self>, SimFunction) {
        let device = Arc::new(Mutex::new(Self {
            offered: OFFERED,
            page_sizes: !0xfff,
            input: (0, u64::MAX),
            domains: (0, u32::MAX),
            probe_size: 512,
            queue_sizes: [256; 2],
            properties: Vec::new(),
            endpoints: 0x1_0000,
            picky: false,
            restless: 0,
            slow_reset: 0,
            latency: 2,
            deaf: false,
            answers: BTreeMap::new(),
            backwards: false,
            wrong_head: None,
            event_len: 24,
            no_vectors: false,
            served: Vec::new(),
            notified: 0,
            patient: false,
            dropped: 0,
            resets: 0,
            registers: registers::Registers::default(),
            tables: Arc::new(Mutex::new(Tables::at_power_on())),
            due: None,
        }));
        let function = SimFunction::new(0x1af4, 0x1057, 0x08_80_00).device(device.clone());
        (device, layout.apply(function))
    }

    /// What it translates by.
    pub fn tables(&self) -> Shared<Tables> {
        self.tables.clone()
    }

    /// The machine's power was off.
    pub fn lose_power(&mut self) {
        self.registers = registers::Registers::default();
        let mut tables = lock(&self.tables);
        *tables = Tables {
            reserved: std::mem::take(&mut tables.reserved),
            ..Tables::at_power_on()
        };
        drop(tables);
        self.due = None;
    }

    /// Keeps addresses of all endpoints for itself: writes there are messages, or all
    /// that goes there is lost (virtio §5.13.6.8.2).
    pub fn reserve(&mut self, first: u64, last: u64, messages: bool) {
        let head = [1, 0, 20, 0, messages.into(), 0, 0, 0];
        let property = [&head[..], &first.to_le_bytes(), &last.to_le_bytes()];
        self.properties.extend(property.concat());
        lock(&self.tables).reserved.push((first, last, messages));
    }

    /// Met an error, as with a broken ring.
    pub fn ask_for_reset(&mut self) {
        self.registers.break_down();
    }

    /// How many requests of a kind were served.
    pub fn count(&self, kind: Kind) -> usize {
        self.served.iter().filter(|(of, _)| *of == kind).count()
    }
}

/// Where a function's structures are, and how it interrupts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// As in QEMU: all in BAR 4, a pin.
    Pin,
    /// All in BAR 4, messages with the table in BAR 1.
    Messages,
    /// Each in a BAR of its own, no interrupt at all.
    Apart,
}

/// Common, notifications, interrupt status, device: BAR and offset.
type Places = [(u8, u32); 4];

impl Layout {
    pub fn places(self) -> Places {
        match self {
            Self::Pin | Self::Messages => [(4, 0), (4, 0x3000), (4, 0x1000), (4, 0x2000)],
            Self::Apart => [(0, 0x100), (1, 0x40), (2, 3), (3, 0x10)],
        }
    }

    fn apply(self, function: SimFunction) -> SimFunction {
        let function = match self {
            Self::Pin => function.bar(4, 0x4000, 4).pin(1),
            Self::Messages => function.bar(1, 0x1000, 0).bar(4, 0x4000, 4).msi_x(1, 0, 2),
            Self::Apart => (0..4).fold(function, |function, bar| function.bar(bar, 0x200, 0)),
        };
        let places = self.places();
        function.with_config(|config| {
            for (kind, (bar, offset)) in (1..).zip(places) {
                let len = if kind == 2 { 20 } else { 16 };
                let at = config.add_capability(9, len.into());
                config.set16(at + 2, kind << 8 | len);
                config.set32(at + 4, bar.into());
                config.set32(at + 8, offset);
                let bytes = [0x38, 0x10, 1, 40][usize::from(kind) - 1];
                config.set32(at + 12, bytes);
                if kind == 2 {
                    config.set32(at + 16, registers::MULTIPLIER);
                }
            }
        })
    }
}

/// Locks, also after a panic elsewhere.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

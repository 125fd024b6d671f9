//! Configuration space through one window: the port's own is among the host's registers,
//! and a region of the address translation is moved to whatever else is accessed. To the
//! rest of the crate that looks as ECAM does.

use alloc::sync::Arc;

use mastiff_core::addr::PhysRange;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform};
use mastiff_dt::Range;
use spin::Mutex;

use super::atu::{Atu, Kind, Region};
use super::link;
use crate::config::BusSpace;
use crate::scan::Buses;
use crate::window;

/// The region that is moved. The windows for memory are those behind it.
const CONFIG: usize = 0;
/// The part of an offset that is within one function's space.
const REGISTER: usize = 0xfff;
/// The port's own BARs are for those who want to reach the host's registers from below;
/// nobody is to.
const OWN_BARS: core::ops::Range<usize> = 0x10..0x18;
/// Where no function answers (PCIe Base 2.3.2).
const ABSENT: u64 = u64::MAX;

/// The ways out of a host.
pub struct Space<P: Platform> {
    registers: Arc<P::Mmio>,
    window: P::Mmio,
    window_at: PhysRange,
    root: u8,
    moving: Mutex<Moving<P>>,
}

struct Moving<P: Platform> {
    unit: Atu<P>,
    // Where the window is now.
    on: Option<Region>,
}

/// Where an access goes.
enum Reached<'a, M> {
    Register(&'a M, usize),
    // Nowhere: what a read gives.
    Nowhere(u64),
}

impl<P: Platform> Space<P> {
    /// The space of a host with these registers and this window, whose root bus is `root`.
    pub fn new(
        registers: Arc<P::Mmio>,
        (window, window_at): (P::Mmio, PhysRange),
        root: u8,
        unit: Atu<P>,
    ) -> Arc<Self> {
        Arc::new(Self {
            registers,
            window,
            window_at,
            root,
            moving: Mutex::new(Moving { unit, on: None }),
        })
    }

    /// Has the host send on what the CPU accesses in its memory windows.
    pub fn open(&self, ranges: &[Range]) -> Result<(), Fault> {
        let moving = self.moving.lock();
        let memory = ranges.iter().filter(|range| window::memory(range));
        for (index, range) in (CONFIG + 1..).zip(memory) {
            let region = Region {
                kind: Kind::Memory,
                start: range.cpu,
                len: range.size,
                target: range.child,
            };
            moving.unit.open(index, &region)?;
        }
        Ok(())
    }

    /// Has it send on nothing any more.
    pub fn close(&self) {
        let mut moving = self.moving.lock();
        (0..moving.unit.count()).for_each(|index| moving.unit.close(index));
        moving.on = None;
    }

    /// Accesses an offset of the megabyte that ECAM would have for a bus.
    fn access<T>(&self, bus: u8, at: usize, act: impl FnOnce(Reached<'_, P::Mmio>) -> T) -> T {
        let (devfn, register) = (at >> 12, at & REGISTER);
        if bus == self.root {
            return act(match devfn {
                0 if OWN_BARS.contains(&register) => Reached::Nowhere(0),
                0 => Reached::Register(&self.registers, register),
                // A port has no neighbours.
                _ => Reached::Nowhere(ABSENT),
            });
        }
        if !link::is_up(&*self.registers) {
            return act(Reached::Nowhere(ABSENT));
        }
        let region = Region {
            // The bus behind the port has the next number.
            kind: match bus - self.root {
                1 => Kind::Config0,
                _ => Kind::Config1,
            },
            start: self.window_at.start.0,
            len: self.window_at.len,
            target: u64::from(bus) << 24 | (devfn as u64) << 16,
        };
        // Until the access is done nobody else may move it.
        let mut moving = self.moving.lock();
        if moving.on != Some(region) {
            let moved = moving.unit.open(CONFIG, &region);
            moving.on = moved.is_ok().then_some(region);
        }
        act(match moving.on {
            Some(_) => Reached::Register(&self.window, register),
            None => Reached::Nowhere(ABSENT),
        })
    }
}

/// A bus, as if it were memory.
struct OneBus<P: Platform> {
    space: Arc<Space<P>>,
    number: u8,
}

impl<P: Platform> Buses for Arc<Space<P>> {
    fn open(&mut self, number: u8) -> Result<BusSpace, Fault> {
        let space = self.clone();
        Ok(Arc::new(OneBus { space, number }))
    }
}

macro_rules! accesses {
    ($($read:ident, $write:ident: $type:ty;)*) => {$(
        fn $read(&self, offset: usize) -> $type {
            self.space.access(self.number, offset, |reached| match reached {
                Reached::Register(window, at) => window.$read(at),
                Reached::Nowhere(value) => value as $type,
            })
        }

        fn $write(&self, offset: usize, value: $type) {
            self.space.access(self.number, offset, |reached| {
                if let Reached::Register(window, at) = reached {
                    window.$write(at, value);
                }
            });
        }
    )*};
}

impl<P: Platform> Mmio for OneBus<P> {
    fn len(&self) -> usize {
        1 << 20
    }

    accesses! {
        read8, write8: u8;
        read16, write16: u16;
        read32, write32: u32;
        read64, write64: u64;
    }
}

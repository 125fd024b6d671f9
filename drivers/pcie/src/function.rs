//! What the host does for one of its functions, for as long as it is bound.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::bus::BusFunction;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_dt::{DmaWindows, InterruptSpec, PropError};
use spin::Mutex;

use crate::access::AccessControl;
use crate::assign::Placed;
use crate::config::{COMMAND, COMMAND_MASTER, COMMAND_NO_INTX, Config, SET_BY_SOFTWARE};
use crate::message::{self, Messages};
use crate::scan::Found;

/// The bits of an offset that name a word in 4 KiB of configuration space.
const WORD_OF_CONFIG: u16 = 0xffc;

/// What all functions of a host share.
pub struct Shared {
    /// Bus addresses that belong to functions.
    pub apertures: Vec<(u64, u64)>,
    /// Where memory is for functions.
    pub memory: DmaWindows,
}

/// A function.
pub struct Function<P: Platform> {
    platform: P,
    shared: Arc<Shared>,
    // Bridges that must forward its DMA, the nearest last.
    bridges: Vec<Config>,
    bars: Placed,
    interrupt: Result<Option<InterruptSpec>, PropError>,
    // Configuration space and messages are changed by one at a time.
    registers: Mutex<Registers<P::Mmio>>,
}

struct Registers<M> {
    config: Config,
    control: Option<AccessControl>,
    messages: Messages<M>,
    saved: Option<Saved>,
}

/// What a function's power takes with it.
struct Saved {
    command: u16,
    header: [u32; SET_BY_SOFTWARE.len()],
    messages: Option<message::Saved>,
}

impl<P: Platform> Function<P> {
    /// A function whose BARs have their places.
    pub fn new(
        platform: &P,
        shared: &Arc<Shared>,
        found: &Found,
        bars: Placed,
        interrupt: Result<Option<InterruptSpec>, PropError>,
    ) -> Self {
        Self {
            platform: platform.clone(),
            shared: shared.clone(),
            bridges: found.bridges.clone(),
            bars,
            interrupt,
            registers: Mutex::new(Registers {
                messages: Messages::find(&found.config, &bars),
                config: found.config.clone(),
                control: found.control,
                saved: None,
            }),
        }
    }

    /// Gets ready to lose everything, and loses it: what a resume forgets is missed
    /// then, also where the power stays on.
    pub fn suspend(&self) {
        let mut registers = self.registers.lock();
        let Registers {
            config,
            control,
            messages,
            ..
        } = &*registers;
        let command = config.read16(COMMAND);
        let messages = messages.save(config);
        config.write16(COMMAND, COMMAND_NO_INTX);
        let header = SET_BY_SOFTWARE.map(|at| {
            let value = config.read32(at);
            config.write32(at, 0);
            value
        });
        if let Some(control) = control {
            control.lose(config);
        }
        registers.saved = Some(Saved {
            command,
            header,
            messages,
        });
    }

    /// Brings the function back as it was, from whatever state it is in. The bridges
    /// above it are back already.
    pub fn resume(&self) {
        let mut registers = self.registers.lock();
        let Some(saved) = registers.saved.take() else {
            return;
        };
        let Registers {
            config,
            control,
            messages,
            ..
        } = &*registers;
        // Nothing is decoded while base addresses change, and nothing passes before
        // access control is back.
        config.write16(COMMAND, COMMAND_NO_INTX);
        if let Some(control) = control {
            control.restore(config);
        }
        for (at, value) in SET_BY_SOFTWARE.into_iter().zip(saved.header) {
            config.write32(at, value);
        }
        config.write16(COMMAND, saved.command);
        if let Some(saved) = &saved.messages {
            messages.restore(config, saved);
        }
    }

    /// Sets and clears bits of the Command register.
    fn command(&self, set: u16, clear: u16) {
        let registers = self.registers.lock();
        let command = registers.config.read16(COMMAND);
        registers.config.write16(COMMAND, command & !clear | set);
        // Configuration writes wait for their completion, and a read after one
        // pushes what the function had sent before ahead of its own completion
        // (PCIe Base 2.4.1).
        registers.config.read16(COMMAND);
    }
}

impl<P: Platform> BusFunction for Function<P> {
    fn window(&self, index: usize) -> Result<PhysRange, Fault> {
        let bar = self.bars.get(index).copied().flatten();
        bar.ok_or(Fault::NoWindow { index })
    }

    fn set_master(&self, on: bool) {
        if on {
            // A bridge forwards only if it may master the bus above it (PCIe Base
            // 7.5.1.1.3); it starts nothing of its own.
            for bridge in &self.bridges {
                bridge.write16(COMMAND, bridge.read16(COMMAND) | COMMAND_MASTER);
            }
            self.command(COMMAND_MASTER, 0);
        } else {
            self.command(0, COMMAND_MASTER);
        }
    }

    fn messages(&self) -> u32 {
        self.registers.lock().messages.count()
    }

    fn set_message(&self, index: u32, address: u64, data: u32) -> Result<(), Fault> {
        self.command(COMMAND_NO_INTX, 0);
        let mut registers = self.registers.lock();
        let Registers {
            config, messages, ..
        } = &mut *registers;
        messages.set(&self.platform, config, index, address, data)
    }

    fn clear_message(&self, index: u32) {
        let mut registers = self.registers.lock();
        let Registers {
            config, messages, ..
        } = &mut *registers;
        messages.clear(config, index);
    }

    fn interrupt(&self) -> Result<Option<InterruptSpec>, PropError> {
        self.interrupt.clone()
    }

    fn set_pin(&self, on: bool) {
        match on {
            true => self.command(0, COMMAND_NO_INTX),
            false => self.command(COMMAND_NO_INTX, 0),
        }
    }

    fn capabilities(&self, id: u8) -> Vec<u16> {
        let registers = self.registers.lock();
        let found = registers.config.capabilities(id);
        found.map(|at| at as u16).collect()
    }

    fn config_read(&self, offset: u16) -> u32 {
        let word = usize::from(offset & WORD_OF_CONFIG);
        self.registers.lock().config.read32(word)
    }

    fn apertures(&self) -> Vec<(u64, u64)> {
        self.shared.apertures.clone()
    }

    fn bus_address(&self, pa: PhysAddr) -> u64 {
        // Where the host shows no such address, the write goes nowhere either way.
        self.shared.memory.to_bus(pa.0, 4).unwrap_or(pa.0)
    }
}

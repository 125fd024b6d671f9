//! A card for the hosts' tests, and what went wrong with a device.

use std::sync::Arc;

use mastiff_core::driver::Match;
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::pci::{FunctionPort, PciDevice, SimFunction};

/// What matches the card.
pub const CARD: Match = Match::pci(0x1af4, 0x1000).master();

/// A card: a register per word, an interrupt whenever word 0 is written.
#[derive(Default)]
struct Card {
    words: [u64; 8],
    ring: bool,
}

impl PciDevice for Card {
    fn read(&mut self, _bar: usize, offset: u64, _width: usize) -> u64 {
        self.words[offset as usize / 8]
    }

    fn write(&mut self, _bar: usize, offset: u64, _width: usize, value: u64) {
        self.words[offset as usize / 8] = value;
        self.ring = offset == 0;
    }

    fn tick(&mut self, port: &mut FunctionPort<'_, '_>) {
        if std::mem::take(&mut self.ring) {
            port.message(0);
            port.set_pin(self.words[0] != 0);
        }
    }
}

/// One.
pub fn card() -> SimFunction {
    let device: Shared<Card> = Arc::default();
    SimFunction::new(0x1af4, 0x1000, 0x02_00_00)
        .bar(0, 0x4000, 4)
        .pin(1)
        .device(device)
}

/// Why a device failed.
pub fn fault(engine: &Engine<Sim>, device: &str) -> Fault {
    match &engine.device(device).expect("it was found").state {
        State::Failed(fault) => fault.clone(),
        other => panic!("{device} is {other:?}"),
    }
}

//! A model of an NVM Express controller, from the specification: it takes its time,
//! fetches commands and data by DMA, completes in any order, and refuses what a
//! careless driver would hand it.

mod controller;
mod queue;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::bus::Shared;
use crate::pci::SimFunction;
use controller::State;

/// The controller. Fields are there for tests to look at and to break.
pub struct SimNvme {
    /// What is on the disk.
    pub disk: Vec<u8>,
    /// Log2 of the block size.
    pub block_log: u32,
    /// Controller Capabilities.
    pub capabilities: u64,
    /// Maximum Data Transfer Size, as in Identify.
    pub mdts: u8,
    /// I/O queue pairs that it has.
    pub queues: u32,
    /// Status of reads that touch this block.
    pub bad_blocks: BTreeMap<u64, u16>,
    /// Status of admin commands with this opcode.
    pub bad_admin: BTreeMap<u8, u16>,
    /// Reads of this block are never completed.
    pub lost_block: Option<u64>,
    /// A read of this block ends in Controller Fatal Status.
    pub fatal_block: Option<u64>,
    /// Completions have the wrong phase tag.
    pub wrong_phase: bool,
    /// Completions carry this command identifier instead.
    pub wrong_identifier: Option<u16>,
    /// It leaves out this byte of what it reads, and says nothing.
    pub skipped_byte: Option<usize>,
    /// It does not interrupt.
    pub silent: bool,
    /// It never becomes ready.
    pub never_ready: bool,
    /// It never stops.
    pub never_stops: bool,
    /// It never finishes a shutdown.
    pub never_shuts_down: bool,
    /// Commands that were out at most.
    pub most_out: usize,
    /// Reads that were completed.
    pub reads: u64,
    /// The same by queue.
    pub reads_by: BTreeMap<usize, u64>,
    /// Shutdowns that were completed.
    pub shutdowns: u64,
    state: State,
}

impl SimNvme {
    /// A controller with this disk, of 512-byte blocks, and its PCI function.
    pub fn function(disk: Vec<u8>) -> (Shared<Self>, SimFunction) {
        let device = Arc::new(Mutex::new(Self {
            disk,
            block_log: 9,
            // As QEMU's: 2048 entries, 4 KiB pages, the NVM command set; but half a
            // second to come up, for the tests that wait it out.
            capabilities: 1 << 37 | 1 << 24 | 1 << 16 | 0x7ff,
            mdts: 7,
            queues: 64,
            bad_blocks: BTreeMap::new(),
            bad_admin: BTreeMap::new(),
            lost_block: None,
            fatal_block: None,
            wrong_phase: false,
            wrong_identifier: None,
            skipped_byte: None,
            silent: false,
            never_ready: false,
            never_stops: false,
            never_shuts_down: false,
            most_out: 0,
            reads: 0,
            reads_by: BTreeMap::new(),
            shutdowns: 0,
            state: State::default(),
        }));
        let function = SimFunction::new(0x1b36, 0x0010, 0x01_08_02)
            .bar(0, 0x4000, 4)
            .pin(1)
            .express(0)
            .msi_x(0, 0x2000, 4)
            .device(device.clone());
        (device, function)
    }

    /// Whether it may touch memory.
    pub fn is_enabled(&self) -> bool {
        self.state.enabled()
    }
}

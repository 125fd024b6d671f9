//! The device at work: its BARs, its queues, its interrupts.

use mastiff_testkit::pci::{FunctionPort, PciDevice};

use super::registers::{Limits, MULTIPLIER, NO_VECTOR, QueueRegisters, Registers};
use super::{BYPASS_CONFIG, Layout, SimViommu, lock, ring};

const REQUESTS: usize = 0;
const EVENTS: usize = 1;
const BYPASS: u64 = 36;

enum Place {
    Common,
    Notify,
    Isr,
    Device,
}

/// The structure that an access is in. The layouts do not clash, so which of them the
/// function has does not matter.
fn place(bar: usize, offset: u64) -> (Place, u64) {
    let lens = [0x38, 0x10, 1, 40];
    let kinds = [Place::Common, Place::Notify, Place::Isr, Place::Device];
    for layout in [Layout::Pin, Layout::Apart] {
        for ((place, len), kind) in layout.places().into_iter().zip(lens).zip([0, 1, 2, 3]) {
            let inside = offset.wrapping_sub(place.1.into());
            if usize::from(place.0) == bar && inside < len {
                return (kinds.into_iter().nth(kind).expect("four"), inside);
            }
        }
    }
    panic!("an access of BAR {bar} at {offset:#x}: no structure is there");
}

impl SimViommu {
    fn limits(&self) -> Limits {
        Limits {
            offered: self.offered,
            sizes: self.queue_sizes,
            picky: self.picky,
            no_vectors: self.no_vectors,
        }
    }

    fn start_reset(&mut self) {
        self.resets += 1;
        let status = self.registers.status;
        self.registers = Registers::default();
        if self.slow_reset > 0 {
            self.registers.status = status;
        }
        self.due = None;
        lock(&self.tables).reset();
    }

    fn config(&mut self, offset: u64, width: usize) -> u64 {
        assert!(width == 4 || offset >= BYPASS && width == 1);
        let bypass = lock(&self.tables).bypass;
        let mut bytes = Vec::new();
        bytes.extend(self.page_sizes.to_le_bytes());
        bytes.extend(self.input.0.to_le_bytes());
        bytes.extend(self.input.1.to_le_bytes());
        bytes.extend(self.domains.0.to_le_bytes());
        bytes.extend(self.domains.1.to_le_bytes());
        bytes.extend(self.probe_size.to_le_bytes());
        bytes.extend([u8::from(bypass), 0, 0, 0]);
        if self.restless > 0 && offset < BYPASS {
            // What is read changes under the reader.
            self.restless -= 1;
            self.registers.generation = self.registers.generation.wrapping_add(1);
            bytes.fill(0xee);
        }
        let at = offset as usize;
        let value = bytes[at..at + width].iter().rev();
        value.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }

    fn serve_requests(&mut self, port: &mut FunctionPort<'_, '_>) {
        let mut queue = self.registers.queues[REQUESTS];
        let count = ring::waiting(port, &queue);
        let mut chains: Vec<_> = (0..count).map(|_| ring::take(port, &mut queue)).collect();
        if self.backwards {
            chains.reverse();
        }
        for chain in &chains {
            let answer = self.request(&chain.read, chain.room());
            let head = self.wrong_head.unwrap_or(chain.head.into());
            ring::give(port, &mut queue, chain, &answer, head);
        }
        self.registers.queues[REQUESTS] = queue;
        self.interrupt(port, queue);
    }

    fn deliver_faults(&mut self, port: &mut FunctionPort<'_, '_>) {
        let mut queue = self.registers.queues[EVENTS];
        let mut given = false;
        loop {
            let full = ring::waiting(port, &queue) == 0;
            if full && self.patient {
                break;
            }
            let Some(fault) = lock(&self.tables).faults.pop_front() else {
                break;
            };
            if full {
                self.dropped += 1;
                continue;
            }
            given = true;
            let chain = ring::take(port, &mut queue);
            assert!(chain.read.is_empty() && chain.room() >= 24);
            let head = self.wrong_head.unwrap_or(chain.head.into());
            let len = self.event_len as usize;
            ring::give(port, &mut queue, &chain, &fault[..len], head);
        }
        self.registers.queues[EVENTS] = queue;
        if given {
            self.interrupt(port, queue);
        }
    }

    fn interrupt(&mut self, port: &mut FunctionPort<'_, '_>, queue: QueueRegisters) {
        if ring::is_polled(port, &queue) {
            return;
        }
        match queue.vector {
            NO_VECTOR => self.registers.isr |= 1,
            vector => port.message(vector.into()),
        }
    }
}

impl PciDevice for SimViommu {
    fn read(&mut self, bar: usize, offset: u64, width: usize) -> u64 {
        match place(bar, offset) {
            (Place::Common, 20) if self.slow_reset > 0 && self.registers.accepted == 0 => {
                self.slow_reset -= 1;
                if self.slow_reset == 0 {
                    self.registers.status = 0;
                }
                self.registers.status.into()
            }
            (Place::Common, at) => self.registers.read(at, width, &self.limits()),
            (Place::Isr, _) => std::mem::take(&mut self.registers.isr).into(),
            (Place::Device, at) => self.config(at, width),
            (Place::Notify, at) => panic!("a read of notifications at {at}"),
        }
    }

    fn write(&mut self, bar: usize, offset: u64, width: usize, value: u64) {
        match place(bar, offset) {
            (Place::Common, 20) if value == 0 => self.start_reset(),
            (Place::Common, 20) if value & 4 != 0 => {
                let blocked = !lock(&self.tables).bypass;
                assert!(
                    blocked || !self.registers.has(BYPASS_CONFIG),
                    "others bypass"
                );
                self.registers.write(20, width, value, &self.limits());
            }
            (Place::Common, at) => self.registers.write(at, width, value, &self.limits()),
            (Place::Device, BYPASS) => {
                assert!(width == 1 && value <= 1, "bypass = {value:#x}");
                assert!(self.registers.has(BYPASS_CONFIG), "bypass is not there");
                lock(&self.tables).bypass = value == 1;
            }
            (Place::Device, at) => panic!("a write of the configuration at {at}"),
            (Place::Isr, _) => panic!("a write of the interrupt status"),
            (Place::Notify, at) => {
                assert_eq!(width, 2, "a notification");
                assert_eq!(at, value * u64::from(MULTIPLIER), "a notification's place");
                assert!(self.registers.status & 4 != 0, "a notification too early");
                assert!(value < 2, "a notification of queue {value}");
                if value == REQUESTS as u64 && !self.deaf {
                    self.notified += 1;
                    self.due = Some(self.latency);
                }
            }
        }
    }

    fn tick(&mut self, port: &mut FunctionPort<'_, '_>) {
        if self.registers.is_ready() {
            match self.due {
                Some(0) => {
                    self.due = None;
                    self.serve_requests(port);
                }
                Some(rounds) => self.due = Some(rounds - 1),
                None => {}
            }
            self.deliver_faults(port);
        }
        if self.registers.isr & 2 != 0 && self.registers.config_vector != NO_VECTOR {
            self.registers.isr &= !2;
            port.message(self.registers.config_vector.into());
        }
        port.set_pin(self.registers.isr != 0);
    }
}

//! The common structure's registers and the order in which they may be written
//! (virtio §2.1, §3.1.1, §4.1.4.3).

/// Bytes between the queues' notification addresses.
pub const MULTIPLIER: u32 = 4;

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
pub const NO_VECTOR: u16 = 0xffff;

#[derive(Default)]
pub struct Registers {
    pub status: u8,
    pub accepted: u64,
    device_select: u32,
    driver_select: u32,
    pub config_vector: u16,
    pub generation: u8,
    select: u16,
    pub queues: [QueueRegisters; 2],
    pub isr: u8,
}

#[derive(Copy, Clone)]
pub struct QueueRegisters {
    pub size: u16,
    pub vector: u16,
    pub enabled: bool,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    /// How far the device has read and written.
    pub seen: u16,
    pub done: u16,
}

impl Default for QueueRegisters {
    fn default() -> Self {
        Self {
            size: 0,
            vector: NO_VECTOR,
            enabled: false,
            descriptors: 0,
            available: 0,
            used: 0,
            seen: 0,
            done: 0,
        }
    }
}

/// What the rest of the device decides.
pub struct Limits {
    pub offered: u64,
    pub sizes: [u16; 2],
    pub picky: bool,
    pub no_vectors: bool,
}

impl Registers {
    pub fn has(&self, feature: u64) -> bool {
        self.accepted & feature == feature && self.status & FEATURES_OK != 0
    }

    pub fn is_ready(&self) -> bool {
        // Not while a reset shows the status from before.
        let queues = self.queues.iter().all(|queue| queue.enabled);
        queues && self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK
    }

    pub fn break_down(&mut self) {
        self.status |= NEEDS_RESET;
        self.isr |= 2;
    }

    pub fn read(&self, offset: u64, width: usize, limits: &Limits) -> u64 {
        check_width(offset, width);
        let queue = self.queues.get(usize::from(self.select));
        let of_queue = |value: fn(&QueueRegisters) -> u64| queue.map_or(0, value);
        match offset {
            4 => limits.offered >> (32 * self.device_select) & 0xffff_ffff,
            16 => self.config_vector.into(),
            18 => 2,
            20 => self.status.into(),
            21 => self.generation.into(),
            22 => self.select.into(),
            24 => match queue {
                Some(queue) if queue.size != 0 => queue.size.into(),
                Some(_) => limits.sizes[usize::from(self.select)].into(),
                None => 0,
            },
            26 => of_queue(|queue| queue.vector.into()),
            28 => of_queue(|queue| queue.enabled.into()),
            30 => self.select.into(),
            other => panic!("a read of the common structure at {other}"),
        }
    }

    pub fn write(&mut self, offset: u64, width: usize, value: u64, limits: &Limits) {
        check_width(offset, width);
        match offset {
            0 => self.device_select = value as u32,
            8 => self.driver_select = value as u32,
            12 => self.accept(value, limits),
            16 => self.config_vector = vector(value, limits),
            20 => self.set_status(value as u8, limits),
            22 => self.select = value as u16,
            24..=52 => self.write_queue(offset, value, limits),
            other => panic!("a write of the common structure at {other}"),
        }
    }

    fn accept(&mut self, half: u64, limits: &Limits) {
        let now = self.status & (DRIVER | FEATURES_OK) == DRIVER;
        assert!(now, "features written with status {:#x}", self.status);
        let shift = 32 * self.driver_select;
        self.accepted = self.accepted & !(0xffff_ffff << shift) | half << shift;
        let more = self.accepted & !limits.offered;
        assert_eq!(more, 0, "accepted without an offer (virtio §2.2.1)");
    }

    /// Only ever adds bits; to 0 is a reset, which is not for here.
    fn set_status(&mut self, value: u8, limits: &Limits) {
        assert_eq!(self.status & !value, 0, "status bits taken back");
        let new = value & !self.status;
        let needed = match new {
            0 => 0,
            ACKNOWLEDGE => 0,
            DRIVER => ACKNOWLEDGE,
            FEATURES_OK => DRIVER,
            DRIVER_OK => FEATURES_OK,
            other => panic!("status bits {other:#x} at once"),
        };
        assert_eq!(self.status & needed, needed, "status {value:#x} too early");
        self.status = value;
        if new == FEATURES_OK && limits.picky {
            self.status &= !FEATURES_OK;
        }
    }

    fn write_queue(&mut self, offset: u64, value: u64, limits: &Limits) {
        let setting_up = self.status & (FEATURES_OK | DRIVER_OK) == FEATURES_OK;
        assert!(setting_up, "a queue written with status {:#x}", self.status);
        let most = limits.sizes[usize::from(self.select)];
        let queue = &mut self.queues[usize::from(self.select)];
        assert!(!queue.enabled, "queue {} is on already", self.select);
        let half = |word: &mut u64| {
            let shift = 8 * (offset & 4);
            *word = *word & !(0xffff_ffff << shift) | value << shift;
        };
        match offset {
            24 => {
                let size = value as u16;
                assert!(size.is_power_of_two() && size <= most, "size {size}");
                queue.size = size;
            }
            26 => queue.vector = vector(value, limits),
            28 => {
                assert_eq!(value, 1, "queue_enable (virtio §4.1.4.3.2)");
                assert_ne!(queue.size, 0, "a queue without a size");
                for (at, align) in [
                    (queue.descriptors, 16),
                    (queue.available, 2),
                    (queue.used, 4),
                ] {
                    assert!(at != 0 && at.is_multiple_of(align), "{at:#x} in a queue");
                }
                queue.enabled = true;
            }
            32 | 36 => half(&mut queue.descriptors),
            40 | 44 => half(&mut queue.available),
            48 | 52 => half(&mut queue.used),
            other => panic!("a write of the common structure at {other}"),
        }
    }
}

fn vector(value: u64, limits: &Limits) -> u16 {
    match limits.no_vectors {
        true => NO_VECTOR,
        false => value as u16,
    }
}

/// Each register at its own width, 64-bit ones as halves (virtio §4.1.3.1).
fn check_width(offset: u64, width: usize) {
    let own = match offset {
        0 | 4 | 8 | 12 | 32..=52 => 4,
        20 | 21 => 1,
        _ => 2,
    };
    assert_eq!(width, own, "the common structure at {offset}");
    assert!(offset.is_multiple_of(own as u64));
}

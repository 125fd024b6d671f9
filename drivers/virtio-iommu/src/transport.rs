//! The PCI transport: reset, negotiation, queues, notifications (virtio §3.1, §4.1).

use alloc::sync::Arc;

use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, Mmio, Platform};
use mastiff_core::probe::Probe;

use crate::patience;
use crate::queue::Addresses;
use crate::spec::feature::Features;
use crate::spec::pci::{self, Place, Places, common, config, isr, status};

/// How long the device may take to reset.
const RESET_US: u64 = 1_000_000;
/// How often the configuration may change while it is read.
const CONFIG_TRIES: usize = 16;

/// One structure of the function.
struct Structure<M> {
    window: Arc<M>,
    at: usize,
    len: usize,
}

/// The function's structures.
pub(crate) struct Transport<P: Platform> {
    platform: P,
    common: Structure<P::Mmio>,
    notify: Structure<P::Mmio>,
    multiplier: usize,
    isr: Structure<P::Mmio>,
    device: Structure<P::Mmio>,
}

/// Where a queue is notified.
#[derive(Copy, Clone)]
pub(crate) struct Doorbell {
    queue: u16,
    at: usize,
}

/// The device configuration.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    pub page_sizes: u64,
    pub input: (u64, u64),
    pub domains: (u32, u32),
    pub probe_size: u32,
}

impl<P: Platform> Transport<P> {
    /// Finds and maps the structures. The device is not touched.
    pub fn find(probe: &mut Probe<'_, P>) -> Result<Self, Fault> {
        let capabilities = probe.capabilities(pci::VENDOR).into_iter().map(|at| {
            let words = [0, 4, 8, 12, pci::CAPABILITY];
            words.map(|word| probe.config_read(at + word))
        });
        let places = Places::find(capabilities)?;
        let mut windows = [const { None }; pci::BARS];
        let mut open = |place: Place| open(probe, &mut windows, place);
        let (common, notify) = (open(places.common)?, open(places.notify)?);
        let (isr, device) = (open(places.isr)?, open(places.device)?);
        Ok(Self {
            platform: probe.platform().clone(),
            common,
            notify,
            multiplier: places.multiplier as usize,
            isr,
            device,
        })
    }

    /// Has the device forget everything, and returns when it uses no memory any more:
    /// the status reads 0 only then (virtio §4.1.4.3.1).
    pub fn reset(&self) -> Result<(), Fault> {
        self.common.write8(common::DEVICE_STATUS, 0);
        let done = || (self.status() == 0).then_some(());
        let finished = patience::wait(&self.platform, RESET_US, done);
        finished.ok_or_else(|| Fault::Timeout {
            awaited: "end of the reset",
            register: "device_status",
            seen: self.status().into(),
            us: RESET_US,
        })
    }

    /// Agrees with the device, which was reset, on as much of `wanted` as it offers
    /// (virtio §3.1.1).
    pub fn negotiate(&self, wanted: Features, needed: Features) -> Result<Features, Fault> {
        self.set_status(status::ACKNOWLEDGE);
        self.set_status(status::DRIVER);
        let offered = Features(self.offered(0)? | self.offered(1)? << 32);
        if !offered.has(needed) {
            return Err(Fault::Unsupported {
                what: "a virtio device without VERSION_1 or MAP_UNMAP",
                seen: offered.0,
            });
        }
        let accepted = offered.and(wanted);
        for (select, half) in [(0, accepted.0 as u32), (1, (accepted.0 >> 32) as u32)] {
            self.common.write32(common::DRIVER_FEATURE_SELECT, select);
            self.common.write32(common::DRIVER_FEATURE, half);
        }
        self.set_status(status::FEATURES_OK);
        if self.status() & status::FEATURES_OK != status::FEATURES_OK {
            return Err(Fault::Device {
                during: "negotiation of features",
                status: "the device does not accept the set",
                code: accepted.0,
            });
        }
        Ok(accepted)
    }

    /// Half of the offered features. All ones is no offer but what a bus reads where
    /// nobody answers any more (PCIe Base 2.3.2).
    fn offered(&self, half: u32) -> Result<u64, Fault> {
        self.common.write32(common::DEVICE_FEATURE_SELECT, half);
        match self.common.read32(common::DEVICE_FEATURE) {
            u32::MAX => Err(Fault::Device {
                during: "negotiation of features",
                status: "the device does not answer",
                code: u32::MAX.into(),
            }),
            offered => Ok(offered.into()),
        }
    }

    /// Says that everything is set up: from here on the device works.
    pub fn ready(&self) {
        self.set_status(status::DRIVER_OK);
    }

    /// Whether the device asks to be reset, having met an error.
    pub fn needs_reset(&self) -> bool {
        self.status() & status::NEEDS_RESET != 0
    }

    /// How long a queue can be; a power of two.
    pub fn queue_size(&self, queue: u16, wanted: u16) -> Result<u16, Fault> {
        let queues = self.common.read16(common::NUM_QUEUES);
        self.common.write16(common::QUEUE_SELECT, queue);
        let size = match queue < queues {
            true => self.common.read16(common::QUEUE_SIZE),
            false => 0,
        };
        if !size.is_power_of_two() {
            return Err(Fault::Unsupported {
                what: "a queue whose size is no power of two, or that is not there (size)",
                seen: size.into(),
            });
        }
        Ok(size.min(wanted))
    }

    /// Shows a queue to the device, which was reset. `message` is the message by which
    /// it interrupts for it.
    pub fn enable_queue(
        &self,
        queue: u16,
        size: u16,
        at: &Addresses,
        message: Option<u16>,
    ) -> Result<Doorbell, Fault> {
        self.common.write16(common::QUEUE_SELECT, queue);
        self.common.write16(common::QUEUE_SIZE, size);
        self.set_message(common::QUEUE_MSIX_VECTOR, message)?;
        self.common.write64(common::QUEUE_DESC, at.descriptors);
        self.common.write64(common::QUEUE_DRIVER, at.available);
        self.common.write64(common::QUEUE_DEVICE, at.used);
        let multiple = usize::from(self.common.read16(common::QUEUE_NOTIFY_OFF));
        let at = multiple * self.multiplier;
        if at + 2 > self.notify.len || !at.is_multiple_of(2) {
            return Err(Fault::Unsupported {
                what: "a queue whose notification address is not in the structure for it",
                seen: at as u64,
            });
        }
        // The device may look into the rings at once: they must be seen to be empty.
        self.platform.barrier(Barrier::Publish);
        self.common.write16(common::QUEUE_ENABLE, 1);
        Ok(Doorbell { queue, at })
    }

    /// The message by which the device says that its configuration changed.
    pub fn set_config_message(&self, message: Option<u16>) -> Result<(), Fault> {
        self.set_message(common::CONFIG_MSIX_VECTOR, message)
    }

    /// The device says by what it reads back whether it has the message (virtio
    /// §4.1.5.1.2.2).
    fn set_message(&self, register: usize, message: Option<u16>) -> Result<(), Fault> {
        let wanted = message.unwrap_or(common::NO_VECTOR);
        self.common.write16(register, wanted);
        let seen = self.common.read16(register);
        if seen == wanted || message.is_none() {
            return Ok(());
        }
        Err(Fault::Register {
            name: "msix_vector",
            expected: wanted.into(),
            seen: seen.into(),
        })
    }

    /// Tells the device that something is available.
    pub fn notify(&self, doorbell: Doorbell) {
        self.notify.write16(doorbell.at, doorbell.queue);
    }

    /// Whether the interrupt is about the configuration or the status; takes the pin
    /// back.
    pub fn acknowledge(&self) -> bool {
        self.isr.read8(0) & isr::CONFIG != 0
    }

    /// The configuration, all of it from one moment (virtio §2.5.1).
    pub fn config(&self) -> Result<Config, Fault> {
        let generation = || self.common.read8(common::CONFIG_GENERATION);
        let mut before = generation();
        for _ in 0..CONFIG_TRIES {
            let read = self.config_once();
            let after = generation();
            if before == after {
                return Ok(read);
            }
            before = after;
        }
        Err(Fault::Device {
            during: "reading the configuration",
            status: "it does not stop changing (generation)",
            code: before.into(),
        })
    }

    fn config_once(&self) -> Config {
        let device = &self.device;
        Config {
            page_sizes: device.read64(config::PAGE_SIZE_MASK),
            input: (
                device.read64(config::INPUT_START),
                device.read64(config::INPUT_END),
            ),
            domains: (
                device.read32(config::DOMAIN_START),
                device.read32(config::DOMAIN_END),
            ),
            probe_size: device.read32(config::PROBE_SIZE),
        }
    }

    /// Blocks endpoints without a domain. Only with `BYPASS_CONFIG`.
    pub fn block_bypass(&self) -> Result<(), Fault> {
        self.device.write8(config::BYPASS, 0);
        match self.device.read8(config::BYPASS) {
            0 => Ok(()),
            seen => Err(Fault::Register {
                name: "bypass",
                expected: 0,
                seen: seen.into(),
            }),
        }
    }

    fn status(&self) -> u8 {
        self.common.read8(common::DEVICE_STATUS)
    }

    fn set_status(&self, status: u8) {
        self.common.write8(common::DEVICE_STATUS, status);
    }
}

/// Maps the BAR that a structure is in; several may share one.
fn open<P: Platform>(
    probe: &mut Probe<'_, P>,
    windows: &mut [Option<Arc<P::Mmio>>; pci::BARS],
    place: Place,
) -> Result<Structure<P::Mmio>, Fault> {
    let slot = &mut windows[place.bar];
    let window = match slot {
        Some(window) => window,
        None => slot.insert(Arc::new(probe.mmio(place.bar, place.end())?)),
    };
    let have = window.len() as u64;
    if have < place.end() {
        return Err(Fault::WindowTooSmall {
            index: place.bar,
            have,
            need: place.end(),
        });
    }
    Ok(Structure {
        window: window.clone(),
        at: place.offset as usize,
        len: place.len as usize,
    })
}

impl<M: Mmio> Structure<M> {
    fn read8(&self, offset: usize) -> u8 {
        self.window.read8(self.at + offset)
    }
    fn read16(&self, offset: usize) -> u16 {
        self.window.read16(self.at + offset)
    }
    fn read32(&self, offset: usize) -> u32 {
        self.window.read32(self.at + offset)
    }
    fn read64(&self, offset: usize) -> u64 {
        u64::from(self.read32(offset)) | u64::from(self.read32(offset + 4)) << 32
    }
    fn write8(&self, offset: usize, value: u8) {
        self.window.write8(self.at + offset, value);
    }
    fn write16(&self, offset: usize, value: u16) {
        self.window.write16(self.at + offset, value);
    }
    fn write32(&self, offset: usize, value: u32) {
        self.window.write32(self.at + offset, value);
    }
    fn write64(&self, offset: usize, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset + 4, (value >> 32) as u32);
    }
}

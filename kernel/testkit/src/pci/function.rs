//! A function: what its configuration space offers, and what is behind its BARs.

use super::bus::SimBus;
use super::config::ConfigSpace;
use super::host::FunctionPort;
use crate::bus::Shared;
use crate::lock;

const COMMAND: usize = 0x04;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_NO_INTX: u16 = 1 << 10;
const MSI_ENABLE: u16 = 1;
const MSI_X_ENABLE: u16 = 1 << 15;
const MSI_X_MASK_ALL: u16 = 1 << 14;
const ENTRY: u64 = 16;
/// Access control: ways across by a list.
const EGRESS_CONTROL: u16 = 1 << 5;

/// What a function does behind its BARs.
pub trait PciDevice: Send {
    /// A read of a BAR.
    fn read(&mut self, bar: usize, offset: u64, width: usize) -> u64;
    /// A write to a BAR.
    fn write(&mut self, bar: usize, offset: u64, width: usize, value: u64);
    /// Time has passed, or a BAR was written.
    fn tick(&mut self, port: &mut FunctionPort<'_, '_>);
}

/// A function.
pub struct SimFunction {
    pub(super) config: ConfigSpace,
    bars: Vec<(usize, u64)>,
    device: Option<Shared<dyn PciDevice>>,
    pub(super) behind: Option<SimBus>,
    port: Option<u16>,
    msi: Option<usize>,
    msi_x: Option<MsiX>,
    access_control: Option<usize>,
    // What the device wants its pin to be.
    pub(super) pin_asserted: bool,
}

struct MsiX {
    at: usize,
    bar: usize,
    offset: u64,
    table: Vec<[u32; 4]>,
    pending: Vec<bool>,
}

/// A message as it goes out.
pub(super) struct Message {
    pub address: u64,
    pub data: u32,
}

impl SimFunction {
    /// An endpoint without BARs.
    pub fn new(vendor: u16, device: u16, class: u32) -> Self {
        Self::with_header(ConfigSpace::new(vendor, device, class, 0))
    }

    /// A bridge to `behind`: of this PCI Express port type, or conventional.
    pub fn bridge(port: Option<u16>, behind: SimBus) -> Self {
        let mut function = Self::with_header(ConfigSpace::new(0x1b36, 0x000c, 0x06_04_00, 1));
        function.behind = Some(behind);
        match port {
            Some(port) => function.express(port),
            None => function,
        }
    }

    fn with_header(config: ConfigSpace) -> Self {
        Self {
            config,
            bars: Vec::new(),
            device: None,
            behind: None,
            port: None,
            msi: None,
            msi_x: None,
            access_control: None,
            pin_asserted: false,
        }
    }

    /// With a memory BAR of these flags (bits 3:0 of the register).
    pub fn bar(mut self, index: usize, size: u64, flags: u32) -> Self {
        assert!(size.is_power_of_two() && size >= 16);
        let mask = !(size - 1);
        let at = 0x10 + 4 * index;
        self.config.set32(at, flags);
        self.config.allow32(at, mask as u32 & !0xf);
        if flags & 6 == 4 {
            self.config.allow32(at + 4, (mask >> 32) as u32);
        }
        self.bars.push((index, size));
        self
    }

    /// With what is behind the BARs.
    pub fn device<D: PciDevice + 'static>(mut self, device: Shared<D>) -> Self {
        self.device = Some(device);
        self
    }

    /// As one of several functions of its device.
    pub fn multi_function(mut self) -> Self {
        let header = self.config.get16(0x0e);
        self.config.set16(0x0e, header | 0x80);
        self
    }

    /// With an interrupt pin, 1 is INTA.
    pub fn pin(mut self, pin: u8) -> Self {
        self.config.set16(0x3c, u16::from(pin) << 8);
        self
    }

    /// With a PCI Express capability of this port type.
    pub fn express(mut self, port: u16) -> Self {
        let at = self.config.add_capability(0x10, 0x3c);
        self.config.set16(at + 2, port << 4 | 2);
        self.port = Some(port);
        self
    }

    /// With access control that is capable of this (PCIe Base 7.7.11.2), behind an
    /// error log as ports usually have it. Firmware left some of it on.
    pub fn access_control(mut self, capable: u16) -> Self {
        self.config.add_extended_capability(0x0001, 0x48);
        let at = self.config.add_extended_capability(0x000d, 8);
        self.config.set16(at + 4, capable);
        self.config.set16(at + 6, capable & EGRESS_CONTROL);
        self.config.allow16(at + 6, capable);
        self.access_control = Some(at);
        self
    }

    /// What of its access control is on.
    pub fn access_controlled(&self) -> Option<u16> {
        self.access_control.map(|at| self.config.get16(at + 6))
    }

    /// With MSI, 64-bit addresses.
    pub fn msi(mut self) -> Self {
        let at = self.config.add_capability(0x05, 14);
        self.config.set16(at + 2, 1 << 7);
        self.config.allow16(at + 2, MSI_ENABLE | 7 << 4);
        self.config.allow32(at + 4, !3);
        self.config.allow32(at + 8, u32::MAX);
        self.config.allow16(at + 12, u16::MAX);
        self.msi = Some(at);
        self
    }

    /// With MSI-X: a table of `count` entries at an offset of a BAR. Its content
    /// is not what anybody would want, as after power-on.
    pub fn msi_x(mut self, bar: usize, offset: u64, count: u16) -> Self {
        let at = self.config.add_capability(0x11, 12);
        self.config.set16(at + 2, count - 1);
        self.config.allow16(at + 2, MSI_X_ENABLE | MSI_X_MASK_ALL);
        self.config.set32(at + 4, offset as u32 | bar as u32);
        self.msi_x = Some(MsiX {
            at,
            bar,
            offset,
            table: vec![[0xdead_0000, 0, 0xdead, 0]; count.into()],
            pending: vec![false; count.into()],
        });
        self
    }

    /// With its configuration space changed.
    pub fn with_config(mut self, change: impl FnOnce(&mut ConfigSpace)) -> Self {
        change(&mut self.config);
        self
    }

    /// Whether it may master the bus.
    pub fn is_master(&self) -> bool {
        self.command() & COMMAND_MASTER != 0
    }

    /// Whether it may pull its pin.
    pub fn may_pull_pin(&self) -> bool {
        self.command() & COMMAND_NO_INTX == 0
    }

    /// Its configuration space.
    pub fn config(&self) -> &ConfigSpace {
        &self.config
    }

    pub(super) fn write_config(&mut self, register: usize, width: usize, value: u64) {
        let bars = 0x10..if self.behind.is_some() { 0x18 } else { 0x28 };
        assert!(
            !(bars.contains(&register) && self.decodes()),
            "a BAR changes while it is decoded"
        );
        let control = self.access_control.map(|at| at + 6);
        assert!(
            !(control == Some(register) && self.is_master()),
            "access control changes while requests pass"
        );
        self.config.write(register, width, value);
    }

    pub(super) fn pin_number(&self) -> u8 {
        self.config.read(0x3d, 1) as u8
    }

    pub(super) fn port_type(&self) -> Option<u16> {
        self.port
    }

    pub(super) fn command(&self) -> u16 {
        self.config.get16(COMMAND)
    }

    pub(super) fn decodes(&self) -> bool {
        self.command() & COMMAND_MEMORY != 0
    }

    /// Where a BAR is on the bus.
    pub fn bar_address(&self, index: usize) -> u64 {
        let at = 0x10 + 4 * index;
        let low = u64::from(self.config.get32(at));
        let high = if low & 6 == 4 {
            self.config.get32(at + 4)
        } else {
            0
        };
        u64::from(high) << 32 | low & !0xf
    }

    /// The BAR that an access lies in, and the offset there.
    pub(super) fn hit(&self, address: u64, width: usize) -> Option<(usize, u64)> {
        self.bars.iter().find_map(|&(index, size)| {
            let offset = address.checked_sub(self.bar_address(index))?;
            (offset + width as u64 <= size).then_some((index, offset))
        })
    }

    /// Whether a bridge forwards an address: its memory or prefetchable window
    /// (PCI-to-PCI Bridge 3.2.5.8).
    pub(super) fn forwards(&self, address: u64) -> bool {
        let window = |at: usize, high: (u32, u32)| {
            let register = u64::from(self.config.get32(at));
            let base = u64::from(high.0) << 32 | (register & 0xfff0) << 16;
            let limit = u64::from(high.1) << 32 | (register & 0xfff0_0000) | 0xf_ffff;
            base <= address && address <= limit
        };
        let upper = (self.config.get32(0x28), self.config.get32(0x2c));
        self.decodes() && (window(0x20, (0, 0)) || window(0x24, upper))
    }

    pub(super) fn read_bar(&mut self, bar: usize, offset: u64, width: usize) -> u64 {
        if let Some(entry) = self.table_entry(bar, offset) {
            return entry.0[entry.1].into();
        }
        match &self.device {
            Some(device) => lock(device).read(bar, offset, width),
            None => 0,
        }
    }

    pub(super) fn write_bar(&mut self, bar: usize, offset: u64, width: usize, value: u64) {
        if let Some((entry, word)) = self.table_entry(bar, offset) {
            assert_eq!(width, 4, "an MSI-X table is written word by word");
            entry[word] = value as u32;
        } else if let Some(device) = &self.device {
            lock(device).write(bar, offset, width, value);
        }
    }

    fn table_entry(&mut self, bar: usize, offset: u64) -> Option<(&mut [u32; 4], usize)> {
        let msi_x = self.msi_x.as_mut().filter(|msi_x| msi_x.bar == bar)?;
        let at = offset.checked_sub(msi_x.offset)?;
        let entry = msi_x.table.get_mut((at / ENTRY) as usize)?;
        Some((entry, (at % ENTRY / 4) as usize))
    }

    pub(super) fn device_handle(&self) -> Option<Shared<dyn PciDevice>> {
        self.device.clone()
    }

    /// Whether it sends messages instead of pulling its pin.
    pub(super) fn sends_messages(&self) -> bool {
        let on =
            |at: Option<usize>, bit: u16| at.is_some_and(|at| self.config.get16(at + 2) & bit != 0);
        on(self.msi, MSI_ENABLE) || on(self.msi_x.as_ref().map(|msi_x| msi_x.at), MSI_X_ENABLE)
    }

    /// Notes that message `index` is to be sent.
    pub(super) fn request_message(&mut self, index: usize) {
        if let Some(msi_x) = &mut self.msi_x {
            msi_x.pending[index] = true;
        }
    }

    /// The messages that can go out now.
    pub(super) fn take_messages(&mut self, asked: &[usize]) -> Vec<Message> {
        let mut messages = Vec::new();
        if let Some(at) = self
            .msi
            .filter(|at| self.config.get16(at + 2) & MSI_ENABLE != 0)
        {
            let address =
                u64::from(self.config.get32(at + 8)) << 32 | u64::from(self.config.get32(at + 4));
            let data = self.config.get16(at + 12).into();
            messages.extend(asked.iter().map(|_| Message { address, data }));
            return messages;
        }
        asked.iter().for_each(|&index| self.request_message(index));
        let Some(msi_x) = &mut self.msi_x else {
            return messages;
        };
        let control = self.config.get16(msi_x.at + 2);
        if control & (MSI_X_ENABLE | MSI_X_MASK_ALL) != MSI_X_ENABLE {
            return messages;
        }
        for (entry, pending) in msi_x.table.iter().zip(&mut msi_x.pending) {
            let [low, high, data, control] = *entry;
            if *pending && control & 1 == 0 {
                *pending = false;
                let address = u64::from(high) << 32 | u64::from(low);
                messages.push(Message { address, data });
            }
        }
        messages
    }
}

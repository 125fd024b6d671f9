//! Message interrupts: MSI-X (PCIe Base 7.7.2) where a function has it, else MSI
//! (7.7.1) with its one guaranteed message.

use alloc::vec::Vec;

use mastiff_core::addr::PhysRange;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform};

use crate::assign::Placed;
use crate::config::Config;

const MSI: u8 = 0x05;
const MSI_X: u8 = 0x11;
/// Message Control, of either.
const CONTROL: usize = 2;

const MSI_ENABLE: u16 = 1 << 0;
const MSI_COUNT: u16 = 7 << 4;
const MSI_64: u16 = 1 << 7;
const MSI_ADDRESS: usize = 4;

const MSI_X_SIZE: u16 = 0x7ff;
const MSI_X_MASK_ALL: u16 = 1 << 14;
const MSI_X_ENABLE: u16 = 1 << 15;
const MSI_X_TABLE: usize = 4;
const MSI_X_BAR: u32 = 7;

/// An entry of the MSI-X table.
const ENTRY: usize = 16;
const ENTRY_ADDRESS: usize = 0;
const ENTRY_ADDRESS_UPPER: usize = 4;
const ENTRY_DATA: usize = 8;
const ENTRY_CONTROL: usize = 12;
const ENTRY_MASKED: u32 = 1;

/// What a function's power takes with it.
pub struct Saved {
    control: u16,
    words: Vec<u32>,
}

/// How a function sends messages.
pub enum Messages<M> {
    /// Not at all.
    None,
    /// By the capability at this offset.
    Msi(usize),
    /// By the capability at this offset, with a table.
    MsiX {
        /// The capability.
        at: usize,
        /// Entries of the table.
        count: u32,
        /// Where the table is.
        range: PhysRange,
        /// The table, from the first use on.
        table: Option<M>,
        /// Messages that are in use.
        used: u32,
    },
}

impl<M: Mmio> Messages<M> {
    /// What the function has. It sends none until one is set.
    pub fn find(config: &Config, placed: &Placed) -> Self {
        let msi = config.capability(MSI);
        if let Some(at) = msi {
            config.write16(
                at + CONTROL,
                config.read16(at + CONTROL) & !(MSI_ENABLE | MSI_COUNT),
            );
        }
        let msi_x = config.capability(MSI_X).and_then(|at| {
            let control = config.read16(at + CONTROL) & !(MSI_X_ENABLE | MSI_X_MASK_ALL);
            config.write16(at + CONTROL, control);
            let count = u32::from(control & MSI_X_SIZE) + 1;
            let range = table(config.read32(at + MSI_X_TABLE), count, placed)?;
            Some(Self::MsiX {
                at,
                count,
                range,
                table: None,
                used: 0,
            })
        });
        msi_x.or(msi.map(Self::Msi)).unwrap_or(Self::None)
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Msi(_) => 1,
            Self::MsiX { count, .. } => *count,
        }
    }

    /// Has message `index` write `data` to `address`.
    pub fn set<P>(
        &mut self,
        platform: &P,
        config: &Config,
        index: u32,
        address: u64,
        data: u32,
    ) -> Result<(), Fault>
    where
        P: Platform<Mmio = M>,
    {
        if index >= self.count() {
            return Err(Fault::Exhausted {
                what: "message interrupt",
                limit: self.count().into(),
            });
        }
        match self {
            Self::None => {}
            Self::Msi(at) => set_msi(config, *at, address, data)?,
            Self::MsiX {
                at,
                range,
                table,
                used,
                ..
            } => {
                let table = match table {
                    Some(table) => table,
                    None => table.insert(platform.map_mmio(*range)?),
                };
                if *used == 0 {
                    // Until now the table's content is nobody's: all are masked
                    // while messages are switched on.
                    config.write16(*at + CONTROL, MSI_X_ENABLE | MSI_X_MASK_ALL);
                    for index in 0..range.len as usize / ENTRY {
                        table.write32(index * ENTRY + ENTRY_CONTROL, ENTRY_MASKED);
                    }
                }
                let entry = index as usize * ENTRY;
                table.write32(entry + ENTRY_ADDRESS, address as u32);
                table.write32(entry + ENTRY_ADDRESS_UPPER, (address >> 32) as u32);
                table.write32(entry + ENTRY_DATA, data);
                table.write32(entry + ENTRY_CONTROL, 0);
                *used += 1;
                config.write16(*at + CONTROL, MSI_X_ENABLE);
            }
        }
        Ok(())
    }

    /// Stops message `index`; after the last one, all of them.
    pub fn clear(&mut self, config: &Config, index: u32) {
        match self {
            Self::None => {}
            Self::Msi(at) => {
                config.write16(*at + CONTROL, config.read16(*at + CONTROL) & !MSI_ENABLE);
            }
            Self::MsiX {
                at, table, used, ..
            } => {
                let Some(table) = table else { return };
                let control = index as usize * ENTRY + ENTRY_CONTROL;
                table.write32(control, ENTRY_MASKED);
                // The read comes back after the write has arrived.
                table.read32(control);
                *used = used.saturating_sub(1);
                if *used == 0 {
                    config.write16(*at + CONTROL, 0);
                }
            }
        }
    }

    /// What is to be brought back, if messages are in use; they are off from here on.
    pub fn save(&self, config: &Config) -> Option<Saved> {
        let at = self.capability()?;
        let control = config.read16(at + CONTROL);
        let words = match self {
            Self::MsiX { table, range, .. } => {
                let table = table.as_ref()?;
                let words = 0..range.len as usize / 4;
                words.map(|word| table.read32(4 * word)).collect()
            }
            _ => msi_words(at, control)
                .map(|word| config.read32(word))
                .collect(),
        };
        config.write16(at + CONTROL, control & !(MSI_ENABLE | MSI_X_ENABLE));
        Some(Saved { control, words })
    }

    /// Brings it back. The function decodes its BARs.
    pub fn restore(&self, config: &Config, saved: &Saved) {
        let Some(at) = self.capability() else { return };
        match self {
            Self::MsiX { table, .. } => {
                for (word, &value) in saved.words.iter().enumerate() {
                    if let Some(table) = table {
                        table.write32(4 * word, value);
                    }
                }
            }
            _ => {
                for (word, &value) in msi_words(at, saved.control).zip(&saved.words) {
                    config.write32(word, value);
                }
            }
        }
        config.write16(at + CONTROL, saved.control);
    }

    fn capability(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Msi(at) | Self::MsiX { at, .. } => Some(*at),
        }
    }
}

/// Address and data of an MSI capability.
fn msi_words(at: usize, control: u16) -> impl Iterator<Item = usize> {
    let count = if control & MSI_64 != 0 { 3 } else { 2 };
    (0..count).map(move |word| at + MSI_ADDRESS + 4 * word)
}

fn set_msi(config: &Config, at: usize, address: u64, data: u32) -> Result<(), Fault> {
    let control = config.read16(at + CONTROL);
    let wide = control & MSI_64 != 0;
    if !wide && address >> 32 != 0 {
        return Err(Fault::Unsupported {
            what: "an MSI address above 4 GiB in a 32-bit capability",
            seen: address,
        });
    }
    config.write32(at + MSI_ADDRESS, address as u32);
    if wide {
        config.write32(at + MSI_ADDRESS + 4, (address >> 32) as u32);
    }
    let data_at = at + MSI_ADDRESS + if wide { 8 } else { 4 };
    config.write16(data_at, data as u16);
    config.write16(at + CONTROL, control | MSI_ENABLE);
    Ok(())
}

/// Where an MSI-X table of `count` entries is, if its BAR has a place and room.
fn table(register: u32, count: u32, placed: &Placed) -> Option<PhysRange> {
    let bar = placed.get((register & MSI_X_BAR) as usize)?.as_ref()?;
    let offset = u64::from(register & !MSI_X_BAR);
    let len = u64::from(count) * ENTRY as u64;
    (offset + len <= bar.len).then_some(PhysRange {
        start: bar.start.add(offset),
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mastiff_core::addr::PhysAddr;

    #[test]
    fn tables_must_lie_in_their_bar() {
        let mut placed = Placed::default();
        placed[4] = Some(PhysRange {
            start: PhysAddr(0x1000_0000),
            len: 0x4000,
        });
        let found = table(0x2004, 0x41, &placed).unwrap();
        assert_eq!((found.start.0, found.len), (0x1000_2000, 0x410));
        assert_eq!(table(0x2000, 1, &placed), None, "BAR 0 has no place");
        assert_eq!(table(0x3c04, 0x41, &placed), None, "it ends behind the BAR");
        assert_eq!(table(0x0007, 1, &placed), None, "there is no BAR 7");
    }
}

//! Configuration space: bytes, and which of their bits software can change.

/// Bytes that a function has.
const LEN: usize = 4096;
/// Where extended capabilities start (PCIe Base 7.6).
const EXTENDED: usize = 0x100;

/// A function's configuration space.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Box<[u8; LEN]>,
    writable: Box<[u8; LEN]>,
    // Where the next capability goes, and the pointer that will lead to it.
    free: usize,
    link: usize,
    // The same for extended ones; the pointer is in the header of the last.
    free_extended: usize,
    last_extended: Option<usize>,
}

impl ConfigSpace {
    /// One without capabilities; header type and class are given.
    pub fn new(vendor: u16, device: u16, class: u32, header: u8) -> Self {
        let mut space = Self {
            bytes: Box::new([0; LEN]),
            writable: Box::new([0; LEN]),
            free: 0x40,
            link: 0x34,
            free_extended: EXTENDED,
            last_extended: None,
        };
        space.set32(0x00, u32::from(device) << 16 | u32::from(vendor));
        space.set32(0x08, class << 8);
        space.bytes[0x0e] = header;
        // I/O, memory, master, interrupt disable.
        space.allow16(0x04, 0x0407);
        if header & 0x7f == 1 {
            space.allow32(0x18, 0x00ff_ffff);
            space.allow16(0x1c, 0xf0f0);
            space.allow32(0x20, 0xfff0_fff0);
            space.set32(0x24, 0x0001_0001);
            space.allow32(0x24, 0xfff0_fff0);
            space.allow32(0x28, u32::MAX);
            space.allow32(0x2c, u32::MAX);
        }
        space
    }

    /// Reads `width` bytes.
    pub fn read(&self, offset: usize, width: usize) -> u64 {
        let at = |index: usize| self.bytes.get(offset + index).copied().unwrap_or(0);
        (0..width)
            .rev()
            .fold(0, |sum, index| sum << 8 | u64::from(at(index)))
    }

    /// A write by software: only what it can change changes.
    pub fn write(&mut self, offset: usize, width: usize, value: u64) {
        for index in 0..width.min(LEN.saturating_sub(offset)) {
            let mask = self.writable[offset + index];
            let byte = &mut self.bytes[offset + index];
            *byte = *byte & !mask | (value >> (8 * index)) as u8 & mask;
        }
    }

    /// A half word.
    pub fn get16(&self, offset: usize) -> u16 {
        self.read(offset, 2) as u16
    }

    /// A word.
    pub fn get32(&self, offset: usize) -> u32 {
        self.read(offset, 4) as u32
    }

    /// Sets a half word, as the device does.
    pub fn set16(&mut self, offset: usize, value: u16) {
        self.bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// Sets a word, as the device does.
    pub fn set32(&mut self, offset: usize, value: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Lets software change these bits of a half word.
    pub fn allow16(&mut self, offset: usize, bits: u16) {
        self.writable[offset..offset + 2].copy_from_slice(&bits.to_le_bytes());
    }

    /// Lets software change these bits of a word.
    pub fn allow32(&mut self, offset: usize, bits: u32) {
        self.writable[offset..offset + 4].copy_from_slice(&bits.to_le_bytes());
    }

    /// Adds a capability of `len` bytes; gives its place.
    pub fn add_capability(&mut self, id: u8, len: usize) -> usize {
        let at = self.free;
        self.bytes[0x06] |= 1 << 4;
        self.bytes[self.link] = at as u8;
        self.bytes[at] = id;
        self.link = at + 1;
        self.free = (at + len).next_multiple_of(4);
        at
    }

    /// Adds an extended capability of `len` bytes; gives its place.
    pub fn add_extended_capability(&mut self, id: u16, len: usize) -> usize {
        let at = self.free_extended;
        if let Some(last) = self.last_extended.replace(at) {
            let header = self.get32(last);
            self.set32(last, (at as u32) << 20 | header);
        }
        self.set32(at, 1 << 16 | u32::from(id));
        self.free_extended = (at + len).next_multiple_of(4);
        at
    }

    /// Makes the list of extended capabilities a circle.
    pub fn close_extended_circle(&mut self) {
        if let Some(last) = self.last_extended {
            let header = self.get32(last);
            self.set32(last, (EXTENDED as u32) << 20 | header);
        }
    }

    /// Makes the list of capabilities a circle, as broken hardware may.
    pub fn close_circle(&mut self) {
        self.bytes[self.link] = self.bytes[0x34];
    }
}

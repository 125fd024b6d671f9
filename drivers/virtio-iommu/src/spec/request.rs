//! Requests to the IOMMU and what it answers (virtio §5.13.6).

use mastiff_core::error::Fault;

/// Bytes that the device writes after a request: its status, and three reserved.
pub const TAIL: usize = 4;
/// Bytes of the longest request, PROBE, as far as the device reads it.
pub const LONGEST: usize = 72;

/// Flag of ATTACH: addresses of the domain pass unchanged.
const ATTACH_BYPASS: u32 = 1 << 0;

/// Flag of MAP: reads are let through.
pub const MAP_READ: u32 = 1 << 0;
/// Flag of MAP: writes are let through.
pub const MAP_WRITE: u32 = 1 << 1;
/// Flag of MAP: these are device registers.
pub const MAP_MMIO: u32 = 1 << 2;

/// A request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Sends an endpoint through a domain, which comes into being with its first.
    Attach {
        /// The domain.
        domain: u32,
        /// The endpoint.
        endpoint: u32,
        /// Addresses pass unchanged.
        bypass: bool,
    },
    /// Takes an endpoint out of its domain, which ends with its last.
    Detach {
        /// The domain.
        domain: u32,
        /// The endpoint.
        endpoint: u32,
    },
    /// Maps a range, both ends included.
    Map {
        /// The domain.
        domain: u32,
        /// First input address.
        first: u64,
        /// Last input address.
        last: u64,
        /// Where the first one leads.
        pa: u64,
        /// What is let through.
        flags: u32,
    },
    /// Unmaps a range, both ends included.
    Unmap {
        /// The domain.
        domain: u32,
        /// First input address.
        first: u64,
        /// Last input address.
        last: u64,
    },
    /// Asks for the properties of an endpoint.
    Probe {
        /// The endpoint.
        endpoint: u32,
    },
}

impl Request {
    /// Its name, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Attach { .. } => "ATTACH request",
            Self::Detach { .. } => "DETACH request",
            Self::Map { .. } => "MAP request",
            Self::Unmap { .. } => "UNMAP request",
            Self::Probe { .. } => "PROBE request",
        }
    }

    /// What the device reads of it, and how many bytes that are. What is not named
    /// here is reserved and zero.
    pub fn encode(&self) -> ([u8; LONGEST], usize) {
        let mut out = Writer {
            bytes: [0; LONGEST],
            len: 0,
        };
        match *self {
            Self::Attach {
                domain,
                endpoint,
                bypass,
            } => {
                let flags = if bypass { ATTACH_BYPASS } else { 0 };
                out.words(&[1, domain, endpoint, flags, 0]);
            }
            Self::Detach { domain, endpoint } => out.words(&[2, domain, endpoint, 0, 0]),
            Self::Map {
                domain,
                first,
                last,
                pa,
                flags,
            } => {
                out.words(&[3, domain]);
                [first, last, pa].iter().for_each(|&long| out.long(long));
                out.words(&[flags]);
            }
            Self::Unmap {
                domain,
                first,
                last,
            } => {
                out.words(&[4, domain]);
                [first, last].iter().for_each(|&long| out.long(long));
                out.words(&[0]);
            }
            Self::Probe { endpoint } => {
                out.words(&[5, endpoint, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
        }
        (out.bytes, out.len)
    }

    /// What a status says about this request.
    pub fn outcome(&self, status: u8) -> Result<(), Fault> {
        match status {
            0 => Ok(()),
            code => Err(Fault::Device {
                during: self.name(),
                status: status_name(code),
                code: code.into(),
            }),
        }
    }
}

struct Writer {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Writer {
    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.push(&word.to_le_bytes());
        }
    }

    fn long(&mut self, long: u64) {
        self.push(&long.to_le_bytes());
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// The name of a status, without its prefix `VIRTIO_IOMMU_S_`, and what it means.
fn status_name(status: u8) -> &'static str {
    match status {
        1 => "IOERR: the request cannot be read or answered",
        2 => "UNSUPP: the device does not know it",
        3 => "DEVERR: internal error of the device",
        4 => "INVAL: a field is not valid",
        5 => "RANGE: a field is out of range",
        6 => "NOENT: no such endpoint or domain",
        7 => "FAULT: the device's memory could not be accessed",
        8 => "NOMEM: the device is out of memory",
        _ => "a status that is not specified",
    }
}

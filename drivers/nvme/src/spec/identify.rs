//! What Identify gives (§5.17.2, NVM §4.1.5): the fields that are used here.

use mastiff_core::error::Fault;

/// The controller's page (§5.17.2.1).
pub struct Controller<'a>(pub &'a [u8]);

/// CNTRLTYPE of a controller that does no I/O.
const DISCOVERY: u8 = 2;
const ADMINISTRATIVE: u8 = 3;

impl<'a> Controller<'a> {
    /// Its model, as ASCII.
    pub fn model(&self) -> &'a str {
        text(&self.0[24..64])
    }

    /// Its serial number, as ASCII.
    pub fn serial(&self) -> &'a str {
        text(&self.0[4..24])
    }

    /// MDTS: bytes that a command may move, `None` for no limit. Counted in pages
    /// of the smallest size, which is 4 KiB here.
    pub fn max_transfer(&self) -> Option<u64> {
        match self.0[77] {
            0 => None,
            log => Some(4096u64.checked_shl(log.into()).unwrap_or(u64::MAX)),
        }
    }

    /// Fails for one that does no I/O.
    pub fn check(&self) -> Result<(), Fault> {
        match self.0[111] {
            kind @ (DISCOVERY | ADMINISTRATIVE) => Err(Fault::Unsupported {
                what: "an NVMe controller without I/O, CNTRLTYPE",
                seen: kind.into(),
            }),
            _ => Ok(()),
        }
    }
}

/// Printable characters, without the padding.
fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("?").trim()
}

/// The first active namespace in a list of them (§5.17.2.2).
pub fn first_namespace(list: &[u8]) -> Result<u32, Fault> {
    match word32(list, 0) {
        0 => Err(Fault::invalid("the controller has no active namespace")),
        id => Ok(id),
    }
}

/// A namespace's geometry.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// Its number of blocks.
    pub blocks: u64,
    /// Log2 of the block size.
    pub block_log: u32,
}

const FLBAS: usize = 26;
const FORMATS: usize = 128;

impl Namespace {
    /// From the namespace's page.
    pub fn decode(page: &[u8]) -> Result<Self, Fault> {
        let flbas = page[FLBAS];
        // Bits 6:5 are the upper ones where there are more than 16 formats.
        let index = usize::from(flbas & 0xf | flbas >> 1 & 0x30);
        let format = word32(page, FORMATS + 4 * index);
        let (metadata, block_log) = (format & 0xffff, format >> 16 & 0xff);
        if metadata != 0 {
            return Err(Fault::Unsupported {
                what: "an LBA format with metadata",
                seen: format.into(),
            });
        }
        if !(9..=12).contains(&block_log) {
            return Err(Fault::Unsupported {
                what: "an LBA format whose blocks are not 512 to 4096 bytes",
                seen: format.into(),
            });
        }
        let blocks = word64(page, 0);
        if blocks == 0 || blocks > u64::MAX >> block_log {
            return Err(Fault::Unsupported {
                what: "a namespace of this many blocks",
                seen: blocks,
            });
        }
        Ok(Self { blocks, block_log })
    }
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    word64(bytes, at) as u32
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    let word = bytes[at..at + 8].iter().rev();
    word.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(blocks: u64, flbas: u8, format: u32) -> Result<Namespace, Fault> {
        let mut page = [0; 4096];
        page[..8].copy_from_slice(&blocks.to_le_bytes());
        page[FLBAS] = flbas;
        let index = usize::from(flbas & 0xf | flbas >> 1 & 0x30);
        page[FORMATS + 4 * index..][..4].copy_from_slice(&format.to_le_bytes());
        Namespace::decode(&page)
    }

    #[test]
    fn formats() {
        let (blocks, block_log) = (2048, 9);
        assert_eq!(
            namespace(2048, 0, 9 << 16),
            Ok(Namespace { blocks, block_log })
        );
        let block_log = 12;
        assert_eq!(
            namespace(2048, 4, 12 << 16),
            Ok(Namespace { blocks, block_log })
        );
        assert_eq!(
            namespace(2048, 0x21, 12 << 16),
            Ok(Namespace { blocks, block_log })
        );
        for (blocks, format) in [
            (2048, 9 << 16 | 8),
            (2048, 0),
            (2048, 16 << 16),
            (0, 9 << 16),
            (u64::MAX, 9 << 16),
        ] {
            assert!(
                namespace(blocks, 0, format).is_err(),
                "{blocks} {format:#x}"
            );
        }
    }

    #[test]
    fn the_controller() {
        let mut page = [0; 4096];
        page[4..24].fill(b' ');
        page[4..8].copy_from_slice(b"S3RL");
        page[77] = 7;
        let controller = Controller(&page);
        assert_eq!(controller.serial(), "S3RL");
        assert_eq!(controller.max_transfer(), Some(512 << 10));
        assert!(controller.check().is_ok());
        page[77] = 0;
        page[111] = 2;
        assert_eq!(Controller(&page).max_transfer(), None);
        assert!(Controller(&page).check().is_err());
        page[77] = 255;
        assert_eq!(Controller(&page).max_transfer(), Some(u64::MAX));
    }

    #[test]
    fn no_namespace_is_an_error() {
        assert!(first_namespace(&[0; 4096]).is_err());
        assert_eq!(first_namespace(&[3, 0, 0, 0, 0, 0, 0, 0]), Ok(3));
    }
}

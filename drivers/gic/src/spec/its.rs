//! The Interrupt Translation Service: registers (IHI 0069 §12.18, §12.19) and
//! commands (§5.3). A device's write of an EventID to GITS_TRANSLATER arrives with
//! the device's DeviceID, and the ITS' tables say which LPI that is.

/// GITS_CTLR.
pub const CTLR: usize = 0x0000;
/// The ITS translates and takes commands.
pub const CTLR_ENABLED: u32 = 1 << 0;
/// It is off and has no access to memory under way.
pub const CTLR_QUIESCENT: u32 = 1 << 31;
/// GITS_TYPER, 64 bits.
pub const TYPER: usize = 0x0008;
/// GITS_CBASER, the command queue.
pub const CBASER: usize = 0x0080;
/// GITS_CWRITER, where the next command will be written.
pub const CWRITER: usize = 0x0088;
/// CWRITER.Retry: look at the command again that stalled.
pub const CWRITER_RETRY: u64 = 1 << 0;
/// GITS_CREADR, where the next command will be read.
pub const CREADR: usize = 0x0090;
/// CREADR.Stalled: the command there is in error.
pub const CREADR_STALLED: u64 = 1 << 0;
/// The offset in CREADR.
pub const CREADR_OFFSET: u64 = 0x000f_ffe0;
/// GITS_BASER, eight of them.
pub const BASER: usize = 0x0100;
/// How many there are.
pub const BASERS: usize = 8;
/// Length of the control frame.
pub const CONTROL_LEN: u64 = 0x1_0000;
/// GITS_TRANSLATER, in the frame after the control frame.
pub const TRANSLATER: u64 = 0x1_0040;

/// What an ITS is like (GITS_TYPER).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Typer(pub u64);

impl Typer {
    /// It translates to physical LPIs.
    pub const fn physical(self) -> bool {
        self.0 & 1 != 0
    }
    /// Bytes in an entry of an interrupt translation table.
    pub const fn itt_entry(self) -> u64 {
        (self.0 >> 4 & 0xf) + 1
    }
    /// Bits of an EventID.
    pub const fn event_bits(self) -> u32 {
        (self.0 >> 8 & 0x1f) as u32 + 1
    }
    /// Bits of a DeviceID.
    pub const fn device_bits(self) -> u32 {
        (self.0 >> 13 & 0x1f) as u32 + 1
    }
    /// Redistributors are named by address rather than by number (PTA).
    pub const fn by_address(self) -> bool {
        self.0 & 1 << 19 != 0
    }
}

/// Register or entry is valid (GITS_BASER, GITS_CBASER, first-level entry).
pub const VALID: u64 = 1 << 63;
/// GITS_BASER.Indirect: a table in two levels.
pub const BASER_INDIRECT: u64 = 1 << 62;
/// GITS_BASER.Type of the device table.
pub const TYPE_DEVICES: u64 = 1;
/// GITS_BASER.Type of the collection table.
pub const TYPE_COLLECTIONS: u64 = 4;
/// GITS_BASER.Page_Size: 4, 16 and 64 KiB.
pub const BASER_PAGE_SIZE: u64 = 0b11 << 8;
/// The most pages of a table.
pub const BASER_MAX_PAGES: u64 = 256;

/// GITS_BASER.Type.
pub const fn table_type(baser: u64) -> u64 {
    baser >> 56 & 0b111
}

/// Bytes in an entry of the table (GITS_BASER.Entry_Size).
pub const fn entry_size(baser: u64) -> u64 {
    (baser >> 48 & 0x1f) + 1
}

/// Bytes in a command.
pub const COMMAND: usize = 32;

/// A command, as the four words that the queue holds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Command(pub [u64; 4]);

const MOVI: u64 = 0x01;
const MAPD: u64 = 0x08;
const MAPC: u64 = 0x09;
const MAPTI: u64 = 0x0a;
const INV: u64 = 0x0c;
const DISCARD: u64 = 0x0f;
const SYNC: u64 = 0x05;

impl Command {
    /// Gives a device an interrupt translation table for 2^`event_bits` events
    /// (§5.3.11).
    pub const fn map_device(device: u32, itt: u64, event_bits: u32) -> Self {
        Self([
            MAPD | (device as u64) << 32,
            event_bits as u64 - 1,
            VALID | itt,
            0,
        ])
    }

    /// Takes it away.
    pub const fn unmap_device(device: u32) -> Self {
        Self([MAPD | (device as u64) << 32, 0, 0, 0])
    }

    /// Sends a collection to a redistributor (§5.3.10).
    pub const fn map_collection(collection: u16, redistributor: u64) -> Self {
        Self([MAPC, 0, VALID | redistributor | collection as u64, 0])
    }

    /// Has an event of a device raise an LPI, in a collection (§5.3.12).
    pub const fn map_event(device: u32, event: u32, lpi: u32, collection: u16) -> Self {
        Self([
            MAPTI | (device as u64) << 32,
            event as u64 | (lpi as u64) << 32,
            collection as u64,
            0,
        ])
    }

    /// Has an event of a device go to another collection, and its LPI with it if that is
    /// pending (§5.3.17).
    pub const fn move_event(device: u32, event: u32, collection: u16) -> Self {
        Self([
            MOVI | (device as u64) << 32,
            event as u64,
            collection as u64,
            0,
        ])
    }

    /// Forgets what is cached of the configuration of an event's LPI (§5.3.6).
    pub const fn reload(device: u32, event: u32) -> Self {
        Self([INV | (device as u64) << 32, event as u64, 0, 0])
    }

    /// Removes an event's translation, and its LPI if that is pending (§5.3.4).
    pub const fn discard(device: u32, event: u32) -> Self {
        Self([DISCARD | (device as u64) << 32, event as u64, 0, 0])
    }

    /// Completes when all before has reached the redistributor (§5.3.15).
    pub const fn sync(redistributor: u64) -> Self {
        Self([SYNC, 0, redistributor, 0])
    }

    /// The architecture's name of the command whose first word this is.
    pub const fn name(first: u64) -> &'static str {
        match first & 0xff {
            MOVI => "MOVI",
            MAPD => "MAPD",
            MAPC => "MAPC",
            MAPTI => "MAPTI",
            INV => "INV",
            DISCARD => "DISCARD",
            SYNC => "SYNC",
            _ => "a command that was never sent",
        }
    }
}

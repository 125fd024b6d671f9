//! Reading from disks: what a read costs from the choice of a block until its data is
//! there and the device cannot reach it any more. Nobody copies the data while it is
//! counted. Some of it is read before that, twice, over different contents of memory,
//! and hashed: so all of it came from the disk, and from where it should.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::driver::{Disk, Pace, Piece, Pieces};
use mastiff_core::platform::Platform;
use sha2::{Digest, Sha256};

use super::Course;
use super::meter::{Meter, Samples};
use super::random::Random;
use crate::commands::Failure;
use crate::records::Record;
use crate::text::format::digits;

/// One row.
struct Row {
    name: &'static str,
    /// Bytes of a read.
    bytes: u64,
    /// Reads under way at a time.
    depth: u64,
    /// Whether each read is where the one before ended.
    ordered: bool,
}

const ROWS: [Row; 3] = [
    Row {
        name: "read-4k-qd1",
        bytes: 4 << 10,
        depth: 1,
        ordered: false,
    },
    Row {
        name: "read-4k-qd32",
        bytes: 4 << 10,
        depth: 32,
        ordered: false,
    },
    Row {
        name: "read-128k-qd32",
        bytes: 128 << 10,
        depth: 32,
        ordered: true,
    },
];

/// Reads of a row, besides those that fill the queue first.
const READS: u64 = 4096;
/// Bytes that are read and compared before a row.
const PROOF: u64 = 1 << 20;
/// What memory holds before.
const FILLS: [u8; 2] = [0x5a, 0xa5];
const PORTION: usize = 4 << 10;

/// The rows of all disks that are bound.
pub fn all<P: Platform>(
    course: &mut Course<'_, '_, P>,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let devices = course.shell.engine.devices();
    let disks = devices.filter(|device| device.bound().is_some_and(|it| it.disk().is_some()));
    let names: Vec<Box<str>> = disks.map(|device| device.name.clone()).collect();
    if names.is_empty() {
        log::warn!("bench: no disk is bound: reads are left out");
    }
    names.iter().try_for_each(|name| rows(course, name, out))
}

/// The rows of one disk.
pub fn rows<P: Platform>(
    course: &Course<'_, '_, P>,
    name: &str,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let disk = course.shell.disk(name)?;
    for row in &ROWS {
        if disk.blocks().saturating_mul(u64::from(disk.block_size())) < row.bytes {
            log::warn!("bench: {name} is too small for {}: left out", row.name);
            continue;
        }
        let sha256 = proved(disk, row)?;
        let pace = Pace {
            count: READS + row.depth,
            bytes: row.bytes,
            depth: row.depth as usize,
            over: None,
        };
        let mut reads = Counted {
            places: Places::new(disk, row),
            meter: &course.meter,
            group: row.depth,
            done: 0,
            since: 0,
            samples: Samples::new(),
        };
        let work = course.work();
        disk.fetch(&pace, &mut reads)?;
        let mut record = course.row(row.name, reads.samples);
        record.n = pace.count as u32;
        course.since(&work, &mut record);
        record.n = READS as u32;
        record.device = Some(name.into());
        record.sha256 = Some(sha256);
        out.push(Record::Bench(record));
    }
    Ok(())
}

/// The digest of the first reads of a row, which came out the same twice.
fn proved(disk: &dyn Disk, row: &Row) -> Result<String, Failure> {
    let mut digests = Vec::new();
    for fill in FILLS {
        let pace = Pace {
            count: PROOF / row.bytes,
            bytes: row.bytes,
            depth: row.depth as usize,
            over: Some(fill),
        };
        let mut reads = Hashed {
            places: Places::new(disk, row),
            hash: Sha256::new(),
            room: vec![0; PORTION],
        };
        disk.fetch(&pace, &mut reads)?;
        digests.push(digits(&reads.hash.finalize()));
    }
    match digests.pop() {
        Some(digest) if digests.contains(&digest) => Ok(digest),
        _ => Err(Failure::new(format!(
            "{}: not all that was read came from the disk",
            row.name
        ))),
    }
}

/// Where a row reads.
struct Places {
    random: Option<Random>,
    blocks: u32,
    next: u64,
    count: u64,
}

impl Places {
    fn new(disk: &dyn Disk, row: &Row) -> Self {
        let blocks = row.bytes / u64::from(disk.block_size());
        Self {
            random: (!row.ordered).then(Random::new),
            blocks: blocks as u32,
            next: 0,
            count: disk.blocks() / blocks,
        }
    }

    #[inline]
    fn next(&mut self) -> (u64, u32) {
        let place = match &mut self.random {
            Some(random) => random.below(self.count).unwrap_or(0),
            None => {
                let place = self.next;
                self.next = if place + 1 < self.count { place + 1 } else { 0 };
                place
            }
        };
        (place * u64::from(self.blocks), self.blocks)
    }
}

/// Reads that are hashed.
struct Hashed {
    places: Places,
    hash: Sha256,
    room: Vec<u8>,
}

impl Pieces for Hashed {
    fn next(&mut self) -> (u64, u32) {
        self.places.next()
    }

    fn landed(&mut self, piece: &dyn Piece) {
        for at in (0..piece.len()).step_by(PORTION) {
            let portion = &mut self.room[..PORTION.min(piece.len() - at)];
            piece.copy(at, portion);
            self.hash.update(portion);
        }
    }
}

/// Reads that are counted, in groups of as many as are under way.
struct Counted<'m, P: Platform> {
    places: Places,
    meter: &'m Meter<P>,
    group: u64,
    done: u64,
    since: u32,
    samples: Samples,
}

impl<P: Platform> Pieces for Counted<'_, P> {
    fn next(&mut self) -> (u64, u32) {
        self.places.next()
    }

    fn landed(&mut self, _: &dyn Piece) {
        self.done += 1;
        if !self.done.is_multiple_of(self.group) {
            return;
        }
        // The first ones found the queue empty.
        if self.done > self.group {
            let insn = self.meter.since(self.since);
            self.samples.add(insn.div_ceil(self.group as u32));
        }
        self.since = self.meter.now();
    }
}

//! The validator that stands in front of the `fdt` crate.
//!
//! One walk over the structure block checks every rule that `fdt` relies on
//! without checking (bounds, balance, terminated printable names, properties before
//! children, depth) and notes what `fdt` does not tell: who is whose parent. It
//! also produces a canonical blob: no padding, no `FDT_NOP` (which `fdt` trips
//! over, and which bootloaders leave behind where they removed something),
//! always a version 17 header. `fdt` only ever sees that one.

use crate::error::{BlobError, BlobErrorKind, Block};
use alloc::vec::Vec;
use core::ffi::CStr;
use core::ops::Range;

pub(crate) const MAGIC: u32 = 0xd00d_feed;
/// Size of a version 17 header (5.2).
pub(crate) const HEADER: usize = 40;

/// Tokens of the structure block (5.4.1).
pub(crate) const BEGIN_NODE: u32 = 1;
pub(crate) const END_NODE: u32 = 2;
pub(crate) const PROP: u32 = 3;
pub(crate) const NOP: u32 = 4;
pub(crate) const END: u32 = 9;

/// Nodes on the longest path from the root; `fdt` keeps an array of 64.
pub(crate) const MAX_LEVELS: usize = 63;
/// Larger blobs are refused, so that sums of any three of their offsets fit
/// into 32 bits. Real ones stay below 2 MiB (arm64's boot protocol).
const MAX_SIZE: u32 = 1 << 30;

/// A blob that passed.
pub(crate) struct Checked {
    /// The same tree, in the plainest form.
    pub canonical: Vec<u8>,
    /// Where the strings are in `canonical`; ASCII, and each is terminated.
    pub strings: Range<usize>,
    /// The number of every node's parent, in tree order; the root is its own.
    pub parents: Vec<u32>,
    /// Bytes in their names.
    pub names: usize,
    /// How many properties they have together.
    pub props: usize,
    /// Bytes in the properties' values.
    pub values: usize,
}

fn error<T>(offset: usize, kind: BlobErrorKind) -> Result<T, BlobError> {
    Err(BlobError { offset, kind })
}

/// An empty table with room for exactly `count` entries. A tree may be larger than
/// the memory that there is this early, which is no reason to crash.
pub(crate) fn table<T>(count: usize) -> Result<Vec<T>, BlobError> {
    let mut table = Vec::new();
    match table.try_reserve_exact(count) {
        Ok(()) => Ok(table),
        Err(_) => too_large::<T, _>(count),
    }
}

/// Whether so many bytes can be numbered in 32 bits, as a blob's must be.
pub(crate) fn check_size(bytes: usize) -> Result<(), BlobError> {
    match bytes <= MAX_SIZE as usize {
        true => Ok(()),
        false => too_large::<u8, ()>(bytes),
    }
}

fn too_large<T, R>(count: usize) -> Result<R, BlobError> {
    let bytes = count.saturating_mul(size_of::<T>());
    error(0, BlobErrorKind::TooLarge { bytes })
}

fn word(blob: &[u8], at: usize) -> Option<u32> {
    let bytes = blob.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The header's claim of the blob's size, after checking that it is a header.
pub(crate) fn total_size(blob: &[u8]) -> Result<u32, BlobError> {
    let have = blob.len();
    if have < HEADER {
        return error(0, BlobErrorKind::TooShort { have });
    }
    let field = |at| word(blob, at).unwrap_or_default();
    let (found, version, compatible) = (field(0), field(20), field(24));
    if found != MAGIC {
        return error(0, BlobErrorKind::BadMagic { found });
    }
    if version < 16 || compatible > 17 {
        let kind = BlobErrorKind::BadVersion {
            version,
            compatible,
        };
        return error(20, kind);
    }
    let totalsize = field(4);
    if !(HEADER as u32..=MAX_SIZE).contains(&totalsize) {
        return error(4, BlobErrorKind::BadSize { totalsize });
    }
    Ok(totalsize)
}

/// Checks the whole blob.
pub(crate) fn check(blob: &[u8]) -> Result<Checked, BlobError> {
    let totalsize = total_size(blob)?;
    let have = blob.len();
    let Some(blob) = blob.get(..totalsize as usize) else {
        return error(4, BlobErrorKind::Truncated { totalsize, have });
    };
    let field = |at| word(blob, at).unwrap_or_default() as usize;
    // Version 16 has no size of the structure block: FDT_END ends it.
    let structure_size = match field(20) {
        16 => blob.len().saturating_sub(field(8)),
        _ => field(36),
    };
    let structure = block(blob, Block::Structure, 8, structure_size)?;
    let strings = block(blob, Block::Strings, 12, field(32))?;
    let reservations = reservations(blob, block(blob, Block::Reservation, 16, 0)?.start)?;
    let strings = terminated_strings(blob, strings)?;

    let mut canonical =
        table(HEADER + reservations.len() + structure.len().min(blob.len()) + strings.len())?;
    canonical.resize(HEADER, 0);
    canonical.extend_from_slice(&blob[reservations]);
    let structure_at = canonical.len();
    let mut walk = Walk {
        blob,
        end: structure.end,
        at: structure.start,
        strings: strings.len(),
        open: Vec::with_capacity(MAX_LEVELS),
        parents: Vec::new(),
        names: 0,
        props: 0,
        values: 0,
    };
    walk.run(&mut canonical)?;
    let strings_at = canonical.len();
    canonical.extend_from_slice(&blob[strings]);
    let header = [
        MAGIC as usize,
        canonical.len(),
        structure_at,
        strings_at,
        HEADER,
        17,
        16,
        0,
        canonical.len() - strings_at,
        strings_at - structure_at,
    ];
    for (bytes, value) in canonical.chunks_exact_mut(4).zip(header) {
        bytes.copy_from_slice(&(value as u32).to_be_bytes());
    }
    Ok(Checked {
        strings: strings_at..canonical.len(),
        canonical,
        parents: walk.parents,
        names: walk.names,
        props: walk.props,
        values: walk.values,
    })
}

/// The block whose offset stands in the header at `field`.
fn block(blob: &[u8], which: Block, field: usize, size: usize) -> Result<Range<usize>, BlobError> {
    let start = word(blob, field).unwrap_or_default() as usize;
    if start < HEADER - 4 || start > blob.len() || size > blob.len() - start {
        return error(field, BlobErrorKind::OutOfBounds(which));
    }
    if which == Block::Structure && !start.is_multiple_of(4) {
        return error(field, BlobErrorKind::Misaligned(which));
    }
    Ok(start..start + size)
}

/// The reservation block, its terminator of two zeros included (5.3).
fn reservations(blob: &[u8], start: usize) -> Result<Range<usize>, BlobError> {
    let mut at = start;
    loop {
        let Some(entry) = blob.get(at..at + 16) else {
            return error(at, BlobErrorKind::UnexpectedEnd(Block::Reservation));
        };
        at += 16;
        if entry.iter().all(|&b| b == 0) {
            return Ok(start..at);
        }
    }
}

/// The strings block up to the last NUL: an offset into that is always an offset
/// of a terminated string.
fn terminated_strings(blob: &[u8], strings: Range<usize>) -> Result<Range<usize>, BlobError> {
    let bytes = &blob[strings.clone()];
    let len = bytes.iter().rposition(|&b| b == 0).map_or(0, |nul| nul + 1);
    let printable = |&b: &u8| b == 0 || b.is_ascii_graphic();
    match bytes[..len].iter().position(|b| !printable(b)) {
        Some(at) => error(strings.start + at, BlobErrorKind::NotPrintable),
        None => Ok(strings.start..strings.start + len),
    }
}

/// The walk over the structure block.
struct Walk<'b> {
    blob: &'b [u8],
    end: usize,
    at: usize,
    /// Length of the strings block.
    strings: usize,
    /// Indices of the nodes begun and not ended.
    open: Vec<u32>,
    parents: Vec<u32>,
    names: usize,
    props: usize,
    values: usize,
}

impl Walk<'_> {
    /// Walks to `FDT_END`, and appends all tokens but the `FDT_NOP`s to `out`.
    fn run(&mut self, out: &mut Vec<u8>) -> Result<(), BlobError> {
        let mut copied = self.at;
        loop {
            let at = self.at;
            match self.word()? {
                BEGIN_NODE => self.begin(at)?,
                END_NODE => self.finish(at)?,
                PROP => self.property(at)?,
                NOP => {
                    out.extend_from_slice(&self.blob[copied..at]);
                    copied = self.at;
                }
                END => break,
                found => return error(at, BlobErrorKind::BadToken { found }),
            }
        }
        let last = self.at - 4;
        out.extend_from_slice(&self.blob[copied..self.at]);
        if !self.open.is_empty() {
            let open = self.open.len();
            return error(last, BlobErrorKind::OpenNodes { open });
        }
        if self.parents.is_empty() {
            return error(last, BlobErrorKind::NoRoot);
        }
        Ok(())
    }

    fn begin(&mut self, at: usize) -> Result<(), BlobError> {
        let name = CStr::from_bytes_until_nul(&self.blob[self.at..self.end]);
        let Ok(name) = name.map(CStr::to_bytes) else {
            return error(at, BlobErrorKind::UnexpectedEnd(Block::Structure));
        };
        if !name.iter().all(u8::is_ascii_graphic) {
            return error(self.at, BlobErrorKind::NotPrintable);
        }
        let parent = self.open.last().copied();
        if parent.is_none() && !self.parents.is_empty() {
            return error(at, BlobErrorKind::SecondRoot);
        }
        if parent.is_some() && (name.is_empty() || name.contains(&b'/')) {
            return error(self.at, BlobErrorKind::BadName);
        }
        if self.open.len() == MAX_LEVELS {
            return error(at, BlobErrorKind::TooDeep);
        }
        let index = self.parents.len() as u32;
        if self.parents.try_reserve(1).is_err() {
            return too_large::<u32, ()>(2 * self.parents.len());
        }
        self.names += name.len();
        self.open.push(index);
        self.parents.push(parent.unwrap_or(index));
        self.skip(at, name.len() + 1)
    }

    fn finish(&mut self, at: usize) -> Result<(), BlobError> {
        match self.open.pop() {
            Some(_) => Ok(()),
            None => error(at, BlobErrorKind::UnbalancedEnd),
        }
    }

    fn property(&mut self, at: usize) -> Result<(), BlobError> {
        let Some(&node) = self.open.last() else {
            return error(at, BlobErrorKind::PropertyOutsideNode);
        };
        if node as usize + 1 != self.parents.len() {
            return error(at, BlobErrorKind::PropertyAfterChild);
        }
        let len = self.word()? as usize;
        let name = self.word()?;
        if name as usize >= self.strings {
            return error(at + 8, BlobErrorKind::StringOutOfBlock { name });
        }
        self.props += 1;
        self.values += len;
        self.skip(at, len)
    }

    fn word(&mut self) -> Result<u32, BlobError> {
        match word(&self.blob[..self.end], self.at) {
            Some(word) => {
                self.at += 4;
                Ok(word)
            }
            None => error(self.at, BlobErrorKind::UnexpectedEnd(Block::Structure)),
        }
    }

    /// Skips `len` bytes and the padding to the next token.
    fn skip(&mut self, token: usize, len: usize) -> Result<(), BlobError> {
        let next = (self.at + len).next_multiple_of(4);
        if next > self.end {
            return error(token, BlobErrorKind::UnexpectedEnd(Block::Structure));
        }
        self.at = next;
        Ok(())
    }
}

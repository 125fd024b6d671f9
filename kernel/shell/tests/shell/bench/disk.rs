//! The master as a disk: every block that is read comes through its page.

use mastiff_core::driver::{Disk, DmaProof, Pace, Piece, Pieces};
use mastiff_core::error::Fault;

use super::master::{Is, Master};

/// What the disk holds: bytes that repeat every 251.
pub const BLOCK: usize = 512;
pub const BLOCKS: u64 = 128;
/// `sha256sum` of that, computed elsewhere.
pub const DIGEST: &str = "4b640d85ab3ba30fd02c9fc9db4a8928f416322ad27022ea58a65aaee68a4df2";

pub fn content() -> impl Iterator<Item = u8> {
    (0..BLOCK * BLOCKS as usize).map(|at| (at % 251) as u8)
}

impl Disk for Master {
    fn block_size(&self) -> u32 {
        BLOCK as u32
    }
    fn blocks(&self) -> u64 {
        BLOCKS
    }
    fn read(&self, first: u64, count: u64, sink: &mut dyn FnMut(&[u8])) -> Result<DmaProof, Fault> {
        let end = first.checked_add(count).filter(|&end| end <= BLOCKS);
        let end = end.ok_or_else(|| Fault::invalid("beyond the disk's end"))?;
        let all: Vec<u8> = content().collect();
        for (done, block) in all.chunks(BLOCK).enumerate() {
            if (first..end).contains(&(done as u64)) {
                sink(&self.bring(block)?);
            }
            if self.is == Is::BrokenDisk {
                return Err(self.error());
            }
        }
        Ok(self.proof(BLOCK as u64))
    }

    fn fetch(&self, pace: &Pace, pieces: &mut dyn Pieces) -> Result<DmaProof, Fault> {
        let content: Vec<u8> = content().collect();
        let mut total = 0;
        for _ in 0..pace.count {
            let (first, count) = pieces.next();
            let (at, len) = (first as usize * BLOCK, count as usize * BLOCK);
            let mut data = Vec::new();
            // What does not pass through its page is as it was.
            for block in content[at..at + len].chunks(BLOCK) {
                match (self.is, pace.over) {
                    (Is::BrokenDisk, Some(byte)) => data.extend(vec![byte; BLOCK]),
                    _ => data.extend(self.bring(block)?),
                }
            }
            total += data.len() as u64;
            pieces.landed(&Copied(data));
        }
        Ok(self.proof(total))
    }
}

struct Copied(Vec<u8>);

impl Piece for Copied {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn copy(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0[offset..][..to.len()]);
    }
}

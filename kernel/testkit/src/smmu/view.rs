//! The SMMU's view of memory: published bytes, in 64-bit atoms. Where there is no
//! memory its accesses end in an external abort, here `None`.

use crate::memory::Memory;

/// Reads what the SMMU fetches.
#[derive(Copy, Clone)]
pub(super) struct View<'a>(pub &'a Memory);

impl View<'_> {
    pub fn word(self, pa: u64) -> Option<u64> {
        self.words::<1>(pa).map(|[word]| word)
    }

    pub fn words<const N: usize>(self, pa: u64) -> Option<[u64; N]> {
        self.many(pa, N)?.try_into().ok()
    }

    pub fn many(self, pa: u64, count: usize) -> Option<Vec<u64>> {
        let mut bytes = vec![0; 8 * count];
        let last = pa + (bytes.len() as u64 - 1);
        if !self.0.is_ram(pa) || !self.0.is_ram(last) {
            return None;
        }
        self.0.device_read(pa, &mut bytes);
        let (atoms, _) = bytes.as_chunks();
        Some(atoms.iter().map(|&atom| u64::from_le_bytes(atom)).collect())
    }
}

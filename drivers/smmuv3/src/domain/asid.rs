//! ASIDs: each tags the cached translations of one domain. One that comes back has
//! been invalidated by whoever gives it back, so it can go straight to the next.

use alloc::vec::Vec;

use mastiff_core::error::Fault;

pub(crate) struct Asids {
    // None that was ever handed out is at or above this.
    next: u32,
    end: u32,
    free: Vec<u16>,
}

impl Asids {
    /// All ASIDs of `bits` bits but 0, which is what a CD holds that nobody wrote.
    pub fn new(bits: u32) -> Self {
        Self {
            next: 1,
            end: 1 << bits,
            free: Vec::new(),
        }
    }

    pub fn take(&mut self) -> Result<u16, Fault> {
        if let Some(asid) = self.free.pop() {
            return Ok(asid);
        }
        let asid = u16::try_from(self.next)
            .ok()
            .filter(|_| self.next < self.end);
        let asid = asid.ok_or(Fault::Exhausted {
            what: "ASID",
            limit: u64::from(self.end) - 1,
        })?;
        self.next += 1;
        Ok(asid)
    }

    /// Takes back one that no cached translation carries any more.
    pub fn give(&mut self, asid: u16) {
        debug_assert!(u32::from(asid) < self.next && !self.free.contains(&asid));
        self.free.push(asid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn all_are_different_until_there_are_none() {
        for bits in [8, 16] {
            let mut asids = Asids::new(bits);
            let limit = (1u64 << bits) - 1;
            let taken: BTreeSet<u16> = (0..limit).map(|_| asids.take().unwrap()).collect();
            assert_eq!(taken.len() as u64, limit);
            assert!(!taken.contains(&0));
            let none = Fault::Exhausted {
                what: "ASID",
                limit,
            };
            assert_eq!(asids.take(), Err(none));
            asids.give(7);
            assert_eq!(asids.take(), Ok(7));
            assert!(asids.take().is_err());
        }
    }
}

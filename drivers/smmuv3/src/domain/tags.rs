//! ASIDs, or VMIDs: each tags the cached translations of one domain. One that comes
//! back has been invalidated by whoever gives it back, so it can go straight to the
//! next.

use alloc::vec::Vec;

use mastiff_core::error::Fault;

pub(crate) struct Tags {
    what: &'static str,
    // None that was ever handed out is at or above this.
    next: u32,
    end: u32,
    free: Vec<u16>,
}

impl Tags {
    /// All of `bits` bits but 0: that is the ASID of a CD that nobody wrote, and the
    /// VMID of streams without a stage 2.
    pub fn new(what: &'static str, bits: u32) -> Self {
        Self {
            what,
            next: 1,
            end: 1 << bits,
            free: Vec::new(),
        }
    }

    pub fn take(&mut self) -> Result<u16, Fault> {
        if let Some(tag) = self.free.pop() {
            return Ok(tag);
        }
        let tag = u16::try_from(self.next)
            .ok()
            .filter(|_| self.next < self.end);
        let tag = tag.ok_or(Fault::Exhausted {
            what: self.what,
            limit: u64::from(self.end) - 1,
        })?;
        self.next += 1;
        Ok(tag)
    }

    /// Takes back one that no cached translation carries any more.
    pub fn give(&mut self, tag: u16) {
        debug_assert!(u32::from(tag) < self.next && !self.free.contains(&tag));
        self.free.push(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn all_are_different_until_there_are_none() {
        for bits in [8, 16] {
            let mut tags = Tags::new("VMID", bits);
            let limit = (1u64 << bits) - 1;
            let taken: BTreeSet<u16> = (0..limit).map(|_| tags.take().unwrap()).collect();
            assert_eq!(taken.len() as u64, limit);
            assert!(!taken.contains(&0));
            let none = Fault::Exhausted {
                what: "VMID",
                limit,
            };
            assert_eq!(tags.take(), Err(none));
            tags.give(7);
            assert_eq!(tags.take(), Ok(7));
            assert!(tags.take().is_err());
        }
    }
}

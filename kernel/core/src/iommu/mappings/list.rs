//! Lists: pieces from anywhere, side by side for the device.

use alloc::boxed::Box;

use super::Mappings;
use crate::addr::{Iova, PhysAddr};
use crate::dma::Slot;
use crate::error::Fault;
use crate::iommu::{Domain, Hint, Permission};

/// How many pieces a domain is given at a time.
const PIECES: usize = 32;

/// Why pieces could not be mapped side by side.
pub(crate) struct Unlisted {
    pub fault: Box<Fault>,
    /// None of them is mapped any more.
    pub safe: bool,
}

impl Unlisted {
    /// None of them was ever mapped.
    pub fn safe(fault: Box<Fault>) -> Self {
        let safe = true;
        Self { fault, safe }
    }
}

impl Mappings {
    /// Maps `count` pieces of one length side by side. Where that fails and what was
    /// mapped so far cannot be taken back, it says so: the memory may be reached.
    pub(crate) fn map_list(
        &self,
        cpu: usize,
        pieces: &impl Fn(usize) -> PhysAddr,
        (count, piece): (usize, u64),
        limit: u64,
        access: Permission,
    ) -> Result<Slot, Unlisted> {
        let len = piece.saturating_mul(count as u64);
        let mut slot = match self.addresses.take(cpu, len, limit) {
            Some(slot) => slot,
            None => self.take_more(cpu, len, limit).map_err(Unlisted::safe)?,
        };
        let mut hint = slot.hint;
        for (done, (_, domain)) in self.domains.iter().enumerate() {
            hint = slot.hint;
            let listed = list(
                &**domain,
                &mut hint,
                slot.iova,
                pieces,
                (count, piece),
                access,
            );
            let Err((mapped, fault)) = listed else {
                continue;
            };
            let whole = self.domains[..done]
                .iter()
                .map(|(_, domain)| (domain, count));
            let undone = whole
                .chain([(domain, mapped)])
                .try_for_each(|(domain, count)| {
                    domain.unmap_list(Hint::default(), slot.iova, count, piece)
                });
            let safe = undone.is_ok();
            if safe {
                self.addresses.give(cpu, slot, len);
            } else {
                self.addresses.lose(len);
            }
            return Err(Unlisted { fault, safe });
        }
        if self.only.is_some() && hint != slot.hint {
            slot = self.learnt(cpu, slot, len, hint);
        }
        Ok(slot)
    }
}

/// Maps pieces in one domain. On an error also says how many are mapped.
fn list(
    domain: &dyn Domain,
    hint: &mut Hint,
    iova: Iova,
    pieces: &impl Fn(usize) -> PhysAddr,
    (count, piece): (usize, u64),
    access: Permission,
) -> Result<(), (usize, Box<Fault>)> {
    let mut done = 0;
    while done < count {
        let mut some = [PhysAddr(0); PIECES];
        let some = &mut some[..PIECES.min(count - done)];
        for (index, pa) in some.iter_mut().enumerate() {
            *pa = pieces(done + index);
        }
        let at = iova.add(piece * done as u64);
        *hint = domain
            .map_list(*hint, at, some, piece, access)
            .map_err(|(more, fault)| (done + more, fault))?;
        done += some.len();
    }
    Ok(())
}

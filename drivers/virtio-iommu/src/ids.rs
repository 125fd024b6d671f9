//! Domain IDs: each is given out to one domain at a time, and the one that was used
//! last comes back last.

use alloc::collections::VecDeque;

use mastiff_core::error::Fault;

pub(crate) struct Ids {
    // None when all were given out once.
    fresh: Option<u32>,
    last: u32,
    count: u64,
    free: VecDeque<u32>,
}

impl Ids {
    pub fn new(first: u32, last: u32) -> Self {
        Self {
            fresh: Some(first),
            last,
            count: u64::from(last - first) + 1,
            free: VecDeque::new(),
        }
    }

    pub fn take(&mut self) -> Result<u32, Fault> {
        if let Some(id) = self.fresh {
            self.fresh = id.checked_add(1).filter(|&next| next <= self.last);
            return Ok(id);
        }
        self.free.pop_front().ok_or(Fault::Exhausted {
            what: "domain ID",
            limit: self.count,
        })
    }

    pub fn give(&mut self, id: u32) {
        self.free.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_out_once_and_none_is_lost() {
        let mut ids = Ids::new(u32::MAX - 2, u32::MAX);
        let all = [(); 3].map(|()| ids.take().unwrap());
        assert_eq!(all, [u32::MAX - 2, u32::MAX - 1, u32::MAX]);
        let (what, limit) = ("domain ID", 3);
        assert_eq!(ids.take(), Err(Fault::Exhausted { what, limit }));
        ids.give(all[1]);
        ids.give(all[0]);
        assert_eq!([ids.take(), ids.take()], [Ok(all[1]), Ok(all[0])]);
        assert!(ids.take().is_err());
    }
}

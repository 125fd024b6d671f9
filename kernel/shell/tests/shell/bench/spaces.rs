//! The master as one with address spaces of its own.

use mastiff_core::addr::Iova;
use mastiff_core::driver::{Seen, Spaces};
use mastiff_core::error::Fault;

use super::master::Master;

/// Spaces that are nowhere but in the numbers that it answers with.
impl Spaces for Master {
    fn names(&self) -> &'static [&'static str] {
        &["a", "b"]
    }
    fn attached(&self) -> Option<usize> {
        *self.attached.lock().unwrap()
    }
    fn attach(&self, space: usize) -> Result<(), Fault> {
        *self.attached.lock().unwrap() = Some(space);
        Ok(())
    }
    fn detach(&self) {
        *self.attached.lock().unwrap() = None;
    }
    fn map(&self, at: Iova) -> Result<(), Fault> {
        self.diary.note(format_args!("{}: map {at}", self.name));
        Ok(())
    }
    fn unmap(&self, iova: Iova) -> Result<(), Fault> {
        Err(Fault::NotMapped { iova })
    }
    fn transfer(&self, at: Iova) -> Result<Seen, Fault> {
        Ok(Seen {
            at,
            read: self.attached(),
            written: self.attached(),
            switches: 0,
        })
    }
    fn switch(&self) -> Result<Seen, Fault> {
        let before = self.attached().ok_or(Fault::Revoked)?;
        self.attach(1 - before)?;
        Ok(Seen {
            at: Iova(0x1000),
            read: Some(before),
            written: self.attached(),
            switches: 1,
        })
    }
}

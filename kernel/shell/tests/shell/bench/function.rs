//! A function on the bus.

use mastiff_core::addr::{PhysAddr, PhysRange};
use mastiff_core::bus::BusFunction;
use mastiff_core::error::Fault;
use mastiff_dt::{InterruptSpec, PropError};

/// A function that does nothing.
pub struct Function;

impl BusFunction for Function {
    fn window(&self, index: usize) -> Result<PhysRange, Fault> {
        Err(Fault::NoWindow { index })
    }
    fn set_master(&self, _on: bool) {}
    fn messages(&self) -> u32 {
        0
    }
    fn set_message(&self, _index: u32, _address: u64, _data: u32) -> Result<(), Fault> {
        Ok(())
    }
    fn clear_message(&self, _index: u32) {}
    fn interrupt(&self) -> Result<Option<InterruptSpec>, PropError> {
        Ok(None)
    }
    fn apertures(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }
    fn bus_address(&self, pa: PhysAddr) -> u64 {
        pa.0
    }
}

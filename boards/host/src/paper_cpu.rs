//! The CPU that an image's drivers get on the host. Nobody looks at it: in a plan only
//! stand-ins probe, and in the drill the interrupt controllers bring their own.

use mastiff_core::cpu_interface::{Cpu, CpuInterface, WakeTimer};
use mastiff_core::error::Fault;

/// A CPU without system registers.
pub struct PaperCpu;

impl Cpu for PaperCpu {
    const TIMER: &'static dyn WakeTimer = &PaperCpu;
    const GIC: &'static dyn CpuInterface = &PaperCpu;
}

impl WakeTimer for PaperCpu {
    fn quiet(&self) {}
    fn ready(&self, _ready: bool) {}
}

impl CpuInterface for PaperCpu {
    fn enable(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn disable(&self) {}

    /// INTID 1023: nothing is pending (IHI 0069 §2.2.1).
    fn acknowledge(&self) -> u32 {
        1023
    }

    fn end(&self, _intid: u32) {}

    fn send(&self, _affinity: u64) {}

    fn affinity(&self) -> u64 {
        0
    }
}

//! What interrupt and timer drivers need of the CPU that runs them. The GICv3 CPU
//! interface and the generic timer are reached by system registers only, which no
//! safe driver can access; `kernel/arch` implements these and the board hands them
//! to the drivers, so that the drivers stay free of unsafe code and run on the host
//! against a model.

use crate::error::Fault;

/// The CPU's interface to a GICv3, for the CPU that calls (IHI 0069 §12.2).
pub trait CpuInterface: Send + Sync {
    /// Switches the interface to system registers, lets every priority through,
    /// makes one write end an interrupt (EOImode 0), and enables group 1.
    fn enable(&self) -> Result<(), Fault>;
    /// Disables group 1: this CPU is signalled nothing any more when it returns.
    /// Before the first `enable`, where system registers may not be on, it does
    /// nothing if they are not.
    fn disable(&self);
    /// Acknowledges the highest-priority pending interrupt of group 1
    /// (ICC_IAR1_EL1); a special INTID where there is none.
    fn acknowledge(&self) -> u32;
    /// Ends it: priority drop and deactivation (ICC_EOIR1_EL1).
    fn end(&self, intid: u32);
    /// Sends software-generated interrupt 0 of group 1 to the CPU of that affinity
    /// (ICC_SGI1R_EL1). What was stored before is seen there once it is taken.
    fn send(&self, affinity: u64);
    /// The affinity fields of MPIDR_EL1, in their places there; other bits 0.
    fn affinity(&self) -> u64;
}

/// The CPU's own timer, as far as its interrupt is concerned.
pub trait WakeTimer: Send + Sync {
    /// Takes the interrupt line down until the timer is programmed again.
    fn quiet(&self);
    /// Says whether the timer's interrupt reaches the CPU. While it does not,
    /// nothing may sleep until a deadline: only poll.
    fn ready(&self, ready: bool);
}

/// A CPU as a board's list of drivers names it: the list is the same in the image,
/// where there is one, and on a host, where there is none.
pub trait Cpu {
    /// Its timer.
    const TIMER: &'static dyn WakeTimer;
    /// Its interface to a GICv3.
    const GIC: &'static dyn CpuInterface;
}

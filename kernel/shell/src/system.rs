//! What the shell needs of the machine beyond its devices: the console itself,
//! counters and memory. The board implements it over `arch` and `hw`; tests
//! capture it. Ending the machine is not among it: the shell says how it wants to
//! end, and by then all devices are down.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use mastiff_core::addr::PhysAddr;

/// The machine as the console sees it.
pub trait System {
    /// Writes to the console, past the log.
    fn print(&self, text: fmt::Arguments<'_>);
    /// The next key, if one was pressed.
    fn key(&self) -> Option<u8>;
    /// Whether somebody could press one: the console is there.
    fn listens(&self) -> bool;
    /// Sleeps until there may be a key, and serves interrupts.
    fn idle(&self);
    /// What is known of this boot.
    fn facts(&self) -> BootFacts;
    /// Instructions retired since entry, where the CPU counts them exactly.
    fn instructions(&self) -> Option<u64>;
    /// Retires two instructions for each of `turns`, and a constant number besides:
    /// what a counter of instructions is checked against.
    fn turn(&self, turns: u32);
    /// Microseconds since entry.
    fn uptime_us(&self) -> u64;
    /// The CPUs that the device tree has, those that are on their way being waited for.
    fn cpus(&self) -> Vec<Core>;
    /// Memory by use: name and bytes.
    fn memory(&self) -> Vec<(&'static str, u64)>;
    /// Memory of the kernel's own, one place for each use: no master has any business
    /// there.
    fn places(&self) -> Vec<Place>;
    /// Reads memory as the CPU sees it; `false` where there is none that it can read
    /// without harm.
    fn peek(&self, at: PhysAddr, to: &mut [u8]) -> bool;
    /// The log so far, oldest line first.
    fn dmesg(&self, sink: &mut dyn FnMut(&str));
}

/// A CPU.
#[derive(Clone, Debug)]
pub struct Core {
    /// Its node's path.
    pub path: String,
    /// The affinity fields of its MPIDR_EL1, if the tree tells.
    pub affinity: Option<u64>,
    /// Its number, if it runs.
    pub number: Option<usize>,
    /// Why it does not.
    pub why: Option<String>,
}

/// A place in memory.
#[derive(Copy, Clone, Debug)]
pub struct Place {
    /// What it is used for.
    pub name: &'static str,
    /// Where it is.
    pub at: PhysAddr,
}

/// What is known of this boot.
#[derive(Copy, Clone, Debug)]
pub struct BootFacts {
    /// The board's folder name.
    pub board: &'static str,
    /// The kernel's version.
    pub version: &'static str,
    /// CPUs that run.
    pub cpus: u32,
    /// CPUs that came from reset as well and are kept from running.
    pub parked: u32,
    /// Exception level that the image was entered at.
    pub el: u8,
}

//! The console: the main job that a boot does without being asked, the commands,
//! and the records that scripts read.
//!
//! - [`bootargs`]: the kernel command line
//! - [`Shell`]: runs commands, one at a time, and keeps the status
//! - `commands`: one table of all of them, and a file for each family
//! - [`records`]: what scripts read, one JSON object a line
//! - `job`: the proof of DMA that a boot is for
//! - [`System`]: what the shell needs of the machine beyond its devices
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bootargs;
mod commands;
mod job;
mod line;
pub mod records;
mod render;
mod shell;
mod system;

pub use shell::{Options, Shell};
pub use system::{BootFacts, System};

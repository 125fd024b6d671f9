//! The console: the main job that a boot does without being asked, the commands,
//! and the records that scripts read.
//!
//! - [`bootargs`]: the kernel command line
//! - [`Shell`]: runs commands, one at a time, keeps the status, and decides whether
//!   answers are shown as text or as records
//! - `commands`: one table of all of them, and a file for each family; a command
//!   answers with records and prints nothing
//! - [`records`]: what scripts read, one JSON object a line
//! - `text`: the same records as people read them
//! - `job`: the proof of DMA that a boot is for
//! - [`System`]: what the shell needs of the machine beyond its devices
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bench;
pub mod bootargs;
mod commands;
mod job;
mod line;
pub mod records;
mod shell;
mod system;
mod text;

pub use shell::{Ending, Shell};
pub use system::{BootFacts, Core, Place, System};

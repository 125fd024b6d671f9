//! The shell from outside: a boot with a command line and keys goes in, what the
//! console showed and how the boot ended come out.

mod bench;
mod commands;
mod costs;
mod fields;
mod job;
mod prompt;
mod properties;

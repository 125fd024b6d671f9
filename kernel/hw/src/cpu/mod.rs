//! The few instructions that memory and register accesses need. The host's
//! version, for tests, does the same by volatile accesses.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub use aarch64::*;

#[cfg(not(target_arch = "aarch64"))]
mod host;
#[cfg(not(target_arch = "aarch64"))]
pub use host::*;

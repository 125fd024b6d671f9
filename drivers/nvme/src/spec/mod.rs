//! NVM Express as it is written down: registers, commands, data structures, status
//! codes; values in, values out, no algorithms. Sections are those of the NVM
//! Express Base Specification 2.0, and where marked NVM of the NVM Command Set
//! Specification 1.0.

pub mod command;
pub mod identify;
pub mod register;
pub mod status;

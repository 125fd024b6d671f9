//! The driver against the model: reading whatever the sizes, and letting go of all
//! memory whatever goes wrong.

mod bench;
mod cpus;
mod failures;
mod life;
mod pieces;
mod reading;

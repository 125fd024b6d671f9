//! The drivers against a model of the hardware, bound by the engine from a tree.

mod bench;
mod cpus;
mod drill;
mod its;
mod its_model;
mod model;
mod spec;
mod v2;
mod v3;

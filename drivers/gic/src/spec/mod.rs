//! Register offsets and bit layouts of the GIC architecture, with where they are
//! defined. Types and constants only; `tests/spec.rs` pins them with literals.

pub mod distributor;
pub mod its;
pub mod redistributor;
pub mod table;

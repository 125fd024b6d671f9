//! The driver against a strict model of the hardware, bound by the engine from a
//! tree. The model ends a test whenever something happens that the architecture
//! forbids or does not define, so a test that only goes through the motions still
//! asserts a lot.

mod bench;
mod bring_up;
mod drill;
mod errors;
mod events;
mod granules;
mod lazy;
mod lifetime;
mod messages;
mod nested;
mod order;
mod said;
mod stage2;
mod substreams;
mod suspend;
mod take_over;
mod threads;
mod translate;

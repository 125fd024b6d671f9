//! Arm SMMUv3 driver: translation for bus masters.
//!
//! An SMMU looks every transaction's StreamID up in a stream table. The entry
//! (STE) says that the stream aborts, bypasses, or is translated by a context
//! descriptor (CD), which names translation tables and the ASID that tags what is
//! cached of them. Software talks to the hardware through two rings in memory:
//! commands (invalidate this, sync) go in, events (this stream faulted there) come
//! out.
//!
//! What holds at all times, whatever fails:
//! - While translation is off, everything aborts (GBPA.ABORT).
//! - A stream that nobody attached aborts.
//! - Memory, an ASID, a VMID or an address is given up for reuse only after an
//!   invalidation and a sync for it have *completed*. If they do not, the caller
//!   hears of it and what the hardware may still use stays allocated for ever.
//! - Every wait is bounded.
//!
//! Where to find what:
//! - [`spec`]: bit layouts of the architecture, no algorithms
//! - `features`: what this SMMU is, and why it may be refused
//! - `window`, `memory`: registers; tables and queues that the hardware shares
//! - `queue`: rings in general, commands, events
//! - `stream_table`: linear and 2-level tables
//! - `substreams`: tables of CDs
//! - `domain`: CDs, ASIDs and VMIDs, mapping, and the invalidation that follows unmapping
//! - `update`: how a live entry is changed
//! - `smmu`, `attach`, `describe`: the instance, its streams, what people see of it
//! - `init`: on and off, in the architecture's order
//! - `interrupts`: by message or by wire
//! - `fault`, `storm`: events and global errors, and masters that never stop
//! - `bind`: the device tree's side
//!
//! Not here: ATS and page requests, stalling, secure
//! state.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attach;
mod bind;
mod describe;
mod domain;
mod fault;
mod features;
mod init;
mod interrupts;
mod memory;
mod queue;
mod smmu;
pub mod spec;
mod storm;
mod stream_table;
mod substreams;
mod update;
mod window;

pub use bind::{Machine, Smmuv3};

//! virtio-iommu driver: an IOMMU that is itself a PCI function.
//!
//! It comes late by nature: the host's driver has to find it first, and every master
//! on the same bus waits for it. Its own transactions are not translated; what it
//! does for others it is asked for by requests in a ring in memory, and it reports
//! what others did wrong in a second ring.
//!
//! The device has no tables in memory. A domain exists there from its first endpoint
//! to its last, with mappings that are made and taken back by requests; the driver
//! keeps a record of everything, tells a domain's mappings when its first endpoint is
//! attached, and tells all of it again after a reset.
//!
//! What holds at all times, whatever fails:
//! - An endpoint that nobody attached is blocked, from the first moment in which the
//!   device can be told so; until then no function masters the bus.
//! - An address is given up for reuse only after the device said that it is unmapped.
//!   A device that does not answer is asked nothing more.
//! - Memory that the device shares goes back only after a reset that it confirmed.
//! - Every wait is bounded.
//!
//! Where to find what:
//! - [`spec`]: layouts, no algorithms
//! - `transport`: the PCI transport; `queue`: a split virtqueue. Nothing in these two
//!   is about IOMMUs, except the configuration's fields.
//! - `requests`, `events`: the two queues; `patience`: waiting for answers
//! - `agreed`: features and limits, checked
//! - `state`, `mappings`, `ids`: the record
//! - `viommu`: endpoints and domains; `power`: on and off; `fault`: events
//! - `published`, `bind`: the core's, and the bus' and the tree's side
//!
//! Why not the crate `virtio-drivers`: see `docs/dependencies.md`.
//!
//! Not here: the MMIO transport, packed rings, indirect descriptors, page tables that
//! the device walks, identity domains on a device without bypass domains (they are
//! refused), keeping the core from handing out addresses that the device reserves
//! (mapping one is refused).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod agreed;
mod bind;
mod events;
mod fault;
mod ids;
mod mappings;
mod patience;
mod power;
mod published;
mod queue;
mod requests;
pub mod spec;
mod state;
mod transport;
mod viommu;

pub use bind::VirtioIommu;

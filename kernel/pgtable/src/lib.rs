//! VMSAv8-64 translation tables: one walker for the CPU's and the SMMU's.
//!
//! An SMMU stage 1 context and a CPU translation regime read the same tables
//! (IHI 0070 §3.4, DDI 0487 §D8.2), so they are built by the same code here and
//! differ only in [`Attrs`] and in the [`TableMem`] that brings them to memory. So
//! are those of stage 2, whose leaves have the same [`Attrs`] in other bits.
//! Section numbers of DDI 0487 are those of its issue K.
//!
//! # How entries change
//! An entry goes from invalid to valid or from valid to invalid, never from one
//! valid value to another (break-before-make, DDI 0487 §D8.17.1). Mapping over
//! a mapping is therefore an error, live blocks are not split, and there is no
//! call that changes the attributes of what is mapped.
//!
//! Leaves that are marked as contiguous are put in place by one call and taken out by
//! one call, all of them. While it does so some are there and others are not, but
//! those that are there agree. A walker that keeps all of them for one that it met has
//! what they will be, or what they were until the invalidation that follows.
//!
//! # Who may call what at the same time
//! All calls take `&self`. Ranges that do not overlap may be mapped and unmapped
//! by several CPUs at once, tables in common included: those are put in place by
//! compare-exchange. Of two overlapping `map` calls at most one succeeds, since it puts
//! leaves in place likewise. Unmapping takes ownership for granted, and so do the ways
//! of mapping that go by a [`Hint`]: the range belongs to the caller (in Mastiff, to
//! whoever holds the IOVA), so nobody else maps or unmaps in it meanwhile. A leaf's
//! entry lies in an owned range as a whole: a table can come to be in it only for an
//! address of that range. So a look and a plain store are as good as a
//! compare-exchange there. `tests/interleaved.rs` goes through every order of a few
//! such calls.
//!
//! # What a failing call leaves behind
//! No mapping of its own. Both calls look at the whole range before they change
//! a leaf, so ordinary failures never show the walker anything. Intermediate
//! tables that the failing call had put in place stay, empty, for the next one.
//!
//! # Tables that ran empty
//! They are kept until the [`PageTable`] is dropped: one on the way to an address
//! may sit in the walker's caches, and IOVA allocators reuse addresses. To give
//! them back earlier, the owner of all that a table spans would clear its entry,
//! forget the hint to it, chain the empty table through its own first word (bit 0
//! clear, hence invalid to a walker), and free the chain once an invalidation of
//! non-leaf entries has completed.
#![no_std]
#![forbid(unsafe_code)]

mod entry;
mod error;
mod fields;
mod geometry;
mod hint;
mod mem;
mod range;
pub mod stage1;
pub mod stage2;
mod table;
mod walk;

pub use entry::Entry;
pub use error::MapError;
pub use geometry::{Geometry, Granule, Stage};
pub use hint::Hint;
pub use mem::{Kind, TableMem};
pub use range::Leaves;
pub use stage1::{Access, Attrs, Exec, Memory, Shareability};
pub use table::{LeafBits, PageTable};
pub use walk::{Walk, WalkStep};

//! The strict SMMU model against software written by hand: that what is right
//! works, and that each thing that may go wrong on silicon does go wrong here.

mod bench;
mod commands;
mod config;
mod events;
mod init;
mod messages;
mod tlb;

//! The board.
#![no_std]
#![no_main]

//! Mastiff on the ROCK 5B: the board's list on the machine at hand.
#![no_std]
#![no_main]

use mastiff_arch::{Boot, Machine, ThisCpu};
use mastiff_main::Board;
use mastiff_rock_5b::{Drivers, NAME, POLICY};

static BOARD: Board = Board {
    name: NAME,
    drivers: Drivers::<Machine, ThisCpu>::LIST,
    policy: POLICY,
};

mastiff_arch::entry!(main);

fn main(boot: Boot) -> u8 {
    mastiff_main::run(&BOARD, boot)
}

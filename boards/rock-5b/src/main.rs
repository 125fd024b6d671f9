//! Mastiff on the ROCK 5B: the board's list on the machine at hand.
#![no_std]
#![no_main]

mastiff_main::start!(mastiff_rock_5b);

//! Mastiff on Arm's FVP Base RevC: the board's list on the machine at hand.
#![no_std]
#![no_main]

mastiff_main::start!(mastiff_fvp_base);

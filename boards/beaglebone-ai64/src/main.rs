//! Mastiff on the BeagleBone AI-64: the board's list on the machine at hand.
#![no_std]
#![no_main]

mastiff_main::start!(mastiff_beaglebone_ai64);

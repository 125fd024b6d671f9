//! Any bytes as a device tree: everything that it can be asked, asked.

#![no_main]

#[path = "../../tests/exercise/mod.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|blob: &[u8]| {
    exercise::exercise(blob);
});

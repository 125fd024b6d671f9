//! Any bytes as an overlay on the tree of QEMU's virt machine: an error of one line,
//! or a tree that answers everything.

#![no_main]

#[path = "../../tests/exercise/mod.rs"]
mod exercise;
#[path = "../../tests/machine/mod.rs"]
mod machine;

libfuzzer_sys::fuzz_target!(|blob: &[u8]| {
    let base = machine::qemu_virt().tree().expect("the machine's tree is sound");
    if let Ok(tree) = base.overlay(blob) {
        exercise::exercise_tree(&tree);
    }
});

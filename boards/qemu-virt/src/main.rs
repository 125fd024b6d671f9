//! Mastiff on QEMU's `virt` machine.
#![no_std]
#![no_main]

use mastiff_arch::Boot;

mastiff_arch::entry!(main);

fn main(boot: Boot) -> u8 {
    for word in boot.tree.bootargs().split_whitespace() {
        if let Some(name) = word.strip_prefix("selftest=") {
            mastiff_arch::selftest::run(name);
        }
    }
    log::info!("instructions: {:?}", mastiff_arch::insn_retired());
    0
}

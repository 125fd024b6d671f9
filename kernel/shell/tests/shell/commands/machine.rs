//! The machine itself.

use super::shows;
use crate::bench::*;

#[test]
fn what_is_switched_is_shown_with_its_users() {
    assert_eq!(
        shows("clocks"),
        "name  class  state  users  rate\npll   clock  off    0      24 MHz\n"
    );
    let clock = Bench::new().run("clocks --json").record("switch");
    assert_eq!(clock["supplier"], IOMMU);
    assert_eq!(
        shows("unbind iommu@1000000; clocks").lines().last(),
        Some("no clocks, and nothing else that is switched")
    );
}

#[test]
fn the_machine_is_told_of() {
    assert_eq!(shows("irqs"), "0 without a handler\n");
    assert_eq!(
        shows("mem"),
        "memory       size\nfree         1.5 GiB\nquarantined  0 B\n"
    );
    assert_eq!(
        shows("dmesg"),
        "[    0.000001] first\n[    0.000002] second\n"
    );
    assert_eq!(shows("uptime"), "1.000002 s after entry\n");
    let boot = "Mastiff 1.2.3 on bench, 1 CPU (3 parked), entered at EL2; 7 devices: 4 bound, 0 waiting, 0 failed\n";
    assert_eq!(shows("boot"), boot);
    assert_eq!(shows("sleep 10"), "");
    assert_eq!(shows("echo a  b"), "a b\n");
    assert_eq!(shows("echo"), "\n");

    let mut bench = Bench::new();
    bench.instructions = Some(1);
    let said = bench.run("dma verify disk@1; boot").shown;
    assert!(said.ends_with("first verified block 1.000002 s after entry, 1 instruction\n"));
}

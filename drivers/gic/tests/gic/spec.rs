//! The bit layouts, pinned by literal values: what the model and the driver could
//! otherwise get wrong together.

use mastiff_gic::spec::its::{Command, Typer, entry_size, table_type};
use mastiff_gic::spec::{distributor as gicd, its, redistributor as gicr, table};

#[test]
fn commands_as_ihi_0069_5_3_lays_them_out() {
    let itt = 0x4_5678_9a00;
    assert_eq!(
        Command::map_device(0x0310, itt, 6).0,
        [0x0000_0310_0000_0008, 5, 0x8000_0004_5678_9a00, 0]
    );
    assert_eq!(
        Command::unmap_device(0x0310).0,
        [0x0000_0310_0000_0008, 0, 0, 0]
    );
    assert_eq!(
        Command::map_collection(3, 0x080a_0000).0,
        [0x09, 0, 0x8000_0000_080a_0003, 0]
    );
    assert_eq!(
        Command::map_event(0x0310, 7, 8195, 3).0,
        [0x0000_0310_0000_000a, 0x0000_2003_0000_0007, 3, 0]
    );
    assert_eq!(Command::reload(1, 2).0, [0x0000_0001_0000_000c, 2, 0, 0]);
    assert_eq!(Command::discard(1, 2).0, [0x0000_0001_0000_000f, 2, 0, 0]);
    assert_eq!(Command::sync(0x5_0000).0, [0x05, 0, 0x5_0000, 0]);
    assert_eq!(Command::name(0x0000_0310_0000_000a), "MAPTI");
}

#[test]
fn what_qemus_virt_machine_says_of_itself() {
    // GITS_TYPER, GITS_BASER0 and GITS_BASER1 of QEMU 10.0.
    let typer = Typer(0x0000_001f_0001_efb1);
    assert!(typer.physical());
    assert!(!typer.by_address());
    assert_eq!(typer.itt_entry(), 12);
    assert_eq!(typer.event_bits(), 16);
    assert_eq!(typer.device_bits(), 16);
    let (devices, collections) = (0x0107_0000_0000_0200, 0x0407_0000_0000_0200);
    assert_eq!(table_type(devices), its::TYPE_DEVICES);
    assert_eq!(table_type(collections), its::TYPE_COLLECTIONS);
    assert_eq!((entry_size(devices), entry_size(collections)), (8, 8));
}

#[test]
fn distributor_sizes() {
    assert_eq!(gicd::lines(0x0000_0008), 288);
    assert_eq!(gicd::lines(0xffff_ffff), 1020);
    assert_eq!(gicd::id_bits(0x0078_0000), 16);
    assert_eq!(gicd::arch_rev(0x3b), 3);
}

#[test]
fn redistributor_identity() {
    assert_eq!(gicr::affinity(0x0102_0003_0000_0510), 0x0102_0003);
    assert_eq!(gicr::packed_affinity(0x01_8002_0003), 0x0102_0003);
    assert_eq!(gicr::processor_number(0x0102_0003_0000_0510), 5);
    assert_eq!(gicr::lpi_enabled(0xa0), 0xa3);
    assert_eq!(gicr::lpi_disabled(0xa0), 0xa2);
}

#[test]
fn memory_attributes() {
    // Write-back, inner shareable; and normal non-cacheable (IHI 0069 §12.19.1).
    assert_eq!(table::attributes(59, true), 0x3800_0000_0000_0400);
    assert_eq!(table::attributes(59, false), 0x0800_0000_0000_0000);
    assert_eq!(table::attributes(7, true), 0x0000_0000_0000_0780);
    assert_eq!(table::attributes(7, false), 0x0000_0000_0000_0080);
}

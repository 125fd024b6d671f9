//! Addresses that the device keeps for itself: nobody is given one, and doorbells among
//! them are written to as they are.

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::Permission;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::pci::MSI_FRAME;

use crate::bench::{Bench, EDU, STREAM};
use crate::model::Kind;

const OTHER: StreamId = StreamId(0x200);
const EDU_STREAM: u32 = 0x10;
/// Readable, writable, device registers.
const DOORBELL: u32 = 7;

#[test]
fn what_the_device_keeps_for_itself_is_not_mapped() {
    let bench = Bench::prepared(|model| {
        model.reserve(0x808_0000, 0x809_ffff, true);
        model.reserve(0x10_0000, 0x10_ffff, false);
    });
    let domain = bench.attached();
    let pa = bench.page();
    for iova in [0x808_0000, 0x809_f000, 0x10_f000] {
        let refused = domain.map(Iova(iova), pa, 0x1000, Permission::Read);
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains(&format!("IOVA {iova:#x} cannot be mapped")),
            "{text}"
        );
    }
    bench.map(&domain, 0x80a_0000);
    let entry = bench.iommu().describe(STREAM).unwrap();
    let fields = &entry.parts[0].fields;
    assert!(fields.contains(&("MSI first", 0x808_0000)), "{fields:?}");
    assert!(fields.contains(&("RESV last", 0x10_ffff)), "{fields:?}");
    // The other way round: mapped before the endpoint came.
    let other = bench.domain();
    bench.map(&other, 0x10_0000);
    assert!(other.attach(OTHER).is_err());
    assert_eq!(bench.read(OTHER, 0x10_0000), Err(BusError::Aborted));
    bench.check_all_served();
}

/// What is mapped for edu: first address and flags.
fn of_edu(bench: &Bench) -> Vec<(u64, u32)> {
    bench.tables(|tables| {
        let domain = &tables.domains[&tables.endpoints[&EDU_STREAM]];
        let all = domain.mappings.iter();
        all.map(|(&first, mapping)| (first, mapping.2)).collect()
    })
}

#[test]
fn a_master_is_given_what_is_left() {
    let half = 1 << 27;
    let bench = Bench::prepared(move |model| model.reserve(0, half - 1, false));
    assert_eq!(bench.fault_of(EDU), None);
    bench.edu().round_trip().unwrap();
    let mapped = of_edu(&bench);
    assert!(!mapped.is_empty() && mapped.iter().all(|(first, _)| *first >= half));
    assert!(mapped.iter().any(|(_, flags)| *flags == DOORBELL));
    assert_eq!(bench.count(Kind::Probe), 1, "asked once");
    bench.check_all_served();
}

#[test]
fn so_is_what_lies_below_its_first_input_address() {
    let first = 0x900_0000;
    let bench = Bench::prepared(move |model| model.input = (first, u64::MAX));
    bench.edu().round_trip().unwrap();
    let mapped = of_edu(&bench);
    assert!(!mapped.is_empty() && mapped.iter().all(|(at, _)| *at >= first));
    bench.check_all_served();
}

#[test]
fn a_master_with_nothing_left_says_so() {
    let bench = Bench::prepared(|model| model.reserve(0, (1 << 28) - 1, false));
    let fault = bench.edu().round_trip().unwrap_err();
    assert!(matches!(fault, Fault::OutOfIova { .. }), "{fault}");
    bench.check_all_served();
}

#[test]
fn a_doorbell_for_messages_needs_no_mapping() {
    for (first, direct) in [(MSI_FRAME, true), (MSI_FRAME + 0x1000, false)] {
        let mut bench = Bench::prepared(move |model| model.reserve(first, first + 0xfff, true));
        // By its interrupt it knows that a transfer is over.
        bench.edu().round_trip().unwrap();
        let is_mapped = |bench: &Bench| of_edu(bench).iter().any(|(_, flags)| *flags == DOORBELL);
        assert_eq!(is_mapped(&bench), !direct);
        bench.engine.suspend().unwrap();
        bench.engine.resume().unwrap();
        bench.edu().round_trip().unwrap();
        assert_eq!(is_mapped(&bench), !direct);
        bench.check_all_served();
    }
}

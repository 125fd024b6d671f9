//! Layouts against literal bytes and offsets, from the figures of virtio §2.7 and
//! §5.13.6.

use std::vec;
use std::vec::Vec;

use mastiff_core::error::Fault;
use mastiff_core::iommu::Reserved;
use proptest::prelude::*;

use super::event::Event;
use super::feature::Features;
use super::pci::{Place, Places};
use super::property::reserved;
use super::request::{MAP_MMIO, MAP_READ, MAP_WRITE, Request};
use super::ring::Layout;

fn encoded(request: Request) -> Vec<u8> {
    let (bytes, len) = request.encode();
    assert!(bytes[len..].iter().all(|&byte| byte == 0));
    bytes[..len].to_vec()
}

#[test]
fn requests_about_endpoints() {
    let attach = |bypass| Request::Attach {
        domain: 0x0102_0304,
        endpoint: 0x1122_3344,
        bypass,
    };
    let mut expected = vec![
        1, 0, 0, 0, 4, 3, 2, 1, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(encoded(attach(false)), expected);
    expected[12] = 1;
    assert_eq!(encoded(attach(true)), expected);
    let detach = Request::Detach {
        domain: 0x0102_0304,
        endpoint: 0x1122_3344,
    };
    expected[0] = 2;
    expected[12] = 0;
    assert_eq!(encoded(detach), expected);
    let probe = encoded(Request::Probe { endpoint: 0x0801 });
    assert_eq!(probe.len(), 72);
    assert_eq!(probe[..8], [5, 0, 0, 0, 1, 8, 0, 0]);
    assert!(probe[8..].iter().all(|&byte| byte == 0));
}

#[test]
fn requests_about_addresses() {
    let map = Request::Map {
        domain: 2,
        first: 0x1000,
        last: 0x1fff,
        pa: 0x4000_0000,
        flags: MAP_READ | MAP_WRITE | MAP_MMIO,
    };
    let expected = [
        [3, 0, 0, 0, 2, 0, 0, 0],
        [0, 0x10, 0, 0, 0, 0, 0, 0],
        [0xff, 0x1f, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0x40, 0, 0, 0, 0],
    ];
    let bytes = encoded(map);
    assert_eq!(bytes[..32], expected.concat());
    assert_eq!(bytes[32..], [7, 0, 0, 0]);
    let unmap = Request::Unmap {
        domain: 2,
        first: 0x1000,
        last: 0x1fff,
    };
    let bytes = encoded(unmap);
    assert_eq!(bytes[..8], [4, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(bytes[8..24], expected[1..3].concat());
    assert_eq!(bytes[24..], [0; 4]);
}

#[test]
fn statuses_have_names() {
    let request = Request::Probe { endpoint: 1 };
    assert_eq!(request.outcome(0), Ok(()));
    let names = [
        "IOERR", "UNSUPP", "DEVERR", "INVAL", "RANGE", "NOENT", "FAULT", "NOMEM",
    ];
    for (status, name) in (1..).zip(names) {
        let Err(Fault::Device { status, code, .. }) = request.outcome(status) else {
            panic!("status {status} is no error");
        };
        assert!(status.starts_with(name), "{code}: {status}");
    }
    let unknown = request.outcome(9);
    assert!(matches!(unknown, Err(Fault::Device { code: 9, .. })));
}

#[test]
fn events() {
    let mut bytes = [0; 24];
    bytes[0] = 2;
    bytes[4..8].copy_from_slice(&0x102u32.to_le_bytes());
    bytes[8..12].copy_from_slice(&0x10u32.to_le_bytes());
    bytes[16..].copy_from_slice(&0xabc_d000u64.to_le_bytes());
    let event = Event::decode(&bytes);
    assert_eq!((event.name(), event.endpoint), ("MAPPING", 0x10));
    assert_eq!(event.address(), Some(0xabc_d000));
    assert_eq!(
        (event.is_read(), event.is_write(), event.is_execute()),
        (false, true, false)
    );
    for (reason, flags, name) in [(0, 1, "UNKNOWN"), (1, 4, "DOMAIN"), (3, 0, "UNKNOWN")] {
        bytes[0] = reason;
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(flags));
        let event = Event::decode(&bytes);
        assert_eq!((event.name(), event.address()), (name, None));
        assert_eq!(event.is_read(), flags == 1);
        assert_eq!(event.is_execute(), flags == 4);
    }
}

fn memory(kind: u16, subtype: u8, first: u64, last: u64) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), 20u16.to_le_bytes()].concat();
    bytes.extend([subtype, 0, 0, 0]);
    bytes.extend(first.to_le_bytes());
    bytes.extend(last.to_le_bytes());
    bytes
}

#[test]
fn properties() {
    let mut bytes = memory(1, 1, 0x808_0000, 0x809_ffff);
    bytes.extend([7, 0, 2, 0, 0xaa, 0xbb]);
    bytes.extend(memory(0x1001, 0, 0x1000, 0x1fff));
    bytes.extend([0; 4]);
    bytes.extend(memory(1, 0, 1, 2));
    let doorbell = Reserved {
        first: 0x808_0000,
        last: 0x809_ffff,
        doorbell: true,
    };
    let other = Reserved {
        first: 0x1000,
        last: 0x1fff,
        doorbell: false,
    };
    assert_eq!(
        reserved(&bytes).collect::<Vec<_>>(),
        [doorbell, other],
        "an unknown one is passed over, the reserved bits of a type are ignored, \
         and an empty one ends the list"
    );
    let short = memory(1, 0, 1, 2);
    assert_eq!(reserved(&short[..23]).next(), None);
}

#[test]
fn queues() {
    // Queue of 8: 128 bytes of descriptors, 4 + 16 of available ring.
    let layout = Layout::new(8);
    assert_eq!((layout.available, layout.used), (128, 192));
    assert_eq!(layout.len, 192 + 4 + 64);
    for log in 0..=15 {
        let layout = Layout::new(1 << log);
        assert!(layout.used.is_multiple_of(4));
        assert!(layout.available + 4 + 2 * (1 << log) <= layout.used);
    }
}

fn structure(kind: u8, bar: u8, offset: u32, len: u32) -> [u32; 5] {
    let head = u32::from_le_bytes([9, 0, 16, kind]);
    [head, bar.into(), offset, len, 4]
}

fn structures() -> Vec<[u32; 5]> {
    vec![
        structure(1, 4, 0, 0x1000),
        structure(3, 4, 0x1000, 0x1000),
        structure(4, 4, 0x2000, 0x1000),
        structure(2, 4, 0x3000, 0x1000),
        structure(5, 0, 0, 0),
    ]
}

#[test]
fn structures_are_found() {
    let places = Places::find(structures().into_iter()).unwrap();
    let place = |offset| Place {
        bar: 4,
        offset,
        len: 0x1000,
    };
    assert_eq!(places.common, place(0));
    assert_eq!(places.isr, place(0x1000));
    assert_eq!(places.device, place(0x2000));
    assert_eq!((places.notify, places.multiplier), (place(0x3000), 4));
    // Of two the first counts, and one in a reserved BAR or of a reserved type does
    // not count at all.
    let mut more = vec![structure(1, 6, 0x40, 0x1000), structure(0, 1, 0, 4)];
    more.extend(structures());
    more.push(structure(1, 2, 0x100, 0x1000));
    more.push(structure(200, 2, 0x100, 0x1000));
    assert_eq!(Places::find(more.into_iter()), Ok(places));
}

#[test]
fn structures_that_cannot_be_used() {
    for missing in 0..4 {
        let mut list = structures();
        list.remove(missing);
        let found = Places::find(list.into_iter());
        assert!(matches!(found, Err(Fault::Unsupported { .. })), "{missing}");
    }
    for bad in [structure(1, 4, 2, 0x1000), structure(1, 4, 0, 55)] {
        let list = [bad].into_iter().chain(structures());
        assert!(matches!(Places::find(list), Err(Fault::Unsupported { .. })));
    }
}

#[test]
fn feature_bits() {
    assert_eq!(Features::INPUT_RANGE.0, 1 << 0);
    assert_eq!(Features::DOMAIN_RANGE.0, 1 << 1);
    assert_eq!(Features::MAP_UNMAP.0, 1 << 2);
    assert_eq!(Features::BYPASS.0, 1 << 3);
    assert_eq!(Features::PROBE.0, 1 << 4);
    assert_eq!(Features::MMIO.0, 1 << 5);
    assert_eq!(Features::BYPASS_CONFIG.0, 1 << 6);
    assert_eq!(Features::VERSION_1.0, 1 << 32);
    assert_eq!(Features::ACCESS_PLATFORM.0, 1 << 33);
    assert_eq!(Features::ORDER_PLATFORM.0, 1 << 36);
    assert!(!Features::WANTED.has(Features::BYPASS));
}

proptest! {
    #[test]
    fn any_bytes_are_properties_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let room = bytes.len() / 24;
        prop_assert!(reserved(&bytes).count() <= room);
    }

    #[test]
    fn any_words_are_structures_or_none(words in proptest::collection::vec(any::<[u32; 5]>(), 0..8)) {
        if let Ok(places) = Places::find(words.into_iter()) {
            prop_assert!(places.common.bar < 6 && places.common.len >= 56);
        }
    }
}

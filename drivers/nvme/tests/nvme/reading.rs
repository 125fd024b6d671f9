//! Reading, whatever the sizes, and with whatever the machine lacks.

use mastiff_core::error::Fault;
use mastiff_core::platform::Barrier;
use mastiff_testkit::inject::Step;
use mastiff_testkit::trace::Event;
use proptest::prelude::*;

use crate::bench::*;

#[test]
fn the_whole_disk_is_read_in_order() {
    let bench = bench(3 << 20);
    let mut engine = bench.boot();
    let disk = disk(&engine);
    assert_eq!((disk.block_size(), disk.blocks()), (512, 6144));
    let resting = bench.machine.iommu.counts().mappings;
    let (data, proof) = read(disk, 0, 6144).unwrap();
    assert!(data == contents(3 << 20));
    assert_eq!(proof.bytes, 3 << 20);
    assert_ne!(proof.iova.0, proof.pa.0, "it was translated");
    assert_eq!(bench.machine.iommu.counts().mappings, resting);
    assert_eq!(bench.machine.iommu.aborted(), []);
    let most_out = bench.device.lock().unwrap().most_out;
    assert_eq!(most_out, 8, "several at a time");
    engine.unbind(NAME).unwrap();
    bench.check_clean();
    assert_eq!(bench.device.lock().unwrap().shutdowns, 1);
}

#[test]
fn a_round_trip_notices_a_byte_that_the_device_did_not_write() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    let verify = || {
        let device = engine.device(NAME).unwrap();
        device.bound().unwrap().dma_test().unwrap().round_trip()
    };
    let proof = verify().unwrap();
    assert_eq!(proof.bytes, 512);
    assert_ne!(proof.iova.0, proof.pa.0, "it was translated");
    for byte in [0, 17, 511] {
        bench.change(|device| device.skipped_byte = Some(byte));
        let Err(Fault::Mismatch { offset, .. }) = verify() else {
            panic!("byte {byte} was not missed");
        };
        assert_eq!(offset, byte as u64);
    }
}

#[test]
fn completions_are_ordered_before_data_and_doorbell() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    bench.machine.sim.trace().start();
    read(disk(&engine), 0, 64).unwrap();
    let mut unordered = false;
    let (mut doorbells, mut data) = (0, 0);
    for event in bench.machine.sim.trace().stop() {
        match event {
            Event::Load { len: 4, .. } => unordered = true,
            Event::Barrier(Barrier::Full) => unordered = false,
            Event::Load { .. } => {
                data += 1;
                assert!(!unordered, "data may be read before its completion");
            }
            Event::Write { pa, .. } if pa & 0xfff == 0xc => {
                doorbells += 1;
                assert!(!unordered, "an entry is given back before it is read");
            }
            _ => {}
        }
    }
    assert!(doorbells > 0 && data > 0);
}

#[test]
fn one_block_costs_one_page() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    let before = bench.machine.sim.inject().taken(Step::Pages);
    let (data, _) = read(disk(&engine), 77, 1).unwrap();
    assert!(data == contents(1 << 20)[77 * 512..78 * 512]);
    assert_eq!(bench.machine.sim.inject().taken(Step::Pages), before + 1);
}

#[test]
fn what_is_not_on_the_disk_is_refused() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    for (first, count) in [(0, 0), (2048, 1), (2047, 2), (u64::MAX, 1), (1, u64::MAX)] {
        let result = read(disk(&engine), first, count);
        assert!(
            matches!(result, Err(Fault::Invalid { .. })),
            "{first} {count}"
        );
    }
    assert!(read(disk(&engine), 2047, 1).is_ok());
}

#[test]
fn a_sink_that_reads_does_not_hang() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    let disk = disk(&engine);
    let mut inner = None;
    disk.read(0, 1, &mut |_| inner = Some(disk.read(0, 1, &mut |_| {})))
        .unwrap();
    assert!(matches!(inner, Some(Err(Fault::Invalid { .. }))));
}

#[test]
fn blocks_of_four_kilobytes_and_small_transfers() {
    let bench = bench(1 << 20);
    bench.change(|nvme| {
        nvme.block_log = 12;
        nvme.mdts = 1;
    });
    let engine = bench.boot();
    assert_eq!(disk(&engine).block_size(), 4096);
    let (data, _) = read(disk(&engine), 1, 255).unwrap();
    assert!(data == contents(1 << 20)[4096..]);
    let reads = bench.device.lock().unwrap().reads;
    assert_eq!(reads, 128, "two blocks at a time");
}

#[test]
fn by_pin_without_coherency_and_without_iommu() {
    for (has_msi, coherent, has_iommu) in [
        (false, true, true),
        (true, false, true),
        (false, false, false),
    ] {
        let mut bench = bench(1 << 20);
        bench.machine.has_msi = has_msi;
        bench.machine.has_iommu = has_iommu;
        if !coherent {
            bench.machine.sim.memory().set_coherent(false);
            bench.machine.extra = |host| host.flag("dma-noncoherent");
        }
        let mut engine = bench.boot();
        let (data, _) = read(disk(&engine), 0, 2048).unwrap();
        assert!(
            data == contents(1 << 20),
            "{has_msi} {coherent} {has_iommu}"
        );
        engine.unbind(NAME).unwrap();
        bench.check_clean();
    }
}

#[test]
fn queues_as_small_as_they_come() {
    let bench = bench(1 << 20);
    bench.change(|nvme| nvme.capabilities = nvme.capabilities & !0xffff | 1 | 2 << 32);
    let engine = bench.boot();
    let (data, _) = read(disk(&engine), 0, 2048).unwrap();
    assert!(
        data == contents(1 << 20),
        "two entries, doorbells 16 bytes apart"
    );
    assert_eq!(bench.device.lock().unwrap().most_out, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_stretch_reads_as_it_is(first in 0u64..2047, count in 1u64..2048, mdts in 0u8..9) {
        let bench = bench(1 << 20);
        bench.change(|nvme| nvme.mdts = mdts);
        let engine = bench.boot();
        let count = count.min(2048 - first);
        let (data, _) = read(disk(&engine), first, count).unwrap();
        let range = first as usize * 512..(first + count) as usize * 512;
        prop_assert!(data == contents(1 << 20)[range]);
    }
}

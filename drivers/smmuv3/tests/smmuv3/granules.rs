//! Larger pages: of 16 and 64 KiB, at either stage.

use std::sync::{Arc, Mutex};

use mastiff_core::addr::{Iova, PAGE};
use mastiff_core::dma::{Dma, ToDevice};
use mastiff_core::driver::Match;
use mastiff_core::error::Fault;
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_core::policy::Policy;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::smmu::Features;

use crate::bench::{AddNodes, Bench, Wiring, map, map_at};

const ABORTED: Result<u8, BusError> = Err(BusError::Aborted);
const SIZES: [u64; 2] = [16 << 10, 64 << 10];

fn wanting(features: Features, granule: u64) -> Bench {
    let policy = Policy {
        granule: Some(granule),
        ..Policy::DEFAULT
    };
    let wiring = Wiring {
        policy,
        ..Wiring::of(&features)
    };
    Bench::wired(features, wiring, |_, _| {})
}

#[test]
fn pages_blocks_and_runs_of_each_size() {
    for size in SIZES {
        for features in [
            Features::virt(),
            Features::stage2_only(),
            Features {
                ranges: false,
                coherent: false,
                ..Features::virt()
            },
            Features {
                ranges: false,
                ..Features::stage2_only()
            },
            Features {
                output_bits: 40,
                ..Features::stage2_only()
            },
        ] {
            let bench = wanting(features, size);
            assert_eq!(bench.fault(), None);
            assert_eq!(bench.iommu().limits().page, size);
            let domain = bench.attached(8);
            let request = PageRequest::new(5 * size).align(size);
            let memory = bench.sim.alloc_pages(request).unwrap();
            for page in 0..5 {
                memory.fill((page * size) as usize, size as usize, page as u8);
            }
            memory.clean(0, memory.len());
            bench.sim.barrier(Barrier::Publish);
            let at = 7 * size;
            map(&domain, at, &memory);
            for page in 0..5 {
                assert_eq!(bench.read(8, at + page * size), Ok(page as u8));
                assert_eq!(bench.read(8, at + (page + 1) * size - 1), Ok(page as u8));
            }
            assert_eq!(bench.read(8, at - 1), ABORTED);
            assert_eq!(bench.read(8, at + 5 * size), ABORTED);
            domain.unmap(Iova(at), 5 * size).unwrap();
            for page in 0..5 {
                assert_eq!(bench.read(8, at + page * size), ABORTED);
            }
            // What is not made of such pages is refused.
            let small = map_at(&domain, at, memory.pa().0, PAGE);
            assert!(matches!(small, Err(Fault::BadRange { .. })), "{small:?}");
            drop(domain);
            bench
                .iommu()
                .block(mastiff_core::addr::StreamId(8))
                .unwrap();
        }
    }
}

#[test]
fn a_block_of_32_mib_goes_with_one_command() {
    for features in [Features::virt(), Features::stage2_only()] {
        let bench = wanting(features, 16 << 10);
        let domain = bench.attached(8);
        let block = 32 << 20;
        let request = PageRequest::new(block).align(block);
        let memory = bench.sim.alloc_pages(request).unwrap();
        map(&domain, block, &memory);
        bench.read(8, block + 0x12345).unwrap();
        let walk = domain.walk(Iova(block));
        assert!(walk.last().unwrap().meaning.starts_with("block"));
        let before = bench.consumed().0;
        domain.unmap(Iova(block), block).unwrap();
        assert_eq!(bench.consumed().0 - before, 2);
        assert_eq!(bench.read(8, block + 0x12345), ABORTED);
    }
}

#[test]
fn one_that_has_no_small_pages_is_used_with_large_ones() {
    let features = Features {
        granules: [false, false, true],
        ..Features::virt()
    };
    let bench = Bench::new(features);
    assert_eq!(bench.iommu().limits().page, 64 << 10);
    let words = bench.iommu().status().features.join(", ");
    assert!(words.contains("pages of 64 KiB"), "{words}");
}

#[test]
fn a_master_gets_whole_pages_and_reaches_nothing_beside_them() {
    let size = 64 << 10;
    type Held = Arc<Mutex<Option<Dma<Sim>>>>;
    let held = Held::default();
    let keep = held.clone();
    let take = Do::Call(Box::new(move |probe| {
        *keep.lock().unwrap() = Some(probe.dma()?);
        Ok(())
    }));
    let matches = [Match::compatible("test,master").master()];
    let master = FakeDriver::new("master", &matches, vec![take], &Diary::default());
    let features = Features::virt();
    let policy = Policy {
        granule: Some(size),
        ..Policy::DEFAULT
    };
    let wiring = Wiring {
        policy,
        ..Wiring::of(&features)
    };
    let bench = Bench::peopled(features, wiring, &[master], |_, _| -> AddNodes {
        Box::new(|tree| {
            tree.node("master@0", |n| {
                n.compatible(&["test,master"]).cells("iommus", &[2, 8])
            })
        })
    });
    let dma = held.lock().unwrap().take().expect("its probe was entered");
    let buffer = dma.alloc::<ToDevice>(1).unwrap();
    assert_eq!(
        buffer.len() as u64,
        size,
        "nobody else has a byte of its page"
    );
    assert!(buffer.iova().0.is_multiple_of(size) && buffer.pa().0.is_multiple_of(size));
    assert_eq!(bench.read(8, buffer.iova().0 + size - 1), Ok(0));
    assert_eq!(bench.read(8, buffer.iova().0 + size), ABORTED);
    let at = buffer.iova().0;
    drop(buffer);
    assert_eq!(bench.read(8, at), ABORTED);
    let mapping = dma.map::<ToDevice>(dma.pages(size + 1).unwrap());
    let mapping = mapping.map_err(|failure| failure.fault).unwrap();
    assert_eq!(mapping.len() as u64, 2 * size);
}

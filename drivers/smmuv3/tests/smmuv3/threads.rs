//! Several CPUs map and unmap at once: each waits for its own sync, through the
//! same small queue.

use mastiff_core::addr::{Iova, PAGE};
use mastiff_core::platform::{Pages, Platform};
use mastiff_testkit::bus::BusError;
use mastiff_testkit::smmu::Features;

use crate::bench::{Bench, map_at};

#[test]
fn unmappings_at_once_are_all_complete() {
    for features in [
        Features::virt(),
        Features {
            command_bits: 1,
            ..Features::small()
        },
    ] {
        let bench = Bench::new(features);
        let domain = bench.attached(8);
        let pages = bench.pages(4, 0x10);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (bench, domain, pages) = (&bench, &domain, &pages);
                scope.spawn(move || {
                    let pa = pages.pa().0 + thread * PAGE;
                    for round in 0..50 {
                        let iova = (thread * 64 + round) * PAGE;
                        map_at(domain, iova, pa, PAGE).unwrap();
                        bench.sim.barrier(mastiff_core::platform::Barrier::Publish);
                        assert_eq!(bench.read(8, iova), Ok(0x10 + thread as u8));
                        domain.unmap(Iova(iova), PAGE).unwrap();
                        assert_eq!(bench.read(8, iova), Err(BusError::Aborted));
                    }
                });
            }
        });
    }
}

//! What a device can reach: masks, the windows of its buses, and directions.

mod bench;

use bench::*;
use mastiff_core::addr::{Iova, PhysAddr};
use mastiff_core::dma::{Bidirectional, Dma, FromDevice, ToDevice};
use mastiff_core::driver::Driver;
use mastiff_core::error::{Dependency, Fault, ProbeError};
use mastiff_core::platform::{Barrier, Pages, Platform};
use mastiff_core::probe::Probe;
use mastiff_dt::SupplierClass;
use mastiff_dt::build::TreeBuilder;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::Do;
use mastiff_testkit::inject::Step;
use std::sync::{Arc, Mutex};

type Seen<T> = Arc<Mutex<Vec<T>>>;

/// A step that has the device's DMA for itself.
fn with_dma(action: impl Fn(&Dma<Sim>) -> Result<(), Fault> + Send + Sync + 'static) -> Do {
    Do::Call(Box::new(move |probe: &mut Probe<'_, Sim>| {
        let dma = probe.dma()?;
        action(&dma).map_err(ProbeError::Fail)
    }))
}

#[test]
fn a_mask_bounds_the_addresses_that_a_device_is_given() {
    for bits in [28, 32, 48, 64] {
        let bench = Bench::new();
        let tree = master(iommu(base()), "a@1", &[1, 5]);
        let script = vec![with_dma(move |dma| {
            dma.set_mask(bits)?;
            for _ in 0..100 {
                let buffer = dma.alloc::<Bidirectional>(8192)?;
                let last = buffer.iova().0 + buffer.len() as u64 - 1;
                assert!(buffer.iova().0 > 0);
                assert!(bits >= 48 || last < 1 << bits, "{last:#x} with {bits} bits");
                assert_ne!(buffer.iova().0, buffer.pa().0);
            }
            Ok(())
        })];
        let engine = bench.start(
            tree,
            &[bench.master_driver(script), bench.iommu_driver(vec![])],
        );
        assert_eq!(state(&engine, "/a@1"), "bound");
    }
}

#[test]
fn without_an_iommu_a_mask_below_all_memory_is_refused_by_name() {
    let bench = Bench::new();
    let engine = bench.start(
        master(base(), "a@1", &[]),
        &[bench.master_driver(vec![Do::Mask(28)])],
    );
    let expected = Fault::Unreachable {
        at: PhysAddr(0x4000_0000),
        limit: (1 << 28) - 1,
    };
    assert_eq!(why(&engine, "/a@1"), [format!("/a@1: {expected}")]);
}

#[test]
fn bus_windows_move_addresses_and_bound_them() {
    let bench = Bench::new();
    let seen: Seen<(Iova, PhysAddr)> = Seen::default();
    let script = {
        let seen = seen.clone();
        vec![with_dma(move |dma| {
            let buffer = dma.alloc::<ToDevice>(4096)?;
            seen.lock().unwrap().push((buffer.iova(), buffer.pa()));
            Ok(())
        })]
    };
    // Bus addresses 0..16 MiB are the first 16 MiB of RAM.
    let tree = base().node("bus@0", |n| {
        let n = n
            .compatible(&["simple-bus"])
            .u32("#address-cells", 2)
            .u32("#size-cells", 2)
            .flag("ranges")
            .cells("dma-ranges", &[0, 0, 0, 0x4000_0000, 0, 0x100_0000]);
        master(n, "a@1", &[])
    });
    let engine = bench.start(tree, &[bench.master_driver(script)]);
    assert_eq!(why(&engine, "/bus@0/a@1"), [""; 0]);
    let seen = seen.lock().unwrap();
    let (iova, pa) = seen[0];
    assert_eq!(pa.0 - iova.0, 0x4000_0000);
    assert!(iova.0 < 0x100_0000);
}

/// Probes a master that narrows its mask and defers so many times before it
/// allocates; gives the address that it is given in the end.
fn address_after(deferrals: u32, tree: TreeBuilder, path: &str) -> Iova {
    let bench = Bench::new();
    let given: Seen<Iova> = Seen::default();
    let seen = given.clone();
    let tries = Mutex::new(0);
    let script = vec![Do::Call(Box::new(move |probe: &mut Probe<'_, Sim>| {
        let dma = probe.dma()?;
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        if *tries > deferrals {
            let buffer = dma.alloc::<FromDevice>(4096)?;
            seen.lock().unwrap().push(buffer.iova());
            return Ok(());
        }
        dma.set_mask(32 - *tries)?;
        let node = probe.tree().find(IOMMU_PATH).unwrap().id();
        let class = SupplierClass::Iommu;
        Err(ProbeError::Defer(Dependency { node, class }))
    }))];
    let drivers: [&'static dyn Driver<Sim>; 2] =
        [bench.iommu_driver(vec![]), bench.master_driver(script)];
    let engine = bench.start(tree, &drivers);
    assert_eq!(why(&engine, path), [""; 0]);
    assert_eq!(device(&engine, path).probes, deferrals + 1);
    assert_eq!(bench.counts().domains, 1);
    let given = given.lock().unwrap();
    given[0]
}

#[test]
fn s19_deferrals_do_not_add_up() {
    let tree = || master(iommu(base()), "a@1", &[1, 5]);
    let first_time = address_after(0, tree(), "/a@1");
    assert!(
        first_time.0 > u64::from(u32::MAX),
        "no mask, so a high address"
    );
    assert_eq!(address_after(3, tree(), "/a@1"), first_time);
}

#[test]
fn s19_nor_do_windows_of_the_bus() {
    // Behind an IOMMU they bound the addresses, as a mask does.
    let tree = || {
        iommu(base()).node("bus@0", |n| {
            let n = n
                .compatible(&["simple-bus"])
                .u32("#address-cells", 2)
                .u32("#size-cells", 2)
                .flag("ranges")
                .cells("dma-ranges", &[0, 0, 0, 0, 0, 0x4000_0000]);
            master(n, "a@1", &[1, 5])
        })
    };
    let first_time = address_after(0, tree(), "/bus@0/a@1");
    assert!(first_time.0 < 0x4000_0000, "{first_time:?}");
    assert_eq!(address_after(3, tree(), "/bus@0/a@1"), first_time);
}

#[test]
fn s15_a_capability_ends_with_the_binding() {
    let bench = Bench::new();
    let kept: Arc<Mutex<Option<Dma<Sim>>>> = Arc::default();
    let script = {
        let kept = kept.clone();
        vec![Do::Call(Box::new(move |probe: &mut Probe<'_, Sim>| {
            *kept.lock().unwrap() = Some(probe.dma()?);
            Ok(())
        }))]
    };
    let mut engine = bench.start(
        master(iommu(base()), "a@1", &[1, 5]),
        &[bench.master_driver(script), bench.iommu_driver(vec![])],
    );
    engine.unbind("/a@1").unwrap();
    let dma = kept.lock().unwrap().take().unwrap();
    assert_eq!(dma.alloc::<ToDevice>(4096).err(), Some(Fault::Revoked));
    assert_eq!(bench.counts().mappings, 0);
}

#[test]
fn a_device_reads_and_writes_what_directions_allow_and_nothing_after_unmap() {
    let bench = Bench::new();
    let script = {
        let sim = bench.sim.clone();
        vec![with_dma(move |dma| {
            let out = dma.alloc::<ToDevice>(4096)?;
            out.write(0, b"to the device");
            let pages = dma.pages(4096)?;
            let inward = dma
                .map::<FromDevice>(pages)
                .map_err(|failure| failure.fault)?;
            let (from, to) = (out.iova(), inward.iova());
            sim.barrier(Barrier::Publish);
            let mut seen = [0; 13];
            sim.port().read(5, from.0, &mut seen).unwrap();
            assert_eq!(&seen, b"to the device");
            assert!(
                sim.port().write(5, from.0, b"!").is_err(),
                "read-only for it"
            );
            sim.port().write(5, to.0, b"back").unwrap();
            let pages = inward.unmap()?;
            let mut got = [0; 4];
            pages.read(0, &mut got);
            assert_eq!(&got, b"back");
            assert!(sim.port().write(5, to.0, b"late").is_err(), "unmapped");
            Ok(())
        })]
    };
    let engine = bench.start(
        master(iommu(base()), "a@1", &[1, 5]),
        &[bench.master_driver(script), bench.iommu_driver(vec![])],
    );
    assert_eq!(state(&engine, "/a@1"), "bound");
}

#[test]
fn a_list_is_side_by_side_and_gone_as_a_whole() {
    let bench = Bench::new();
    let script = {
        let sim = bench.sim.clone();
        vec![with_dma(move |dma| {
            let pages = (0..40).map(|_| dma.pages(4096));
            let mut pages = pages.collect::<Result<Vec<_>, _>>()?;
            pages.reverse();
            for (index, pages) in pages.iter().enumerate() {
                pages.write(0, &[index as u8]);
            }
            sim.barrier(Barrier::Publish);
            let list = dma.lend_list::<FromDevice>(pages);
            let list = list.map_err(|failure| failure.fault)?;
            let first = list.iova(0)?.0;
            for index in 0..40 {
                let at = list.iova(index)?.0;
                assert_eq!(at, first + 4096 * index as u64);
                let mut seen = [0];
                sim.port().read(5, at, &mut seen).unwrap();
                assert_eq!(seen, [index as u8]);
                sim.port().write(5, at, &[100 + index as u8]).unwrap();
            }
            assert!(list.iova(40).is_err());
            let pages = list.unmap()?;
            for (index, pages) in pages.iter().enumerate() {
                let mut got = [0];
                pages.read(0, &mut got);
                assert_eq!(got, [100 + index as u8]);
                let at = first + 4096 * index as u64;
                assert!(sim.port().write(5, at, b"!").is_err(), "unmapped");
            }
            // One that is longer is no list with the others, and none is no list.
            let mut uneven = vec![dma.pages(4096)?, dma.pages(8192)?];
            assert!(dma.lend_list::<FromDevice>(vec![]).is_err());
            let refused = dma.lend_list::<FromDevice>(uneven).err().unwrap();
            uneven = refused.pages;
            assert_eq!(uneven.len(), 2);
            Ok(())
        })]
    };
    let engine = bench.start(
        master(iommu(base()), "a@1", &[1, 5]),
        &[bench.master_driver(script), bench.iommu_driver(vec![])],
    );
    assert_eq!(state(&engine, "/a@1"), "bound");
}

#[test]
fn a_list_that_fails_half_way_leaves_nothing_mapped() {
    let bench = Bench::new();
    let iommu_of = bench.iommu.clone();
    let script = {
        let sim = bench.sim.clone();
        vec![with_dma(move |dma| {
            let counts = iommu_of.counts();
            let some = || -> Result<Vec<_>, Fault> { (0..5).map(|_| dma.pages(4096)).collect() };
            iommu_of.inject().fail(Step::Map, 3);
            let refused = dma.lend_list::<ToDevice>(some()?).err().unwrap();
            assert_eq!(refused.pages.len(), 5);
            assert_eq!(iommu_of.counts().mappings, counts.mappings);
            assert_eq!(sim.memory().quarantined(), 0);
            // And where that cannot be taken back nobody gets the pages.
            iommu_of.inject().fail(Step::Map, 3);
            iommu_of.inject().fail(Step::Unmap, 1);
            let refused = dma.lend_list::<ToDevice>(some()?).err().unwrap();
            assert_eq!(refused.pages.len(), 0);
            assert_eq!(sim.memory().quarantined(), 5);
            Ok(())
        })]
    };
    let engine = bench.start(
        master(iommu(base()), "a@1", &[1, 5]),
        &[bench.master_driver(script), bench.iommu_driver(vec![])],
    );
    assert_eq!(state(&engine, "/a@1"), "bound");
}

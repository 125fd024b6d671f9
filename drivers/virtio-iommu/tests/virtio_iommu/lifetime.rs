//! Unbound, bound, suspended, resumed.

use mastiff_core::addr::Iova;
use mastiff_core::engine::State;
use mastiff_testkit::bus::BusError;

use crate::bench::{Bench, EDU, HOST, NAME, STREAM};
use crate::model::{Kind, SimViommu};

#[test]
fn unbinding_takes_its_masters_along() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.engine.unbind(NAME).unwrap();
        assert!(matches!(bench.device(EDU).state, State::Waiting(_)));
        assert_eq!(bench.tables(|tables| tables.endpoints.len()), 0);
        bench.engine.bind(NAME).unwrap();
        assert!(matches!(bench.device(EDU).state, State::Bound));
        bench.edu().round_trip().unwrap();
    }
    bench.check_all_served();
    bench.engine.unbind(HOST).unwrap();
    bench.check_clean();
}

#[test]
fn a_master_comes_and_goes() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.engine.unbind(EDU).unwrap();
        assert!(bench.iommu().live_streams().is_empty());
        assert_eq!(bench.iommu().status().domains, 0);
        bench.engine.bind(EDU).unwrap();
        bench.edu().round_trip().unwrap();
    }
    bench.check_all_served();
}

#[test]
fn suspended_it_blocks_and_resumed_it_knows_everything() {
    for power in [false, true] {
        let mut bench = Bench::new();
        let domain = bench.attached();
        let pa = bench.map(&domain, 0x1000);
        let identity = bench.iommu().identity_domain().unwrap();
        let other = mastiff_core::addr::StreamId(0x300);
        identity.attach(other).unwrap();
        bench.engine.suspend().unwrap();
        if power {
            bench.change(SimViommu::lose_power);
        } else {
            assert_eq!(bench.read(STREAM, 0x1000), Err(BusError::Aborted));
        }
        // Meanwhile only what is kept changes.
        let served = bench.look(|model| model.served.len());
        bench.map(&domain, 0x2000);
        domain.unmap(Iova(0x1000), 0x1000).unwrap();
        assert_eq!(bench.look(|model| model.served.len()), served);

        bench.engine.resume().unwrap();
        assert!(!bench.tables(|tables| tables.bypass));
        assert_eq!(bench.read(STREAM, 0x1000), Err(BusError::Aborted));
        assert_eq!(bench.read(STREAM, 0x2000), Ok(()));
        assert_eq!(bench.read(other, pa.0), Ok(()));
        bench.edu().round_trip().unwrap();
        bench.check_all_served();
    }
}

#[test]
fn a_device_that_came_back_as_another_is_refused() {
    let changes: [fn(&mut SimViommu); 3] = [
        |model| model.offered &= !crate::model::BYPASS_CONFIG,
        |model| model.input = (0, 0xffff_ffff),
        |model| model.domains = (0, 1),
    ];
    for change in changes {
        let mut bench = Bench::new();
        bench.engine.suspend().unwrap();
        bench.change(|model| {
            model.lose_power();
            change(model);
        });
        let fault = bench.engine.resume().unwrap_err().to_string();
        assert!(fault.contains("other features or limits"), "{fault}");
        assert!(matches!(bench.device(NAME).state, State::Failed(_)));
    }
}

#[test]
fn a_suspended_machine_can_be_taken_down() {
    let mut bench = Bench::new();
    let domain = bench.attached();
    bench.map(&domain, 0x1000);
    bench.engine.suspend().unwrap();
    bench.iommu().block(STREAM).unwrap();
    drop(domain);
    bench.engine.resume().unwrap();
    assert_eq!(bench.count(Kind::Detach), 2, "before it was suspended");
    assert!(!bench.iommu().live_streams().contains(&STREAM));
    bench.check_all_served();
}

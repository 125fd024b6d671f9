//! Drivers that manage their IOMMU by themselves: nothing is mapped behind their
//! back, what they attach is theirs, and what ends with them ends.

mod bench;

use std::sync::{Arc, Mutex};

use bench::*;
use mastiff_core::addr::Iova;
use mastiff_core::driver::Driver;
use mastiff_core::engine::{DmaSetup, Engine};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::iommu::{Lower, Managed, Permission, Space};
use mastiff_core::platform::{Barrier, PageRequest, Pages, Platform};
use mastiff_core::probe::Probe;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_driver::{Do, FakeDriver};
use mastiff_testkit::inject::Step;

const AT: Iova = Iova(0x7000_0000);
const STREAM: u32 = 5;

type Kept<T> = Arc<Mutex<Option<T>>>;

/// A driver that keeps its streams for the test, after `script` has had them.
fn driver(
    bench: &Bench,
    kept: &Kept<Managed<Sim>>,
    script: impl Fn(&Sim, &Managed<Sim>) -> Result<(), Fault> + Send + Sync + 'static,
) -> &'static FakeDriver {
    let kept = kept.clone();
    let take = Do::Call(Box::new(move |probe: &mut Probe<'_, Sim>| {
        let managed = probe.managed()?;
        script(probe.platform(), &managed).map_err(ProbeError::Fail)?;
        *kept.lock().unwrap() = Some(managed);
        Ok(())
    }));
    FakeDriver::new("managed", &[MASTER.managed()], vec![take], &bench.diary)
}

/// A space with one page mapped at [`AT`] that holds `byte`.
fn space(sim: &Sim, managed: &Managed<Sim>, byte: u8) -> Result<Space<Sim>, Fault> {
    let space = managed.space()?;
    let pages = sim.alloc_pages(PageRequest::new(4096))?;
    pages.fill(0, 4096, byte);
    sim.barrier(Barrier::Publish);
    space.map(AT, pages, Permission::ReadWrite)?;
    Ok(space)
}

/// The same, nested.
fn nested_space(
    sim: &Sim,
    managed: &Managed<Sim>,
    lower: &Lower,
    byte: u8,
) -> Result<Space<Sim>, Fault> {
    let space = managed.nested_space(lower)?;
    let pages = sim.alloc_pages(PageRequest::new(4096))?;
    pages.fill(0, 4096, byte);
    sim.barrier(Barrier::Publish);
    space.map(AT, pages, Permission::ReadWrite)?;
    Ok(space)
}

fn read(bench: &Bench) -> Option<u8> {
    let mut byte = [0];
    let result = bench.sim.port().read(STREAM, AT.0, &mut byte);
    result.ok().map(|()| byte[0])
}

fn tree() -> mastiff_dt::build::TreeBuilder {
    master(iommu(base()), "a@1", &[1, STREAM])
}

fn start(bench: &Bench, drivers: &[&'static dyn Driver<Sim>]) -> Engine<Sim> {
    bench.start(tree(), drivers)
}

#[test]
fn s13_nothing_is_mapped_or_attached_before_the_driver_asks() {
    for late in [false, true] {
        let bench = Bench::new();
        let kept = Kept::default();
        let mut drivers: Vec<&'static dyn Driver<Sim>> = vec![
            bench.iommu_driver(vec![]),
            driver(&bench, &kept, |_, _| Ok(())),
        ];
        if late {
            drivers.reverse();
        }
        let mut engine = start(&bench, &drivers);
        assert_eq!(device(&engine, "/a@1").probes, 1);
        let counts = bench.counts();
        assert_eq!(
            (counts.domains_made, counts.attaches, counts.maps),
            (0, 0, 0)
        );
        assert_eq!(read(&bench), None);
        let setup = device(&engine, "/a@1").dma();
        assert!(matches!(setup, DmaSetup::Managed { attached: false }));

        // Its own attachment takes effect.
        let managed = kept.lock().unwrap().take().unwrap();
        let own = space(&bench.sim, &managed, 7).unwrap();
        assert_eq!(read(&bench), None, "mapped, but not attached");
        managed.attach(&own).unwrap();
        assert_eq!(read(&bench), Some(7));
        let setup = device(&engine, "/a@1").dma();
        assert!(matches!(setup, DmaSetup::Managed { attached: true }));
        assert!(!device(&engine, "/a@1").walk(AT).unwrap().is_empty());

        // And ends with the binding, whatever is kept of it.
        engine.unbind("/a@1").unwrap();
        assert_eq!(read(&bench), None);
        assert_eq!(managed.attach(&own), Err(Fault::Revoked));
        drop((managed, own));
        assert_eq!(bench.counts().domains, 0);
    }
}

#[test]
fn s13_a_probe_that_fails_after_attaching_leaves_nothing() {
    let bench = Bench::new();
    let kept = Kept::default();
    let before = bench.baseline();
    let fails = driver(&bench, &kept, |sim, managed| {
        let own = space(sim, managed, 7)?;
        managed.attach(&own)?;
        Err(Fault::Revoked)
    });
    let engine = start(&bench, &[bench.iommu_driver(vec![]), fails]);
    assert_eq!(state(&engine, "/a@1"), "failed");
    assert_eq!(bench.baseline(), before);
    assert_eq!(bench.counts().attaches, 1, "it was attached");
    assert_eq!(read(&bench), None);
}

#[test]
fn s14_switching_spaces_shows_one_or_the_other_and_never_memory() {
    let bench = Bench::new();
    let kept = Kept::default();
    let engine = start(
        &bench,
        &[
            bench.iommu_driver(vec![]),
            driver(&bench, &kept, |_, _| Ok(())),
        ],
    );
    let managed = kept.lock().unwrap().take().unwrap();
    let spaces: Vec<Space<Sim>> = (1..=2)
        .map(|byte| space(&bench.sim, &managed, byte).unwrap())
        .collect();
    for turn in 0..100 {
        let expected = turn % 2;
        managed.attach(&spaces[expected]).unwrap();
        assert_eq!(read(&bench), Some(expected as u8 + 1));
    }
    // Replaced, never taken off and put on again.
    assert_eq!(bench.counts().blocks, 0);
    managed.detach();
    assert_eq!(read(&bench), None);
    drop(engine);
}

#[test]
fn spaces_nested_in_one_have_their_memory_in_it_and_are_apart() {
    let bench = Bench::new();
    let kept = Kept::default();
    let drivers: [&'static dyn Driver<Sim>; 2] = [
        bench.iommu_driver(vec![]),
        driver(&bench, &kept, |_, _| Ok(())),
    ];
    let engine = start(&bench, &drivers);
    let managed = kept.lock().unwrap().take().unwrap();
    let frames = bench.sim.memory().live();
    let lower = managed.lower().unwrap();
    let nested = |byte| nested_space(&bench.sim, &managed, &lower, byte).unwrap();
    let spaces = [nested(1), nested(2)];
    // The same address in both, and so at two addresses of what they are nested in.
    assert_eq!(bench.counts().mappings, 4);
    let plain = space(&bench.sim, &managed, 3).unwrap();
    for (space, byte) in [
        (&spaces[1], 2),
        (&plain, 3),
        (&spaces[0], 1),
        (&spaces[1], 2),
    ] {
        managed.attach(space).unwrap();
        assert_eq!(read(&bench), Some(byte));
    }
    assert_eq!(bench.counts().blocks, 0);
    drop(spaces[1].unmap(AT).unwrap());
    assert_eq!(read(&bench), None);
    assert_eq!(bench.counts().mappings, 3);
    managed.detach();
    // What is nested keeps what it is nested in.
    drop(lower);
    managed.attach(&spaces[0]).unwrap();
    assert_eq!(read(&bench), Some(1));
    managed.detach();
    drop((spaces, plain));
    let counts = bench.counts();
    assert_eq!((counts.domains, counts.mappings), (0, 0));
    assert_eq!(bench.sim.memory().live(), frames);
    drop(engine);
}

#[test]
fn pages_whose_nested_mapping_cannot_be_undone_are_parked() {
    let bench = Bench::new();
    let kept = Kept::default();
    let drivers: [&'static dyn Driver<Sim>; 2] = [
        bench.iommu_driver(vec![]),
        driver(&bench, &kept, |_, _| Ok(())),
    ];
    let engine = start(&bench, &drivers);
    let managed = kept.lock().unwrap().take().unwrap();
    let lower = managed.lower().unwrap();
    // The space's own unmapping fails, or the one below.
    for n in 0..2 {
        let space = nested_space(&bench.sim, &managed, &lower, 1).unwrap();
        bench.iommu.inject().fail(Step::Unmap, n);
        assert!(space.unmap(AT).is_err());
        assert_eq!(bench.sim.memory().quarantined(), 1 + n as usize);
    }
    // The mapping above fails, and then taking back the one below.
    let space = managed.nested_space(&lower).unwrap();
    for (undone, parked) in [(true, 2), (false, 3)] {
        bench.iommu.inject().fail(Step::Map, 1);
        if !undone {
            bench.iommu.inject().fail(Step::Unmap, 0);
        }
        let pages = bench.sim.alloc_pages(PageRequest::new(4096)).unwrap();
        assert!(space.map(AT, pages, Permission::Read).is_err());
        assert_eq!(bench.sim.memory().quarantined(), parked);
    }
    drop(engine);
}

#[test]
fn a_space_that_cannot_be_left_stays_for_as_long() {
    let bench = Bench::new();
    let kept = Kept::default();
    let drivers: [&'static dyn Driver<Sim>; 2] = [
        bench.iommu_driver(vec![]),
        driver(&bench, &kept, |_, _| Ok(())),
    ];
    let engine = start(&bench, &drivers);
    let managed = kept.lock().unwrap().take().unwrap();
    let frames = bench.sim.memory().live();
    let space = space(&bench.sim, &managed, 1).unwrap();
    managed.attach(&space).unwrap();
    bench.iommu.inject().fail(Step::Block, 0);
    managed.detach();
    drop(space);
    // The tables stay, and nothing is in them any more.
    let counts = bench.counts();
    assert_eq!(
        (counts.domains, counts.attached, counts.mappings),
        (1, 1, 0)
    );
    assert_eq!(bench.sim.memory().live(), frames);
    managed.detach();
    assert_eq!(bench.counts().domains, 0);
    drop(engine);
}

#[test]
fn s12_what_a_driver_attached_is_no_concern_of_set_up_and_teardown_of_others() {
    let bench = Bench::new();
    let kept = Kept::default();
    let tree = tree().node("b@2", |n| {
        n.compatible(&["test,core"]).cells("iommus", &[1, 6])
    });
    let core = FakeDriver::new(
        "core",
        &[mastiff_core::driver::Match::compatible("test,core").master()],
        vec![Do::Alloc(4096)],
        &bench.diary,
    );
    let drivers: [&'static dyn Driver<Sim>; 3] = [
        bench.iommu_driver(vec![]),
        driver(&bench, &kept, |_, _| Ok(())),
        core,
    ];
    let mut engine = bench.start(tree, &drivers);
    let managed = kept.lock().unwrap().take().unwrap();
    let own = space(&bench.sim, &managed, 7).unwrap();
    managed.attach(&own).unwrap();
    for _ in 0..3 {
        engine.unbind("/b@2").unwrap();
        assert_eq!(read(&bench), Some(7));
        engine.bind("/b@2").unwrap();
        assert_eq!(read(&bench), Some(7));
    }
}

#[test]
fn a_stream_that_a_driver_has_for_itself_is_nobody_elses() {
    let bench = Bench::new();
    let kept = Kept::default();
    let both = || {
        tree().node("b@2", |n| {
            n.compatible(&["test,core"]).cells("iommus", &[1, STREAM])
        })
    };
    let core = FakeDriver::new(
        "core",
        &[mastiff_core::driver::Match::compatible("test,core").master()],
        vec![],
        &bench.diary,
    );
    let managed = driver(&bench, &kept, |_, _| Ok(()));
    // Whoever comes first has it; the other is told who.
    for order in [false, true] {
        let mut drivers: Vec<&'static dyn Driver<Sim>> =
            vec![bench.iommu_driver(vec![]), managed, core];
        if order {
            drivers.swap(1, 2);
        }
        let engine = bench.start(both(), &drivers);
        let (winner, loser) = if order {
            ("/b@2", "/a@1")
        } else {
            ("/a@1", "/b@2")
        };
        assert_eq!(state(&engine, winner), "bound");
        let chain = why(&engine, loser);
        assert!(
            chain[0].contains(winner) && chain[0].contains("0x5"),
            "{chain:?}"
        );
    }
}

#[test]
fn a_master_that_must_manage_an_iommu_and_is_behind_none_fails() {
    let bench = Bench::new();
    let kept = Kept::default();
    let engine = bench.start(
        master(base(), "a@1", &[]),
        &[driver(&bench, &kept, |_, _| Ok(()))],
    );
    assert_eq!(state(&engine, "/a@1"), "failed");
}

#[test]
fn every_failing_step_of_a_driver_that_manages_its_iommu_leaves_nothing() {
    for step in [Step::Pages, Step::Domain, Step::Attach, Step::Map] {
        for n in 0.. {
            let bench = Bench::new();
            let kept = Kept::default();
            let before = bench.baseline();
            bench.sim.inject().fail(step, n);
            bench.iommu.inject().fail(step, n);
            let script = driver(&bench, &kept, |sim, managed| {
                let first = space(sim, managed, 1)?;
                managed.attach(&first)?;
                let second = space(sim, managed, 2)?;
                managed.attach(&second)?;
                let third = nested_space(sim, managed, &managed.lower()?, 3)?;
                managed.attach(&third)
            });
            let engine = start(&bench, &[bench.iommu_driver(vec![]), script]);
            if bench.sim.inject().is_armed(step) && bench.iommu.inject().is_armed(step) {
                assert_eq!(state(&engine, "/a@1"), "bound");
                assert!(n > 0);
                break;
            }
            assert_eq!(state(&engine, "/a@1"), "failed", "{step:?} {n}");
            assert_eq!(bench.baseline(), before, "{step:?} {n}");
        }
    }
}

//! An IOMMU whose clock and power hang on a GPIO controller that hangs on another
//! clock: the chain is on before its end is probed, and off in reverse.

mod absent;
mod bench;
mod cycle;

use bench::*;
use mastiff_core::engine::Engine;
use mastiff_core::error::Fault;
use mastiff_core::probe::Service;
use mastiff_testkit::Sim;
use mastiff_testkit::inject::Step;

/// Edges of the supplier graph.
fn edges(engine: &Engine<Sim>) -> u32 {
    let nodes = engine.devices().filter_map(|device| device.node);
    let tree = &engine.context().tree;
    nodes.map(|id| tree.node(id).suppliers().len() as u32).sum()
}

#[test]
fn s05_the_chain_resolves_in_every_order() {
    type Add = fn(mastiff_dt::build::TreeBuilder) -> mastiff_dt::build::TreeBuilder;
    let mut nodes: [Add; 6] = [
        apb,
        |tree| gpio(tree, TO_APB),
        |tree| gate(tree, |n| n),
        domain,
        iommu,
        master,
    ];
    for _ in 0..2 {
        nodes.reverse();
        for drivers in permutations(&Bench::new().drivers()) {
            // Their diary is another's, and nobody reads it.
            let bench = Bench::new();
            let fakes = bench.drivers();
            let same = |driver: &&'static dyn mastiff_core::driver::Driver<Sim>| {
                let known = fakes.iter().find(|known| known.name() == driver.name());
                *known.expect("one of each")
            };
            let drivers = drivers.iter().map(same).collect();
            let tree = nodes.iter().fold(base(), |tree, add| add(tree));
            let engine = bench.start(tree, &drivers);
            for name in ALL {
                assert_eq!(state(&engine, name), "bound");
                assert_eq!(device(&engine, name).probes, 1, "{name}");
            }
            let attempts: u32 = engine.devices().map(|device| device.attempts).sum();
            assert!(attempts <= ALL.len() as u32 + edges(&engine), "{attempts}");
            let story = bench.diary.take();
            let on = &story[story.len() - 4..];
            // Power before the clock, and both before the IOMMU is touched.
            assert_eq!(
                on,
                [
                    "line 1 high",
                    "line 0 high",
                    "/iommu: probe",
                    "/master: probe"
                ]
            );
        }
    }
}

#[test]
fn each_waits_on_exactly_what_is_missing() {
    let bench = Bench::new();
    let drivers = bench.drivers().into_iter().rev().collect();
    let engine = bench.start(tree(), &drivers);
    let waited = |name: &str| -> Vec<String> {
        let tree = &engine.context().tree;
        let waited = device(&engine, name).waited.iter();
        let path = |on: &mastiff_core::engine::Waited| tree.node(on.dependency.node).path();
        waited
            .map(|on| format!("{} by {}", path(on), on.property))
            .collect()
    };
    assert_eq!(waited(MASTER), ["/iommu by iommus"]);
    assert_eq!(waited(IOMMU)[0], "/gate by clocks");
    assert_eq!(waited(DOMAIN), [format!("{GPIO} by enable-gpios")]);
    assert_eq!(waited(GPIO), ["/apb by clocks"]);
    assert_eq!(
        device(&engine, IOMMU).held().collect::<Vec<_>>(),
        [DOMAIN, GATE]
    );
}

#[test]
fn unbinding_a_consumer_switches_off_in_reverse_and_binding_it_on_again() {
    let bench = Bench::new();
    let mut engine = bench.chain();
    let bound = bench.baseline();
    for _ in 0..100 {
        engine.unbind(IOMMU).unwrap();
        let off = [
            "/master: quiesce",
            "/master: drop",
            "/iommu: quiesce",
            "/iommu: drop",
            "line 0 low",
            "line 1 low",
        ];
        assert_eq!(bench.diary.take(), off);
        engine.bind(IOMMU).unwrap();
        let on = [
            "line 1 high",
            "line 0 high",
            "/iommu: probe",
            "/master: probe",
        ];
        assert_eq!(bench.diary.take(), on);
        assert_eq!(bench.baseline(), bound);
    }
}

#[test]
fn unbinding_a_supplier_at_the_root_takes_the_chain_down_from_its_end() {
    let bench = Bench::new();
    let before = bench.baseline();
    let mut engine = bench.chain();
    engine.unbind(APB).unwrap();
    let story = bench.diary.take();
    assert_eq!(story[..2], ["/master: quiesce", "/master: drop"]);
    assert_eq!(story[2..4], ["/iommu: quiesce", "/iommu: drop"]);
    assert_eq!(story[4..6], ["line 0 low", "line 1 low"]);
    assert_eq!(bench.baseline(), before, "the lines are inputs again");
    for name in [GPIO, GATE, DOMAIN, IOMMU, MASTER] {
        assert_eq!(state(&engine, name), "waiting", "{name}");
    }
    engine.bind(APB).unwrap();
    for name in ALL {
        assert_eq!(state(&engine, name), "bound", "{name}");
    }
    assert_eq!(bench.high(), ON);
}

#[test]
fn suspend_switches_off_in_reverse_and_resume_on_in_order() {
    let bench = Bench::new();
    let mut engine = bench.chain();
    engine.suspend().unwrap();
    let off = [
        "/master: quiesce",
        "/iommu: quiesce",
        "line 0 low",
        "line 1 low",
    ];
    assert_eq!(bench.diary.take(), off);
    assert_eq!(device(&engine, IOMMU).held().count(), 0);
    bench.gpio.lock().unwrap().lose_state();
    bench.diary.take();
    engine.resume().unwrap();
    let on = ["line 0 low", "line 1 low", "line 1 high", "line 0 high"];
    assert_eq!(bench.diary.take(), on);
    assert_eq!(state(&engine, MASTER), "bound");
    assert_eq!(device(&engine, MASTER).probes, 1);
}

#[test]
fn a_switch_that_does_not_come_back_costs_its_users_and_no_other() {
    let bench = Bench::new();
    let mut engine = bench.chain();
    engine.suspend().unwrap();
    bench.gpio.lock().unwrap().shorted = 1;
    engine.resume().unwrap_err();
    assert_eq!(state(&engine, IOMMU), "failed");
    assert_eq!(state(&engine, MASTER), "failed");
    for name in [APB, GPIO, GATE, DOMAIN] {
        assert_eq!(state(&engine, name), "bound", "{name}");
    }
    assert_eq!(bench.high(), 0, "what was on for it goes off");
    bench.gpio.lock().unwrap().shorted = 0;
    engine.rescan().unwrap();
    assert_eq!(state(&engine, MASTER), "bound");
}

#[test]
fn what_two_need_is_on_until_neither_does() {
    let bench = Bench::new();
    let tree = tree().node("other", |n| {
        n.compatible(&["test,iommu"])
            .phandle(9)
            .u32("#iommu-cells", 1)
            .cells("clocks", &[TO_GATE])
    });
    let mut engine = bench.start(tree, &bench.drivers());
    let users = |engine: &Engine<Sim>| {
        let services = engine.context().services();
        let mut users = services.iter().filter_map(|(_, service)| match service {
            Service::Switches(_, switches) => switches.all().pop(),
            _ => None,
        });
        let gate = users.find(|switch| switch.name() == GATE).unwrap();
        (gate.users(), gate.rate())
    };
    let rate = Some(24_000_000);
    assert_eq!(users(&engine), (2, rate));
    assert_eq!(bench.high(), ON);
    engine.unbind(IOMMU).unwrap();
    assert_eq!(users(&engine), (1, rate));
    assert_eq!(bench.high(), 0b01, "the clock is the other's too");
    engine.unbind("/other").unwrap();
    assert_eq!(users(&engine), (0, rate));
    assert_eq!(bench.high(), 0);
}

#[test]
fn a_line_that_does_not_follow_is_a_fault_and_nothing_stays_on() {
    let bench = Bench::new();
    bench.gpio.lock().unwrap().shorted = 0b01;
    let engine = bench.start(tree(), &bench.drivers());
    let fault = Fault::Register {
        name: "level of the GPIO line",
        expected: 1,
        seen: 0,
    };
    assert_eq!(
        device(&engine, IOMMU).state,
        mastiff_core::engine::State::Failed(fault.clone())
    );
    assert_eq!(
        device(&engine, IOMMU).probes,
        0,
        "never entered without its clock"
    );
    assert!(why(&engine, MASTER).ends_with(&format!("{IOMMU}: {fault}")));
    assert_eq!(bench.high(), 0);
    // Power, on before the clock was tried, went off again.
    let story = bench.diary.take();
    assert_eq!(story.last().unwrap(), "line 1 low", "{story:?}");
}

#[test]
fn every_step_that_fails_leaves_nothing_on() {
    for step in [
        Step::Mmio,
        Step::Read,
        Step::Pages,
        Step::Domain,
        Step::Attach,
        Step::Map,
    ] {
        for n in 0.. {
            let bench = Bench::new();
            let before = bench.baseline();
            bench.sim.inject().fail(step, n);
            bench.iommu.inject().fail(step, n);
            let engine = bench.start(tree(), &bench.drivers());
            if bench.sim.inject().is_armed(step) && bench.iommu.inject().is_armed(step) {
                assert!(n > 0, "{step:?} never happens");
                break;
            }
            // A register that reads wrong once may be one that nobody relies on.
            let failed = state(&engine, MASTER) == "failed";
            assert!(failed || step == Step::Read, "{step:?} {n}");
            if state(&engine, IOMMU) == "failed" {
                assert_eq!(bench.high() & ON, 0, "{step:?} {n}");
            }
            drop(engine);
            assert_eq!(bench.baseline(), before, "{step:?} {n}");
        }
    }
}

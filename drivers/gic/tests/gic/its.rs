//! LPIs and the ITS.

use mastiff_core::error::Fault;
use mastiff_core::irq::{FIRST_LPI, LPIS};
use mastiff_dt::build::TreeBuilder;

use crate::bench::{Bench, ITS, fault};
use crate::its_model::Its;

const FIRST: &str = "/bus/01:00.0";
const SECOND: &str = "/bus/03:02.0";
/// Their DeviceIDs.
const FIRST_ID: u32 = 0x0100;
const SECOND_ID: u32 = 0x0310;
const DOORBELL: u64 = ITS + 0x1_0040;

fn its(bench: &Bench) -> std::sync::MutexGuard<'_, Its> {
    bench.its.as_ref().unwrap().lock().unwrap()
}

/// Both functions are bound by message and their messages arrive, each at its own.
fn assert_works(bench: &Bench) {
    let [first, second] = bench
        .functions
        .each_ref()
        .map(|function| function.message());
    // Events are the device's own, so both are the first.
    assert_eq!((first, second), (Some((DOORBELL, 0)), Some((DOORBELL, 0))));
    bench.diary.take();
    for (id, name) in [(FIRST_ID, FIRST), (SECOND_ID, SECOND)] {
        its(bench).message(id, 0);
        assert_eq!(bench.interrupt(), [format!("{name}: interrupt")]);
    }
    its(bench).message(FIRST_ID, 1);
    its(bench).message(FIRST_ID + 1, 0);
    assert_eq!(bench.interrupt(), [""; 0], "events that nobody mapped");
}

#[test]
fn messages_arrive_at_their_functions() {
    let bench = Bench::v3();
    let engine = bench.start(bench.v3_tree());
    assert_works(&bench);
    drop(engine);
    bench.assert_clean();
    assert_eq!(bench.sim.memory().quarantined(), 0);
}

#[test]
fn redistributors_go_by_number_or_by_address() {
    let bench = Bench::v3();
    its(&bench).targets[0].0 = 0x080c_0000;
    its(&bench).by_address = true;
    let _engine = bench.start(bench.v3_tree());
    assert_works(&bench);
}

#[test]
fn every_shape_of_tables_works() {
    for two_levels in [true, false] {
        for page_size in [None, Some(0), Some(1), Some(2)] {
            let bench = Bench::v3();
            its(&bench).two_levels = two_levels;
            its(&bench).page_size = page_size;
            // 4,096 DeviceIDs of 8 bytes need 8 pages of 4 KiB, or one of 64 KiB.
            its(&bench).device_bits = 12;
            let engine = bench.start(bench.v3_tree());
            assert_works(&bench);
            drop(engine);
            bench.assert_clean();
        }
    }
}

#[test]
fn tables_are_as_large_as_what_is_used() {
    let bench = Bench::v3();
    let before = bench.sim.memory().live();
    let engine = bench.start(bench.v3_tree());
    // LPIs: 2 + 1; queue, collections, first level: 3; for each of two devices, on
    // two buses, a second level and a translation table.
    assert_eq!(bench.sim.memory().live() - before, 3 + 3 + 2 * 2);
    drop(engine);
}

#[test]
fn hardware_that_does_not_snoop_is_served_by_cleaning() {
    // Said by the registers; where they would lie by the tree, or known of the machine.
    for (registers_lie, flag, machine) in [
        (false, false, "test,machine"),
        (true, true, "test,machine"),
        (true, false, "rockchip,rk3588"),
    ] {
        let mut bench = Bench::v3();
        bench.machine = machine;
        bench.sim.memory().set_coherent(false);
        its(&bench).snoops = registers_lie;
        bench.redistributor.as_ref().unwrap().lock().unwrap().snoops = registers_lie;
        let said = |node: TreeBuilder| {
            if flag {
                node.flag("dma-noncoherent")
            } else {
                node
            }
        };
        let tree = bench.v3_tree_with(said, said);
        let engine = bench.start(tree);
        assert_works(&bench);
        drop(engine);
        bench.assert_clean();
    }
}

#[test]
fn what_is_released_is_silent_and_can_be_had_again() {
    let bench = Bench::v3();
    let mut engine = bench.start(bench.v3_tree());
    its(&bench).done.clear();
    let pages = bench.sim.memory().live();
    engine.unbind(FIRST).unwrap();
    assert_eq!(its(&bench).done, ["INV", "DISCARD", "SYNC", "MAPD", "SYNC"]);
    assert_eq!(
        bench.sim.memory().live(),
        pages - 1,
        "its translation table"
    );
    bench.diary.take();
    its(&bench).message(FIRST_ID, 0);
    assert_eq!(bench.interrupt(), [""; 0]);
    for _ in 0..LPIS {
        engine.bind(FIRST).unwrap();
        engine.unbind(FIRST).unwrap();
    }
    engine.bind(FIRST).unwrap();
    assert_works(&bench);
}

#[test]
fn functions_that_look_alike_share_a_table_and_no_events() {
    let mut bench = Bench::v3();
    bench.mask = 0;
    let mut engine = bench.start(bench.v3_tree());
    let messages = bench
        .functions
        .each_ref()
        .map(|function| function.message());
    assert_eq!(messages, [Some((DOORBELL, 0)), Some((DOORBELL, 1))]);
    let maps = its(&bench)
        .done
        .iter()
        .filter(|name| **name == "MAPD")
        .count();
    assert_eq!(maps, 1);
    bench.diary.take();
    its(&bench).message(0, 1);
    assert_eq!(bench.interrupt(), [format!("{SECOND}: interrupt")]);
    its(&bench).done.clear();
    engine.unbind(FIRST).unwrap();
    assert_eq!(its(&bench).done, ["INV", "DISCARD", "SYNC"]);
    bench.diary.take();
    for event in [0, 1] {
        its(&bench).message(0, event);
    }
    assert_eq!(bench.interrupt(), [format!("{SECOND}: interrupt")]);
    drop(engine);
    bench.assert_clean();
}

#[test]
fn a_pending_message_dies_with_its_release() {
    let bench = Bench::v3();
    let mut engine = bench.start(bench.v3_tree());
    its(&bench).message(FIRST_ID, 0);
    bench.sim.advance_us(1);
    assert!(bench.model.state().lpis.contains(&FIRST_LPI));
    engine.unbind(FIRST).unwrap();
    assert!(bench.model.state().lpis.is_empty());
}

#[test]
fn messages_arrive_after_a_suspend() {
    for power_lost in [false, true] {
        let bench = Bench::v3();
        let mut engine = bench.start(bench.v3_tree());
        engine.suspend().unwrap();
        assert_eq!(its(&bench).ctlr, 0);
        if power_lost {
            its(&bench).lose_power();
            bench.model.lose_power();
            let mut redistributor = bench.redistributor.as_ref().unwrap().lock().unwrap();
            // It has written what was pending to its table.
            let table = redistributor.pendbaser & 0x0000_ffff_ffff_0000;
            bench.sim.memory().device_write(table + 1024, &[1]);
            (redistributor.propbaser, redistributor.pendbaser) = (0, 0);
        }
        engine.resume().unwrap();
        assert_works(&bench);
        drop(engine);
        bench.assert_clean();
    }
}

#[test]
fn an_its_that_cannot_be_stopped_stops_no_other() {
    const OTHER: u64 = 0x0806_0000;
    let bench = Bench::v3();
    let redistributor = bench.redistributor.clone().unwrap();
    let models = [bench.model.clone(), bench.other.clone()];
    let other = Its::new(models, redistributor);
    let other = bench.sim.add_device(OTHER, 0x2_0000, other);
    let tree = bench.v3_tree_with(
        |gic| {
            gic.node("its@8060000", |n| {
                n.compatible(&["arm,gic-v3-its"]).reg(&[(OTHER, 0x2_0000)])
            })
        },
        |its| its,
    );
    let mut engine = bench.start(tree);
    other.lock().unwrap().restless = true;
    engine.suspend().unwrap_err();
    assert_works(&bench);
    other.lock().unwrap().restless = false;
    engine.suspend().unwrap();
    engine.resume().unwrap();
    assert_works(&bench);
    assert_eq!(other.lock().unwrap().ctlr, 1);
}

#[test]
fn a_stalled_command_is_named_and_skipped() {
    for (number, name) in [(0x08, "MAPD"), (0x0a, "MAPTI"), (0x0c, "INV")] {
        let bench = Bench::v3();
        its(&bench).refuses = Some(number);
        let mut engine = bench.start(bench.v3_tree());
        let fault = fault(&engine, FIRST).expect("a fault");
        assert!(
            matches!(fault, Fault::Device { during, .. } if during == name),
            "{fault}"
        );
        // The queue goes on, and what could not be mapped can be when it works.
        its(&bench).refuses = None;
        its(&bench).message(FIRST_ID, 0);
        bench.sim.advance_us(1);
        assert!(!bench.model.signals(), "{name}: nobody would serve it");
        for device in [FIRST, SECOND] {
            engine.bind(device).unwrap();
        }
        let (_, event) = bench.functions[0].message().unwrap();
        bench.diary.take();
        its(&bench).message(FIRST_ID, event);
        assert_eq!(bench.interrupt(), [format!("{FIRST}: interrupt")]);
    }
}

#[test]
fn an_its_that_hangs_costs_a_device_its_messages_only() {
    let bench = Bench::v3();
    let mut engine = bench.start(bench.v3_tree());
    engine.unbind(FIRST).unwrap();
    its(&bench).hangs = true;
    let fault = engine.bind(FIRST).unwrap_err();
    assert!(
        matches!(
            fault,
            Fault::Timeout {
                register: "GITS_CREADR",
                us: 1..,
                ..
            }
        ),
        "{fault}"
    );
    // The next does not even try to queue more.
    let fault = engine.bind(FIRST).unwrap_err();
    assert!(matches!(fault, Fault::Timeout { us: 0, .. }), "{fault}");
    its(&bench).hangs = false;
    for _ in 0..8 {
        bench.sim.advance_us(1);
    }
    engine.bind(FIRST).unwrap();
    drop(engine);
    bench.assert_clean();
}

#[test]
fn a_device_that_the_its_lets_go_of_late_is_mapped_anew() {
    let bench = Bench::v3();
    let mut engine = bench.start(bench.v3_tree());
    // MAPD.
    its(&bench).hangs_at = Some(0x08);
    engine.unbind(FIRST).unwrap();
    its(&bench).hangs_at = None;
    for _ in 0..8 {
        bench.sim.advance_us(1);
    }
    engine.bind(FIRST).unwrap();
    assert_works(&bench);
}

#[test]
fn an_its_that_hangs_at_its_start_is_left_out() {
    let bench = Bench::v3();
    its(&bench).hangs = true;
    let engine = bench.start(bench.v3_tree());
    assert_eq!(fault(&engine, "/intc@8000000"), None);
    assert_eq!(bench.functions[0].message(), None);
    drop(engine);
    bench.assert_clean();
}

#[test]
fn a_device_id_out_of_reach_is_refused() {
    let bench = Bench::v3();
    its(&bench).device_bits = 9;
    let mut engine = bench.start(bench.v3_tree());
    assert!(bench.functions[0].message().is_some());
    let fault = fault(&engine, SECOND);
    assert!(
        matches!(fault, Some(Fault::Unsupported { seen: 0x310, .. })),
        "{fault:?}"
    );
    // However often it is tried, that costs nothing.
    engine.unbind(FIRST).unwrap();
    for _ in 0..LPIS {
        engine.bind(SECOND).unwrap_err();
    }
    engine.bind(FIRST).unwrap();
}

#[test]
fn what_cannot_be_released_is_silent_all_the_same() {
    let bench = Bench::v3();
    let mut engine = bench.start(bench.v3_tree());
    // DISCARD.
    its(&bench).refuses = Some(0x0f);
    engine.unbind(FIRST).unwrap();
    bench.diary.take();
    its(&bench).message(FIRST_ID, 0);
    bench.sim.advance_us(1);
    assert!(!bench.model.signals());
    engine.bind(FIRST).unwrap();
    assert_eq!(bench.functions[0].message(), Some((DOORBELL, 1)));
    bench.diary.take();
    its(&bench).message(FIRST_ID, 1);
    assert_eq!(bench.interrupt(), [format!("{FIRST}: interrupt")]);
}

#[test]
fn memory_that_hardware_may_still_write_is_never_reused() {
    let bench = Bench::v3();
    let engine = bench.start(bench.v3_tree());
    its(&bench).restless = true;
    drop(engine);
    // Queue, collections, first level; the functions' tables were unmapped, but
    // the second level around them was not.
    assert_eq!(bench.sim.memory().quarantined(), 3 + 2);
    assert_eq!(bench.sim.memory().live(), 0);

    let bench = Bench::v3();
    let engine = bench.start(bench.v3_tree());
    bench.redistributor.as_ref().unwrap().lock().unwrap().sticky = true;
    drop(engine);
    assert_eq!(bench.sim.memory().quarantined(), 3, "the LPIs' tables");
    assert_eq!(bench.sim.memory().live(), 0);

    // And whoever comes next does not get them to point elsewhere.
    let engine = bench.start(bench.v3_tree());
    assert_eq!(fault(&engine, "/intc@8000000"), None);
    assert_eq!(bench.functions[0].message(), None);
}

#[test]
fn a_disabled_its_is_not_touched() {
    let bench = Bench::v3();
    let engine = bench.start(bench.v3_tree_with(|gic| gic, |its| its.string("status", "disabled")));
    assert_eq!(fault(&engine, "/intc@8000000"), None);
    assert_eq!(its(&bench).ctlr, 1, "as firmware left it");
    assert_eq!(bench.functions[0].message(), None);
}

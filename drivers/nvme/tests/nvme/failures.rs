//! What goes wrong, and that all memory is let go of whatever it is.

use mastiff_core::engine::State;
use mastiff_core::error::Fault;
use mastiff_testkit::inject::Step;
use mastiff_testkit::nvme::SimNvme;

use crate::bench::*;

#[test]
fn an_error_of_the_medium_is_named_and_the_next_read_works() {
    let bench = bench(4 << 20);
    bench.change(|nvme| nvme.bad_blocks = [(700, 0x281)].into());
    let engine = bench.boot();
    let resting = bench.machine.iommu.counts().mappings;
    let mut good = 0;
    let result = disk(&engine).read(0, 8192, &mut |piece| good += piece.len());
    assert_eq!(
        result.unwrap_err().to_string(),
        "Read: Unrecovered Read Error (status 0x281)"
    );
    assert_eq!(good, 512 * 512, "what came before is good");
    assert_eq!(bench.machine.iommu.counts().mappings, resting);
    let (data, _) = read(disk(&engine), 1000, 4000).unwrap();
    assert!(data == contents(4 << 20)[1000 * 512..5000 * 512]);
}

/// Reads a disk of which something is wrong, expects that the controller is given
/// up for it, and that nothing is left.
fn gives_up(change: fn(&mut SimNvme), text: &str) {
    let bench = bench(2 << 20);
    let mut engine = bench.boot();
    bench.change(change);
    let error = read(disk(&engine), 0, 4096).unwrap_err().to_string();
    assert!(error.contains(text), "{error}");
    assert!(!bench.device.lock().unwrap().is_enabled(), "it was stopped");
    let again = read(disk(&engine), 0, 1).unwrap_err().to_string();
    assert_eq!(again, error, "and is not used any more");
    engine.unbind(NAME).unwrap();
    bench.check_clean();
    bench.change(|nvme| {
        nvme.lost_block = None;
        nvme.fatal_block = None;
        nvme.wrong_phase = false;
        nvme.wrong_identifier = None;
        nvme.silent = false;
    });
    engine.bind(NAME).unwrap();
    assert!(
        read(disk(&engine), 0, 4096).unwrap().0 == contents(2 << 20),
        "bound anew it works"
    );
}

#[test]
fn a_command_that_never_completes() {
    gives_up(
        |nvme| nvme.lost_block = Some(1500),
        "no completion after 30000000 us: CSTS = 0x1",
    );
}

#[test]
fn a_controller_that_fails() {
    gives_up(
        |nvme| nvme.fatal_block = Some(1500),
        "Controller Fatal Status",
    );
}

#[test]
fn completions_that_look_old() {
    gives_up(|nvme| nvme.wrong_phase = true, "no completion after");
}

#[test]
fn completions_of_something_else() {
    gives_up(
        |nvme| nvme.wrong_identifier = Some(0x1234),
        "no completion after",
    );
}

#[test]
fn interrupts_that_get_lost() {
    gives_up(|nvme| nvme.silent = true, "no completion interrupt after");
}

#[test]
fn a_controller_that_does_not_come_up() {
    let bench = bench(1 << 20);
    bench.change(|nvme| nvme.never_ready = true);
    let engine = bench.boot();
    let text = fault(&engine).to_string();
    assert_eq!(text, "no CSTS.RDY = 1 after 500000 us: CSTS = 0x0");
    assert_eq!(bench.machine.sim.memory().live(), 0);
}

#[test]
fn a_controller_that_does_not_shut_down_is_disabled() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    bench.change(|nvme| nvme.never_shuts_down = true);
    engine.unbind(NAME).unwrap();
    bench.check_clean();
}

#[test]
fn memory_of_a_controller_that_does_not_stop_is_never_reused() {
    let mut bench = bench(2 << 20);
    bench.machine.has_iommu = false;
    let mut engine = bench.boot();
    bench.change(|nvme| {
        nvme.never_stops = true;
        nvme.lost_block = Some(0);
    });
    assert!(read(disk(&engine), 0, 4096).is_err());
    let parked = bench.machine.sim.memory().quarantined();
    assert_eq!(parked, 8 * 32, "the data of all commands that were out");
    engine.unbind(NAME).unwrap();
    let memory = bench.machine.sim.memory();
    assert_eq!(memory.quarantined(), parked + 6, "its queues");
    assert_eq!(memory.live(), 0);
}

#[test]
fn admin_commands_that_fail_are_named() {
    for (opcode, status, text) in [
        (
            0x06,
            0x0002,
            "Identify: Invalid Field in Command (status 0x2)",
        ),
        (
            0x05,
            0x0102,
            "Create I/O Completion Queue: Invalid Queue Size (status 0x102)",
        ),
        (
            0x01,
            0x0101,
            "Create I/O Submission Queue: Invalid Queue Identifier (status 0x101)",
        ),
        (
            0x09,
            0x4006,
            "Set Features (Number of Queues): Internal Error (status 0x6)",
        ),
    ] {
        let bench = bench(1 << 20);
        bench.change(|nvme| nvme.bad_admin = [(opcode, status)].into());
        let engine = bench.boot();
        assert_eq!(fault(&engine).to_string(), text);
        bench.check_clean();
    }
}

#[test]
fn controllers_that_are_not_for_us() {
    for (capabilities, text) in [
        (1 << 24 | 0x7ff, "CAP.CSS"),
        (1 << 48 | 1 << 37 | 0x7ff, "CAP.MPSMIN"),
        (15 << 32 | 1 << 37 | 0x7ff, "CAP.DSTRD"),
        (1 << 37, "CAP.MQES"),
    ] {
        let bench = bench(1 << 20);
        bench.change(|nvme| nvme.capabilities = capabilities);
        let engine = bench.boot();
        let fault = fault(&engine).to_string();
        assert!(fault.contains(text), "{fault}");
        bench.check_clean();
    }
}

#[test]
fn a_failure_anywhere_leaves_nothing() {
    for step in [Step::Pages, Step::Mmio] {
        for n in 0.. {
            let bench = bench(1 << 20);
            bench.machine.sim.inject().fail(step, n);
            let mut engine = bench.boot();
            let bound = engine
                .device(NAME)
                .is_some_and(|device| matches!(device.state, State::Bound));
            if bound {
                let _ = read(disk(&engine), 0, 2048);
            }
            let done = bench.machine.sim.inject().is_armed(step);
            bench.machine.sim.inject().disarm(step);
            let _ = engine.unbind(HOST);
            bench.check_clean();
            assert_eq!(bench.machine.sim.windows(), 0);
            if done {
                break;
            }
        }
    }
}

#[test]
fn mappings_that_fail_leave_nothing() {
    for n in 0.. {
        let bench = bench(1 << 20);
        bench.machine.iommu.inject().fail(Step::Map, n);
        let mut engine = bench.boot();
        let bound = engine
            .device(NAME)
            .is_some_and(|device| matches!(device.state, State::Bound));
        if bound {
            let _ = read(disk(&engine), 0, 2048);
        }
        let done = bench.machine.iommu.inject().is_armed(Step::Map);
        let _ = engine.unbind(HOST);
        bench.check_clean();
        if done {
            assert!(n >= 4, "queues, doorbell, two batches");
            break;
        }
    }
}

#[test]
fn an_unmapping_that_fails_fails_the_read_and_parks_the_memory() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    bench.machine.iommu.inject().fail(Step::Unmap, 1);
    assert!(matches!(
        read(disk(&engine), 0, 2048),
        Err(Fault::Timeout { .. })
    ));
    let batch = bench.machine.sim.memory().quarantined();
    assert_eq!(batch, 4 * 32, "all that was mapped together");
    assert!(read(disk(&engine), 0, 2048).unwrap().0 == contents(1 << 20));
}

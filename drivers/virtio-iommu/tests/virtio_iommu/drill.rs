//! Every step of bringing it up fails in turn, and nothing is left behind.

use mastiff_core::error::Fault;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::inject::Step;
use mastiff_testkit::pci::ECAM;
use mastiff_testkit::trace::Event;

use crate::bench::{Bench, EDU, HOST, NAME, STREAM, Setup};
use crate::model::{Layout, SLOT};

/// Registers, by the structure and the offset there (virtio §4.1.4.3, §5.13.4).
const DEVICE_STATUS: u64 = 20;
const INPUT_START: u64 = 8;
/// The driver has set everything up: the device runs.
const RUNNING: u64 = 0xf;

/// What comes of a step that fails, beyond the attempt that it fails in.
#[derive(PartialEq, Debug)]
enum After {
    /// Nothing.
    Works,
    /// A function is not there, or is another.
    Hidden,
    /// There are no input addresses that edu reaches.
    OutOfReach,
    /// The device asked to be reset, so it is not used any more.
    Broken,
}

/// What must come of read `n` of all being garbage, which is all ones.
fn after_read(bench: &Bench, events: &[Event], n: usize) -> After {
    let is_read = |event: &Event| matches!(event, Event::Read { .. });
    let mut reads = events
        .iter()
        .enumerate()
        .filter(|(_, event)| is_read(event));
    let Some((index, Event::Read { pa, .. })) = reads.nth(n) else {
        return After::Works;
    };
    if *pa >= ECAM {
        return After::Hidden;
    }
    let bar = |index| {
        let mut pci = bench.pci();
        let function = pci.function(0, SLOT, 0).expect("it is there");
        function.bar_address(index)
    };
    let places = Layout::Pin.places();
    let [status, input] = [(places[0], DEVICE_STATUS), (places[3], INPUT_START)]
        .map(|((index, offset), register)| bar(index.into()) + u64::from(offset) + register);
    let ran = Event::Write {
        pa: status,
        value: RUNNING,
    };
    match *pa {
        // Among all ones is the bit by which it asks for a reset; before it runs, the
        // bits that are waited for.
        pa if pa == status && events[..index].contains(&ran) => After::Broken,
        // Either half puts the first input address above 28 bits.
        pa if pa == input || pa == input + 4 => After::OutOfReach,
        _ => After::Works,
    }
}

fn bound(bench: &Bench, name: &str) -> bool {
    let device = bench.engine.device(name);
    device.is_some_and(|device| device.bound().is_some())
}

/// What came of it.
fn seen(bench: &mut Bench) -> After {
    if !bound(bench, NAME) {
        return After::Hidden;
    }
    assert_eq!(bench.read(STREAM, 0x4000_0000), Err(BusError::Aborted));
    let _ = bench.engine.bind(EDU);
    let broken = bench.iommu().status().errors > 0;
    if !bound(bench, EDU) {
        return if broken { After::Broken } else { After::Hidden };
    }
    match bench.edu().round_trip() {
        Ok(_) => After::Works,
        Err(Fault::OutOfIova { limit, .. }) if limit == (1 << 28) - 1 => After::OutOfReach,
        Err(Fault::Device { during, .. }) if broken => {
            assert_eq!(during, "use of the IOMMU");
            After::Broken
        }
        Err(fault) => panic!("{fault}"),
    }
}

fn drill(step: Step, layout: Layout) {
    for n in 0.. {
        assert!(n < 10_000, "it never comes up");
        let mut bench = Bench::set_up(Setup {
            layout,
            before: Box::new(move |sim| {
                sim.inject().fail(step, n);
                sim.trace().start();
            }),
            ..Setup::default()
        });
        let events = bench.sim.trace().stop();
        let armed = bench.sim.inject().is_armed(step);
        bench.sim.inject().disarm(step);
        if !bound(&bench, HOST) {
            continue;
        }
        let expected = match step {
            Step::Read => after_read(&bench, &events, n as usize),
            _ => After::Works,
        };
        if bench.engine.device(NAME).is_some() && !bound(&bench, NAME) {
            assert_eq!(bench.sim.memory().live(), 0, "{step:?} {n}");
            // And the next attempt is as good as the first.
            let _ = bench.engine.bind(NAME);
        }
        let seen = seen(&mut bench);
        // What configuration space does not show is worked around, or was not needed.
        if expected != After::Hidden || seen != After::Works {
            assert_eq!(seen, expected, "{step:?} {n}");
        }
        bench.engine.unbind(HOST).unwrap();
        // One that broke while it was in use keeps what it may still be using.
        if seen != After::Broken {
            bench.check_clean();
        }
        if armed {
            return;
        }
    }
}

#[test]
fn memory_runs_out() {
    drill(Step::Pages, Layout::Messages);
}

#[test]
fn registers_cannot_be_mapped() {
    drill(Step::Mmio, Layout::Messages);
    drill(Step::Mmio, Layout::Apart);
}

#[test]
fn a_register_read_gives_garbage() {
    drill(Step::Read, Layout::Messages);
    drill(Step::Read, Layout::Pin);
}

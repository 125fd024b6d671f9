//! Interrupts and syncs by message, which QEMU does not have.

use mastiff_core::addr::{Iova, PAGE, StreamId};
use mastiff_core::dma::ToDevice;
use mastiff_core::error::Fault;
use mastiff_core::platform::Barrier;
use mastiff_testkit::bus::{BusError, SimDevice};
use mastiff_testkit::smmu::{Features, Trouble};
use mastiff_testkit::trace::Event;

use crate::bench::{BASE, Bench, DOORBELLS, MESSAGE, NAME, Wiring, map, with_capability};

const WIRES: [u32; 2] = [106, 109];
const MESSAGES: [u32; 2] = [MESSAGE, MESSAGE + 1];
const CMDQ_PROD: u64 = BASE + 0x98;
const CMDQ_CONS: u64 = BASE + 0x9c;

fn features() -> Features {
    Features {
        messages: true,
        ..Features::virt()
    }
}

/// One with so many messages to be had.
fn bench(messages: Option<u32>) -> Bench {
    let features = features();
    let wiring = Wiring {
        messages,
        ..Wiring::of(&features)
    };
    let bench = Bench::wired(features, wiring, |_, _| {});
    assert_eq!(bench.fault(), None);
    bench
}

fn enabled(bench: &Bench) -> Vec<u32> {
    bench.sim.chip().enabled().into_iter().collect()
}

/// Lets a master fault, and counts who heard of it.
fn faults(bench: &Bench) -> usize {
    let before = bench.faults().len();
    let _domain = bench.attached(8);
    // Another address each time, or it would be the same fault again.
    bench.read(8, (before as u64 + 1) << 20).unwrap_err();
    bench.faults().len() - before
}

#[test]
fn messages_are_preferred_to_wires() {
    let bench = bench(Some(2));
    assert_eq!(enabled(&bench), MESSAGES);
    assert!(says(&bench, "interrupts by message") && syncs_tell(&bench));
    assert_eq!(faults(&bench), 1);
    // An error that nobody serves would keep the next event away.
    bench.model().make(Trouble::EventAbort);
    bench.read(8, 0x1000).unwrap_err();
    bench.serve();
    assert_eq!(bench.iommu().status().errors, 1);
    bench.read(8, 0x2000).unwrap_err();
    assert_eq!(bench.faults().len(), 2);
}

#[test]
fn without_a_controller_or_enough_messages_wires_do() {
    for messages in [None, Some(0), Some(1)] {
        let bench = bench(messages);
        assert_eq!(enabled(&bench), WIRES, "{messages:?}");
        assert!(!says(&bench, "interrupts by message"));
        assert_eq!(faults(&bench), 1);
    }
    // The tree may have what the hardware does not.
    let features = Features::virt();
    let wiring = Wiring {
        messages: Some(2),
        ..Wiring::of(&features)
    };
    let bench = Bench::wired(features, wiring, |_, _| {});
    assert_eq!(enabled(&bench), WIRES);
}

#[test]
fn they_are_configured_again_each_time_and_given_back() {
    let mut bench = bench(Some(2));
    bench.engine.suspend().unwrap();
    bench.model().lose_power();
    bench.engine.resume().unwrap();
    assert_eq!(faults(&bench), 1);
    for _ in 0..2 {
        bench.engine.unbind(NAME).unwrap();
        assert!(enabled(&bench).is_empty());
        bench.engine.bind(NAME).unwrap();
        assert_eq!(enabled(&bench), MESSAGES);
        assert_eq!(faults(&bench), 1);
    }
}

#[test]
fn what_firmware_configured_is_turned_off_first() {
    let features = features();
    let wiring = Wiring {
        messages: Some(2),
        ..Wiring::of(&features)
    };
    let bench = Bench::wired(features, wiring, |_, smmu| {
        for config in [0x68, 0xb0] {
            smmu.write(config, 8, DOORBELLS + 0x40);
            smmu.write(config + 8, 4, 7);
            smmu.write(config + 12, 4, 1);
        }
        smmu.write(0x50, 4, 0b101);
    });
    assert_eq!(bench.fault(), None);
    assert_eq!(faults(&bench), 1);
}

#[test]
fn an_event_whose_message_was_lost_is_heard_of() {
    let bench = bench(Some(2));
    bench.model().make(Trouble::MessageAbort);
    assert_eq!(faults(&bench), 1, "by the message of the error");
    assert_eq!(bench.iommu().status().errors, 1);
    assert_eq!(faults(&bench), 1);
}

fn says(bench: &Bench, what: &str) -> bool {
    let features = bench.iommu().status().features;
    features.iter().any(|word| word == what)
}

fn syncs_tell(bench: &Bench) -> bool {
    says(bench, "syncs by message")
}

/// Registers of the command queue that an unmapping reads and writes.
fn accesses(bench: &Bench) -> (usize, usize) {
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    bench.read(8, 0).unwrap();
    bench.sim.trace().start();
    domain.unmap(Iova(0), PAGE).unwrap();
    let trace = bench.sim.trace().stop();
    let reads = |event: &&Event| matches!(event, Event::Read { pa: CMDQ_CONS, .. });
    let writes = |event: &&Event| matches!(event, Event::Write { pa: CMDQ_PROD, .. });
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
    // Whatever says that the sync is complete, nothing after it is looked at before.
    let told = trace
        .iter()
        .rposition(|event| matches!(event, Event::Barrier(Barrier::Acquire)));
    let sent = trace
        .iter()
        .rposition(|event| matches!(event, Event::Write { pa: CMDQ_PROD, .. }));
    assert_eq!(told > sent, syncs_tell(bench));
    (
        trace.iter().filter(reads).count(),
        trace.iter().filter(writes).count(),
    )
}

#[test]
fn register_accesses_are_counted() {
    let small = Features {
        command_bits: 2,
        ranges: false,
        ..Features::virt()
    };
    for (features, latency) in [
        (Features::virt(), 1),
        (Features::virt(), 40),
        (small.clone(), 9),
        (features(), 1),
        (
            Features {
                messages: true,
                ..small
            },
            9,
        ),
    ] {
        let bench = Bench::slow(features, latency);
        let domain = bench.attached(8);
        let pages = bench.pages(11, 1);
        let before = bench.iommu().status().accesses;
        bench.sim.trace().start();
        for _ in 0..3 {
            map(&domain, 0, &pages);
            domain.unmap(Iova(0), PAGE).unwrap();
            domain.unmap(Iova(PAGE), 10 * PAGE).unwrap();
        }
        let trace = bench.sim.trace().stop();
        let queue = |event: &&Event| match event {
            Event::Read { pa, .. } | Event::Write { pa, .. } => [CMDQ_PROD, CMDQ_CONS].contains(pa),
            _ => false,
        };
        let counted = bench.iommu().status().accesses - before;
        assert_eq!(counted, trace.iter().filter(queue).count() as u64);
    }
}

#[test]
fn a_sync_that_tells_is_not_asked() {
    assert_eq!(accesses(&bench(None)), (0, 1));
    let (asked, _) = accesses(&Bench::virt());
    assert!(asked > 0);
}

#[test]
fn nor_is_that_of_a_loan_at_a_known_address() {
    let (bench, dma) = with_capability(features());
    let mut pages = dma.pages(PAGE).unwrap();
    for _ in 0..3 {
        let lent = dma.lend::<ToDevice>(pages).map_err(|failure| failure.fault);
        let lent = lent.unwrap();
        let at = lent.iova().0;
        bench.read(8, at).unwrap();
        bench.sim.trace().start();
        pages = lent.unmap().unwrap();
        let trace = bench.sim.trace().stop();
        let asked = |event: &&Event| matches!(event, Event::Read { pa: CMDQ_CONS, .. });
        assert_eq!(trace.iter().filter(asked).count(), 0);
        assert_eq!(bench.read(8, at), Err(BusError::Aborted));
    }
}

#[test]
fn where_walks_do_not_snoop_syncs_are_asked() {
    // By either's word.
    for (idr, tree) in [(false, false), (true, false)] {
        let features = Features {
            coherent: idr,
            ..features()
        };
        let wiring = Wiring {
            coherent: tree,
            ..Wiring::of(&features)
        };
        let bench = Bench::wired(features, wiring, |_, _| {});
        assert_eq!(bench.fault(), None);
        assert!(accesses(&bench).0 > 0);
    }
}

#[test]
fn laps_of_the_queue_are_told_apart() {
    for latency in [1, 3, 40] {
        let features = Features {
            command_bits: 2,
            ..features()
        };
        let bench = Bench::slow(features, latency);
        let domain = bench.attached(8);
        let pages = bench.pages(1, 1);
        for round in 0..50 {
            map(&domain, round * PAGE, &pages);
            assert_eq!(bench.read(8, round * PAGE), Ok(1));
            domain.unmap(Iova(round * PAGE), PAGE).unwrap();
            let gone = bench.read(8, round * PAGE);
            assert_eq!(gone, Err(BusError::Aborted), "{latency} {round}");
        }
    }
}

#[test]
fn the_index_may_lag_behind_the_message() {
    let features = Features {
        command_bits: 2,
        ranges: false,
        ..features()
    };
    let bench = Bench::slow(features, 15);
    let domain = bench.attached(8);
    let pages = bench.pages(11, 1);
    map(&domain, PAGE, &pages);
    // The second fills the queue as soon as it may, which is before the index shows
    // the sync of the first.
    domain.unmap(Iova(PAGE), PAGE).unwrap();
    domain.unmap(Iova(2 * PAGE), 10 * PAGE).unwrap();
}

#[test]
fn a_sync_whose_message_was_lost_is_complete_nevertheless() {
    let bench = bench(None);
    let domain = bench.attached(8);
    let pages = bench.pages(2, 1);
    map(&domain, 0, &pages);
    bench.read(8, 0).unwrap();
    bench.model().make(Trouble::MessageAbort);
    assert_eq!(domain.unmap(Iova(0), PAGE), Ok(()));
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
    assert_eq!(domain.unmap(Iova(PAGE), PAGE), Ok(()));
    assert_eq!(bench.iommu().status().errors, 1);
}

#[test]
fn a_sync_that_does_not_come_is_an_error_here_too() {
    let bench = bench(None);
    let domain = bench.attached(8);
    let pages = bench.pages(3, 1);
    map(&domain, 0, &pages);
    for trouble in [Trouble::IllegalCommand, Trouble::CommandAbort] {
        bench.model().make(trouble);
        let unmapped = domain.unmap(Iova(0), PAGE);
        assert_eq!(unmapped.is_ok(), trouble == Trouble::CommandAbort);
        map(&domain, 0, &bench.pages(1, 1));
    }
    bench.model().freeze(true);
    let fault = domain.unmap(Iova(PAGE), PAGE).unwrap_err();
    assert!(matches!(fault, Fault::Timeout { .. }), "{fault}");
    bench.model().freeze(false);
    assert_eq!(domain.unmap(Iova(2 * PAGE), PAGE), Ok(()));
    // One that is itself refused does not tell either.
    bench.model().freeze(true);
    assert!(bench.iommu().block(StreamId(8)).is_err());
    bench.model().freeze(false);
    assert_eq!(bench.iommu().block(StreamId(8)), Ok(()));
}

#[test]
fn memory_that_a_message_may_still_come_to_is_not_freed() {
    // Turning it off takes two syncs; the second vouches for the first.
    for (lost, quarantined) in [(0, 0), (1, 0), (2, 1)] {
        let mut bench = bench(None);
        for _ in 0..lost {
            bench.model().make(Trouble::MessageAbort);
        }
        bench.engine.unbind(NAME).unwrap();
        assert_eq!(bench.frames(), 0);
        assert_eq!(bench.sim.memory().quarantined(), quarantined, "{lost}");
    }
}

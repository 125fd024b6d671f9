//! Orders that no state of the model can show: what the software did between two
//! things.

use mastiff_core::addr::{StreamId, SubstreamId};
use mastiff_core::driver::Match;
use mastiff_core::platform::{Barrier, Platform};
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::smmu::Features;
use mastiff_testkit::trace::Event;

use crate::bench::{BASE, Bench, NAME, Wiring};

const CR0: u64 = BASE + 0x20;
const CMDQ_PROD: u64 = BASE + 0x98;
const EVENTQ_PROD: u64 = BASE + 0x1_00a8;
const EVENTQ_CONS: u64 = BASE + 0x1_00ac;

fn position(trace: &[Event], what: impl Fn(&Event) -> bool) -> usize {
    trace.iter().position(what).expect("it happened")
}

#[test]
fn events_are_read_after_their_index_and_before_they_are_given_back() {
    let bench = Bench::virt();
    let _domain = bench.attached(8);
    bench.read(8, 0).unwrap_err();
    bench.sim.advance_us(10);
    bench.sim.trace().start();
    bench.sim.irqs().service();
    let trace = bench.sim.trace().stop();
    let index = position(
        &trace,
        |event| matches!(event, Event::Read { pa: EVENTQ_PROD, value } if *value != 0),
    );
    let record = position(&trace, |event| matches!(event, Event::Load { .. }));
    let back = position(&trace, |event| {
        matches!(
            event,
            Event::Write {
                pa: EVENTQ_CONS,
                ..
            }
        )
    });
    assert!(index < record && record < back);
    assert!(trace[index..record].contains(&Event::Barrier(Barrier::Acquire)));
    assert!(trace[record..back].contains(&Event::Barrier(Barrier::Full)));
}

#[test]
fn s26_translation_goes_off_after_the_last_stream_is_aborted() {
    const STREAMS: [u32; 3] = [8, 9, 0x300];
    let diary = Diary::default();
    let matches = [Match::compatible("test,master").master()];
    let master = FakeDriver::new("master", &matches, vec![Do::Alloc(0x3000)], &diary);
    let features = Features::virt();
    let wiring = Wiring::of(&features);
    let mut bench = Bench::peopled(features, wiring, &[master], |_, _| {
        Box::new(|tree| {
            STREAMS.iter().fold(tree, |tree, &stream| {
                tree.node(&format!("master@{stream:x}"), |n| {
                    n.compatible(&["test,master"]).cells("iommus", &[2, stream])
                })
            })
        })
    });
    let entries = STREAMS.map(|stream| {
        let dump = bench.iommu().describe(StreamId(stream)).unwrap();
        assert_eq!(dump.config, "stage 1");
        dump.parts
            .iter()
            .find(|part| part.name == "STE")
            .unwrap()
            .pa
            .0
    });
    bench.sim.trace().start();
    bench.engine.unbind(NAME).unwrap();
    let trace = bench.sim.trace().stop();
    let off = position(
        &trace,
        |event| matches!(event, Event::Write { pa: CR0, value } if value & 1 == 0),
    );
    for ste in entries {
        let stored = |event: &Event| matches!(event, Event::Store { pa, .. } if (ste..ste + 64).contains(pa));
        let last = trace[..off].iter().rposition(stored);
        let last = last.expect("the stream is aborted before");
        let synced = |event: &Event| matches!(event, Event::Write { pa: CMDQ_PROD, .. });
        assert!(trace[last..off].iter().any(synced), "and that is complete");
    }
    for stream in STREAMS {
        let master = bench.engine.device(&format!("/master@{stream:x}")).unwrap();
        assert_eq!(master.state.name(), "waiting");
        assert_eq!(diary.count(&format!("/master@{stream:x}: drop")), 1);
    }
}

#[test]
fn a_second_level_is_filled_before_it_is_linked() {
    let bench = Bench::virt();
    let domain = bench.domain();
    let l1 = bench.iommu().describe(StreamId(0x0300)).unwrap().parts[0]
        .pa
        .0;
    bench.sim.trace().start();
    domain.attach(StreamId(0x0300)).unwrap();
    let trace = bench.sim.trace().stop();
    let link = position(
        &trace,
        |event| matches!(event, Event::Store { pa, .. } if *pa == l1),
    );
    let fill = trace[..link]
        .iter()
        .rposition(|event| matches!(event, Event::Store { .. }));
    let barrier = Event::Barrier(Barrier::Publish);
    assert!(trace[fill.expect("it is filled")..link].contains(&barrier));
}

#[test]
fn descriptors_are_filled_before_they_are_linked() {
    let bench = Bench::new(Features::substreams());
    let (one, two) = (bench.domain(), bench.domain());
    let stream = StreamId(8);
    one.attach_substream(stream, SubstreamId(1)).unwrap();
    let dump = bench.iommu().describe(stream).unwrap();
    let l1 = dump.parts.iter().find(|part| part.name == "L1CD");
    let l1 = l1.expect("there are two levels").pa.0;
    bench.sim.trace().start();
    two.attach_substream(stream, SubstreamId(2)).unwrap();
    let trace = bench.sim.trace().stop();
    let link = position(
        &trace,
        |event| matches!(event, Event::Store { pa, .. } if *pa == l1),
    );
    let fill = trace[..link]
        .iter()
        .rposition(|event| matches!(event, Event::Store { .. }));
    let barrier = Event::Barrier(Barrier::Publish);
    assert!(trace[fill.expect("it is filled")..link].contains(&barrier));
}

#[test]
fn an_entry_counts_only_after_the_rest_of_it_was_invalidated() {
    let bench = Bench::virt();
    // The neighbourhood exists, so that nothing else is written.
    bench.attached(8);
    let domain = bench.domain();
    let ste = bench.iommu().describe(StreamId(9)).unwrap().parts[1].pa.0;
    bench.sim.trace().start();
    domain.attach(StreamId(9)).unwrap();
    let trace = bench.sim.trace().stop();
    let store =
        |at: u64| move |event: &Event| matches!(event, Event::Store { pa, len: 8 } if *pa == at);
    let doorbell = |event: &Event| matches!(event, Event::Write { pa, .. } if *pa == BASE + 0x98);
    let head = position(&trace, store(ste));
    let rest = |event: &Event| (1..8).any(|word| store(ste + 8 * word)(event));
    let last = trace.iter().rposition(rest);
    assert!(last.expect("attributes are written") < head);
    assert_eq!(
        trace[..head].iter().filter(|event| doorbell(event)).count(),
        1
    );
    assert_eq!(
        trace[head..].iter().filter(|event| doorbell(event)).count(),
        1
    );
}

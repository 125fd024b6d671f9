//! Orders that no state shows: what is stored, published, notified and read when.

use mastiff_core::platform::Barrier;
use mastiff_testkit::trace::Event;

use crate::bench::Bench;

/// One request, as a trace.
fn traced() -> Vec<Event> {
    let bench = Bench::new();
    let domain = bench.attached();
    bench.sim.trace().start();
    bench.map(&domain, 0x1000);
    bench.sim.trace().stop()
}

fn is_doorbell(event: &Event) -> bool {
    matches!(event, Event::Write { .. })
}

#[test]
fn the_index_follows_what_it_covers() {
    let events = traced();
    let doorbell = events.iter().position(is_doorbell).unwrap();
    let before = &events[..doorbell];
    assert_eq!(events.iter().filter(|event| is_doorbell(event)).count(), 1);
    let index = before
        .iter()
        .rposition(|event| matches!(event, Event::Store { .. }))
        .unwrap();
    assert!(matches!(before[index], Event::Store { len: 4, .. }));
    assert_eq!(before[index - 1], Event::Barrier(Barrier::Publish));
    let after = &before[index + 1..];
    assert!(after.contains(&Event::Barrier(Barrier::Full)), "{after:?}");
}

#[test]
fn an_entry_is_read_after_its_index() {
    let events = traced();
    let doorbell = events.iter().position(is_doorbell).unwrap();
    let after = &events[doorbell + 1..];
    let barrier = after
        .iter()
        .position(|event| *event == Event::Barrier(Barrier::Acquire))
        .unwrap();
    let loads = |events: &[Event]| {
        let places = events.iter().filter_map(|event| match event {
            Event::Load { pa, .. } => Some(*pa),
            _ => None,
        });
        places.collect::<Vec<_>>()
    };
    let (index, entries) = (loads(&after[..barrier]), loads(&after[barrier..]));
    assert!(index.windows(2).all(|pair| pair[0] == pair[1]), "{index:?}");
    assert!(entries.len() >= 3, "head, length, status: {entries:?}");
}

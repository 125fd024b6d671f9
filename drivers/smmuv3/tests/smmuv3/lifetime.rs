//! Streams come and go, domains live and die, and nothing of one is seen by the
//! next.

use std::sync::{Arc, Mutex};

use mastiff_core::addr::{Iova, PAGE, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::platform::Pages;
use mastiff_testkit::bus::{BusError, DmaPort, SimDevice};
use mastiff_testkit::smmu::{Features, Trouble};

use crate::bench::{Bench, Wiring, map};

const ABORTED: Result<u8, BusError> = Err(BusError::Aborted);

#[test]
fn a_blocked_stream_reaches_nothing() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    domain.attach(StreamId(9)).unwrap();
    let pages = bench.pages(1, 3);
    map(&domain, 0, &pages);
    let iommu = bench.iommu();
    assert_eq!(iommu.live_streams(), [StreamId(8), StreamId(9)]);
    assert_eq!((bench.read(8, 0), bench.read(9, 0)), (Ok(3), Ok(3)));
    iommu.block(StreamId(8)).unwrap();
    assert_eq!((bench.read(8, 0), bench.read(9, 0)), (ABORTED, Ok(3)));
    assert_eq!(iommu.live_streams(), [StreamId(9)]);
    // Blocking what is blocked costs nothing.
    let before = bench.consumed();
    iommu.block(StreamId(8)).unwrap();
    iommu.block(StreamId(0xffff)).unwrap();
    assert_eq!(bench.consumed(), before);
    domain.attach(StreamId(8)).unwrap();
    assert_eq!(bench.read(8, 0), Ok(3));
}

#[test]
fn a_stream_moves_between_domains() {
    let bench = Bench::virt();
    let (one, two) = (bench.domain(), bench.domain());
    let (first, second) = (bench.pages(1, 1), bench.pages(1, 2));
    map(&one, 0, &first);
    map(&two, 0, &second);
    for _ in 0..3 {
        one.attach(StreamId(8)).unwrap();
        assert_eq!(bench.read(8, 0), Ok(1));
        two.attach(StreamId(8)).unwrap();
        assert_eq!(bench.read(8, 0), Ok(2));
    }
    let before = bench.consumed();
    two.attach(StreamId(8)).unwrap();
    assert_eq!(bench.consumed(), before, "it is there already");
    bench
        .iommu()
        .identity_domain()
        .unwrap()
        .attach(StreamId(8))
        .unwrap();
    assert_eq!(bench.read(8, first.pa().0), Ok(1));
    assert_eq!(bench.iommu().live_streams(), [StreamId(8)]);
}

/// A master that reads one word whenever software waits.
struct Reader {
    seen: Arc<Mutex<Vec<Result<u8, BusError>>>>,
}

impl SimDevice for Reader {
    fn read(&mut self, _: u64, _: usize) -> u64 {
        0
    }

    fn write(&mut self, _: u64, _: usize, _: u64) {}

    fn tick(&mut self, port: &mut DmaPort<'_>) {
        let mut byte = [0];
        let read = port.read(8, 0, &mut byte).map(|()| byte[0]);
        self.seen.lock().unwrap().push(read);
    }
}

#[test]
fn s14_a_stream_at_work_changes_over_without_a_gap() {
    for features in [Features::virt(), Features::small()] {
        let bench = Bench::slow(features, 100);
        let (one, two) = (bench.domain(), bench.domain());
        let (first, second) = (bench.pages(1, 1), bench.pages(1, 2));
        map(&one, 0, &first);
        map(&two, 0, &second);
        one.attach(StreamId(8)).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = Reader { seen: seen.clone() };
        bench.sim.add_device(0x3000_0000, 0x1000, reader);
        let before = bench.consumed();
        for _ in 0..3 {
            two.attach(StreamId(8)).unwrap();
            assert_eq!(bench.read(8, 0), Ok(2));
            one.attach(StreamId(8)).unwrap();
            assert_eq!(bench.read(8, 0), Ok(1));
        }
        assert_eq!(bench.consumed().1 - before.1, 6, "one sync each");
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        bench.iommu().block(StreamId(8)).unwrap();
        assert!(seen.len() > 60, "it was at work meanwhile: {}", seen.len());
        seen.dedup();
        assert_eq!(seen, [1, 2, 1, 2, 1, 2, 1].map(Ok));
    }
}

#[test]
fn s14_from_and_to_identity_there_is_no_gap_either() {
    let bench = Bench::slow(Features::virt(), 50);
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    // An address that both have.
    map(&domain, pages.pa().0, &pages);
    let identity = bench.iommu().identity_domain().unwrap();
    let before = bench.consumed();
    for _ in 0..2 {
        identity.attach(StreamId(8)).unwrap();
        assert_eq!(bench.read(8, pages.pa().0), Ok(1));
        domain.attach(StreamId(8)).unwrap();
        assert_eq!(bench.read(8, pages.pa().0), Ok(1));
    }
    // The first word flips; what the second has more for translation stays.
    assert_eq!(bench.consumed().1 - before.1, 4);
}

#[test]
fn a_change_that_fails_leaves_nothing_attached_and_both_domains_alive() {
    let bench = Bench::virt();
    let one = bench.attached(8);
    let two = bench.domain();
    let pages = bench.pages(2, 1);
    map(&one, 0, &pages);
    map(&two, 0, &pages);
    bench.read(8, 0).unwrap();
    let frames = bench.frames();
    bench.model().freeze(true);
    assert!(two.attach(StreamId(8)).is_err());
    drop((one, two));
    assert_eq!(bench.frames(), frames, "either may still be in use");
    bench.model().freeze(false);
    bench.iommu().block(StreamId(8)).unwrap();
    assert!(bench.frames() < frames);
    assert_eq!(bench.read(8, 0), ABORTED);
    // Where the hardware answers again, it is undone at once.
    let (one, two) = (bench.attached(8), bench.domain());
    bench.model().make(Trouble::IllegalCommand);
    assert!(two.attach(StreamId(8)).is_err());
    assert_eq!(bench.iommu().describe(StreamId(8)).unwrap().config, "abort");
    one.attach(StreamId(8)).unwrap();
}

#[test]
fn an_asid_that_comes_back_brings_nothing_along() {
    let bench = Bench::virt();
    let pages = [bench.pages(1, 1), bench.pages(1, 2)];
    let one = bench.attached(8);
    let asid = one.tag();
    map(&one, 0x3000, &pages[0]);
    assert_eq!(bench.read(8, 0x3000), Ok(1));
    bench.iommu().block(StreamId(8)).unwrap();
    drop(one);
    let two = bench.attached(8);
    assert_eq!(two.tag(), asid, "or this test shows nothing");
    assert_eq!(bench.read(8, 0x3000), ABORTED);
    map(&two, 0x3000, &pages[1]);
    assert_eq!(bench.read(8, 0x3000), Ok(2));
}

#[test]
fn a_domain_lives_as_long_as_a_stream_goes_through_it() {
    let bench = Bench::virt();
    let pages = bench.pages(1, 1);
    let before = bench.frames();
    let domain = bench.attached(8);
    let with_table = bench.frames();
    map(&domain, 0, &pages);
    drop(domain);
    assert_eq!(bench.read(8, 0), Ok(1));
    assert_eq!(bench.iommu().status().domains, 1);
    bench.iommu().block(StreamId(8)).unwrap();
    assert_eq!(bench.iommu().status().domains, 0);
    // What is left is the level 2 table of the stream's neighbourhood.
    assert!(with_table > bench.frames());
    assert_eq!(bench.frames() - before, 1);
}

#[test]
fn asids_run_out_and_come_back() {
    let bench = Bench::new(Features::small());
    let mut domains: Vec<_> = (0..255).map(|_| bench.domain()).collect();
    let frames = bench.frames();
    let none = bench.iommu().paging_domain().err();
    let expected = Fault::Exhausted {
        what: "ASID",
        limit: 255,
    };
    assert_eq!(none, Some(expected));
    assert_eq!(bench.frames(), frames, "a domain that was not made");
    let gone = domains.remove(77);
    let tag = gone.tag();
    drop(gone);
    assert_eq!(bench.domain().tag(), tag);
}

#[test]
fn streams_out_of_range_are_refused() {
    let bench = Bench::virt();
    let domain = bench.domain();
    let fault = Fault::StreamOutOfRange {
        stream: StreamId(0x1_0000),
        streams: 0x1_0000,
    };
    assert_eq!(bench.iommu().limits().streams, 0x1_0000);
    assert_eq!(domain.attach(StreamId(0x1_0000)), Err(fault.clone()));
    assert_eq!(bench.iommu().block(StreamId(0x1_0000)), Err(fault.clone()));
    assert_eq!(
        bench.iommu().describe(StreamId(0x1_0000)).err(),
        Some(fault)
    );
}

#[test]
fn the_second_level_is_made_where_it_is_needed() {
    let bench = Bench::virt();
    let domain = bench.attached(0x0108);
    let frames = bench.frames();
    domain.attach(StreamId(0x0110)).unwrap();
    assert_eq!(bench.frames(), frames, "the same neighbourhood");
    domain.attach(StreamId(0xff00)).unwrap();
    assert_eq!(bench.frames(), frames + 1);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    for stream in [0x0108, 0x0110, 0xff00] {
        assert_eq!(bench.read(stream, 0), Ok(1));
    }
    // A neighbour has an entry that aborts in silence, a stranger none at all.
    assert_eq!(bench.read(0x0109, 0), ABORTED);
    assert!(bench.faults().is_empty());
    assert_eq!(bench.read(0x0200, 0), ABORTED);
    assert_eq!(bench.faults()[0].report.event, "C_BAD_STREAMID");
    // The hardware knows by now that there is nothing; then there is.
    domain.attach(StreamId(0x0200)).unwrap();
    assert_eq!(bench.read(0x0200, 0), Ok(1));
}

#[test]
fn without_memory_for_the_second_level_nothing_is_attached() {
    let bench = Bench::virt();
    let domain = bench.domain();
    let frames = bench.frames();
    bench
        .sim
        .inject()
        .fail(mastiff_testkit::inject::Step::Pages, 0);
    assert!(matches!(
        domain.attach(StreamId(8)),
        Err(Fault::OutOfMemory { .. })
    ));
    assert_eq!(bench.frames(), frames);
    assert!(bench.iommu().live_streams().is_empty());
    domain.attach(StreamId(8)).unwrap();
}

#[test]
fn entries_are_shown_as_the_hardware_reads_them() {
    let bench = Bench::virt();
    let domain = bench.attached(0x0108);
    let dump = bench.iommu().describe(StreamId(0x0108)).unwrap();
    assert_eq!(dump.config, "stage 1");
    let names: Vec<_> = dump.parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["L1STD", "STE", "CD"]);
    let field = |part: usize, name: &str| {
        let fields = &dump.parts[part].fields;
        fields.iter().find(|(known, _)| *known == name).unwrap().1
    };
    assert_eq!(field(0, "L2Ptr") + 8 * 64, dump.parts[1].pa.0);
    assert_eq!(field(1, "S1ContextPtr"), dump.parts[2].pa.0);
    assert_eq!(field(1, "Config"), 0b101);
    assert_eq!(field(2, "ASID"), u64::from(domain.tag().unwrap().number()));
    assert_eq!(field(2, "TTB0"), domain.walk(Iova(0))[0].table.0);
    assert_eq!(field(2, "T0SZ"), 16);
    let neighbour = bench.iommu().describe(StreamId(0x0109)).unwrap();
    assert_eq!((neighbour.config, neighbour.parts.len()), ("abort", 2));
    let stranger = bench.iommu().describe(StreamId(0x0200)).unwrap();
    assert_eq!((stranger.config, stranger.parts.len()), ("abort", 1));
    let small = Bench::new(Features::small());
    let linear = small.iommu().describe(StreamId(3)).unwrap();
    assert_eq!(linear.parts.len(), 1);
}

#[test]
fn it_counts() {
    let bench = Bench::virt();
    let before = bench.iommu().status();
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    domain.unmap(Iova(0), PAGE).unwrap();
    bench.read(8, 0).unwrap_err();
    let after = bench.iommu().status();
    assert_eq!((after.domains, after.streams_attached), (1, 1));
    // New level 1 descriptor, two for the entry, one for the page.
    assert_eq!(after.syncs - before.syncs, 4);
    assert_eq!(after.commands - before.commands, 8);
    assert_eq!((after.events, after.errors), (1, 0));
    let words = after.features.join(", ");
    for word in [
        "SMMUv3.1",
        "2-level",
        "coherent",
        "range invalidation",
        "44-bit",
    ] {
        assert!(words.contains(word), "{words}");
    }
}

/// A tree in which a master and a bus name StreamIDs, the bus 256 of them.
fn named(features: Features, stream: u32, bus: u32) -> Bench {
    mapped(features, stream, [bus, 0x100])
}

/// The same with as many on the bus as is said.
fn mapped(features: Features, stream: u32, [bus, count]: [u32; 2]) -> Bench {
    let wiring = Wiring::of(&features);
    Bench::peopled(features, wiring, &[], move |_, _| {
        Box::new(move |tree| {
            tree.node("master@0", |n| {
                n.compatible(&["test,nobody"]).cells("iommus", &[2, stream])
            })
            .node("bus@0", |n| {
                n.compatible(&["test,nobody"])
                    .cells("iommu-map", &[0, 2, bus, count])
            })
        })
    })
}

#[test]
fn s24_the_table_reaches_as_far_as_the_tree_and_no_further() {
    let wide = Features {
        stream_bits: 32,
        ..Features::virt()
    };
    let streams = |bench: &Bench| bench.iommu().limits().streams;
    assert_eq!(streams(&named(wide.clone(), 7, 0)), 1 << 16);
    assert_eq!(streams(&named(wide.clone(), 0x1_0000, 0)), 1 << 17);
    assert_eq!(streams(&mapped(wide.clone(), 7, [u32::MAX, 0])), 1 << 16);
    // The last of its 256 counts, and none behind it.
    assert_eq!(streams(&named(wide.clone(), 7, 0x1_ff00)), 1 << 17);
    assert_eq!(streams(&named(wide.clone(), 7, 0x1_ff01)), 1 << 18);
    // What the hardware does not have it does not get.
    assert_eq!(
        streams(&named(Features::small(), u32::MAX, u32::MAX)),
        1 << 5
    );
    // A level 2 table of either larger size: its first entry, and its last.
    for (highest, entries) in [(0x1_ffff, 256), (0x1f_ffff, 1024)] {
        let bench = named(wide.clone(), highest, 0);
        let (first, pages) = (highest + 1 - entries, bench.pages(1, 5));
        let domain = bench.attached(first);
        let frames = bench.frames();
        domain.attach(StreamId(highest)).unwrap();
        assert_eq!(bench.frames(), frames, "one table");
        map(&domain, 0x1000, &pages);
        let all = (first - 1..=highest).map(|stream| bench.read(stream, 0x1000));
        let reached = all.filter(|read| *read == Ok(5)).count();
        assert_eq!(reached, 2, "of {entries} and one more");
    }
    let bench = named(wide, 0x7ff_fff0, 0);
    assert_eq!(streams(&bench), 1 << 27);
    let domain = bench.attached(0x7ff_fff0);
    let pages = bench.pages(1, 5);
    map(&domain, 0x1000, &pages);
    assert_eq!(bench.read(0x7ff_fff0, 0x1000), Ok(5));
    assert_eq!(bench.read(0x7ff_fff1, 0x1000), ABORTED);
    for stream in [0x800_0000, u32::MAX] {
        let beyond = domain.attach(StreamId(stream));
        let fault = Fault::StreamOutOfRange {
            stream: StreamId(stream),
            streams: 1 << 27,
        };
        assert_eq!(beyond, Err(fault.clone()));
        assert_eq!(bench.iommu().block(StreamId(stream)), Err(fault.clone()));
        assert_eq!(bench.iommu().describe(StreamId(stream)).err(), Some(fault));
        assert_eq!(bench.read(stream, 0x1000), ABORTED);
    }
}

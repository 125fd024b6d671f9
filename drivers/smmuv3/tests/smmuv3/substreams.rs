//! Substreams: a stream with several address spaces at once.

use std::sync::{Arc, Mutex};

use mastiff_core::addr::{Iova, PAGE, StreamId, SubstreamId};
use mastiff_core::driver::Match;
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Domain, Managed, Permission};
use mastiff_core::platform::Pages;
use mastiff_testkit::bus::{BusError, DmaPort, Shared, SimDevice};
use mastiff_testkit::fake_driver::{Diary, Do, FakeDriver};
use mastiff_testkit::inject::Step;
use mastiff_testkit::smmu::{Abort, Access, EventKind, Features, Smmu};
use mastiff_testkit::{Sim, SimPages};

use crate::bench::{Bench, Wiring, map};

const STREAM: StreamId = StreamId(8);
const AT: u64 = 0x4000;
const BAD_CD: Result<u8, Abort> = Err(Abort::Fault(EventKind::BadCd));
const BAD_SUBSTREAM: Result<u8, Abort> = Err(Abort::Fault(EventKind::BadSubstreamId));
const DISABLED: Result<u8, Abort> = Err(Abort::Fault(EventKind::StreamDisabled));

/// With a level 1, and without; coherent, and not.
fn kinds() -> [Features; 3] {
    [
        Features::substreams(),
        Features {
            two_level_cds: false,
            ..Features::substreams()
        },
        Features {
            substream_bits: 3,
            ..Features::small()
        },
    ]
}

/// A domain with a page of this byte at `AT`.
fn domain(bench: &Bench, byte: u8) -> (Arc<dyn Domain>, SimPages) {
    let (domain, pages) = (bench.domain(), bench.pages(1, byte));
    map(&domain, AT, &pages);
    (domain, pages)
}

fn attach(domain: &Arc<dyn Domain>, substream: u32) {
    let done = domain.attach_substream(STREAM, SubstreamId(substream));
    done.unwrap();
}

fn block(bench: &Bench, substream: u32) {
    let done = bench
        .iommu()
        .block_substream(STREAM, SubstreamId(substream));
    done.unwrap();
}

fn read(bench: &Bench, substream: u32) -> Result<u8, Abort> {
    bench.read_as(STREAM.0, substream, AT)
}

#[test]
fn each_substream_goes_through_its_domain() {
    for features in kinds() {
        let bench = Bench::new(features.clone());
        let last = (1 << features.substream_bits) - 1;
        let all: Vec<_> = (1..=4).map(|byte| domain(&bench, byte)).collect();
        all[0].0.attach(STREAM).unwrap();
        for ((domain, _), substream) in all[1..].iter().zip([1, last, 2]) {
            attach(domain, substream);
        }
        assert_eq!(bench.read(STREAM.0, AT), Ok(1));
        let seen = [1, last, 2].map(|substream| read(&bench, substream));
        assert_eq!(seen, [Ok(2), Ok(3), Ok(4)]);
        // One that nobody attached; one where nothing leads; 0; one too many.
        assert_eq!(read(&bench, 3), BAD_CD);
        if features.two_level_cds && features.substream_bits > 6 {
            assert_eq!(read(&bench, 100), BAD_SUBSTREAM);
        }
        assert_eq!(read(&bench, 0), DISABLED);
        assert_eq!(read(&bench, last + 1), BAD_SUBSTREAM);
        block(&bench, last);
        assert_eq!((read(&bench, last), read(&bench, 1)), (BAD_CD, Ok(2)));
        // The stream is cut off as a whole.
        bench.iommu().block(STREAM).unwrap();
        for substream in [1, 2, last] {
            assert_eq!(read(&bench, substream), Err(Abort::Configured));
        }
    }
}

#[test]
fn what_has_no_substream_goes_where_the_stream_does() {
    for features in kinds() {
        let bench = Bench::new(features);
        let (own, _own) = domain(&bench, 1);
        let (other, _other) = domain(&bench, 2);
        let (third, _third) = domain(&bench, 3);
        let identity = bench.iommu().identity_domain().unwrap();
        let plain = bench.pages(1, 9);
        // Nowhere, first.
        attach(&own, 1);
        assert_eq!(bench.read(STREAM.0, AT), Err(BusError::Aborted));
        assert_eq!((read(&bench, 0), read(&bench, 1)), (BAD_CD, Ok(1)));
        for _ in 0..2 {
            for (plain, byte) in [(&other, 2), (&third, 3), (&own, 1)] {
                plain.attach(STREAM).unwrap();
                assert_eq!(bench.read(STREAM.0, AT), Ok(byte));
                assert_eq!((read(&bench, 0), read(&bench, 1)), (DISABLED, Ok(1)));
            }
            identity.attach(STREAM).unwrap();
            assert_eq!(bench.read(STREAM.0, plain.pa().0), Ok(9));
            assert_eq!((read(&bench, 0), read(&bench, 1)), (BAD_CD, Ok(1)));
        }
        // Without the last substream it is a stream as any other.
        block(&bench, 1);
        assert_eq!(bench.read(STREAM.0, plain.pa().0), Ok(9));
        assert_eq!(bench.iommu().describe(STREAM).unwrap().config, "bypass");
        own.attach(STREAM).unwrap();
        attach(&other, 1);
        block(&bench, 1);
        assert_eq!(bench.read(STREAM.0, AT), Ok(1));
        assert_eq!(read(&bench, 1), BAD_SUBSTREAM);
        bench.iommu().block(STREAM).unwrap();
        attach(&other, 1);
        block(&bench, 1);
        assert_eq!(bench.read(STREAM.0, AT), Err(BusError::Aborted));
        assert!(bench.iommu().live_streams().is_empty());
    }
}

/// A master that reads as one substream whenever software waits, and without.
struct Reader {
    smmu: Shared<Smmu>,
    seen: Arc<Mutex<Vec<[Option<u64>; 3]>>>,
}

impl SimDevice for Reader {
    fn read(&mut self, _: u64, _: usize) -> u64 {
        0
    }

    fn write(&mut self, _: u64, _: usize, _: u64) {}

    fn tick(&mut self, _: &mut DmaPort<'_>) {
        if let Ok(mut smmu) = self.smmu.try_lock() {
            let seen = [None, Some(1), Some(2)].map(|substream| {
                let done = smmu.translate_as(STREAM.0, substream, AT, Access::Read);
                done.ok()
            });
            self.seen.lock().unwrap().push(seen);
        }
    }
}

#[test]
fn s14_a_substream_at_work_changes_over_without_a_gap_and_others_do_not_notice() {
    for features in kinds() {
        let bench = Bench::slow(features, 60);
        let (one, first) = domain(&bench, 1);
        let (two, second) = domain(&bench, 2);
        let (steady, third) = domain(&bench, 3);
        let (plain, fourth) = domain(&bench, 4);
        plain.attach(STREAM).unwrap();
        attach(&steady, 2);
        attach(&one, 1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (smmu, log) = (bench.smmu.clone(), seen.clone());
        bench
            .sim
            .add_device(0x3000_0000, 0x1000, Reader { smmu, seen: log });
        let syncs = |change: &dyn Fn()| {
            let before = bench.consumed().1;
            change();
            bench.consumed().1 - before
        };
        for _ in 0..3 {
            assert_eq!(syncs(&|| attach(&two, 1)), 1);
            assert_eq!(syncs(&|| attach(&one, 1)), 1);
            assert_eq!(syncs(&|| attach(&one, 1)), 0);
        }
        assert_eq!(syncs(&|| attach(&two, 3)), 1);
        assert_eq!(syncs(&|| block(&bench, 3)), 1);
        assert_eq!(syncs(&|| block(&bench, 1)), 1);
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.len() > 60, "it was at work meanwhile: {}", seen.len());
        let [one, two, three, four] =
            [&first, &second, &third, &fourth].map(|pages| Some(pages.pa().0));
        seen.dedup();
        let states = [one, two, one, two, one, two, one, None];
        assert_eq!(seen, states.map(|substream| [four, substream, three]));
        bench.iommu().block(STREAM).unwrap();
    }
}

#[test]
fn what_has_no_substream_changes_over_without_a_gap() {
    for features in kinds() {
        let bench = Bench::slow(features, 60);
        let (one, first) = domain(&bench, 1);
        let (two, second) = domain(&bench, 2);
        let identity = bench.iommu().identity_domain().unwrap();
        attach(&two, 1);
        one.attach(STREAM).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (smmu, log) = (bench.smmu.clone(), seen.clone());
        bench
            .sim
            .add_device(0x3000_0000, 0x1000, Reader { smmu, seen: log });
        for _ in 0..2 {
            for next in [&two, &identity, &one, &identity, &one] {
                next.attach(STREAM).unwrap();
            }
        }
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.len() > 60, "it was at work meanwhile: {}", seen.len());
        assert!(seen.iter().all(|seen| seen[1] == Some(second.pa().0)));
        seen.dedup();
        let plain: Vec<_> = seen.iter().map(|seen| seen[0].unwrap()).collect();
        let (one, two) = (first.pa().0, second.pa().0);
        let turn = [two, AT, one, AT, one];
        assert_eq!(plain, [&[one][..], &turn, &turn].concat());
    }
}

#[test]
fn the_first_substream_comes_and_the_last_goes_without_a_gap() {
    for features in kinds() {
        let bench = Bench::slow(features, 60);
        let (plain, pages) = domain(&bench, 4);
        let (one, _pages) = domain(&bench, 1);
        plain.attach(STREAM).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (smmu, log) = (bench.smmu.clone(), seen.clone());
        bench
            .sim
            .add_device(0x3000_0000, 0x1000, Reader { smmu, seen: log });
        for _ in 0..3 {
            attach(&one, 1);
            block(&bench, 1);
        }
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.len() > 60 && seen.iter().all(|seen| seen[0] == Some(pages.pa().0)));
    }
}

#[test]
fn s25_substreams_that_there_are_not_are_errors() {
    let bench = Bench::virt();
    assert_eq!(bench.iommu().substreams(), 0);
    let (domain_of_none, _pages) = domain(&bench, 1);
    let fault = domain_of_none.attach_substream(STREAM, SubstreamId(1));
    let said = fault.unwrap_err().to_string();
    assert!(said.contains("has no substreams"), "{said}");
    let wide = Features {
        substream_bits: 20,
        two_level_cds: false,
        ..Features::virt()
    };
    for (features, substreams) in [
        (Features::substreams(), 1 << 8),
        // So many CDs side by side are not had.
        (wide, 1 << 10),
    ] {
        let bench = Bench::new(features);
        assert_eq!(bench.iommu().substreams(), substreams);
        let (domain, _pages) = domain(&bench, 1);
        let substream = SubstreamId(substreams as u32);
        let fault = Fault::SubstreamOutOfRange {
            substream,
            substreams,
        };
        let iommu = bench.iommu();
        assert_eq!(
            domain.attach_substream(STREAM, substream),
            Err(fault.clone())
        );
        assert_eq!(iommu.block_substream(STREAM, substream), Err(fault));
        let zero = domain.attach_substream(STREAM, SubstreamId(0)).unwrap_err();
        assert!(zero.to_string().contains("attach the stream itself"));
        // What has no CD of its own cannot be a substream's.
        let parent = iommu.parent_domain().unwrap();
        let nested = parent.nested().unwrap();
        assert!(nested.attach_substream(STREAM, SubstreamId(1)).is_err());
        let identity = iommu.identity_domain().unwrap();
        assert!(identity.attach_substream(STREAM, SubstreamId(1)).is_err());
        domain.attach_substream(STREAM, SubstreamId(1)).unwrap();
        assert!(nested.attach(STREAM).is_err());
        assert_eq!(bench.read_as(STREAM.0, 1, AT), Ok(1));
    }
}

#[test]
fn entries_say_where_each_substream_goes() {
    let bench = Bench::new(Features::substreams());
    let (one, _one) = domain(&bench, 1);
    let (two, _two) = domain(&bench, 2);
    one.attach(STREAM).unwrap();
    attach(&two, 0x47);
    let dump = bench.iommu().describe(STREAM).unwrap();
    let parts: Vec<_> = dump
        .parts
        .iter()
        .map(|part| (part.name, part.substream.map(|substream| substream.0)))
        .collect();
    let expected = [
        ("L1STD", None),
        ("STE", None),
        ("L1CD", Some(0)),
        ("CD", Some(0)),
        ("L1CD", Some(0x47)),
        ("CD", Some(0x47)),
    ];
    assert_eq!(parts, expected);
    let field = |part: usize, name: &str| {
        let fields = &dump.parts[part].fields;
        fields.iter().find(|(known, _)| *known == name).unwrap().1
    };
    assert_eq!((field(1, "S1CDMax"), field(1, "S1Fmt")), (8, 1));
    assert_eq!(field(1, "S1DSS"), 0b10);
    assert_eq!(field(3, "ASID"), u64::from(one.tag().unwrap().number()));
    assert_eq!(field(5, "ASID"), u64::from(two.tag().unwrap().number()));
    assert_eq!(field(1, "S1ContextPtr"), dump.parts[2].pa.0);
    assert_eq!(dump.parts[4].pa.0, dump.parts[2].pa.0 + 8);
    assert_eq!(field(4, "L2Ptr") + 7 * 64, dump.parts[5].pa.0);
    let words = bench.iommu().status().features.join(", ");
    assert!(words.contains("8-bit SubstreamIDs"), "{words}");
    // A fault names the substream, and what is mapped there.
    assert!(bench.read_as(STREAM.0, 0x47, AT + PAGE).is_err());
    let faults = bench.faults();
    let detail = &faults[0].report.detail;
    assert!(detail.contains("SubstreamID 0x47"), "{detail}");
    let tag = format!("{}, mapped", two.tag().unwrap());
    assert!(detail.contains(&tag), "{detail}");
}

#[test]
fn tags_and_tables_come_back_and_bring_nothing_along() {
    for features in kinds() {
        let bench = Bench::new(features);
        drop(bench.attached(STREAM.0));
        bench.iommu().block(STREAM).unwrap();
        let frames = bench.frames();
        let mut tags = Vec::new();
        for turn in 0..4 {
            let (domain, pages) = domain(&bench, turn);
            tags.push(domain.tag());
            attach(&domain, 1);
            attach(&domain, 2);
            assert_eq!((read(&bench, 1), read(&bench, 2)), (Ok(turn), Ok(turn)));
            // Its memory may go only when no substream leads there any more.
            domain.unmap(Iova(AT), PAGE).unwrap();
            drop((domain, pages));
            if turn % 2 == 0 {
                block(&bench, 1);
                assert!(bench.frames() > frames);
                block(&bench, 2);
            } else {
                bench.iommu().block(STREAM).unwrap();
            }
            assert_eq!(bench.frames(), frames);
        }
        assert!(tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
        assert_eq!(bench.iommu().status().domains, 0);
    }
}

#[test]
fn whatever_runs_out_leaves_all_as_it_was() {
    for n in 0.. {
        let bench = Bench::new(Features::substreams());
        let (plain, _plain) = domain(&bench, 1);
        let (one, _one) = domain(&bench, 2);
        plain.attach(STREAM).unwrap();
        bench.sim.inject().fail(Step::Pages, n);
        let done = one.attach_substream(STREAM, SubstreamId(0x47));
        let failed = !bench.sim.inject().is_armed(Step::Pages);
        bench.sim.inject().disarm(Step::Pages);
        assert_eq!(done.is_err(), failed, "{n}");
        assert_eq!(bench.read(STREAM.0, AT), Ok(1));
        if !failed {
            assert_eq!(n, 3, "level 1, and two tables of level 2");
            // A substream ends without memory.
            bench.sim.inject().fail(Step::Pages, 0);
            block(&bench, 0x47);
            assert!(bench.sim.inject().is_armed(Step::Pages));
            return;
        }
        let frames = bench.frames();
        attach(&one, 0x47);
        block(&bench, 0x47);
        assert_eq!(bench.frames(), frames, "{n}");
    }
}

#[test]
fn s29_what_may_still_be_used_is_not_given_back() {
    for features in kinds() {
        for attach_first in [false, true] {
            let bench = Bench::new(features.clone());
            let (one, _one) = domain(&bench, 1);
            let (two, _two) = domain(&bench, 2);
            one.attach(STREAM).unwrap();
            attach(&one, 1);
            if attach_first {
                attach(&two, 2);
            }
            bench.model().freeze(true);
            let held = bench.frames();
            let failed = match attach_first {
                true => bench.iommu().block_substream(STREAM, SubstreamId(2)),
                false => two.attach_substream(STREAM, SubstreamId(1)),
            };
            assert!(failed.is_err());
            drop((one, two));
            assert!(bench.frames() >= held);
            // And what is half done is no beginning for what is next.
            bench.model().freeze(false);
            let (three, _three) = domain(&bench, 3);
            attach(&three, 2);
            assert_eq!(read(&bench, 2), Ok(3));
            assert!(read(&bench, 1).is_err());
        }
    }
}

#[test]
fn s13_a_driver_gives_its_devices_substreams_spaces_of_their_own() {
    type Kept = Arc<Mutex<Option<Managed<Sim>>>>;
    let kept = Kept::default();
    let keep = kept.clone();
    let take = Do::Call(Box::new(move |probe| {
        *keep.lock().unwrap() = Some(probe.managed()?);
        Ok(())
    }));
    let matches = &[Match::compatible("test,master").managed()];
    let master = FakeDriver::new("master", matches, vec![take], &Diary::default());
    let (features, wiring) = (Features::substreams(), Wiring::of(&Features::substreams()));
    let mut bench = Bench::peopled(features, wiring, &[master], |_, _| {
        Box::new(|tree| {
            tree.node("master", |n| {
                n.compatible(&["test,master"])
                    .cells("iommus", &[2, STREAM.0])
                    .u32("pasid-num-bits", 3)
            })
        })
    });
    let managed = kept.lock().unwrap().take().unwrap();
    // The device has fewer than the SMMU.
    assert_eq!(managed.substreams(), 8);
    let space = |byte| {
        let space = managed.space().unwrap();
        let pages = bench.pages(1, byte);
        space.map(Iova(AT), pages, Permission::ReadWrite).unwrap();
        space
    };
    let spaces = [space(1), space(2), space(3)];
    let beyond = managed.attach_substream(SubstreamId(8), &spaces[0]);
    assert!(matches!(beyond, Err(Fault::SubstreamOutOfRange { .. })));
    let attach = |substream, space: usize| {
        let done = managed.attach_substream(SubstreamId(substream), &spaces[space]);
        done.unwrap();
    };
    attach(1, 0);
    attach(2, 1);
    let seen = [1, 2].map(|substream| read(&bench, substream));
    assert_eq!(seen, [Ok(1), Ok(2)]);
    assert_eq!(bench.read(STREAM.0, AT), Err(BusError::Aborted));
    managed.attach(&spaces[2]).unwrap();
    attach(1, 2);
    assert_eq!(bench.read(STREAM.0, AT), Ok(3));
    assert_eq!(read(&bench, 1), Ok(3));
    let infos = bench.engine.device("/master").unwrap().spaces();
    let shown: Vec<_> = infos
        .iter()
        .map(|info| info.substream.map(|id| id.0))
        .collect();
    assert_eq!(shown, [None, Some(1), Some(2)]);
    managed.detach_substream(SubstreamId(1)).unwrap();
    assert_eq!((read(&bench, 1), read(&bench, 2)), (BAD_CD, Ok(2)));
    managed.detach();
    assert_eq!(read(&bench, 2), Err(Abort::Configured));
    attach(2, 0);
    // And all of it ends with the binding.
    bench.engine.unbind("/master").unwrap();
    assert_eq!(read(&bench, 2), Err(Abort::Configured));
    let late = managed.attach_substream(SubstreamId(2), &spaces[0]);
    assert_eq!(late, Err(Fault::Revoked));
    drop((spaces, managed));
    assert_eq!(bench.iommu().status().domains, 0);
}

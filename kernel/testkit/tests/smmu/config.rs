//! Stream table and context descriptors, and their caching (IHI 0070 §3.21.3,
//! §5.1, §5.2, §5.4).

use mastiff_core::platform::{Mmio, Pages};
use mastiff_testkit::SimPages;
use mastiff_testkit::smmu::{Abort, Access, EventKind, Features};

use crate::bench::*;

#[test]
fn a_stream_that_is_attached_by_the_book_translates() {
    for features in [Features::virt(), Features::small()] {
        let bench = Bench::up(features);
        let space = bench.space(1);
        space.map(IOVA, 0x5000).unwrap();
        bench.attach(STREAM, &space);
        assert_eq!(bench.read(STREAM, IOVA + 0x123), Ok(0x5123));
        assert_eq!(bench.read(STREAM + 1, IOVA), Err(Abort::Configured));
        bench.detach(STREAM);
        assert_eq!(bench.read(STREAM, IOVA), Err(Abort::Configured));
    }
}

#[test]
fn dma_of_devices_goes_through_it() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    let buffer = bench.pages(PAGE);
    space.map(IOVA, buffer.pa().0).unwrap();
    bench.attach(STREAM, &space);
    bench.sim.port().write(STREAM, IOVA + 8, &[7; 8]).unwrap();
    assert_eq!(buffer.load64(8), 0x0707_0707_0707_0707);
    assert!(
        bench
            .sim
            .port()
            .write(STREAM, IOVA + PAGE, &[7; 8])
            .is_err()
    );
}

#[test]
fn bypass_is_checked_against_the_output_size() {
    let bench = Bench::up(Features::virt());
    bench.set_ste_word(STREAM, 0, 0b100 << 1 | 1);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    assert_eq!(bench.read(STREAM, 0x1234), Ok(0x1234));
    assert_eq!(bench.read(STREAM, 1 << 44), fault(EventKind::AddressSize));
}

#[test]
fn streams_beyond_the_table() {
    let bench = Bench::up(Features::virt());
    assert_eq!(bench.read(32, 0), fault(EventKind::BadStreamId));
    assert_eq!(bench.event(), [0x20_0000_0002, 0, 0, 0]);
    assert_eq!(bench.read(0x1_0000, 0), fault(EventKind::BadStreamId));
    // Without CR2.RECINVSID they are aborted silently.
    bench.enable(CMDQEN | EVENTQEN);
    bench.regs.write32(CR2, 0);
    bench.enable(CMDQEN | EVENTQEN | SMMUEN);
    assert_eq!(bench.read(32, 0), Err(Abort::Configured));
}

#[test]
fn what_is_invalid_is_reported() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.set_ste_word(STREAM, 0, 0);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::BadSte));
    // S1STALLD without stalls.
    bench.set_ste(STREAM, &[space.ste() & !1, 1 << 27]);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    bench.set_ste_word(STREAM, 0, space.ste());
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::BadSte));
    // No memory where the CD should be.
    bench.set_ste_word(STREAM, 1, 0);
    bench.set_ste_word(STREAM, 0, 0x100 << 6 | 0xb);
    let stream = STREAM + 1;
    bench.set_ste_word(stream, 0, 0x100 << 6 | 0xb);
    bench.publish();
    bench.run(&[cfgi_ste(stream, true)]);
    assert_eq!(bench.read(stream, IOVA), fault(EventKind::CdFetch));
    assert_eq!(bench.events().last().unwrap()[3], 0x100 << 6);
    // A CD with V = 0.
    let empty = bench.pages(PAGE);
    fill(&empty, 0, &[0]);
    bench.set_ste_word(stream, 0, empty.pa().0 | 0xb);
    bench.publish();
    bench.run(&[cfgi_ste(stream, true)]);
    assert_eq!(bench.read(stream, IOVA), fault(EventKind::BadCd));
}

#[test]
fn an_stes_change_is_seen_after_invalidation_and_sync_only() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    space.map(IOVA, 0x5000).unwrap();
    bench.attach(STREAM, &space);
    bench.set_ste_word(STREAM, 0, ABORT);
    bench.publish();
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000));
    bench.submit(&[cfgi_ste(STREAM, true)]);
    bench.drain();
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000), "no sync yet");
    bench.run(&[]);
    assert_eq!(bench.read(STREAM, IOVA), Err(Abort::Configured));
}

#[test]
fn invalidating_another_stream_does_not_help() {
    let bench = Bench::up(Features::virt());
    bench.set_ste_word(STREAM, 0, 0);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM + 1, true)]);
    assert_eq!(bench.read(STREAM, IOVA), Err(Abort::Configured));
    // A range of four streams does: 2^(1 + 1).
    bench.run(&[[0x04, 1]]);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::BadSte));
}

#[test]
fn an_invalid_entry_is_cached_too() {
    // §3.21.3.1: without the invalidation after V = 1 the old one stays.
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.set_ste(STREAM, &[space.ste() & !1]);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    bench.set_ste_word(STREAM, 0, space.ste());
    bench.publish();
    bench.run(&[]);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::BadSte));
}

#[test]
fn what_is_written_after_the_invalidation_was_issued_is_not_seen() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.attach(STREAM, &space);
    bench.submit(&[cfgi_ste(STREAM, true), SYNC]);
    bench.set_ste_word(STREAM, 0, ABORT);
    bench.publish();
    bench.drain();
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::Translation));
}

#[test]
fn an_entry_that_can_be_seen_half_written_is_a_breach() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    // All at once: the SMMU may have the old second word.
    bench.set_ste(STREAM, &[space.ste(), 1 << 44]);
    bench.publish();
    let said = breach(|| bench.run(&[cfgi_ste(STREAM, true)]));
    assert!(said.contains("§3.21.3"), "{said}");
}

#[test]
fn without_a_sync_between_them_two_halves_are_one() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.set_ste(STREAM, &[space.ste() & !1, 1 << 44]);
    bench.publish();
    bench.submit(&[cfgi_ste(STREAM, true)]);
    bench.set_ste_word(STREAM, 0, space.ste());
    bench.publish();
    let said = breach(|| bench.run(&[cfgi_ste(STREAM, true)]));
    assert!(said.contains("§3.21.3"), "{said}");
}

#[test]
fn one_word_may_change_under_a_live_stream() {
    let bench = Bench::up(Features::virt());
    let (one, two) = (bench.space(1), bench.space(2));
    one.map(IOVA, 0x5000).unwrap();
    two.map(IOVA, 0x6000).unwrap();
    bench.attach(STREAM, &one);
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000));
    bench.set_ste_word(STREAM, 0, two.ste());
    bench.publish();
    bench.submit(&[cfgi_ste(STREAM, true), SYNC]);
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000));
    bench.drain();
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x6000));
}

#[test]
fn a_cd_is_kept_until_its_own_invalidation() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.attach(STREAM, &space);
    let other = bench.space(1);
    other.map(IOVA, 0x6000).unwrap();
    space.cd.store64(8, other.tables.root());
    bench.publish();
    bench.run(&[tlbi_asid(1)]);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::Translation));
    bench.run(&[cfgi_cd(STREAM), tlbi_asid(1)]);
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x6000));
}

#[test]
fn a_cd_that_changes_in_two_words_under_a_live_stream_is_a_breach() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.attach(STREAM, &space);
    space.cd.store64(8, bench.space(2).tables.root());
    space.cd.store64(24, 0);
    bench.publish();
    let said = breach(|| bench.run(&[cfgi_cd(STREAM)]));
    assert!(said.contains("§3.21.3: a CD"), "{said}");
}

#[test]
fn a_cd_that_is_freed_before_the_stream_was_cut_off_stops_the_test() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.attach(STREAM, &space);
    bench.set_ste_word(STREAM, 0, ABORT);
    bench.publish();
    bench.submit(&[cfgi_ste(STREAM, true), SYNC]);
    drop(space.cd);
    let said = breach(|| bench.drain());
    assert!(said.contains("nobody holds"), "{said}");
}

#[test]
fn one_asid_for_two_address_spaces_is_a_breach() {
    let bench = Bench::up(Features::virt());
    let (one, two) = (bench.space(7), bench.space(7));
    bench.attach(STREAM, &one);
    let said = breach(|| bench.attach(STREAM + 1, &two));
    assert!(said.contains("§5.4.1"), "{said}");
    // Two streams of one space are fine.
    let bench = Bench::up(Features::virt());
    let space = bench.space(7);
    space.map(IOVA, 0x5000).unwrap();
    bench.attach(STREAM, &space);
    bench.attach(STREAM + 1, &space);
    assert_eq!(bench.read(STREAM + 1, IOVA), Ok(0x5000));
}

/// A 2-level table of 2^8 streams, no array linked.
fn two_level(split: u32) -> (Bench, SimPages) {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.set_stream_table();
    let level1 = bench.pages(PAGE);
    fill(&level1, 0, &[0]);
    bench.regs.write64(STRTAB_BASE, level1.pa().0);
    bench
        .regs
        .write32(STRTAB_BASE_CFG, 1 << 16 | split << 6 | 8);
    bench.publish();
    bench.enable(CMDQEN);
    bench.clean();
    bench.enable(CMDQEN | EVENTQEN);
    bench.enable(CMDQEN | EVENTQEN | SMMUEN);
    (bench, level1)
}

#[test]
fn an_array_is_linked_by_an_invalidation_that_is_not_of_the_leaf_only() {
    let (bench, level1) = two_level(6);
    let stream = 0x42;
    assert_eq!(bench.read(stream, IOVA), fault(EventKind::BadStreamId));
    let array = bench.pages(PAGE);
    for index in 0..64 {
        fill(&array, 64 * index, &[ABORT]);
    }
    level1.store64(8, array.pa().0 | 7);
    bench.publish();
    bench.run(&[cfgi_ste(stream, true)]);
    assert_eq!(bench.read(stream, IOVA), fault(EventKind::BadStreamId));
    bench.run(&[cfgi_ste(stream, false)]);
    assert_eq!(bench.read(stream, IOVA), Err(Abort::Configured));
    // The others of the array come with it, those of other arrays do not.
    assert_eq!(bench.read(0x7f, IOVA), Err(Abort::Configured));
    assert_eq!(bench.read(0x80, IOVA), fault(EventKind::BadStreamId));
    assert_eq!(bench.read(0x100, IOVA), fault(EventKind::BadStreamId));
}

#[test]
fn a_split_of_8_puts_all_of_256_streams_into_one_array() {
    let (bench, level1) = two_level(8);
    let array = bench.pages(4 * PAGE);
    for index in 0..256 {
        fill(&array, 64 * index, &[ABORT]);
    }
    level1.store64(0, array.pa().0 | 9);
    bench.publish();
    bench.run(&[cfgi_ste(0, false)]);
    assert_eq!(bench.read(0xff, IOVA), Err(Abort::Configured));
    assert_eq!(bench.read(0x100, IOVA), fault(EventKind::BadStreamId));
}

#[test]
fn an_array_that_is_not_in_memory_is_a_fetch_abort() {
    let (bench, level1) = two_level(6);
    level1.store64(0, 0x9000_0000 | 7);
    bench.publish();
    bench.run(&[cfgi_ste(5, false)]);
    assert_eq!(bench.read(5, IOVA), fault(EventKind::SteFetch));
    assert_eq!(bench.event(), [0x5_0000_0003, 0, 0, 0x9000_0000 + 5 * 64]);
}

#[test]
fn a_misaligned_array_is_a_breach() {
    let (bench, level1) = two_level(6);
    level1.store64(0, (bench.pages(PAGE).pa().0 + 64) | 7);
    bench.publish();
    let said = breach(|| bench.run(&[cfgi_ste(5, false)]));
    assert!(said.contains("§5.1"), "{said}");
}

#[test]
fn re_enabling_uses_what_is_still_cached() {
    let bench = Bench::up(Features::virt());
    bench.enable(CMDQEN | EVENTQEN);
    bench.set_ste_word(STREAM, 0, 0);
    bench.publish();
    bench.enable(CMDQEN | EVENTQEN | SMMUEN);
    assert_eq!(bench.read(STREAM, IOVA), Err(Abort::Configured));
    bench.enable(CMDQEN | EVENTQEN);
    bench.run(&[CFGI_ALL]);
    bench.enable(CMDQEN | EVENTQEN | SMMUEN);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::BadSte));
}

#[test]
fn while_it_is_off_nothing_is_fetched() {
    let bench = Bench::up(Features::virt());
    bench.enable(CMDQEN | EVENTQEN);
    bench.run(&[CFGI_ALL]);
    bench.set_ste_word(STREAM, 0, 0);
    bench.publish();
    bench.enable(CMDQEN | EVENTQEN | SMMUEN);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::BadSte));
}

#[test]
fn a_context_may_be_freed_once_its_stream_was_cut_off() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.attach(STREAM, &space);
    bench.detach(STREAM);
    drop(space);
    let next = bench.space(2);
    bench.attach(STREAM, &next);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::Translation));
    // Also if its own invalidation comes along, before or after.
    for batch in [
        [cfgi_ste(STREAM, true), cfgi_cd(STREAM)],
        [cfgi_cd(STREAM), cfgi_ste(STREAM, true)],
    ] {
        let space = bench.space(3);
        bench.detach(STREAM);
        bench.attach(STREAM, &space);
        bench.set_ste_word(STREAM, 0, ABORT);
        bench.publish();
        bench.run(&batch);
        drop(space);
        bench.attach(STREAM, &next);
    }
}

#[test]
fn a_substreams_descriptor_is_cached_until_an_invalidation_names_it() {
    let bench = Bench::up(Features::substreams());
    let space = bench.space(1);
    space.map(IOVA, 0x5000).unwrap();
    // Two descriptors side by side: S1CDMax 1, S1DSS 0b10. The second has ASID 2.
    let words = [0, 8, 16, 24].map(|at| space.cd.load64(at));
    fill(
        &space.cd,
        64,
        &[words[0] + (1 << 48), words[1], 0, words[3]],
    );
    let first = space.ste() | 1 << 59;
    bench.set_ste(STREAM, &[first & !1, 0b10]);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    bench.set_ste_word(STREAM, 0, first);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    let read = |substream| {
        let mut model = bench.model();
        model.translate_as(STREAM, substream, IOVA, Access::Read)
    };
    assert_eq!((read(None), read(Some(1))), (Ok(0x5000), Ok(0x5000)));
    assert_eq!(read(Some(0)), fault(EventKind::StreamDisabled));
    assert_eq!(read(Some(2)), fault(EventKind::BadSubstreamId));
    // §7.3.9: SubstreamID 31:12, and no SSV.
    assert_eq!(bench.events()[1], [0x3_0000_2008, 0, 0, 0]);
    space.cd.store64(64, 0);
    bench.publish();
    let cfgi = |substream: u64| [u64::from(STREAM) << 32 | substream << 12 | 0x05, 1];
    bench.run(&[cfgi(0)]);
    assert_eq!(read(Some(1)), Ok(0x5000), "another one was named");
    bench.run(&[cfgi(1)]);
    assert_eq!(
        (read(None), read(Some(1))),
        (Ok(0x5000), fault(EventKind::BadCd))
    );
}

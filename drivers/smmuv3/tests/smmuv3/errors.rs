//! The hardware refuses, stalls, or breaks down.

use mastiff_core::addr::{Iova, PAGE, StreamId};
use mastiff_core::dma::ToDevice;
use mastiff_core::error::Fault;
use mastiff_core::platform::Pages;
use mastiff_testkit::bus::BusError;
use mastiff_testkit::inject::Step;
use mastiff_testkit::smmu::{Features, Trouble};
use mastiff_testkit::trace::Event;

use crate::bench::{BASE, Bench, NAME, map, map_at, with_capability};
use crate::said::complaints;

#[test]
fn s29_an_illegal_command_is_skipped_and_its_caller_told() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(2, 1);
    map(&domain, 0, &pages);
    assert_eq!((bench.read(8, 0), bench.read(8, PAGE)), (Ok(1), Ok(2)));
    bench.model().make(Trouble::IllegalCommand);
    let fault = domain.unmap(Iova(0), PAGE).unwrap_err();
    assert!(fault.to_string().contains("CERROR_ILL"), "{fault}");
    assert_eq!(bench.iommu().status().errors, 1);
    // The invalidation did not take place, and that is why the caller was told.
    assert_eq!(bench.read(8, 0), Ok(1));
    // The queue goes on.
    assert_eq!(domain.unmap(Iova(PAGE), PAGE), Ok(()));
    assert_eq!(bench.read(8, PAGE), Err(BusError::Aborted));
}

#[test]
fn s29_any_refused_command_of_an_unmapping_is_told() {
    // A page, a block, and a page: three commands and a sync.
    let (at, len) = ((2 << 20) - PAGE, (2 << 20) + 2 * PAGE);
    for refused in 0..4 {
        let bench = Bench::virt();
        let domain = bench.attached(8);
        map_at(&domain, at, 0x4020_0000 - PAGE, len).unwrap();
        let illegal = || bench.model().make(Trouble::IllegalCommand);
        // Those before are of another unmapping, and told to that.
        for page in 0..refused {
            map_at(&domain, page * PAGE, 0x4000_0000, PAGE).unwrap();
            illegal();
            assert!(domain.unmap(Iova(page * PAGE), PAGE).is_err());
        }
        let before = bench.iommu().status().commands;
        illegal();
        let fault = domain.unmap(Iova(at), len).unwrap_err().to_string();
        assert!(fault.contains("CMD_TLBI_NH_VA: CERROR_ILL"), "{fault}");
        assert_eq!(bench.iommu().status().commands - before, 4);
    }
}

#[test]
fn s29_a_fetch_that_aborts_is_tried_again_but_not_for_ever() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(2, 1);
    map(&domain, 0, &pages);
    bench.model().make(Trouble::CommandAbort);
    assert_eq!(domain.unmap(Iova(0), PAGE), Ok(()));
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
    assert_eq!(bench.iommu().status().errors, 1);
    for _ in 0..20 {
        bench.model().make(Trouble::CommandAbort);
    }
    let fault = domain.unmap(Iova(PAGE), PAGE).unwrap_err();
    assert!(fault.to_string().contains("CERROR_ABT"), "{fault}");
    assert!(domain.attach(StreamId(9)).is_err());
    assert!(bench.iommu().block(StreamId(8)).is_err());
}

#[test]
fn s29_a_queue_that_cannot_go_on_is_not_told_to() {
    // GERROR toggles with each error: both of its values.
    for served in [0, 1] {
        let bench = Bench::virt();
        let domain = bench.attached(8);
        map(&domain, 0, &bench.pages(2, 1));
        for _ in 0..served {
            bench.model().make(Trouble::CommandAbort);
            assert_eq!(domain.unmap(Iova(PAGE), PAGE), Ok(()));
        }
        for _ in 0..20 {
            bench.model().make(Trouble::CommandAbort);
        }
        assert!(domain.unmap(Iova(0), PAGE).is_err());
        let active = bench.register(0x60) ^ bench.register(0x64);
        assert_eq!(active, 1, "CMDQ_ERR and no other is active");
        assert_eq!(bench.register(0x60) & 1, (4 + served) % 2);
    }
}

#[test]
fn s29_a_sync_that_finds_an_atc_silent_is_tried_again_but_not_for_ever() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(2, 1);
    map(&domain, 0, &pages);
    bench.read(8, 0).unwrap();
    bench.model().make(Trouble::AtcTimeout);
    assert_eq!(domain.unmap(Iova(0), PAGE), Ok(()));
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
    assert_eq!(bench.iommu().status().errors, 1);
    for _ in 0..20 {
        bench.model().make(Trouble::AtcTimeout);
    }
    let fault = domain.unmap(Iova(PAGE), PAGE).unwrap_err();
    assert!(fault.to_string().contains("CERROR_ATC_INV_SYNC"), "{fault}");
}

#[test]
fn s29_a_sync_that_does_not_come_is_an_error_for_the_unmapping() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(3, 1);
    map(&domain, 0, &pages);
    for page in 0..3 {
        bench.read(8, page * PAGE).unwrap();
    }
    bench.model().freeze(true);
    let fault = domain.unmap(Iova(0), PAGE).unwrap_err();
    let Fault::Timeout { register, us, .. } = fault else {
        panic!("{fault:?}");
    };
    assert_eq!((register, us), ("SMMU_CMDQ_CONS", 100_000));
    // Whoever comes next does not wait as long for the same news.
    let fault = domain.unmap(Iova(PAGE), PAGE).unwrap_err();
    assert!(
        matches!(fault, Fault::Timeout { us: 1_000, .. }),
        "{fault:?}"
    );
    bench.model().freeze(false);
    assert_eq!(domain.unmap(Iova(2 * PAGE), PAGE), Ok(()));
    for page in 0..3 {
        assert_eq!(bench.read(8, page * PAGE), Err(BusError::Aborted));
    }
}

#[test]
fn s29_nothing_is_reused_that_the_hardware_may_still_use() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    let asid = domain.tag();
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    bench.read(8, 0).unwrap();
    let frames = bench.frames();
    bench.model().freeze(true);
    assert!(bench.iommu().block(StreamId(8)).is_err());
    assert_eq!(
        bench.iommu().live_streams(),
        [StreamId(8)],
        "it may still pass"
    );
    drop(domain);
    assert_eq!(bench.frames(), frames, "an entry may still point there");
    bench.model().freeze(false);
    bench.iommu().block(StreamId(8)).unwrap();
    assert!(bench.frames() < frames);
    assert_eq!(bench.domain().tag(), asid);

    let unattached = bench.domain();
    map(&unattached, 0, &pages);
    let frames = bench.frames();
    let asid = unattached.tag();
    bench.model().freeze(true);
    drop(unattached);
    bench.model().freeze(false);
    // The CD's page, and a table of each of four levels.
    let memory = bench.sim.memory();
    assert_eq!(memory.live() + memory.quarantined(), frames);
    assert_eq!(memory.quarantined(), 5);
    assert_ne!(bench.domain().tag(), asid);
}

#[test]
fn an_attachment_that_cannot_be_completed_is_none() {
    let bench = Bench::virt();
    let domain = bench.domain();
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    bench.model().freeze(true);
    assert!(domain.attach(StreamId(8)).is_err());
    bench.model().freeze(false);
    bench.iommu().block(StreamId(8)).unwrap();
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
    assert!(bench.iommu().live_streams().is_empty());
    // Nor does the next attempt take it for one. With a neighbour there, the way to
    // the entry is known and the entry itself is what is not.
    domain.attach(StreamId(9)).unwrap();
    for block_first in [false, true] {
        bench.model().freeze(true);
        assert!(domain.attach(StreamId(8)).is_err());
        bench.model().freeze(false);
        if block_first {
            bench.iommu().block(StreamId(8)).unwrap();
        }
        domain.attach(StreamId(8)).unwrap();
        assert_eq!(bench.read(8, 0), Ok(1));
        bench.iommu().block(StreamId(8)).unwrap();
    }
}

#[test]
fn an_attachment_that_fails_is_undone_where_that_can_be() {
    let bench = Bench::virt();
    let domain = bench.attached(9);
    bench.model().make(Trouble::IllegalCommand);
    assert!(domain.attach(StreamId(8)).is_err());
    assert_eq!(bench.iommu().live_streams(), [StreamId(9)]);
    assert_eq!(bench.iommu().describe(StreamId(8)).unwrap().config, "abort");
}

#[test]
fn each_global_error_is_told_by_its_name() {
    let bench = Bench::virt();
    let domain = bench.attached(8);
    for (trouble, name) in [
        (Trouble::EventAbort, "EVENTQ_ABT_ERR"),
        (Trouble::IllegalCommand, "CMDQ_ERR"),
    ] {
        bench.model().make(trouble);
        let told = complaints(|| {
            bench.read(8, 0).unwrap_err();
            bench.serve();
            assert_eq!(domain.attach(StreamId(9)).is_err(), name == "CMDQ_ERR");
            bench.iommu().block(StreamId(9)).unwrap();
        });
        let error = format!("global error: {name}");
        assert!(told.iter().any(|line| line.contains(&error)), "{told:?}");
    }
}

#[test]
fn errors_that_there_are_not_end_nothing() {
    // GERROR or GERRORN reads as all ones once, as a bus does when it is disturbed.
    let mut disturbed = Vec::new();
    for n in 0..8 {
        let bench = Bench::slow(Features::virt(), 40);
        let domain = bench.attached(8);
        map(&domain, 0, &bench.pages(1, 1));
        bench.sim.trace().start();
        bench.sim.inject().fail(Step::Read, n);
        let unmapped = domain.unmap(Iova(0), PAGE);
        bench.sim.inject().disarm(Step::Read);
        let trace = bench.sim.trace().stop();
        let garbage = trace.iter().find_map(|event| match event {
            Event::Read { pa, value } if *value == u64::from(u32::MAX) => Some(pa - BASE),
            _ => None,
        });
        let Some(register @ (0x60 | 0x64)) = garbage else {
            continue;
        };
        disturbed.push(register);
        assert_eq!(unmapped, Ok(()), "{register:#x}");
        assert_eq!(bench.iommu().status().errors, 0);
        domain.attach(StreamId(9)).unwrap();
    }
    disturbed.sort_unstable();
    disturbed.dedup();
    assert_eq!(disturbed, [0x60, 0x64]);
}

#[test]
fn service_failure_ends_it() {
    let mut bench = Bench::virt();
    let domain = bench.attached(8);
    let pages = bench.pages(1, 1);
    map(&domain, 0, &pages);
    bench.model().make(Trouble::ServiceFailure);
    let told = complaints(|| drop(bench.iommu().status())).join("\n");
    for said in [
        "global error: SFM_ERR",
        "it failed and no longer takes commands",
    ] {
        assert!(told.contains(said), "{told}");
    }
    bench.sim.advance_us(10);
    assert_eq!(bench.register(0x24), 0, "CR0ACK");
    assert_eq!(bench.read(8, 0), Err(BusError::Aborted));
    let fault = domain.unmap(Iova(0), PAGE).unwrap_err();
    assert!(fault.to_string().contains("failed"), "{fault}");
    assert!(domain.attach(StreamId(9)).is_err());
    assert!(bench.iommu().paging_domain().is_err());
    assert_eq!(
        map_at(&domain, 0x9000, pages.pa().0, PAGE),
        Ok(()),
        "no hardware is asked"
    );
    let frames = bench.frames();
    drop(domain);
    bench.engine.unbind(NAME).unwrap();
    let memory = bench.sim.memory();
    assert_eq!(
        memory.live() + memory.quarantined(),
        frames,
        "nothing is known to be unused"
    );
    assert_eq!(memory.live(), 1, "the master's page");
    assert!(bench.model().protects());
}

#[test]
fn s29_the_refused_command_of_a_loan_is_told() {
    for messages in [false, true] {
        let (bench, dma) = with_capability(Features {
            messages,
            ..Features::virt()
        });
        let mut pages = dma.pages(PAGE).unwrap();
        // The address is known the second time, which is the shortest way.
        for round in 1..=3 {
            let lent = dma.lend::<ToDevice>(pages).map_err(|failure| failure.fault);
            let lent = lent.unwrap();
            bench.read(8, lent.iova().0).unwrap();
            if round == 3 {
                bench.model().make(Trouble::IllegalCommand);
                let fault = lent.unmap().map(drop).unwrap_err().to_string();
                assert!(fault.contains("CERROR_ILL"), "{fault}");
                assert_eq!(bench.sim.memory().quarantined(), 1, "its page");
                break;
            }
            pages = lent.unmap().unwrap();
        }
    }
}

#[test]
fn s29_an_address_whose_sync_failed_is_not_handed_out_again() {
    let (bench, dma) = with_capability(Features::virt());
    let lend = || {
        let pages = dma.pages(PAGE).unwrap();
        dma.map::<ToDevice>(pages)
            .map_err(|failure| failure.fault)
            .unwrap()
    };
    let mapping = lend();
    let at = mapping.iova();
    assert!(mapping.unmap().is_ok());
    let mapping = lend();
    assert_eq!(mapping.iova(), at, "or this test shows nothing");
    bench.read(8, at.0).unwrap();
    bench.model().freeze(true);
    assert!(matches!(mapping.unmap(), Err(Fault::Timeout { .. })));
    bench.model().freeze(false);
    assert_eq!(bench.sim.memory().quarantined(), 1, "its page");
    // The master may still reach the page, and so it is nobody else's.
    let others: Vec<_> = (0..16).map(|_| lend()).collect();
    assert!(others.iter().all(|other| other.iova() != at));
}

#[test]
fn s29_a_queue_that_nobody_empties_is_not_overrun() {
    let (bench, dma) = with_capability(Features::virt());
    let lend = || {
        let pages = dma.pages(PAGE).unwrap();
        let lent = dma.map::<ToDevice>(pages);
        lent.map_err(|failure| failure.fault).unwrap()
    };
    let mappings: Vec<_> = (0..300).map(|_| lend()).collect();
    bench.model().freeze(true);
    // The model ends the test where PROD passes CONS.
    for mapping in mappings {
        assert!(matches!(mapping.unmap(), Err(Fault::Timeout { .. })));
    }
    bench.model().freeze(false);
    let mapping = lend();
    let at = mapping.iova();
    bench.read(8, at.0).unwrap();
    assert!(mapping.unmap().is_ok());
    assert!(bench.read(8, at.0).is_err());
}

#[test]
fn a_list_goes_with_one_sync_or_is_quarantined_as_a_whole() {
    let (bench, dma) = with_capability(Features::virt());
    let lend = || {
        let pages = (0..32).map(|_| dma.pages(PAGE).unwrap()).rev().collect();
        let list = dma.lend_list::<ToDevice>(pages);
        list.map_err(|failure| failure.fault).unwrap()
    };
    for _ in 0..3 {
        let list = lend();
        let (first, last) = (list.iova(0).unwrap(), list.iova(31).unwrap());
        bench.read(8, first.0).unwrap();
        bench.read(8, last.0).unwrap();
        let before = bench.iommu().status();
        assert_eq!(list.unmap().unwrap().len(), 32);
        let status = bench.iommu().status();
        assert_eq!(status.syncs - before.syncs, 1);
        assert_eq!(
            status.commands - before.commands,
            2,
            "one for all, and a sync"
        );
        assert!(bench.read(8, first.0).is_err() && bench.read(8, last.0).is_err());
    }
    let list = lend();
    bench.model().freeze(true);
    assert!(matches!(list.unmap(), Err(Fault::Timeout { .. })));
    bench.model().freeze(false);
    assert_eq!(bench.sim.memory().quarantined(), 32);
}

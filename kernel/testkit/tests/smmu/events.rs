//! The event queue (IHI 0070 §7.2 to §7.5).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mastiff_core::irq::{IrqSpec, Trigger};
use mastiff_core::platform::{Mmio, Pages, Platform};
use mastiff_testkit::smmu::{Abort, Access, EventKind, Features, Trouble};

use crate::bench::*;

const OVERFLOW: u32 = 1 << 31;

/// A stream whose every access faults.
fn faulting() -> (Bench, Space) {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.attach(STREAM, &space);
    (bench, space)
}

#[test]
fn a_record_says_who_where_and_what() {
    let (bench, _space) = faulting();
    bench.read(STREAM, 0x1234_5678).unwrap_err();
    // F_TRANSLATION; RnW; CLASS = IN; the address, with all its bits.
    let record = [0x3_0000_0010, 0x208_0000_0000, 0x1234_5678, 0];
    assert_eq!(bench.event(), record);
    bench.access(STREAM, 0x1000, Access::Write).unwrap_err();
    assert_eq!(bench.event()[1], 0x200_0000_0000);
}

#[test]
fn the_interrupt_comes_when_the_queue_was_empty_only() {
    let (bench, _space) = faulting();
    let hub = bench.sim.irqs().clone();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let handler = Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let spec = IrqSpec {
        intid: 106,
        trigger: Trigger::Edge,
    };
    let line = hub.connect(hub.chip().unwrap(), spec, "test", handler);
    let fault = || {
        bench.read(STREAM, IOVA).unwrap_err();
        bench.sim.advance_us(1);
        hub.service();
        count.load(Ordering::SeqCst)
    };
    assert_eq!(fault(), 0, "not enabled");
    bench.events();
    bench.regs.write32(IRQ_CTRL, 4);
    bench.wait("IRQ_CTRLACK", || bench.regs.read32(IRQ_CTRLACK) == 4);
    assert_eq!(fault(), 1);
    assert_eq!(fault(), 1);
    bench.events();
    assert_eq!(fault(), 2);
    drop(line);
}

#[test]
fn a_full_queue_loses_events_and_says_so_once() {
    let (bench, _space) = faulting();
    for page in 0..8 {
        bench.read(STREAM, page * PAGE).unwrap_err();
    }
    assert_eq!(bench.regs.read32(EVENTQ_PROD), 8);
    for _ in 0..2 {
        bench.read(STREAM, 0xdead_0000).unwrap_err();
    }
    assert_eq!(bench.regs.read32(EVENTQ_PROD), 8 | OVERFLOW);
    let events = bench.events();
    assert_eq!(events.len(), 8);
    assert!(events.iter().all(|event| event[2] < 8 * PAGE));
    // Acknowledged by `events`: room again, and the next overflow shows.
    for page in 0..9 {
        bench.read(STREAM, page * PAGE).unwrap_err();
    }
    assert_eq!(bench.regs.read32(EVENTQ_PROD), 0);
}

#[test]
fn without_the_queue_events_are_lost_silently() {
    let (bench, _space) = faulting();
    bench.enable(CMDQEN | SMMUEN);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::Translation));
    assert_eq!(bench.regs.read32(EVENTQ_PROD), 0);
}

#[test]
fn an_aborted_write_stops_the_queue_until_it_is_acknowledged() {
    let (bench, _space) = faulting();
    bench.model().make(Trouble::EventAbort);
    bench.read(STREAM, IOVA).unwrap_err();
    assert_eq!(bench.regs.read32(GERROR), 4);
    bench.read(STREAM, IOVA).unwrap_err();
    assert_eq!(bench.regs.read32(EVENTQ_PROD), 0);
    bench.regs.write32(GERRORN, 4);
    bench.read(STREAM, IOVA).unwrap_err();
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn cons_only_goes_forward_and_never_past_prod() {
    let (bench, _space) = faulting();
    bench.read(STREAM, IOVA).unwrap_err();
    let said = breach(|| bench.regs.write32(EVENTQ_CONS, 2));
    assert!(said.contains("§3.21.2"), "{said}");
    let (bench, _space) = faulting();
    bench.read(STREAM, IOVA).unwrap_err();
    bench.events();
    let said = breach(|| bench.regs.write32(EVENTQ_CONS, 0));
    assert!(said.contains("§3.21.2"), "{said}");
}

#[test]
fn out_of_service_nothing_passes() {
    let (bench, space) = faulting();
    space.map(IOVA, 0x5000).unwrap();
    // A second time makes no difference.
    bench.model().make(Trouble::ServiceFailure);
    bench.model().make(Trouble::ServiceFailure);
    assert_eq!(bench.read(STREAM, IOVA), Err(Abort::Disabled));
    assert_eq!(bench.regs.read32(GERROR), 0x100);
}

/// CD.S, STE.S1STALLD in its word.
const STALL: u64 = 1 << 44;
const STALLD: u64 = 1 << 27;

#[test]
fn a_fault_that_stalls_waits_for_software() {
    let features = Features {
        stalls: true,
        ..Features::virt()
    };
    let bench = Bench::up(features);
    let space = bench.space(5);
    space.cd.store64(0, space.cd.load64(0) | STALL);
    bench.attach(STREAM, &space);
    for tag in 0..2 {
        let stalled = bench.read(STREAM, IOVA);
        assert_eq!(stalled, Err(Abort::Stalled { tag }));
        // §7.3.13: Stall is bit 95, STAG bits 79:64.
        assert_eq!(bench.event()[1] & 0xffff_ffff, 1 << 31 | u64::from(tag));
    }
    let stream = u64::from(STREAM) << 32;
    bench.run(&[[stream | 0x44, 0]]);
    assert_eq!(bench.model().stalled_transactions(), 1);
    bench.run(&[[stream | 0x45, 0]]);
    assert_eq!(bench.model().stalled_transactions(), 0);
    let said = breach(|| bench.run(&[[stream | 0x44, 7]]));
    assert!(said.contains("§4.7.1"), "{said}");
}

#[test]
fn where_an_entry_has_no_stalls_a_descriptor_that_has_is_illegal() {
    let features = Features {
        stalls: true,
        ..Features::virt()
    };
    for (s, expected) in [(0, EventKind::Translation), (STALL, EventKind::BadCd)] {
        let bench = Bench::up(features.clone());
        let space = bench.space(5);
        space.cd.store64(0, space.cd.load64(0) | s);
        bench.set_ste_word(STREAM, 1, STALLD);
        bench.publish();
        bench.attach(STREAM, &space);
        bench.set_ste_word(STREAM, 1, STALLD);
        bench.publish();
        bench.run(&[cfgi_ste(STREAM, true)]);
        assert_eq!(bench.read(STREAM, IOVA), fault(expected));
    }
}

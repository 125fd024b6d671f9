//! The command queue (IHI 0070 §4.1, §7.1).

use mastiff_core::platform::{Mmio, Pages};
use mastiff_testkit::smmu::{Features, Trouble};

use crate::bench::*;

/// CMDQ_CONS.ERR and GERROR.CMDQ_ERR.
fn error(bench: &Bench) -> (u32, u32) {
    let active = bench.regs.read32(GERROR) ^ bench.regs.read32(GERRORN);
    (bench.regs.read32(CMDQ_CONS) >> 24, active & 1)
}

fn wait_for_error(bench: &Bench) {
    bench.wait("GERROR", || error(bench).1 == 1);
}

#[test]
fn commands_are_consumed_some_time_later_and_one_by_one() {
    let bench = Bench::up(Features::virt());
    let start = bench.prod.get();
    bench.submit(&[CFGI_ALL, NSNH_ALL, SYNC]);
    assert_eq!(bench.regs.read32(CMDQ_CONS), start);
    bench.wait("the first", || bench.regs.read32(CMDQ_CONS) == start + 1);
    assert_eq!(bench.regs.read32(CMDQ_CONS), start + 2);
    bench.drain();
}

#[test]
fn the_queue_wraps() {
    let bench = Bench::up(Features::virt());
    for _ in 0..40 {
        bench.run(&[NSNH_ALL]);
    }
    let (consumed, syncs) = bench.model().consumed();
    assert_eq!((consumed, syncs), (4 + 80, 2 + 40));
}

#[test]
fn an_illegal_command_stops_the_queue_until_it_is_replaced_and_acknowledged() {
    let bench = Bench::up(Features::virt());
    let slot = bench.prod.get();
    bench.submit(&[NSNH_ALL, [0xff, 0], SYNC]);
    wait_for_error(&bench);
    assert_eq!(error(&bench), (1, 1));
    assert_eq!(bench.regs.read32(CMDQ_CONS) & 0xf_ffff, slot + 1);
    // Nothing moves.
    let before = bench.model().consumed();
    bench.sim.advance_us(100);
    assert_eq!(bench.model().consumed(), before);
    fill(&bench.cmdq, 16 * (slot as usize + 1), &SYNC);
    bench.publish();
    bench.regs.write32(GERRORN, bench.regs.read32(GERROR));
    bench.drain();
    assert_eq!(error(&bench), (0, 0));
}

#[test]
fn commands_after_an_illegal_one_have_no_effect() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(1);
    bench.attach(STREAM, &space);
    space.map(IOVA, 0x5000).unwrap();
    bench.read(STREAM, IOVA).unwrap();
    space.unmap(IOVA);
    bench.submit(&[[0xff, 0], tlbi_asid(1), SYNC]);
    wait_for_error(&bench);
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000));
}

#[test]
fn an_aborted_fetch_can_be_tried_again() {
    let bench = Bench::up(Features::virt());
    bench.model().make(Trouble::CommandAbort);
    bench.submit(&[NSNH_ALL, SYNC]);
    wait_for_error(&bench);
    assert_eq!(error(&bench), (2, 1));
    bench.regs.write32(GERRORN, bench.regs.read32(GERROR));
    bench.drain();
}

#[test]
fn a_frozen_queue_completes_nothing() {
    let bench = Bench::up(Features::virt());
    bench.model().freeze(true);
    bench.submit(&[SYNC]);
    bench.sim.advance_us(1000);
    let cons = bench.regs.read32(CMDQ_CONS);
    assert_ne!(cons, bench.prod.get());
    bench.model().freeze(false);
    bench.drain();
}

#[test]
fn interrupts_of_errors_and_of_syncs_that_ask_for_them() {
    let bench = Bench::up(Features::virt());
    let hub = mastiff_core::platform::Platform::irqs(&bench.sim).clone();
    bench.regs.write32(IRQ_CTRL, 1);
    bench.wait("IRQ_CTRLACK", || bench.regs.read32(IRQ_CTRLACK) == 1);
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let chip = hub.chip().unwrap();
    let lines = [108, 109].map(|intid| {
        let seen = seen.clone();
        let handler = std::sync::Arc::new(move || seen.lock().unwrap().push(intid));
        let trigger = mastiff_core::irq::Trigger::Edge;
        let spec = mastiff_core::irq::IrqSpec { intid, trigger };
        hub.connect(chip.clone(), spec, "test", handler).unwrap()
    });
    bench.submit(&[SYNC]);
    bench.drain();
    bench.submit(&[[0x1046, 0]]);
    bench.drain();
    bench.sim.advance_us(1);
    hub.service();
    assert_eq!(*seen.lock().unwrap(), [108]);
    bench.submit(&[[0xff, 0]]);
    wait_for_error(&bench);
    bench.sim.advance_us(1);
    hub.service();
    assert_eq!(*seen.lock().unwrap(), [108, 109]);
    drop(lines);
}

#[test]
fn without_a_barrier_the_smmu_reads_what_was_there_before() {
    let bench = Bench::up(Features::virt());
    // Poison: an illegal command.
    bench.queue(&[SYNC]);
    bench.regs.write32(CMDQ_PROD, bench.prod.get());
    wait_for_error(&bench);
    assert_eq!(error(&bench), (1, 1));
}

#[test]
fn prod_only_goes_forward_and_never_past_cons() {
    let bench = Bench::up(Features::virt());
    let prod = bench.prod.get();
    let said = breach(|| bench.regs.write32(CMDQ_PROD, prod - 1));
    assert!(said.contains("§3.21.2"), "{said}");
    let said = breach(|| bench.regs.write32(CMDQ_PROD, prod + (1 << CMDQ_BITS) + 1));
    assert!(said.contains("§3.21.2"), "{said}");
    let said = breach(|| bench.regs.write32(CMDQ_PROD, 2 << CMDQ_BITS));
    assert!(said.contains("§6.3.27"), "{said}");
}

#[test]
fn what_was_submitted_is_not_altered() {
    let bench = Bench::up(Features::virt());
    let slot = bench.prod.get() as usize;
    bench.submit(&[NSNH_ALL, SYNC]);
    fill(&bench.cmdq, 16 * (slot + 1), &CFGI_ALL);
    bench.publish();
    let said = breach(|| bench.drain());
    assert!(said.contains("§3.21.2"), "{said}");
}

#[test]
fn a_disabled_queue_goes_on_where_it_was() {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.submit(&[NSNH_ALL, SYNC]);
    bench.sim.advance_us(100);
    assert_eq!(bench.regs.read32(CMDQ_CONS), 0);
    bench.enable(CMDQEN);
    bench.drain();
    assert_eq!(bench.cmdq.load64(0), 0x30);
}

#[test]
fn a_sync_that_an_atc_did_not_answer_is_tried_again() {
    let bench = Bench::up(Features::virt());
    let slot = bench.prod.get() + 1;
    bench.model().make(Trouble::AtcTimeout);
    bench.submit(&[NSNH_ALL, SYNC]);
    wait_for_error(&bench);
    assert_eq!(error(&bench), (3, 1));
    assert_eq!(bench.regs.read32(CMDQ_CONS) & 0xf_ffff, slot, "the sync");
    bench.regs.write32(GERRORN, bench.regs.read32(GERROR));
    bench.drain();
    assert_eq!(error(&bench), (0, 0));
}

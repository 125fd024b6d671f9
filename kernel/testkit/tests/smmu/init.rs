//! Registers and the order of initialisation (IHI 0070 §3.11, §6.3).

use mastiff_core::platform::{Mmio, Pages};
use mastiff_testkit::smmu::{Abort, Features};

use crate::bench::*;

#[test]
fn out_of_reset_everything_passes_until_gbpa_says_otherwise() {
    let bench = Bench::new(Features::virt());
    assert_eq!(bench.read(STREAM, 0x5000), Ok(0x5000));
    let gbpa = bench.regs.read32(GBPA);
    bench.regs.write32(GBPA, gbpa | 1 << 20 | 1 << 31);
    // It takes its time.
    assert_eq!(bench.read(STREAM, 0x5000), Ok(0x5000));
    bench.wait("GBPA.Update", || bench.regs.read32(GBPA) >> 31 == 0);
    assert_eq!(bench.read(STREAM, 0x5000), Err(Abort::Disabled));
}

#[test]
fn gbpa_has_a_protocol() {
    let bench = Bench::new(Features::virt());
    let said = breach(|| bench.regs.write32(GBPA, 1 << 20));
    assert!(said.contains("§6.3.14.1"), "{said}");
    bench.regs.write32(GBPA, 1 << 31);
    let said = breach(|| bench.regs.write32(GBPA, 1 << 31 | 1 << 20));
    assert!(said.contains("before its last Update completed"), "{said}");
}

#[test]
fn acknowledgements_come_later() {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.regs.write32(CR0, CMDQEN);
    assert_eq!(bench.regs.read32(CR0ACK), 0);
    bench.wait("CR0ACK", || bench.regs.read32(CR0ACK) == CMDQEN);
    bench.regs.write32(IRQ_CTRL, 5);
    assert_eq!(bench.regs.read32(IRQ_CTRLACK), 0);
    bench.wait("IRQ_CTRLACK", || bench.regs.read32(IRQ_CTRLACK) == 5);
}

#[test]
fn the_whole_way_up_and_down() {
    for features in [Features::virt(), Features::small()] {
        let bench = Bench::up(features);
        assert_eq!(bench.read(STREAM, IOVA), Err(Abort::Configured));
        bench.enable(CMDQEN | EVENTQEN);
        assert_eq!(bench.read(STREAM, IOVA), Ok(IOVA));
        bench.enable(0);
    }
}

/// Brings an SMMU up without one of the steps.
fn without(step: usize) -> Option<String> {
    let steps: [&dyn Fn(&Bench); 12] = [
        &|b| b.regs.write32(CR1, 0xd75),
        &|b| b.regs.write32(CR2, 2),
        &|b| {
            b.regs
                .write64(CMDQ_BASE, b.cmdq.pa().0 | u64::from(CMDQ_BITS))
        },
        &|b| b.regs.write32(CMDQ_PROD, 0),
        &|b| b.regs.write32(CMDQ_CONS, 0),
        &|b| {
            b.regs
                .write64(EVENTQ_BASE, b.eventq.pa().0 | u64::from(EVENTQ_BITS))
        },
        &|b| b.regs.write32(EVENTQ_PROD, 0),
        &|b| b.regs.write32(EVENTQ_CONS, 0),
        &|b| b.regs.write64(STRTAB_BASE, b.strtab.pa().0),
        &|b| b.regs.write32(STRTAB_BASE_CFG, STREAM_BITS),
        // Publishing the stream table is for the last two.
        &|b| b.run(&[CFGI_ALL]),
        &|b| b.run(&[NSNH_ALL]),
    ];
    let bench = Bench::new(Features::virt());
    let up = || {
        bench.publish();
        for (number, run) in steps.iter().enumerate() {
            if number == 10 {
                bench.enable(CMDQEN);
            }
            if number != step {
                run(&bench);
            }
        }
        bench.enable(CMDQEN | EVENTQEN);
        bench.enable(CMDQEN | EVENTQEN | SMMUEN);
    };
    if step == steps.len() {
        up();
        return None;
    }
    Some(breach(up))
}

#[test]
fn each_step_of_initialisation_is_missed() {
    let sections = [
        "§6.3.11", "§3.11", "§6.3.26", "§6.3.26", "§6.3.26", "§6.3.29", "§6.3.29", "§6.3.29",
        "§3.11", "§3.11", "§3.11", "§3.11",
    ];
    for (step, section) in sections.iter().enumerate() {
        let said = without(step).expect("a breach");
        assert!(said.contains(section), "without step {step}: {said}");
    }
    assert_eq!(without(sections.len()), None);
}

#[test]
fn indices_go_after_the_base_that_gives_them_their_size() {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.regs.write64(CMDQ_BASE, bench.cmdq.pa().0 | 3);
    let said = breach(|| bench.regs.write32(CR0, CMDQEN));
    assert!(said.contains("§6.3.26"), "{said}");
}

#[test]
fn an_invalidation_that_never_synced_does_not_count() {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.set_stream_table();
    bench.enable(CMDQEN);
    bench.submit(&[CFGI_ALL, NSNH_ALL]);
    bench.drain();
    let said = breach(|| bench.regs.write32(CR0, CMDQEN | SMMUEN));
    assert!(said.contains("§3.11"), "{said}");
}

#[test]
fn another_stream_table_needs_another_invalidation() {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.set_stream_table();
    bench.enable(CMDQEN);
    bench.clean();
    bench.regs.write64(STRTAB_BASE, bench.strtab.pa().0);
    let said = breach(|| bench.regs.write32(CR0, CMDQEN | SMMUEN));
    assert!(said.contains("§3.11"), "{said}");
}

#[test]
fn bases_are_aligned_to_what_they_point_to() {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.set_stream_table();
    // 2^9 events are 16 KiB, 2^9 commands 8 KiB.
    let odd = bench.pages(8 * PAGE).pa().0 | PAGE;
    for (base, prod, cons, enable) in [
        (CMDQ_BASE, CMDQ_PROD, CMDQ_CONS, CMDQEN),
        (EVENTQ_BASE, EVENTQ_PROD, EVENTQ_CONS, EVENTQEN),
    ] {
        bench.regs.write64(base, odd | 9);
        bench.regs.write32(prod, 0);
        bench.regs.write32(cons, 0);
        let said = breach(|| bench.regs.write32(CR0, enable));
        assert!(said.contains("not aligned to the queue's size"), "{said}");
    }
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.set_stream_table();
    // 32 entries of 64 bytes are 2 KiB.
    bench.regs.write64(STRTAB_BASE, bench.strtab.pa().0 + 1024);
    bench.enable(CMDQEN);
    bench.clean();
    let said = breach(|| bench.regs.write32(CR0, CMDQEN | SMMUEN));
    assert!(said.contains("§6.3.24"), "{said}");
}

#[test]
fn what_is_guarded_is_not_written_while_its_enable_is_set() {
    let bench = Bench::up(Features::virt());
    for (offset, section) in [
        (CR1, "§6.3.11"),
        (CR2, "§6.3.12"),
        (STRTAB_BASE, "§6.3.24"),
        (STRTAB_BASE_CFG, "§6.3.25"),
        (CMDQ_BASE, "§6.3.26"),
        (CMDQ_CONS, "§6.3.28"),
        (EVENTQ_BASE, "§6.3.29"),
        (EVENTQ_PROD, "§3.5.1"),
    ] {
        let said = breach(|| bench.regs.write32(offset, 0));
        assert!(said.contains(section), "{offset:#x}: {said}");
    }
    // Not either while it is on its way to being clear.
    bench.regs.write32(CR0, CMDQEN | EVENTQEN);
    let said = breach(|| bench.regs.write32(CR2, 0));
    assert!(said.contains("§6.3.12"), "{said}");
}

#[test]
fn cr0_is_not_changed_again_before_it_was_acknowledged() {
    let bench = Bench::new(Features::virt());
    bench.set_queues();
    bench.regs.write32(CR0, CMDQEN);
    // Another bit may.
    bench.regs.write32(CR0, CMDQEN | EVENTQEN);
    let said = breach(|| bench.regs.write32(CR0, EVENTQEN));
    assert!(said.contains("§6.3.9"), "{said}");
}

#[test]
fn accesses_that_make_no_sense() {
    let bench = Bench::new(Features::virt());
    let regs = &bench.regs;
    for (what, section) in [
        (&(|| regs.write32(0x00, 0)) as &dyn Fn(), "read-only"),
        (&|| regs.write64(CR0, 0), "8 bytes"),
        (&|| regs.write16(CR0, 0), "2 bytes"),
        (&|| assert_eq!(regs.read8(CR0), 0), "1 bytes"),
        (&|| regs.write32(CR0, 1 << 31), "reserved bits of CR0"),
        (&|| regs.write32(IRQ_CTRL, 2), "reserved bits of IRQ_CTRL"),
        (&|| regs.write32(0xa8, 1), "where no register is"),
        (&|| regs.write64(0x68, 0x800_0040), "without IDR0.MSI"),
        (&|| regs.write32(GERRORN, 1), "§6.3.20"),
    ] {
        let said = breach(what);
        assert!(said.contains(section), "{said}");
    }
}

#[test]
fn a_stream_table_has_an_architected_shape() {
    let bench = Bench::new(Features::virt());
    for split in [6, 8, 10] {
        bench
            .regs
            .write32(STRTAB_BASE_CFG, 1 << 16 | split << 6 | 16);
    }
    for cfg in [17, 1 << 16 | 7 << 6 | 16, 1 << 16 | 16, 2 << 16 | 16] {
        let said = breach(|| bench.regs.write32(STRTAB_BASE_CFG, cfg));
        assert!(said.contains("§6.3.25"), "{cfg:#x}: {said}");
    }
}

#[test]
fn identification_says_what_there_is() {
    let bench = Bench::new(Features::virt());
    let read = |offset| bench.regs.read32(offset);
    assert_eq!(
        [read(0), read(4), read(0x14)],
        [0x0d44_101b, 0x0273_0010, 0x74]
    );
    let small = Bench::new(Features::small());
    // One level, 8-bit ASIDs, no stage 2, not coherent.
    assert_eq!(small.regs.read32(0), 0x0540_000a);
    assert_eq!(small.regs.read32(0x14), 0x12);
}

//! Translations: walks, permissions, and what stays cached until when
//! (IHI 0070 §3.21.1, §4.4).

use mastiff_core::platform::{Mmio, Pages};
use mastiff_pgtable::{Access as Allowed, Attrs, Exec};
use mastiff_testkit::smmu::{Access, EventKind, Features};

use crate::bench::*;

/// A stream that was translated at `IOVA` once, and unmapped since.
fn stale() -> (Bench, Space) {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    space.map(IOVA, 0x5000).unwrap();
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000));
    space.unmap(IOVA);
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000), "cached");
    (bench, space)
}

fn is_gone(bench: &Bench) -> bool {
    bench.read(STREAM, IOVA) == fault(EventKind::Translation)
}

#[test]
fn a_new_mapping_needs_no_invalidation() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    assert!(is_gone(&bench));
    space.map(IOVA, 0x5000).unwrap();
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000));
}

#[test]
fn an_invalidation_counts_once_it_is_synced() {
    let (bench, space) = stale();
    bench.submit(&[tlbi_va(5, IOVA, true)]);
    bench.drain();
    assert!(!is_gone(&bench));
    bench.run(&[]);
    assert!(is_gone(&bench));
    drop(space);
}

#[test]
fn only_what_covers_it_invalidates_it() {
    let va = |asid, va: u64| tlbi_va(asid, va, true);
    // TG = 4 KiB: NUM, SCALE in the low word, TTL in the high one.
    let range = |num: u64, scale: u64, ttl: u64, start: u64| {
        [
            5 << 48 | scale << 20 | num << 12 | 0x12,
            start | 1 << 10 | ttl << 8 | 1,
        ]
    };
    for (command, gone) in [
        (va(5, IOVA), true),
        (va(5, IOVA + PAGE), false),
        (va(4, IOVA), false),
        ([1 << 32 | va(5, IOVA)[0], IOVA], false), // VMID 1
        ([0x13, IOVA], true),                      // NH_VAA
        ([0x13, IOVA + PAGE], false),
        (tlbi_asid(5), true),
        (tlbi_asid(4), false),
        ([0x10, 0], true), // NH_ALL
        ([1 << 32 | 0x10, 0], false),
        (NSNH_ALL, true),
        ([0x28, 0], true),     // S12_VMALL
        ([0x2a, IOVA], false), // S2_IPA
        (CFGI_ALL, false),
        (range(0, 0, 3, IOVA), true),
        (range(0, 0, 2, 0), false), // a block's level
        (range(3, 0, 3, IOVA - 3 * PAGE), true),
        (range(2, 0, 3, IOVA - 3 * PAGE), false),
        (range(3, 0, 3, IOVA + PAGE), false),
        (range(0, 8, 3, 0), false),
        (range(1, 8, 3, 0), true),
        (range(1, 8, 2, 0), false),
        (range(0, 9, 0, 0), true),
    ] {
        let (bench, _space) = stale();
        bench.run(&[command]);
        assert_eq!(is_gone(&bench), gone, "{command:x?}");
    }
}

#[test]
fn an_invalidation_before_the_table_was_changed_is_in_vain() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    space.map(IOVA, 0x5000).unwrap();
    bench.read(STREAM, IOVA).unwrap();
    bench.submit(&[tlbi_va(5, IOVA, true), SYNC]);
    space.unmap(IOVA);
    bench.drain();
    assert!(!is_gone(&bench));
}

#[test]
fn what_was_not_published_is_not_there() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    space.map(IOVA, 0x5000).unwrap();
    let leaf = *space.tables.walk(IOVA).end().unwrap();
    // A store without a barrier.
    let at = leaf.table + 8 * leaf.index as u64;
    bench.sim.memory().cpu_write(at, &0u64.to_le_bytes());
    assert_eq!(bench.read(STREAM, IOVA), Ok(0x5000));
}

#[test]
fn global_translations_survive_an_invalidation_by_asid() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    let global = Attrs {
        global: true,
        ..DMA
    };
    space.tables.map(IOVA, 0x5000, PAGE, global).unwrap();
    bench.read(STREAM, IOVA).unwrap();
    space.unmap(IOVA);
    bench.run(&[tlbi_asid(5)]);
    assert!(!is_gone(&bench));
    bench.run(&[tlbi_va(5, IOVA, true)]);
    assert!(is_gone(&bench));
}

#[test]
fn an_asid_that_is_used_again_brings_old_translations_back() {
    let (bench, space) = stale();
    bench.detach(STREAM);
    let next = bench.space(5);
    bench.attach(STREAM, &next);
    assert!(!is_gone(&bench), "the past owner's memory");
    bench.detach(STREAM);
    bench.run(&[tlbi_asid(5)]);
    bench.attach(STREAM, &next);
    assert!(is_gone(&bench));
    drop(space);
}

#[test]
fn remapping_before_the_invalidation_completed_is_a_breach() {
    let (bench, space) = stale();
    bench.submit(&[tlbi_va(5, IOVA, true)]);
    space.map(IOVA, 0x6000).unwrap();
    let said = breach(|| assert!(bench.read(STREAM, IOVA).is_err()));
    assert!(
        said.contains("§3.21.1") && said.contains("0x6000"),
        "{said}"
    );
}

#[test]
fn a_table_that_goes_needs_an_invalidation_that_is_not_of_the_leaf_only() {
    for (leaf, followed) in [(true, true), (false, false)] {
        let (bench, space) = stale();
        // Cut the level 2 table off, as a driver that frees it would.
        let walk = space.tables.walk(IOVA);
        let upper = *walk.steps().next().unwrap();
        let at = upper.table + 8 * upper.index as u64;
        bench.sim.memory().cpu_write(at, &0u64.to_le_bytes());
        bench.publish();
        bench.run(&[tlbi_va(5, IOVA, leaf)]);
        let last = *walk.end().unwrap();
        let page = 0x7000u64 | 0x0060_0000_0000_0f43;
        let at = last.table + 8 * last.index as u64;
        bench.sim.memory().cpu_write(at, &page.to_le_bytes());
        bench.publish();
        assert_eq!(bench.read(STREAM, IOVA).is_ok(), followed, "leaf {leaf}");
    }
}

#[test]
fn blocks_translate_and_are_one_entry() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    let block = 2 << 20;
    space.tables.map(block, 0, block, DMA).unwrap();
    assert_eq!(bench.read(STREAM, block + 0x12345), Ok(0x12345));
    assert_eq!(bench.read(STREAM, 2 * block - 1), Ok(block - 1));
    assert_eq!(bench.model().cached_translations(), 1);
    space.tables.unmap(block, block, &mut |_| {}).unwrap();
    bench.run(&[tlbi_va(5, block + 5 * PAGE, true)]);
    assert_eq!(bench.read(STREAM, block), fault(EventKind::Translation));
}

#[test]
fn permissions() {
    let read_only = Attrs {
        access: Allowed::ReadOnly,
        ..DMA
    };
    let privileged = Attrs { user: false, ..DMA };
    let kernel_text = Attrs {
        exec: Exec::Kernel,
        ..privileged
    };
    for (attrs, allowed) in [
        (DMA, [true, true, false]),
        (read_only, [true, false, false]),
        (privileged, [false, false, false]),
        (kernel_text, [false, false, false]),
    ] {
        let bench = Bench::up(Features::virt());
        let space = bench.space(5);
        bench.attach(STREAM, &space);
        space.tables.map(IOVA, 0x5000, PAGE, attrs).unwrap();
        let accesses = [Access::Read, Access::Write, Access::Execute];
        for (access, allowed) in accesses.into_iter().zip(allowed) {
            let expected = if allowed {
                Ok(0x5000)
            } else {
                fault(EventKind::Permission)
            };
            let got = bench.access(STREAM, IOVA, access);
            assert_eq!(got, expected, "{attrs:?} {access:?}");
        }
    }
}

#[test]
fn walks_that_end_badly() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    space.map(IOVA, 0x5000).unwrap();
    let leaf = *space.tables.walk(IOVA).end().unwrap();
    let set = |index: u64, value: u64| {
        let at = leaf.table + 8 * index;
        bench.sim.memory().cpu_write(at, &value.to_le_bytes());
        bench.publish();
    };
    let index = leaf.index as u64;
    // AF clear; an output beyond IPS; a reserved type.
    for (raw, kind) in [
        (leaf.raw & !(1 << 10), EventKind::AccessFlag),
        (leaf.raw | 1 << 40, EventKind::AddressSize),
        (leaf.raw & !2, EventKind::Translation),
    ] {
        set(index, raw);
        assert_eq!(bench.read(STREAM, IOVA), fault(kind));
    }
    // Beyond T0SZ, and TTB1's half, which is off.
    set(index, leaf.raw);
    for iova in [1 << 39 | IOVA, 0xffff_ff80_0000_0000 | IOVA] {
        assert_eq!(bench.read(STREAM, iova), fault(EventKind::Translation));
    }
    // A table where there is no memory.
    let upper = *space.tables.walk(IOVA).steps().nth(1).unwrap();
    let at = upper.table + 8 * (upper.index as u64 + 1);
    let nowhere = 0x9000_0000u64;
    bench
        .sim
        .memory()
        .cpu_write(at, &(nowhere | 3).to_le_bytes());
    bench.publish();
    bench.events();
    let iova = (IOVA & !0x1f_ffff) + 0x20_0000;
    assert_eq!(bench.read(STREAM, iova), fault(EventKind::WalkAbort));
    assert_eq!(bench.event()[3], nowhere);
    // What the table never made it must not take down.
    bench.sim.memory().cpu_write(at, &0u64.to_le_bytes());
}

#[test]
fn faults_are_silent_where_the_cd_says_so() {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    let first = space.cd.load64(0);
    space.cd.store64(0, first & !(1 << 45));
    bench.attach(STREAM, &space);
    assert_eq!(
        bench.read(STREAM, IOVA),
        Err(mastiff_testkit::smmu::Abort::Configured)
    );
    assert_eq!(bench.regs.read32(EVENTQ_PROD), 0);
}

/// Sixteen contiguous pages, and where their descriptors are.
fn contiguous() -> (Bench, Space, u64) {
    let bench = Bench::up(Features::virt());
    let space = bench.space(5);
    bench.attach(STREAM, &space);
    space.tables.map(IOVA, IOVA, 16 * PAGE, DMA).unwrap();
    let leaf = *space.tables.walk(IOVA).end().unwrap();
    assert_eq!(leaf.raw >> 52 & 1, 1);
    (bench, space, leaf.table + 8 * leaf.index as u64)
}

/// Writes a descriptor.
fn poke(bench: &Bench, pa: u64, value: u64) {
    bench.sim.memory().cpu_write(pa, &value.to_le_bytes());
    bench.publish();
}

#[test]
fn a_contiguous_leaf_is_kept_with_its_neighbours_and_by_itself() {
    let (bench, _space, leaves) = contiguous();
    assert_eq!(bench.read(STREAM, IOVA), Ok(IOVA));
    for page in 1..16 {
        poke(&bench, leaves + 8 * page, 0);
    }
    let third = IOVA + 3 * PAGE;
    assert_eq!(bench.read(STREAM, third), Ok(third), "never read before");
    // The first one is still there, and brings the others back.
    bench.run(&[tlbi_va(5, third, true)]);
    assert_eq!(bench.read(STREAM, third), Ok(third));
    // With none left, one invalidation for all is one too few.
    poke(&bench, leaves, 0);
    bench.run(&[tlbi_va(5, third, true)]);
    assert_eq!(bench.read(STREAM, third), fault(EventKind::Translation));
    assert_eq!(bench.read(STREAM, IOVA), Ok(IOVA), "kept by itself");
    bench.run(&[tlbi_va(5, IOVA, true)]);
    assert_eq!(bench.read(STREAM, IOVA), fault(EventKind::Translation));
}

#[test]
fn contiguous_leaves_that_differ_are_a_breach() {
    // Its rights, its address, its hint.
    for change in [1 << 7, 1 << 12, 1 << 52] {
        let (bench, space, leaves) = contiguous();
        let leaf = space.tables.walk(IOVA + 2 * PAGE).end().unwrap().raw;
        poke(&bench, leaves + 16, leaf ^ change);
        let said = breach(|| {
            let _ = bench.read(STREAM, IOVA);
        });
        assert!(said.contains("§D8.7.1"), "{change:#x}: {said}");
    }
    let (bench, space, leaves) = contiguous();
    for page in 0..16 {
        let leaf = space.tables.walk(IOVA + page * PAGE).end().unwrap().raw;
        poke(&bench, leaves + 8 * page, leaf + PAGE);
    }
    let said = breach(|| {
        let _ = bench.read(STREAM, IOVA);
    });
    assert!(said.contains("aligned"), "{said}");
}

//! Interrupts and completions by message (IHI 0070 §3.18.1, §4.7.3, §6.3.21).

use mastiff_core::platform::{Mmio, Pages};
use mastiff_testkit::smmu::{Features, Trouble};

use crate::bench::*;

const GERROR_IRQ_CFG: usize = 0x68;
const EVENTQ_IRQ_CFG: usize = 0xb0;
const FRAME: u64 = 0x0802_0000;
const DOORBELL: u64 = FRAME + 0x40;
/// Device-nGnRE.
const DEVICE: u32 = 0b0001;
const MSI_CMDQ_ABT_ERR: u32 = 1 << 4;
const MSI_EVENTQ_ABT_ERR: u32 = 1 << 5;

fn features() -> Features {
    Features {
        messages: true,
        ..Features::virt()
    }
}

fn configure(bench: &Bench, at: usize, address: u64, data: u32, attributes: u32) {
    bench.regs.write64(at, address);
    bench.regs.write32(at + 8, data);
    bench.regs.write32(at + 12, attributes);
}

fn interrupts(bench: &Bench, enables: u32) {
    bench.regs.write32(IRQ_CTRL, enables);
    bench.wait("IRQ_CTRLACK", || bench.regs.read32(IRQ_CTRLACK) == enables);
}

/// CS = SIG_IRQ, with these attributes: MSH, then MSIAttr.
fn sync(address: u64, data: u32, share: u64, memory: u64) -> [u64; 2] {
    let low = 0x1046 | share << 22 | memory << 24 | u64::from(data) << 32;
    [low, address]
}

fn active(bench: &Bench) -> u32 {
    bench.regs.read32(GERROR) ^ bench.regs.read32(GERRORN)
}

#[test]
fn an_event_is_told_as_it_was_configured() {
    let bench = Bench::up(features());
    bench.sim.add_msi_frame(FRAME, 100, 8);
    configure(&bench, EVENTQ_IRQ_CFG, DOORBELL, 103, DEVICE);
    // No address: the wire.
    configure(&bench, GERROR_IRQ_CFG, 0, 0, 0);
    interrupts(&bench, 0b101);
    use mastiff_core::irq::IrqChip;
    let chip = bench.sim.chip();
    chip.unmask(103);
    chip.unmask(109);
    let hub = mastiff_core::platform::Platform::irqs(&bench.sim).clone();
    bench.set_ste(STREAM, &[0]);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    bench.read(STREAM, IOVA).unwrap_err();
    assert!(!hub.is_pending(), "it takes its time");
    bench.sim.advance_us(1);
    assert!(hub.is_pending());
    hub.service();
    bench.model().make(Trouble::EventAbort);
    bench.read(STREAM, IOVA).unwrap_err();
    bench.sim.advance_us(1);
    assert!(hub.is_pending());
}

#[test]
fn interrupts_are_configured_while_they_are_off() {
    let bench = Bench::up(features());
    for (enable, at, section) in [
        (0b001, GERROR_IRQ_CFG, "§6.3.21"),
        (0b100, EVENTQ_IRQ_CFG, "§6.3.32"),
    ] {
        let said = breach(|| bench.regs.write32(IRQ_CTRL, enable));
        assert!(said.contains("before its IRQ_CFG0 was written"), "{said}");
        bench.regs.write64(at, DOORBELL);
        let said = breach(|| bench.regs.write32(IRQ_CTRL, enable));
        assert!(said.contains("§6.3.22"), "{said}");
        configure(&bench, at, DOORBELL, 100, DEVICE);
        interrupts(&bench, enable);
        for offset in [0, 4, 8, 12] {
            let said = breach(|| bench.regs.write32(at + offset, 0));
            assert!(said.contains(section), "{said}");
        }
        // Off is when it is acknowledged.
        bench.regs.write32(IRQ_CTRL, 0);
        let said = breach(|| bench.regs.write32(at, 0));
        assert!(said.contains("IRQ_CTRLACK"), "{said}");
        bench.wait("IRQ_CTRLACK", || bench.regs.read32(IRQ_CTRLACK) == 0);
        bench.regs.write32(at, 0);
    }
}

#[test]
fn configurations_that_make_no_sense() {
    let bench = Bench::up(features());
    for (address, attributes, section) in [
        (DOORBELL | 1, DEVICE, "§6.3.21"),
        (1 << 56, DEVICE, "§6.3.21"),
        (DOORBELL, 1 << 6, "§6.3.21"),
        (1 << 50, DEVICE, "§6.3.21"),
        (DOORBELL, 0b01 << 4, "§6.3.23"),
    ] {
        let said = breach(|| {
            configure(&bench, EVENTQ_IRQ_CFG, address, 0, attributes);
            bench.regs.write32(IRQ_CTRL, 0b100);
        });
        assert!(said.contains(section), "{said}");
    }
}

#[test]
fn a_reset_forgets_the_configuration() {
    let bench = Bench::new(features());
    configure(&bench, EVENTQ_IRQ_CFG, DOORBELL, 100, DEVICE);
    bench.model().lose_power();
    let said = breach(|| bench.regs.write32(IRQ_CTRL, 0b100));
    assert!(said.contains("before its IRQ_CFG0 was written"), "{said}");
}

#[test]
fn a_sync_tells_before_its_index_does() {
    let bench = Bench::up(features());
    let word = bench.pages(PAGE);
    word.store64(8, 0);
    bench.publish();
    let before = bench.regs.read32(CMDQ_CONS);
    bench.submit(&[NSNH_ALL, sync(word.pa().0 + 8, 77, 0b11, 0b1111)]);
    let told = || {
        bench.sim.advance_us(1);
        word.load64(8) == 77
    };
    bench.wait("the message", told);
    assert_eq!(bench.regs.read32(CMDQ_CONS), before + 1);
    // Nor does what is submitted meanwhile overtake it.
    bench.submit(&[SYNC]);
    bench.drain();
    assert_eq!(bench.model().consumed(), (4 + 3, 2 + 2));
}

#[test]
fn a_message_that_aborts_is_an_error_of_its_own() {
    let bench = Bench::up(features());
    bench.submit(&[sync(0x1234_5000, 1, 0, 1)]);
    for _ in 0..20 {
        bench.sim.advance_us(1);
    }
    bench.drain();
    assert_eq!(active(&bench), MSI_CMDQ_ABT_ERR);
    bench.regs.write32(GERRORN, bench.regs.read32(GERROR));
    configure(&bench, EVENTQ_IRQ_CFG, 0x1234_5000, 0, DEVICE);
    interrupts(&bench, 0b100);
    bench.set_ste(STREAM, &[0]);
    bench.publish();
    bench.run(&[cfgi_ste(STREAM, true)]);
    bench.read(STREAM, IOVA).unwrap_err();
    bench.sim.advance_us(1);
    assert_eq!(active(&bench), MSI_EVENTQ_ABT_ERR);
}

#[test]
fn attributes_are_those_of_the_target() {
    let told = |features: Features, coherent: bool, command: &dyn Fn(u64) -> [u64; 2]| {
        let bench = Bench::up(features);
        bench.sim.memory().set_coherent(coherent);
        bench.sim.add_msi_frame(FRAME, 100, 8);
        let word = bench.pages(PAGE);
        breach(|| {
            bench.submit(&[command(word.pa().0)]);
            (0..50).for_each(|_| bench.sim.advance_us(1));
        })
    };
    let to_memory = |share, memory| move |pa| sync(pa, 1, share, memory);
    for (share, memory) in [(0b11, 0b0101), (0b11, 0b0001), (0b10, 0b1111)] {
        let said = told(features(), true, &to_memory(share, memory));
        assert!(said.contains("other attributes"), "{said}");
    }
    let apart = Features {
        coherent: false,
        ..features()
    };
    let said = told(apart, true, &to_memory(0b11, 0b1111));
    assert!(said.contains("COHACC"), "{said}");
    let said = told(features(), true, &|_| sync(DOORBELL, 1, 0b11, 0b1111));
    assert!(said.contains("§3.18.1"), "{said}");
    let said = told(features(), true, &|_| sync(1 << 50, 1, 0b11, 0b1111));
    assert!(said.contains("§4.7.3"), "{said}");
}

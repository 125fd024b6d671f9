//! Literal values, written down from the architecture's figures and tables and not
//! from the code: whatever driver and model share is pinned here.

use super::cd::Stage1;
use super::command::{Span, Tag};
use super::registers as regs;
use super::ste::{CdTable, Plain, Stage2};
use super::*;

#[test]
fn registers_are_where_the_manual_has_them() {
    // §6.2.1, §6.2.2.
    let word = |offset, name| (offset, name);
    let found = [
        word(regs::IDR0.offset, regs::IDR0.name),
        word(regs::IDR1.offset, regs::IDR1.name),
        word(regs::IDR3.offset, regs::IDR3.name),
        word(regs::IDR5.offset, regs::IDR5.name),
        word(regs::AIDR.offset, regs::AIDR.name),
        word(regs::CR0.offset, regs::CR0.name),
        word(regs::CR0ACK.offset, regs::CR0ACK.name),
        word(regs::CR1.offset, regs::CR1.name),
        word(regs::CR2.offset, regs::CR2.name),
        word(regs::GBPA.offset, regs::GBPA.name),
        word(regs::IRQ_CTRL.offset, regs::IRQ_CTRL.name),
        word(regs::IRQ_CTRLACK.offset, regs::IRQ_CTRLACK.name),
        word(regs::GERROR.offset, regs::GERROR.name),
        word(regs::GERRORN.offset, regs::GERRORN.name),
        word(regs::GERROR_IRQ_CFG0.offset, regs::GERROR_IRQ_CFG0.name),
        word(regs::GERROR_IRQ_CFG1.offset, regs::GERROR_IRQ_CFG1.name),
        word(regs::GERROR_IRQ_CFG2.offset, regs::GERROR_IRQ_CFG2.name),
        word(regs::STRTAB_BASE.offset, regs::STRTAB_BASE.name),
        word(regs::STRTAB_BASE_CFG.offset, regs::STRTAB_BASE_CFG.name),
        word(regs::CMDQ_BASE.offset, regs::CMDQ_BASE.name),
        word(regs::CMDQ_PROD.offset, regs::CMDQ_PROD.name),
        word(regs::CMDQ_CONS.offset, regs::CMDQ_CONS.name),
        word(regs::EVENTQ_BASE.offset, regs::EVENTQ_BASE.name),
        word(regs::EVENTQ_IRQ_CFG0.offset, regs::EVENTQ_IRQ_CFG0.name),
        word(regs::EVENTQ_IRQ_CFG1.offset, regs::EVENTQ_IRQ_CFG1.name),
        word(regs::EVENTQ_IRQ_CFG2.offset, regs::EVENTQ_IRQ_CFG2.name),
        word(regs::EVENTQ_PROD.offset, regs::EVENTQ_PROD.name),
        word(regs::EVENTQ_CONS.offset, regs::EVENTQ_CONS.name),
    ];
    let manual = [
        (0x0000, "SMMU_IDR0"),
        (0x0004, "SMMU_IDR1"),
        (0x000c, "SMMU_IDR3"),
        (0x0014, "SMMU_IDR5"),
        (0x001c, "SMMU_AIDR"),
        (0x0020, "SMMU_CR0"),
        (0x0024, "SMMU_CR0ACK"),
        (0x0028, "SMMU_CR1"),
        (0x002c, "SMMU_CR2"),
        (0x0044, "SMMU_GBPA"),
        (0x0050, "SMMU_IRQ_CTRL"),
        (0x0054, "SMMU_IRQ_CTRLACK"),
        (0x0060, "SMMU_GERROR"),
        (0x0064, "SMMU_GERRORN"),
        (0x0068, "SMMU_GERROR_IRQ_CFG0"),
        (0x0070, "SMMU_GERROR_IRQ_CFG1"),
        (0x0074, "SMMU_GERROR_IRQ_CFG2"),
        (0x0080, "SMMU_STRTAB_BASE"),
        (0x0088, "SMMU_STRTAB_BASE_CFG"),
        (0x0090, "SMMU_CMDQ_BASE"),
        (0x0098, "SMMU_CMDQ_PROD"),
        (0x009c, "SMMU_CMDQ_CONS"),
        (0x00a0, "SMMU_EVENTQ_BASE"),
        (0x00b0, "SMMU_EVENTQ_IRQ_CFG0"),
        (0x00b8, "SMMU_EVENTQ_IRQ_CFG1"),
        (0x00bc, "SMMU_EVENTQ_IRQ_CFG2"),
        (0x100a8, "SMMU_EVENTQ_PROD"),
        (0x100ac, "SMMU_EVENTQ_CONS"),
    ];
    assert_eq!(found, manual);
    assert_eq!(regs::WINDOW, 0x20000);
}

#[test]
fn control_bits_are_where_the_manual_has_them() {
    // §6.3.9
    assert_eq!(regs::CR0::SMMUEN::SET.value, 1);
    assert_eq!(regs::CR0::PRIQEN::SET.value, 1 << 1);
    assert_eq!(regs::CR0::EVENTQEN::SET.value, 1 << 2);
    assert_eq!(regs::CR0::CMDQEN::SET.value, 1 << 3);
    assert_eq!(regs::CR0::ATSCHK::SET.value, 1 << 4);
    // §6.3.11: inner shareable write-back everywhere.
    let cr1 = regs::CR1::TABLE_SH.val(3)
        + regs::CR1::TABLE_OC.val(1)
        + regs::CR1::TABLE_IC.val(1)
        + regs::CR1::QUEUE_SH.val(3)
        + regs::CR1::QUEUE_OC.val(1)
        + regs::CR1::QUEUE_IC.val(1);
    assert_eq!(cr1.value, 0b1101_0111_0101);
    // §6.3.12, §6.3.14, §6.3.16
    assert_eq!(
        (regs::CR2::PTM::SET + regs::CR2::RECINVSID::SET).value,
        0b110
    );
    assert_eq!(regs::GBPA::ABORT::SET.value, 0x0010_0000);
    assert_eq!(regs::GBPA::UPDATE::SET.value, 0x8000_0000);
    assert_eq!(regs::IRQ_CTRL::GERROR_IRQEN::SET.value, 1);
    assert_eq!(regs::IRQ_CTRL::EVENTQ_IRQEN::SET.value, 1 << 2);
    // §6.3.18
    assert_eq!(regs::GERROR::CMDQ_ERR::SET.value, 1);
    assert_eq!(regs::GERROR::EVENTQ_ABT_ERR::SET.value, 1 << 2);
    assert_eq!(regs::GERROR::SFM_ERR::SET.value, 1 << 8);
    assert_eq!(regs::GERROR::DPT_ERR::SET.value, 1 << 10);
    // §6.3.25: two levels, split 8, 16 bits.
    let shape = regs::STRTAB_BASE_CFG::FMT::TwoLevel
        + regs::STRTAB_BASE_CFG::SPLIT.val(8)
        + regs::STRTAB_BASE_CFG::LOG2SIZE.val(16);
    assert_eq!(shape.value, 0x0001_0210);
    // §6.3.26: 256 entries at 0x4_8765_1000, allocate hint.
    let queue = regs::QUEUE_BASE::ALLOCATE::SET
        + regs::QUEUE_BASE::ADDR.val(0x4_8765_1000 >> 5)
        + regs::QUEUE_BASE::LOG2SIZE.val(8);
    assert_eq!(queue.value, 0x4000_0004_8765_1008);
    // §6.3.28, §6.3.30, §6.3.31
    assert_eq!(regs::CMDQ_CONS::ERR.read(0x0100_0005), 1);
    assert_eq!(regs::CMDQ_CONS::RD.read(0x0100_0005), 5);
    assert_eq!(regs::EVENTQ_PROD::OVFLG::SET.value, 1 << 31);
    assert_eq!(regs::EVENTQ_CONS::OVACKFLG::SET.value, 1 << 31);
}

#[test]
fn stream_table_entries() {
    // §5.2: V, Config 0b000; V, Config 0b100 with MEV (83), SHCFG (109:108) incoming.
    assert_eq!(Ste::ABORT.0, [0x1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Ste::bypass().0, [0x9, 0x1000_0008_0000, 0, 0, 0, 0, 0, 0]);
    // V, Config 0b101, S1ContextPtr; S1DSS 0b10, S1CIR/S1COR 0b01, S1CSH 0b11,
    // MEV (83), SHCFG.
    let ste = Ste::stage1(0x4_1234_5640, Access::Coherent, false);
    assert_eq!(ste.0[..2], [0x4_1234_564b, 0x1000_0008_00d6]);
    assert_eq!(ste.0[2..], [0; 6]);
    assert_eq!(ste.cd(), Some(0x4_1234_5640));
    // S1STALLD is bit 91; not cacheable, outer shareable.
    let ste = Ste::stage1(0x1000, Access::NonCoherent, true);
    assert_eq!(ste.0[..2], [0x100b, 0x1000_0808_0082]);
}

#[test]
fn substreams() {
    let table = |two_level, bits, plain| {
        let base = 0x4_1234_5000;
        let table = CdTable {
            base,
            two_level,
            bits,
            plain,
        };
        Ste::substreams(table, Access::Coherent, false).0
    };
    // §5.2: S1Fmt 5:4, 0b01 for two levels with tables of 4 KiB; S1CDMax 63:59; S1DSS
    // 65:64.
    let ste = table(true, 8, Plain::Substream0);
    assert_eq!(ste[..2], [0x4000_0004_1234_501b, 0x1000_0008_00d6]);
    let ste = table(false, 20, Plain::Terminate);
    assert_eq!(ste[..2], [0xa000_0004_1234_500b, 0x1000_0008_00d4]);
    assert_eq!(table(false, 20, Plain::Bypass)[1], 0x1000_0008_00d5);
    // §5.3: V, L2Ptr 55:12.
    let descriptor = L1Cd::table(0x4_1234_5000);
    assert_eq!(descriptor.0, 0x4_1234_5001);
    assert_eq!(descriptor.fields(), [("V", 1), ("L2Ptr", 0x4_1234_5000)]);
    // §4.3.3: SubstreamID 31:12, StreamID 63:32, Leaf 64.
    let one = Command::cfgi_cd(0x108, 0x1_2345, true);
    assert_eq!(one.0, [0x0000_0108_1234_5005, 1]);
    assert_eq!(Command::cfgi_cd(8, 0, false).0, [0x0000_0008_0000_0005, 0]);
    // §6.3.1, §6.3.2: IDR0.CD2L is bit 19, IDR1.SSIDSIZE 10:6.
    assert!(regs::IDR0::CD2L.is_set(1 << 19));
    assert_eq!(regs::IDR1::SSIDSIZE.read(0x500), 20);
}

#[test]
fn stage_2_entries() {
    let stage2 = |granule, input_bits, start_level, access| {
        let regime = Stage2 {
            vmid: 0x1234,
            ttb: 0x4_8765_1000,
            granule,
            input_bits,
            start_level,
            ps: 4,
            access,
        };
        Ste::stage2(regime).0
    };
    // §5.2: V, Config 0b110; MEV, SHCFG; S2VMID 143:128, S2T0SZ (20) 165:160, S2SL0
    // (2) 167:166, S2IR0 and S2OR0 0b01 171:168, S2SH0 0b11 173:172, S2PS (4)
    // 178:176, S2AA64 179, S2R 186; S2TTB 243:196.
    let expected = [
        0xd,
        0x1000_0008_0000,
        0x040c_3594_0000_1234,
        0x4_8765_1000,
        0,
        0,
        0,
        0,
    ];
    assert_eq!(stage2(12, 44, 0, Access::Coherent), expected);
    // Config 0b111: of stage 1 how its CD is found, and all of stage 2.
    let regime = Stage2 {
        vmid: 0x1234,
        ttb: 0x4_8765_1000,
        granule: 12,
        input_bits: 44,
        start_level: 0,
        ps: 4,
        access: Access::Coherent,
    };
    let nested = Ste::nested(0x800_4123_5640, Access::Coherent, false, regime);
    assert_eq!(nested.0[..2], [0x800_4123_564f, 0x1000_0008_00d6]);
    assert_eq!(nested.0[2..], expected[2..]);
    assert_eq!(nested.cd(), Some(0x800_4123_5640));
    // S2TG 175:174, 0b10 for 16 KiB and 0b01 for 64; S2SL0 counts from level 3.
    let word2 = |granule, bits, level| stage2(granule, bits, level, Access::NonCoherent)[2];
    assert_eq!(word2(12, 39, 1), 0x040c_2059_0000_1234);
    assert_eq!(word2(14, 47, 1), 0x040c_a091_0000_1234);
    assert_eq!(word2(16, 42, 2), 0x040c_6056_0000_1234);
}

#[test]
fn what_an_entry_does_is_told_by_word_0() {
    let config = |word0| Ste([word0, 0, 0, 0, 0, 0, 0, 0]).config();
    let cases = [
        (0x0, "invalid"),
        (0xb, "stage 1"),
        (0xa, "invalid"),
        (0x1, "abort"),
        (0x7, "abort"),
        (0x9, "bypass"),
        (0xd, "stage 2"),
        (0xf, "stage 1 and 2"),
    ];
    for (word0, name) in cases {
        assert_eq!(config(word0), name, "{word0:#x}");
    }
    assert_eq!(Ste::bypass().cd(), None);
}

#[test]
fn what_counts_of_an_entry_depends_on_its_configuration() {
    let used = |word0| Ste([word0, !0, !0, !0, !0, !0, !0, !0]).used();
    // §5.2: V; Config too.
    assert_eq!(used(0xe), [0x1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(used(0x1), [0xf, 0, 0, 0, 0, 0, 0, 0]);
    // MEV (83), and what overrides attributes (115:96).
    let bypass = [0xf, 0x000f_ffff_0008_0000, 0, 0, 0, 0, 0, 0];
    assert_eq!(used(0x9), bypass);
    // S1Fmt, S1ContextPtr, S1CDMax; S1DSS to S1CSH (71:64), S1STALLD, EATS and STRW
    // (95:91); the VMID tags stage 1 too.
    let stage1 = [
        0xf8ff_ffff_ffff_ffff,
        0x000f_ffff_f808_00ff,
        0xffff,
        0,
        0,
        0,
        0,
        0,
    ];
    assert_eq!(used(0xb), stage1);
    // S2HWU (75:72), S2FWB (89), EATS (93:92); S2VMID, S2T0SZ (165:160) to S2R (186);
    // S2TTB (243:196).
    let stage2 = [
        0xf,
        0x000f_ffff_3208_0f00,
        0x07ff_ffff_0000_ffff,
        0x000f_ffff_ffff_fff0,
        0,
        0,
        0,
        0,
    ];
    assert_eq!(used(0xd), stage2);
    let both = core::array::from_fn(|word| stage1[word] | stage2[word]);
    assert_eq!(used(0xf), both);
}

#[test]
fn every_command_that_is_sent_has_its_name() {
    let known = [
        (0x03, "CMD_CFGI_STE"),
        (0x04, "CMD_CFGI_STE_RANGE"),
        (0x05, "CMD_CFGI_CD"),
        (0x10, "CMD_TLBI_NH_ALL"),
        (0x11, "CMD_TLBI_NH_ASID"),
        (0x12, "CMD_TLBI_NH_VA"),
        (0x20, "CMD_TLBI_EL2_ALL"),
        (0x28, "CMD_TLBI_S12_VMALL"),
        (0x2a, "CMD_TLBI_S2_IPA"),
        (0x30, "CMD_TLBI_NSNH_ALL"),
        (0x46, "CMD_SYNC"),
    ];
    for opcode in 0..=0xff {
        let found = known.iter().find(|(known, _)| *known == opcode);
        let name = found.map_or("unknown command", |(_, name)| name);
        assert_eq!(Command([!0xff | opcode, 0]).name(), name);
    }
}

#[test]
fn level_1_descriptors() {
    // §5.1: 2^(Span - 1) entries.
    assert_eq!(L1Std::table(0x8765_4000, 8).0, 0x8765_4009);
    assert_eq!(
        L1Std::table(0x8765_4000, 8).fields(),
        [("Span", 9), ("L2Ptr", 0x8765_4000)]
    );
    assert_eq!(L1Std::default().fields()[0], ("Span", 0));
}

#[test]
fn context_descriptors() {
    // §5.4: T0SZ 16, IR0/OR0 0b01, SH0 0b11, EPD1, V, IPS 0b100 (44 bits), AA64,
    // R, A, ASET, ASID.
    let cd = Cd::stage1(Stage1 {
        asid: 0x1234,
        ttb0: 0x4_8765_1000,
        granule: 12,
        input_bits: 48,
        ips: 4,
        mair: 0x04_44ff,
        access: Access::Coherent,
    });
    let expected = [
        0x1234_e204_c000_3510,
        0x4_8765_1000,
        0,
        0x04_44ff,
        0,
        0,
        0,
        0,
    ];
    assert_eq!(cd.0, expected);
    assert!(cd.fields().contains(&("TTB0", 0x4_8765_1000)));
    assert!(cd.fields().contains(&("ASID", 0x1234)));
    // TG0 is 0b00 for 4 KiB, 0b10 for 16 and 0b01 for 64.
    for (granule, tg0) in [(12, 0), (14, 0b10), (16, 0b01)] {
        let cd = Cd::stage1(Stage1 {
            asid: 1,
            ttb0: 0x1000,
            granule,
            input_bits: 39,
            ips: 0,
            mair: 0,
            access: Access::NonCoherent,
        });
        assert_eq!(cd.0[0], 0x0001_e200_c000_2019 | tg0 << 6);
    }
}

#[test]
fn commands() {
    // §4.3.1, §4.3.6
    assert_eq!(
        Command::cfgi_ste(0x1_0008, true).0,
        [0x0001_0008_0000_0003, 1]
    );
    assert_eq!(
        Command::cfgi_ste(u32::MAX, false).0,
        [0xffff_ffff_0000_0003, 0]
    );
    assert_eq!(Command::CFGI_ALL.0, [0x04, 31]);
    // §4.4.2, §4.4.4
    let (asid, vmid) = (Tag::asid(0x1234), Tag::vmid(0x1234));
    assert_eq!(Command::tlbi_all(asid).0, [0x1234_0000_0000_0011, 0]);
    assert_eq!(Command::tlbi_all(vmid).0, [0x0000_1234_0000_0028, 0]);
    let nested = asid.under(0xabcd);
    assert_eq!(Command::tlbi_all(nested).0, [0x1234_abcd_0000_0011, 0]);
    let page = Command::tlbi_address(nested, 0xffff_ffff_f000);
    assert_eq!(page.0, [0x1234_abcd_0000_0012, 0xffff_ffff_f001]);
    assert_eq!(Command::tlbi_nh_all(0x1234).0, [0x0000_1234_0000_0010, 0]);
    assert_eq!(Command::TLBI_EL2_ALL.0, [0x20, 0]);
    assert_eq!(Command::TLBI_NSNH_ALL.0, [0x30, 0]);
    let page = Command::tlbi_address(asid, 0xffff_ffff_f000);
    assert_eq!(page.0, [0x1234_0000_0000_0012, 0xffff_ffff_f001]);
    let page = Command::tlbi_address(vmid, 0xffff_ffff_f000);
    assert_eq!(page.0, [0x0000_1234_0000_002a, 0xffff_ffff_f001]);
    // §4.4.1.1: NUM 16:12, SCALE 24:20, TTL 73:72, TG 75:74.
    let span = Span {
        num: 31,
        scale: 9,
        granule: 12,
        level: 2,
    };
    let range = Command::tlbi_span(asid, 0x4020_0000, span);
    assert_eq!(range.0, [0x1234_0000_0091_f012, 0x4020_0601]);
    let span = Span {
        granule: 14,
        ..span
    };
    let range = Command::tlbi_span(vmid, 0x4000_0000, span);
    assert_eq!(range.0, [0x0000_1234_0091_f02a, 0x4000_0a01]);
    let span = Span {
        granule: 16,
        ..span
    };
    let range = Command::tlbi_span(vmid, 0x4000_0000, span);
    assert_eq!(range.0[1], 0x4000_0e01);
    // §4.7.3: CS = SIG_NONE.
    assert_eq!(Command::SYNC.0, [0x46, 0]);
    assert_eq!(Command::SYNC.opcode(), 0x46);
}

#[test]
fn a_translation_fault_is_read() {
    // §7.3.13: a read by stream 8 of 0x1234_5678, stage 1, CLASS = IN.
    let event = Event([0x8_0000_0010, 0x208_0000_0000, 0x1234_5678, 0]);
    assert_eq!(event.name(), Some("F_TRANSLATION"));
    assert_eq!(event.stream(), 8);
    assert_eq!(event.substream(), None);
    assert_eq!(event.input_address(), Some(0x1234_5678));
    assert_eq!(event.is_read(), Some(true));
    assert_eq!(
        (event.is_instruction(), event.is_privileged()),
        (false, false)
    );
    assert_eq!((event.stage(), event.class()), (Some(1), Some("IN")));
    assert_eq!((event.stalled(), event.fetch_address()), (None, None));
    // A privileged write that stalls, stage 2, CLASS = TTD, SubstreamID 0x12345.
    let event = Event([0x8_1234_5810, 0x182_8000_0042, 0, 0]);
    assert_eq!(event.substream(), Some(0x12345));
    assert_eq!(
        (event.is_read(), event.is_privileged()),
        (Some(false), true)
    );
    assert_eq!((event.stage(), event.class()), (Some(2), Some("TTD")));
    assert_eq!(event.stalled(), Some(0x42));
    // Stage 2, on the way to a CD: the IPA is at 247:204.
    let event = Event([0x10, 0x088_0000_0000, 0x1000, 0x800_4123_5000]);
    assert_eq!((event.stage(), event.class()), (Some(2), Some("CD")));
    assert_eq!(event.intermediate_address(), Some(0x800_4123_5000));
    let event = Event([0x10, 0x008_0000_0000, 0x1000, 0x800_4123_5000]);
    assert_eq!(event.intermediate_address(), None);
    // An instruction fetch.
    let event = Event([0x13, 0xc_0000_0000, 0, 0]);
    assert_eq!(
        (event.name(), event.is_instruction()),
        (Some("F_PERMISSION"), true)
    );
}

#[test]
fn other_events_say_no_more_than_they_know() {
    // §7.3.3: nothing but the stream; what else is in the record means nothing.
    let event = Event([0xffff_0000_0002, u64::MAX, u64::MAX, u64::MAX]);
    assert_eq!(
        (event.name(), event.stream()),
        (Some("C_BAD_STREAMID"), 0xffff)
    );
    assert_eq!(
        (event.input_address(), event.is_read(), event.stage()),
        (None, None, None)
    );
    assert_eq!(
        (event.class(), event.stalled(), event.is_privileged()),
        (None, None, false)
    );
    // §7.3.4: FetchAddr 55:3.
    let event = Event([0x03, 0, 0, u64::MAX]);
    assert_eq!(event.fetch_address(), Some(0x00ff_ffff_ffff_fff8));
    // §7.3.9: always with a SubstreamID, without a flag for it.
    assert_eq!(Event([0x5_0008, 0, 0, 0]).substream(), Some(0x50));
    // §7.3.12: a walk that aborted has both addresses and cannot stall.
    let event = Event([0x0b, 0x188_8000_0000, 0x7000, 0x4000_1000]);
    assert_eq!(
        (event.input_address(), event.fetch_address()),
        (Some(0x7000), Some(0x4000_1000))
    );
    assert_eq!((event.class(), event.stalled()), (Some("TTD"), None));
    // §7.3.21: the numbers that are left are reserved or up to the implementation.
    assert_eq!(Event([0xe0, 0, 0, 0]).name(), None);
}

#[test]
fn every_architected_event_has_its_name() {
    // §7.3
    let names = [
        (0x01, "F_UUT"),
        (0x02, "C_BAD_STREAMID"),
        (0x03, "F_STE_FETCH"),
        (0x04, "C_BAD_STE"),
        (0x05, "F_BAD_ATS_TREQ"),
        (0x06, "F_STREAM_DISABLED"),
        (0x07, "F_TRANSL_FORBIDDEN"),
        (0x08, "C_BAD_SUBSTREAMID"),
        (0x09, "F_CD_FETCH"),
        (0x0a, "C_BAD_CD"),
        (0x0b, "F_WALK_EABT"),
        (0x10, "F_TRANSLATION"),
        (0x11, "F_ADDR_SIZE"),
        (0x12, "F_ACCESS"),
        (0x13, "F_PERMISSION"),
        (0x20, "F_TLB_CONFLICT"),
        (0x21, "F_CFG_CONFLICT"),
        (0x24, "E_PAGE_REQUEST"),
        (0x25, "F_VMS_FETCH"),
    ];
    for code in 0..=255 {
        let name = names
            .iter()
            .find(|(known, _)| *known == code)
            .map(|(_, name)| *name);
        assert_eq!(Event([code, 0, 0, 0]).name(), name, "{code:#x}");
    }
}

//! Attribute bits by literal values from DDI 0487 §D8.3.1 (block and page
//! descriptors) and MAIR_EL1, and that decoding inverts encoding.

mod common;

use common::DMA;
use mastiff_pgtable::stage1::{MAIR, decode, encode};
use mastiff_pgtable::stage2;
use mastiff_pgtable::{Access, Attrs, Exec, Memory, Shareability};
use proptest::prelude::*;

/// AF, bit 10, and UXN, bit 54, in all.
const ALWAYS: u64 = 0x0040_0000_0000_0400;

const KERNEL_TEXT: Attrs = Attrs {
    access: Access::ReadOnly,
    exec: Exec::Kernel,
    memory: Memory::Normal,
    shareability: Shareability::Inner,
    user: false,
    global: true,
};

#[test]
fn mair_holds_write_back_non_cacheable_and_device_ngnre() {
    // DDI 0487 MAIR_EL1: 0xff normal WB RWA, 0x44 normal NC, 0x04 nGnRE.
    assert_eq!(MAIR, 0x04_44ff);
}

#[test]
fn a_dma_mapping() {
    // AP[1] (6), SH = inner (9:8), AF (10), nG (11), PXN (53), UXN (54).
    assert_eq!(encode(DMA), 0x0060_0000_0000_0f40);
}

#[test]
fn a_read_only_dma_mapping_sets_ap2() {
    let attrs = Attrs {
        access: Access::ReadOnly,
        ..DMA
    };
    assert_eq!(encode(attrs) ^ encode(DMA), 1 << 7);
}

#[test]
fn kernel_text_is_read_only_executable_and_global() {
    assert_eq!(encode(KERNEL_TEXT), ALWAYS | 0x380);
}

#[test]
fn kernel_data_sets_pxn() {
    let attrs = Attrs {
        access: Access::ReadWrite,
        exec: Exec::Never,
        ..KERNEL_TEXT
    };
    assert_eq!(encode(attrs), ALWAYS | 1 << 53 | 0x300);
}

#[test]
fn memory_types_are_attrindx() {
    // AttrIndx, bits [4:2].
    for (memory, bits) in [
        (Memory::Normal, 0x00),
        (Memory::NonCacheable, 0x04),
        (Memory::Device, 0x08),
    ] {
        let attrs = Attrs { memory, ..DMA };
        assert_eq!(encode(attrs) & 0x1c, bits);
    }
}

#[test]
fn shareability_is_sh() {
    // SH, bits [9:8]: 00 non, 10 outer, 11 inner.
    for (shareability, bits) in [
        (Shareability::Non, 0x000),
        (Shareability::Outer, 0x200),
        (Shareability::Inner, 0x300),
    ] {
        let attrs = Attrs {
            shareability,
            ..DMA
        };
        assert_eq!(encode(attrs) & 0x300, bits);
    }
}

#[test]
fn foreign_bits_are_not_explained_away() {
    let dma = encode(DMA);
    assert_eq!(decode(dma), Some(DMA));
    // AttrIndx 5, SH 01, AF clear, UXN clear, NS (5), DBM (51), contiguous (52).
    for foreign in [
        dma | 5 << 2,
        dma & !(1 << 9),
        dma & !(1 << 10),
        dma & !(1 << 54),
        dma | 1 << 5,
        dma | 1 << 51,
        dma | 1 << 52,
    ] {
        assert_eq!(decode(foreign), None, "{foreign:#x}");
    }
}

fn any_attrs() -> impl Strategy<Value = Attrs> {
    let memory = prop_oneof![
        Just(Memory::Normal),
        Just(Memory::NonCacheable),
        Just(Memory::Device)
    ];
    let shareability = prop_oneof![
        Just(Shareability::Non),
        Just(Shareability::Outer),
        Just(Shareability::Inner)
    ];
    let rest = any::<(bool, bool, bool, bool)>();
    (memory, shareability, rest).prop_map(
        |(memory, shareability, (read_only, kernel, user, global))| Attrs {
            access: if read_only {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            },
            exec: if kernel { Exec::Kernel } else { Exec::Never },
            memory,
            shareability,
            user,
            global,
        },
    )
}

proptest! {
    #[test]
    fn decode_inverts_encode(attrs in any_attrs(), address in any::<u64>()) {
        let descriptor = encode(attrs) | address & 0x0000_ffff_ffff_f000 | 0b11;
        prop_assert_eq!(decode(descriptor), Some(attrs));
    }

    #[test]
    fn so_it_does_at_stage_2(attrs in any_attrs(), address in any::<u64>()) {
        let descriptor = stage2::encode(attrs) | address & 0x0000_ffff_ffff_f000 | 0b11;
        let expected = Attrs { user: true, global: false, ..attrs };
        prop_assert_eq!(stage2::decode(descriptor), Some(expected));
    }

    #[test]
    fn what_decodes_encodes_to_the_same(attrs in any_attrs(), bit in 0u32..64) {
        let address_and_type = 0x0000_ffff_ffff_f003;
        let bits = encode(attrs) ^ 1 << bit;
        if let Some(attrs) = decode(bits) {
            prop_assert_eq!(encode(attrs), bits & !address_and_type);
        }
    }
}

#[test]
fn stage_2_has_its_types_and_rights_elsewhere() {
    // MemAttr 0b1111 (5:2), S2AP 0b11 (7:6), SH inner (9:8), AF (10), XN (54).
    assert_eq!(stage2::encode(DMA), 0x0040_0000_0000_07fc);
    let read_only = Attrs {
        access: Access::ReadOnly,
        ..DMA
    };
    assert_eq!(stage2::encode(read_only), 0x0040_0000_0000_077c);
    let device = Attrs {
        memory: Memory::Device,
        ..DMA
    };
    assert_eq!(stage2::encode(device) & 0x3c, 0b0001 << 2);
    let non_cacheable = Attrs {
        memory: Memory::NonCacheable,
        ..DMA
    };
    assert_eq!(stage2::encode(non_cacheable) & 0x3c, 0b0101 << 2);
    for attrs in [DMA, read_only, device, non_cacheable] {
        assert_eq!(stage2::decode(stage2::encode(attrs)), Some(attrs));
    }
    // No access at all, write only, the other device types, contiguous.
    for foreign in [
        0x0040_0000_0000_073c,
        0x0040_0000_0000_07bc,
        0x0040_0000_0000_07c0,
        0x0050_0000_0000_07fc,
    ] {
        assert_eq!(stage2::decode(foreign), None, "{foreign:#x}");
    }
}

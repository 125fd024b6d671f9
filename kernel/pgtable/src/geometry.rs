//! The shape of a translation table: which address bits index which level.
//!
//! Everything follows from three numbers: a granule of 2^g bytes holds 2^(g-3)
//! descriptors of 8 bytes, so each level resolves g-3 bits, and the last one,
//! level 3, ends at bit g (DDI 0487 §D8.2). Any granule is therefore the same
//! arithmetic, and the start level is where the input bits run out.

/// The last level of lookup, where descriptors are pages.
pub(crate) const LAST_LEVEL: u8 = 3;

/// The size of a table and of the smallest page, as its log2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granule {
    /// 4 KiB pages; blocks of 2 MiB and 1 GiB.
    K4 = 12,
    /// 16 KiB pages; blocks of 32 MiB.
    K16 = 14,
    /// 64 KiB pages; blocks of 512 MiB.
    K64 = 16,
}

impl Granule {
    /// log2 of the granule's size.
    pub const fn bits(self) -> u32 {
        self as u32
    }

    /// Bytes of one page, and of one table.
    pub const fn size(self) -> u64 {
        1 << self.bits()
    }

    /// Descriptors in one table.
    pub const fn entries(self) -> usize {
        1 << (self.bits() - 3)
    }
}

/// Whose addresses the tables translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Virtual addresses, or those of a master.
    One,
    /// What stage 1 makes of them, or those of a master without a stage 1.
    Two,
}

/// What a set of tables can translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Whose addresses are translated.
    pub stage: Stage,
    /// The translation granule.
    pub granule: Granule,
    /// Bits of input address, 25 to 48: T0SZ = 64 - this.
    pub input_bits: u32,
    /// Bits of output address, 32 to 48: what the walker's IPS (or PS) says.
    pub output_bits: u32,
    /// Whether leaves above the last level may be used, and neighbours be marked as
    /// contiguous.
    pub blocks: bool,
}

impl Geometry {
    /// Whether the sizes are ones that every VMSAv8-64 walker takes (DDI 0487
    /// §D8.2: T0SZ 16 to 39 without FEAT_TTST, addresses of up to 48 bits
    /// without FEAT_LPA).
    pub const fn is_supported(&self) -> bool {
        self.input_bits >= 25
            && self.input_bits <= self.most_input_bits()
            && self.output_bits >= 32
            && self.output_bits <= 48
    }

    /// The most bits of input address. At stage 2 the walk may start at its highest
    /// level only where there are enough bits of physical address, and at the next
    /// one reaches as far as a single table does (DDI 0487 §D8.2, VTCR_EL2.SL0);
    /// there is none that would be made of several, side by side. Nor do input
    /// addresses go beyond the physical ones there.
    pub const fn most_input_bits(&self) -> u32 {
        let output = self.output_bits;
        let reach = match (self.stage, self.granule) {
            (Stage::One, _) => return 48,
            (Stage::Two, Granule::K4) if output < 44 => 39,
            (Stage::Two, Granule::K4) => 48,
            (Stage::Two, Granule::K16) if output < 42 => 36,
            (Stage::Two, Granule::K16) => 47,
            (Stage::Two, Granule::K64) if output < 44 => 42,
            (Stage::Two, Granule::K64) => 48,
        };
        if output < reach { output } else { reach }
    }

    /// The level of the root table.
    pub const fn start_level(&self) -> u8 {
        let bits = self.granule.bits();
        let levels = (self.input_bits - bits).div_ceil(bits - 3);
        (LAST_LEVEL + 1) - levels as u8
    }

    /// The lowest input address bit that `level` resolves.
    pub(crate) const fn shift(&self, level: u8) -> u32 {
        let bits = self.granule.bits();
        bits + (LAST_LEVEL - level) as u32 * (bits - 3)
    }

    /// Bytes that one entry of a table at `level` spans.
    pub const fn span(&self, level: u8) -> u64 {
        1 << self.shift(level)
    }

    /// Where the entry for `va` sits in a table at `level`.
    pub const fn index(&self, va: u64, level: u8) -> usize {
        (va >> self.shift(level)) as usize & (self.granule.entries() - 1)
    }

    /// Whether the architecture and the user allow a leaf at `level`
    /// (DDI 0487 §D8.3.1).
    pub const fn leaf_at(&self, level: u8) -> bool {
        match level {
            LAST_LEVEL => true,
            2 => self.blocks,
            1 => self.blocks && matches!(self.granule, Granule::K4),
            _ => false,
        }
    }

    /// How many neighbouring leaves at `level`, aligned to as many, a walker may be
    /// told to keep as one (DDI 0487 §D8.7.1, the Contiguous bit).
    pub const fn contiguous(&self, level: u8) -> usize {
        match (self.granule, level) {
            _ if !self.leaf_at(level) || !self.blocks => 1,
            (Granule::K4, _) => 16,
            (Granule::K16, LAST_LEVEL) => 128,
            (Granule::K16, _) | (Granule::K64, _) => 32,
        }
    }

    /// Bytes of as many.
    pub(crate) const fn group(&self, level: u8) -> u64 {
        self.span(level) * self.contiguous(level) as u64
    }

    /// Whether `len` bytes from `start` are within an address space of `bits`.
    pub(crate) const fn fits(start: u64, len: u64, bits: u32) -> bool {
        let space = 1 << bits;
        len <= space && start <= space - len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn geometry(granule: Granule, input_bits: u32) -> Geometry {
        Geometry {
            stage: Stage::One,
            granule,
            input_bits,
            output_bits: 48,
            blocks: true,
        }
    }

    #[test]
    fn stage_2_reaches_as_far_as_one_root_table() {
        // DDI 0487 §D8.2: the start level by granule and physical address size,
        // and what a table of that level spans.
        for (granule, output_bits, most, level) in [
            (Granule::K4, 48, 48, 0),
            (Granule::K4, 44, 44, 0),
            (Granule::K4, 42, 39, 1),
            (Granule::K4, 40, 39, 1),
            (Granule::K4, 36, 36, 1),
            (Granule::K4, 32, 32, 1),
            (Granule::K16, 48, 47, 1),
            (Granule::K16, 42, 42, 1),
            (Granule::K16, 40, 36, 2),
            (Granule::K16, 32, 32, 2),
            (Granule::K64, 48, 48, 1),
            (Granule::K64, 44, 44, 1),
            (Granule::K64, 42, 42, 2),
            (Granule::K64, 32, 32, 2),
        ] {
            let mut shape = Geometry {
                stage: Stage::Two,
                output_bits,
                ..geometry(granule, 32)
            };
            assert_eq!(shape.most_input_bits(), most, "{shape:?}");
            shape.input_bits = most;
            assert!(shape.is_supported());
            assert_eq!(shape.start_level(), level, "{shape:?}");
            shape.input_bits = most + 1;
            assert!(!shape.is_supported());
        }
        assert_eq!(geometry(Granule::K16, 32).most_input_bits(), 48);
    }

    #[test]
    fn start_levels_are_those_of_the_manual() {
        // DDI 0487 §D8.2, initial lookup levels by granule and T0SZ.
        for (granule, input_bits, level) in [
            (Granule::K4, 48, 0),
            (Granule::K4, 40, 0),
            (Granule::K4, 39, 1),
            (Granule::K4, 31, 1),
            (Granule::K4, 30, 2),
            (Granule::K4, 25, 2),
            (Granule::K16, 48, 0),
            (Granule::K16, 47, 1),
            (Granule::K16, 36, 2),
            (Granule::K16, 25, 3),
            (Granule::K64, 48, 1),
            (Granule::K64, 42, 2),
            (Granule::K64, 29, 3),
        ] {
            let shape = geometry(granule, input_bits);
            assert_eq!(shape.start_level(), level, "{shape:?}");
        }
    }

    #[test]
    fn spans_are_the_block_and_page_sizes() {
        let k4 = geometry(Granule::K4, 48);
        assert_eq!([3, 2, 1].map(|l| k4.span(l)), [4 << 10, 2 << 20, 1 << 30]);
        assert_eq!(geometry(Granule::K16, 48).span(2), 32 << 20);
        assert_eq!(geometry(Granule::K64, 48).span(2), 512 << 20);
    }

    #[test]
    fn contiguous_leaves_are_as_many_as_the_manual_says() {
        // DDI 0487 §D8.7.1, by granule and level.
        let groups = |granule| [0, 1, 2, 3].map(|level| geometry(granule, 48).contiguous(level));
        assert_eq!(groups(Granule::K4), [1, 16, 16, 16]);
        assert_eq!(groups(Granule::K16), [1, 1, 32, 128]);
        assert_eq!(groups(Granule::K64), [1, 1, 32, 32]);
        let bytes = |granule, level| geometry(granule, 48).group(level);
        assert_eq!(bytes(Granule::K4, 3), 64 << 10);
        assert_eq!(bytes(Granule::K4, 2), 32 << 20);
        assert_eq!(bytes(Granule::K16, 3), 2 << 20);
        assert_eq!(bytes(Granule::K16, 2), 1 << 30);
        assert_eq!(bytes(Granule::K64, 3), 2 << 20);
        assert_eq!(bytes(Granule::K64, 2), 16 << 30);
        let pages = Geometry {
            blocks: false,
            ..geometry(Granule::K4, 48)
        };
        assert_eq!(pages.contiguous(3), 1);
    }

    #[test]
    fn blocks_sit_at_the_levels_that_have_them() {
        let levels = |shape: Geometry| [0, 1, 2, 3].map(|level| shape.leaf_at(level));
        let k4 = geometry(Granule::K4, 48);
        assert_eq!(levels(k4), [false, true, true, true]);
        assert_eq!(
            levels(geometry(Granule::K16, 48)),
            [false, false, true, true]
        );
        let pages = Geometry {
            blocks: false,
            ..k4
        };
        assert_eq!(levels(pages), [false, false, false, true]);
    }
}

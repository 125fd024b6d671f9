//! The CPU's address space: everything where it is physically, and nothing both
//! writable and executable. One set of tables, in TTBR0; TTBR1 is off.
//!
//! The tables are built before the MMU is on, by the same code as ever, since there
//! is no second one.

use alloc::vec::Vec;
use core::arch::asm;
use core::ops::Range;

use aarch64_cpu::registers::{
    ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1,
};
use mastiff_core::addr::{PAGE, PhysRange};
use mastiff_core::error::Fault;
use mastiff_hw::Window;
use mastiff_hw::frames::{frames, ranges};
use mastiff_pgtable::{
    Access, Attrs, Exec, Geometry, Granule, Hint, MapError, Memory, PageTable, Shareability, Stage,
    stage1,
};
use spin::Mutex;
use tock_registers::interfaces::{Readable, Writeable};

use super::cpu_tables::CpuTables;
use super::image;

/// Bits of virtual address: four levels of 4 KiB tables.
const INPUT_BITS: u32 = 48;

/// SCTLR_EL1 as the kernel wants it (DDI 0487 §D24.2.125): what Armv8.0 has as
/// RES1 (LSMAOE, nTLSMD, EIS, TSCXT, EOS), then WXN, I, SA, C and M. SPAN is left
/// clear: an exception sets PAN again.
const SCTLR: u64 = 0x3050_0800 | 1 << 19 | 1 << 12 | 1 << 3 | 1 << 2 | 1;
/// SPAN, which is RES1 where there is no PAN.
const SCTLR_SPAN: u64 = 1 << 23;

const TEXT: Attrs = kernel(Access::ReadOnly, Exec::Kernel, Memory::Normal);
const CONSTANT: Attrs = kernel(Access::ReadOnly, Exec::Never, Memory::Normal);
const DATA: Attrs = kernel(Access::ReadWrite, Exec::Never, Memory::Normal);
const REGISTERS: Attrs = kernel(Access::ReadWrite, Exec::Never, Memory::Device);

const fn kernel(access: Access, exec: Exec, memory: Memory) -> Attrs {
    Attrs {
        access,
        exec,
        memory,
        shareability: Shareability::Inner,
        user: false,
        global: true,
    }
}

/// The address space, of all CPUs. Nothing is ever unmapped, so none of them has to be
/// told to forget anything.
pub(crate) struct Space {
    tables: PageTable<CpuTables>,
    /// Page numbers that are mapped as registers.
    registers: Vec<Range<u64>>,
}

static SPACE: Mutex<Option<Space>> = Mutex::new(None);

/// Bits of physical address that the CPU has (ID_AA64MMFR0_EL1.PARange), as far as
/// tables of this format go.
fn output_bits() -> u32 {
    match ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange) {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// Whether there is an address space yet. Until then all memory is Device memory to
/// the CPU, on which exclusives, and so locks, need not work (DDI 0487, "Synchronization
/// and semaphores").
pub(crate) fn is_on() -> bool {
    SCTLR_EL1.is_set(SCTLR_EL1::M)
}

impl Space {
    /// The image, each part with its rights, and the tree's blob. The MMU is off.
    pub(crate) fn of_image(blob: Range<u64>) -> Result<Self, MapError> {
        let geometry = Geometry {
            stage: Stage::One,
            granule: Granule::K4,
            input_bits: INPUT_BITS,
            output_bits: output_bits(),
            blocks: true,
        };
        let space = Self {
            tables: PageTable::new(CpuTables, geometry)?,
            registers: Vec::new(),
        };
        space.map(image::image_base()..image::rodata_start(), TEXT)?;
        space.map(image::rodata_start()..image::data_start(), CONSTANT)?;
        space.map(image::data_start()..image::data_end(), DATA)?;
        for stack in image::stacks() {
            space.map(stack.memory, DATA)?;
        }
        space.map(image::tables_start()..image::tables_end(), DATA)?;
        space.map(image::heap_start()..image::heap_end(), DATA)?;
        let first = blob.start & !(PAGE - 1);
        space.map(first..blob.end.next_multiple_of(PAGE), CONSTANT)?;
        Ok(space)
    }

    fn map(&self, range: Range<u64>, attrs: Attrs) -> Result<(), MapError> {
        if range.is_empty() {
            return Ok(());
        }
        self.tables
            .map_near(
                Hint::NONE,
                range.start,
                range.start,
                range.end - range.start,
                attrs,
            )
            .map(drop)
    }

    /// Turns the MMU and the caches on.
    ///
    /// # Safety
    /// This is the address space of what runs now, and nobody else's; nothing of
    /// what was written with the caches off has stale lines in them.
    pub(crate) unsafe fn enable(self) {
        let pan = ID_AA64MMFR1_EL1.read(ID_AA64MMFR1_EL1::PAN) != 0;
        let size = u64::from(64 - INPUT_BITS);
        let range = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(5);
        MAIR_EL1.set(stage1::MAIR);
        TCR_EL1.write(
            TCR_EL1::T0SZ.val(size)
                + TCR_EL1::TG0::KiB_4
                + TCR_EL1::SH0::Inner
                + TCR_EL1::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
                + TCR_EL1::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
                + TCR_EL1::EPD1::DisableTTBR1Walks
                + TCR_EL1::IPS.val(range),
        );
        TTBR0_EL1.set(self.tables.root());
        let sctlr = if pan { SCTLR } else { SCTLR | SCTLR_SPAN };
        // SAFETY: the caller's: the code goes on at the same address.
        unsafe {
            asm!(
                "isb",
                "tlbi vmalle1",
                "ic iallu",
                "dsb nsh",
                "isb",
                options(nostack)
            );
            SCTLR_EL1.set(sctlr);
            asm!("isb", options(nostack));
            if pan {
                asm!(".arch_extension pan", "msr pan, #1", options(nostack));
            }
        }
        *SPACE.lock() = Some(self);
    }
}

/// Maps RAM that is neither the image's nor the blob's nor out of bounds, as data.
pub(crate) fn map_ram(frames: Range<u64>) -> Result<(), MapError> {
    match SPACE.lock().as_ref() {
        Some(space) => space.map(frames.start * PAGE..frames.end * PAGE, DATA),
        None => Ok(()),
    }
}

/// Maps a stack of the image.
pub(crate) fn map_stack(memory: Range<u64>) -> Result<(), MapError> {
    match SPACE.lock().as_ref() {
        Some(space) => space.map(memory, DATA),
        None => Ok(()),
    }
}

/// Maps a window of registers. Windows may share pages; a page once mapped as
/// registers stays so.
pub(crate) fn map_device(range: PhysRange) -> Result<Window, Fault> {
    let refuse = |why| {
        let at = range.start;
        Err(Fault::Unmappable { at, why })
    };
    let end = range.start.0.checked_add(range.len);
    if range.len == 0 {
        return refuse("the window is empty");
    }
    if end.is_none_or(|end| end > 1 << output_bits()) {
        return refuse("it is beyond the CPU's physical addresses");
    }
    let in_ram = frames().is_some_and(|frames| frames.overlaps(range));
    if in_ram || image::overlaps(range) {
        return refuse("it overlaps memory");
    }
    let mut space = SPACE.lock();
    let Some(space) = space.as_mut() else {
        return refuse("the MMU is off");
    };
    let pages = ranges::frames_touched(&range);
    let gaps: Vec<_> = ranges::without(pages, &space.registers).collect();
    for gap in gaps {
        if let Err(error) = space.map(gap.start * PAGE..gap.end * PAGE, REGISTERS) {
            return refuse(match error {
                MapError::OutOfTables { .. } => "no memory for translation tables",
                _ => "it is mapped as something else",
            });
        }
        // At once: a later gap may fail, and this one stays mapped.
        let known = core::mem::take(&mut space.registers);
        space.registers = ranges::merged(known.into_iter().chain([gap]));
    }
    // SAFETY: just mapped as device memory, never unmapped, and no RAM.
    Ok(unsafe { Window::new(range) })
}

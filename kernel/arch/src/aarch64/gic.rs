//! The CPU's interface to a GICv3 by system registers (IHI 0069 §12.2). Their names
//! are not known to every assembler, so they go by their encodings.

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64PFR0_EL1, MPIDR_EL1};
use mastiff_core::cpu_interface::CpuInterface;
use mastiff_core::error::Fault;
use tock_registers::interfaces::Readable;

/// SRE of ICC_SRE_EL1.
const SRE: u64 = 1;
/// EOImode of ICC_CTLR_EL1.
const EOI_MODE: u64 = 1 << 1;
/// Lets every priority through.
const LOWEST_PRIORITY: u64 = 0xff;
/// The affinity fields of MPIDR_EL1.
pub(crate) const AFFINITY: u64 = 0xff_00ff_ffff;

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: interrupt state only; whoever uses the interface has enabled it,
        // which fails where the register is not there.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack)) };
        value
    }};
}

macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: as for reading.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack)) }
    }};
}

/// The interface of the CPU that calls.
pub(crate) struct GicCpu;

impl GicCpu {
    fn is_there() -> bool {
        // ID_AA64PFR0_EL1.GIC, bits [27:24].
        ID_AA64PFR0_EL1.get() >> 24 & 0xf != 0
    }
}

impl CpuInterface for GicCpu {
    fn enable(&self) -> Result<(), Fault> {
        if !Self::is_there() {
            return Err(Fault::Unsupported {
                what: "a CPU without the GIC's system registers",
                seen: ID_AA64PFR0_EL1.get(),
            });
        }
        write!("S3_0_C12_C12_5", read!("S3_0_C12_C12_5") | SRE); // ICC_SRE_EL1
        let seen = read!("S3_0_C12_C12_5");
        if seen & SRE == 0 {
            return Err(Fault::Register {
                name: "ICC_SRE_EL1",
                expected: seen | SRE,
                seen,
            });
        }
        write!("S3_0_C12_C12_4", read!("S3_0_C12_C12_4") & !EOI_MODE); // ICC_CTLR_EL1
        write!("S3_0_C12_C12_3", 0); // ICC_BPR1_EL1
        write!("S3_0_C4_C6_0", LOWEST_PRIORITY); // ICC_PMR_EL1
        write!("S3_0_C12_C12_7", 1); // ICC_IGRPEN1_EL1
        Ok(())
    }

    fn disable(&self) {
        // Without SRE the other registers are undefined; before the first `enable`
        // only firmware has set it.
        if Self::is_there() && read!("S3_0_C12_C12_5") & SRE != 0 {
            write!("S3_0_C12_C12_7", 0);
        }
    }

    fn acknowledge(&self) -> u32 {
        let intid = read!("S3_0_C12_C12_0"); // ICC_IAR1_EL1
        // The interrupt's state has changed before its device is looked at.
        // SAFETY: orders, nothing more.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
        intid as u32 & 0xff_ffff
    }

    fn end(&self, intid: u32) {
        write!("S3_0_C12_C12_1", u64::from(intid)); // ICC_EOIR1_EL1
    }

    fn send(&self, affinity: u64) {
        let aff = |n: u32| affinity >> (8 * n) & 0xff;
        // Aff3 stands above bit 32 in both (DDI 0487 §D24.2.118).
        let aff3 = affinity >> 32 & 0xff;
        // The CPU is a bit among the 16 of its range (RS).
        let value = aff3 << 48 | (aff(0) / 16) << 44 | aff(2) << 32 | aff(1) << 16;
        // SAFETY: orders, nothing more.
        unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
        write!("S3_0_C12_C11_5", value | 1 << (aff(0) % 16)); // ICC_SGI1R_EL1
    }

    fn affinity(&self) -> u64 {
        MPIDR_EL1.get() & AFFINITY
    }
}

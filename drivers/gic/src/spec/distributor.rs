//! The distributor (IHI 0069 §12.9, IHI 0048 §4.3) and GICv2's CPU interface
//! (IHI 0048 §4.4). The registers from [`IGROUPR`] to [`ICFGR`] are laid out alike
//! in a redistributor's SGI frame, which holds the first 32 interrupts.

/// GICD_CTLR, distributor control.
pub const CTLR: usize = 0x0000;
/// GICv2, in the view that software has without or outside the secure state:
/// forward the one group that it sees.
pub const CTLR_ENABLE: u32 = 1 << 0;
/// GICv3: EnableGrp1A of the non-secure view, EnableGrp1 of a GIC with one
/// security state. It is the same bit.
pub const CTLR_GROUP1: u32 = 1 << 1;
/// GICv3: affinity routing, ARE_NS or ARE.
pub const CTLR_ARE: u32 = 1 << 4;
/// GICv3: the effects of an earlier write are still on their way.
pub const CTLR_RWP: u32 = 1 << 31;

/// GICD_TYPER, what there is.
pub const TYPER: usize = 0x0004;
/// The GIC has LPIs.
pub const TYPER_LPIS: u32 = 1 << 17;
/// GICv2: two security states, of which software outside the secure one sees
/// group 1.
pub const TYPER_SECURITY: u32 = 1 << 10;

/// How many INTIDs below 1020 there are (TYPER.ITLinesNumber).
pub const fn lines(typer: u32) -> u32 {
    let lines = ((typer & 0x1f) + 1) * 32;
    if lines > 1020 { 1020 } else { lines }
}

/// GICv3: bits of an INTID (TYPER.IDbits).
pub const fn id_bits(typer: u32) -> u32 {
    (typer >> 19 & 0x1f) + 1
}

/// GICD_IGROUPR: a bit per interrupt.
pub const IGROUPR: usize = 0x0080;
/// GICD_ISENABLER: a bit per interrupt, writing 1 enables.
pub const ISENABLER: usize = 0x0100;
/// GICD_ICENABLER: a bit per interrupt, writing 1 disables.
pub const ICENABLER: usize = 0x0180;
/// GICD_ICPENDR: a bit per interrupt, writing 1 makes it not pending.
pub const ICPENDR: usize = 0x0280;
/// GICD_ICACTIVER: a bit per interrupt, writing 1 makes it inactive.
pub const ICACTIVER: usize = 0x0380;
/// GICD_IPRIORITYR: a byte per interrupt, byte-accessible.
pub const IPRIORITYR: usize = 0x0400;
/// GICD_ITARGETSR, GICv2: a byte per interrupt, byte-accessible, a bit per CPU.
pub const ITARGETSR: usize = 0x0800;
/// GICD_ICFGR: two bits per interrupt, the upper one is 1 for an edge.
pub const ICFGR: usize = 0x0c00;
/// GICD_SGIR, GICv2: sends the software-generated interrupt of that number.
pub const SGIR: usize = 0x0f00;
/// GICD_SGIR.CPUTargetList: a bit per CPU that it goes to.
pub const SGIR_TARGETS: u32 = 16;
/// GICD_IROUTER, GICv3: 64 bits per interrupt, the affinity of its CPU.
pub const IROUTER: usize = 0x6000;

/// PIDR2, of GICv3's distributor, redistributors and ITS alike (in a 64 KiB
/// frame).
pub const PIDR2: usize = 0xffe8;

/// The version of the architecture (PIDR2.ArchRev).
pub const fn arch_rev(pidr2: u32) -> u32 {
    pidr2 >> 4 & 0xf
}

/// GICC_CTLR. Bit 0 is the enable of the one group that is seen; all else 0 means
/// IRQ rather than FIQ, and that one write ends an interrupt.
pub const GICC_CTLR: usize = 0x00;
/// GICC_CTLR.Enable.
pub const GICC_CTLR_ENABLE: u32 = 1 << 0;
/// GICC_PMR, the priority that an interrupt must be above.
pub const GICC_PMR: usize = 0x04;
/// GICC_IAR, acknowledges.
pub const GICC_IAR: usize = 0x0c;
/// GICC_EOIR, ends.
pub const GICC_EOIR: usize = 0x10;

/// INTIDs from here to 1023 say that there was nothing to acknowledge.
pub const SPECIAL: u32 = 1020;

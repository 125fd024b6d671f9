//! Controller properties (§3.1.3) and doorbells (PCIe Transport §3.1.2).

/// Controller Capabilities.
pub const CAP: usize = 0x00;
/// Version.
pub const VS: usize = 0x08;
/// Controller Configuration.
pub const CC: usize = 0x14;
/// Controller Status.
pub const CSTS: usize = 0x1c;
/// Admin Queue Attributes.
pub const AQA: usize = 0x24;
/// Admin Submission Queue Base Address.
pub const ASQ: usize = 0x28;
/// Admin Completion Queue Base Address.
pub const ACQ: usize = 0x30;
/// First doorbell.
pub const DOORBELLS: usize = 0x1000;

/// CC.EN.
pub const CC_ENABLE: u32 = 1 << 0;
/// CC.SHN: which shutdown is announced.
pub const CC_SHUTDOWN: u32 = 3 << 14;
/// CC.SHN: a normal one.
pub const CC_SHUTDOWN_NORMAL: u32 = 1 << 14;
/// CC.IOSQES and CC.IOCQES: entries of 2^6 and 2^4 bytes. NVM command set, 4 KiB
/// pages and round robin are zeroes.
pub const CC_ENTRIES: u32 = 6 << 16 | 4 << 20;

/// CSTS.RDY.
pub const CSTS_READY: u32 = 1 << 0;
/// CSTS.CFS: the controller has failed and will not recover by itself.
pub const CSTS_FATAL: u32 = 1 << 1;
/// CSTS.SHST: how far a shutdown is.
pub const CSTS_SHUTDOWN: u32 = 3 << 2;
/// CSTS.SHST: complete.
pub const CSTS_SHUTDOWN_DONE: u32 = 2 << 2;

/// VS of NVM Express 1.1, the first with a list of active namespaces.
pub const VERSION_1_1: u32 = 0x0001_0100;

/// Controller Capabilities, decoded (§3.1.3.1).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// MQES: entries that an I/O queue can have.
    pub fn queue_entries(self) -> u32 {
        (self.0 & 0xffff) as u32 + 1
    }

    /// TO: how long enabling and disabling may take, in microseconds.
    pub fn timeout_us(self) -> u64 {
        (self.0 >> 24 & 0xff).max(1) * 500_000
    }

    /// DSTRD: bytes from one doorbell to the next.
    pub fn doorbell_stride(self) -> usize {
        4 << (self.0 >> 32 & 0xf)
    }

    /// CSS: whether it speaks the NVM command set.
    pub fn has_nvm_command_set(self) -> bool {
        self.0 >> 37 & 1 != 0
    }

    /// MPSMIN: whether pages can be 4 KiB.
    pub fn has_4k_pages(self) -> bool {
        self.0 >> 48 & 0xf == 0
    }
}

/// Offset of a submission queue's tail doorbell.
pub const fn tail_doorbell(queue: u16, stride: usize) -> usize {
    DOORBELLS + 2 * queue as usize * stride
}

/// Offset of a completion queue's head doorbell.
pub const fn head_doorbell(queue: u16, stride: usize) -> usize {
    tail_doorbell(queue, stride) + stride
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_a_real_controller() {
        // QEMU's: 2048 entries, 7.5 s, stride 4, NVM and others, pages 4 KiB up.
        let cap = Capabilities(0x0040_30e1_0f03_07ff | 1 << 37);
        assert_eq!(cap.queue_entries(), 2048);
        assert_eq!(cap.timeout_us(), 7_500_000);
        assert!(cap.has_nvm_command_set() && cap.has_4k_pages());
        assert_eq!(Capabilities(2 << 32).doorbell_stride(), 16);
        assert_eq!(
            Capabilities(0).timeout_us(),
            500_000,
            "never no time at all"
        );
        assert!(!Capabilities(1 << 48).has_4k_pages());
    }

    #[test]
    fn doorbells() {
        assert_eq!((tail_doorbell(0, 4), head_doorbell(0, 4)), (0x1000, 0x1004));
        assert_eq!(
            (tail_doorbell(1, 16), head_doorbell(1, 16)),
            (0x1020, 0x1030)
        );
    }
}

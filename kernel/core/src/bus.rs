//! What a bus tells the core about the devices on it. A bus driver publishes its
//! children while probing; the core binds them like any other device and asks the
//! bus for what only the bus can do: windows, message interrupts, and the switch
//! that lets a function master the bus.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::{InterruptSpec, NodeId, PropError};

use crate::addr::{PhysAddr, PhysRange};
use crate::error::Fault;

/// A device that a bus found.
pub struct Child {
    /// Its name below the bus: `00:01.0`.
    pub name: Box<str>,
    /// The tree node that describes it, if there is one.
    pub node: Option<NodeId>,
    /// What it says it is.
    pub pci: PciId,
    /// Requester IDs that its transactions may carry on the way to the IOMMU:
    /// its own, or the bridge's that takes ownership of them.
    pub requesters: Vec<u32>,
    /// Devices with the same key can reach each other without passing the IOMMU (no
    /// access control between them), so they are one group. `None` for one that is
    /// isolated from all others.
    pub isolation: Option<Box<str>>,
    /// What the bus does for it.
    pub function: Arc<dyn BusFunction>,
}

/// The identity of a PCI function (PCIe Base 7.5.1.1).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct PciId {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class, subclass, programming interface.
    pub class: u32,
}

/// What a bus does for one of its functions.
pub trait BusFunction: Send + Sync {
    /// The window behind a BAR.
    fn window(&self, index: usize) -> Result<PhysRange, Fault>;
    /// Lets the function issue memory transactions, or stops it. When this returns
    /// after `false`, the function starts none any more.
    fn set_master(&self, on: bool);
    /// How many message interrupts the function can send, 0 for none.
    fn messages(&self) -> u32;
    /// Has message `index` write `data` to `address` (as the function sees it) and
    /// switches the function to message interrupts.
    fn set_message(&self, index: u32, address: u64, data: u32) -> Result<(), Fault>;
    /// Masks message `index`; after the last one the function signals none.
    fn clear_message(&self, index: u32);
    /// The wired interrupt of the function, through the bus' map.
    fn interrupt(&self) -> Result<Option<InterruptSpec>, PropError>;
    /// Lets the function pull its pin, or has it let go of it for good.
    fn set_pin(&self, on: bool) {
        let _ = on;
    }
    /// Where the function's capabilities of this kind are in its configuration space,
    /// in the order of its list. None on a bus that has no such list.
    fn capabilities(&self, id: u8) -> Vec<u16> {
        let _ = id;
        Vec::new()
    }
    /// The aligned word of its configuration space that `offset` is in; all ones
    /// where there is none. Reading changes nothing there.
    fn config_read(&self, offset: u16) -> u32 {
        let _ = offset;
        u32::MAX
    }
    /// Address ranges on the bus that belong to devices: what a function writes
    /// there may never reach memory, so the core hands none of it out as IOVA.
    fn apertures(&self) -> Vec<(u64, u64)>;
    /// The bus address of a doorbell at this physical address, without an IOMMU.
    fn bus_address(&self, pa: PhysAddr) -> u64 {
        pa.0
    }
}

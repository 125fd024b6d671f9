//! What a driver is: a `'static`, stateless table entry that can probe, and the
//! state that a successful probe leaves behind, which the core owns.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_dt::SupplierClass;

use crate::addr::{Iova, PhysAddr};
use crate::console::Console;
use crate::error::{Fault, ProbeError};
use crate::platform::Platform;
use crate::probe::Probe;

/// A driver, named as its folder in `drivers/`.
pub trait Driver<P: Platform>: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// The devices that it is for; the first entry that matches counts.
    fn matches(&self) -> &'static [Match];
    /// Classes of suppliers that its devices can do without, beyond those that any
    /// device can (see `docs/probing.md`).
    fn optional(&self) -> &'static [SupplierClass] {
        &[]
    }
    /// Binds one device. Acquires everything through `probe` first, and touches
    /// the hardware only after: a deferral then leaves no trace on the device.
    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError>;
}

/// A board's list of drivers, as the type `Drivers` with the constant `LIST`: generic over
/// the machine, so that a host can plan with it, and over its CPUs, whose parts some
/// drivers are made with. `drivers!(M: Machine, C => [Nvme, Gic::new(C::GIC)]);`
#[macro_export]
macro_rules! drivers {
    ($machine:ident: $bound:path, $cpu:ident => [$($driver:expr),* $(,)?]) => {
        /// The drivers of the image, on a kind of machine with a kind of CPU.
        pub struct Drivers<$machine, $cpu>(core::marker::PhantomData<($machine, $cpu)>);

        impl<$machine: $bound, $cpu: $crate::cpu_interface::Cpu> Drivers<$machine, $cpu> {
            /// All of them. Their order does not matter.
            pub const LIST: &'static [&'static dyn $crate::driver::Driver<$machine>] =
                &[$(&const { $driver }),*];
        }
    };
}

/// One kind of device that a driver is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Match {
    /// How such a device is told.
    pub id: Id,
    /// What the core sets up for its DMA before the probe.
    pub dma: DmaMode,
}

impl Match {
    /// A platform device by one of its `compatible` strings, no bus master.
    pub const fn compatible(compatible: &'static str) -> Self {
        Self {
            id: Id::Compatible(compatible),
            dma: DmaMode::None,
        }
    }

    /// A PCI function by vendor and device.
    pub const fn pci(vendor: u16, device: u16) -> Self {
        Self {
            id: Id::Pci { vendor, device },
            dma: DmaMode::None,
        }
    }

    /// A PCI function by class, subclass and programming interface.
    pub const fn pci_class(class: u32) -> Self {
        Self {
            id: Id::PciClass(class),
            dma: DmaMode::None,
        }
    }

    /// The same, as a bus master whose driver manages its IOMMU itself.
    pub const fn managed(mut self) -> Self {
        self.dma = DmaMode::Managed;
        self
    }

    /// The same, as a bus master whose DMA the core sets up.
    pub const fn master(mut self) -> Self {
        self.dma = DmaMode::Core;
        self
    }
}

/// How a device is told.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Id {
    /// One of the node's `compatible` strings.
    Compatible(&'static str),
    /// PCI vendor and device ID.
    Pci {
        /// Vendor ID.
        vendor: u16,
        /// Device ID.
        device: u16,
    },
    /// PCI class code, 24 bits: class, subclass, programming interface.
    PciClass(u32),
}

/// What the core sets up for a device's DMA before its probe.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum DmaMode {
    /// It is no bus master: its streams, if any, stay aborted.
    None,
    /// Attached to its group's domain; the driver gets a [`crate::dma::Dma`].
    Core,
    /// Its streams are reserved for its driver and abort until that attaches a space
    /// of its own; the driver gets a [`crate::iommu::Managed`].
    Managed,
}

/// A driver's state for one bound device. Dropping it releases everything that
/// the probe acquired; the core takes the device's DMA back after that.
pub trait Bound: Send + Sync {
    /// Stops the device from starting anything new, before it is dropped.
    fn quiesce(&self) {}
    /// Gets the device ready to lose its state: finishes what is under way and starts
    /// nothing new. Its users are suspended already, its suppliers are not.
    fn suspend(&self) -> Result<(), Fault> {
        self.quiesce();
        Ok(())
    }
    /// Brings the device back as it was, from whatever state it is in. Its suppliers
    /// are back already, and so are its mappings.
    fn resume(&self) -> Result<(), Fault> {
        Ok(())
    }
    /// The device as a console, if it is one.
    fn console(&self) -> Option<Arc<dyn Console>> {
        None
    }
    /// The device as a disk, if it is one.
    fn disk(&self) -> Option<&dyn Disk> {
        None
    }
    /// The device as a bus master that can prove its DMA, if it can.
    fn dma_test(&self) -> Option<&dyn DmaTest> {
        None
    }
    /// The device as a master that can be aimed at any address, if it can.
    fn hostile(&self) -> Option<&dyn Hostile> {
        None
    }
    /// The device as a master with address spaces of its own, if it has some.
    fn spaces(&self) -> Option<&dyn Spaces> {
        None
    }
}

/// A disk.
pub trait Disk: Sync {
    /// Bytes in a block.
    fn block_size(&self) -> u32;
    /// Number of blocks.
    fn blocks(&self) -> u64;
    /// Reads `count` blocks from `first` in order, handing each stretch of data
    /// over as it arrives. Returns how the first transfer's data came in.
    fn read(&self, first: u64, count: u64, sink: &mut dyn FnMut(&[u8])) -> Result<DmaProof, Fault>;
    /// Reads pieces from anywhere, several at a time, without copying any: whoever
    /// gets them takes what it wants. Returns how the first one came in.
    fn fetch(&self, pace: &Pace, pieces: &mut dyn Pieces) -> Result<DmaProof, Fault>;
}

/// How pieces are read.
#[derive(Copy, Clone, Debug)]
pub struct Pace {
    /// How many there are.
    pub count: u64,
    /// The most bytes that one has.
    pub bytes: u64,
    /// How many may be under way at a time; a disk may have fewer.
    pub depth: usize,
    /// What memory is filled with before a piece is read over it, to prove that it was.
    pub over: Option<u8>,
}

/// What is read, piece by piece, and what becomes of it: both in the same order.
pub trait Pieces {
    /// Where the next piece is: its first block, and how many there are.
    fn next(&mut self) -> (u64, u32);
    /// The next piece is there, and the device cannot reach it any more.
    fn landed(&mut self, piece: &dyn Piece);
}

/// Data that a device has brought.
pub trait Piece {
    /// Its length in bytes.
    fn len(&self) -> usize;
    /// Whether there is none; there always is some.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies some of it out.
    fn copy(&self, offset: usize, to: &mut [u8]);
}

/// A bus master that can move a pattern through memory and back.
pub trait DmaTest: Sync {
    /// Has the device read a pattern from memory and write it back elsewhere, and
    /// compares every byte.
    fn round_trip(&self) -> Result<DmaProof, Fault>;
    /// Starts a round trip and does not wait for it: the device is at work while
    /// others are bound and unbound.
    fn begin(&self) -> Result<(), Fault> {
        Err(Fault::invalid("this device is not left alone at work"))
    }
    /// Waits for the round trip that was begun, and compares as that does.
    fn finish(&self) -> Result<DmaProof, Fault> {
        Err(Fault::invalid("no round trip was begun"))
    }
}

/// A bus master that goes where it is told, mapped or not: to see what stops it. It
/// holds some bytes, which it fetches from memory or leaves there.
pub trait Hostile {
    /// How many bytes it holds.
    fn capacity(&self) -> usize;
    /// Gives it bytes, by way of memory that is mapped for that.
    fn arm(&self, bytes: &[u8]) -> Result<(), Fault>;
    /// The first `len` bytes that it holds, in the same way.
    fn loot(&self, len: usize) -> Result<Vec<u8>, Fault>;
    /// Sends it to fetch `len` bytes at an address, or to leave as many there. Nobody
    /// waits for the end: not this, not a suspend, not an unbind.
    fn launch(&self, way: Way, at: Iova, len: usize) -> Result<(), Fault>;
    /// Waits until it is back. It may have been sent under a binding before this one.
    fn land(&self) -> Result<(), Fault>;
    /// Whether it is back.
    fn is_back(&self) -> bool;
    /// Maps a page with these bytes for it, to do with as it likes, in place of the one
    /// before.
    fn lend(&self, bytes: &[u8]) -> Result<Lent, Fault>;
    /// Unmaps that page and frees it.
    fn take_back(&self);
    /// Unmaps that page and keeps it, as what was lent for one transfer.
    fn give_back(&self) -> Result<(), Fault>;
}

/// Which way a transfer goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// From memory to the device.
    Read,
    /// From the device to memory.
    Write,
}

/// A page that a device may reach.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Lent {
    /// Where the device finds it.
    pub iova: Iova,
    /// Where it is.
    pub pa: PhysAddr,
}

/// A master whose driver manages its IOMMU by itself, between several address spaces.
/// They map the same addresses to different memory, so that what the device got tells
/// which one it went through. Spaces are numbered as in [`names`](Self::names).
pub trait Spaces {
    /// Their names.
    fn names(&self) -> &'static [&'static str];
    /// The one that the device goes through, if it goes anywhere.
    fn attached(&self) -> Option<usize>;
    /// Sends the device through a space, in place of the one before.
    fn attach(&self, space: usize) -> Result<(), Fault>;
    /// Aborts all that the device does.
    fn detach(&self);
    /// Maps a page at this address in every space, in each another page.
    fn map(&self, at: Iova) -> Result<(), Fault>;
    /// Takes it back.
    fn unmap(&self, at: Iova) -> Result<(), Fault>;
    /// Has the device read the page at this address, and write what it read where
    /// each space maps memory for that.
    fn transfer(&self, at: Iova) -> Result<Seen, Fault>;
    /// The same at an address that is always mapped, and as long as the device is
    /// reading it is sent through one space after the other.
    fn switch(&self) -> Result<Seen, Fault>;
}

/// What a device saw in a transfer. A mixture of two spaces is a fault.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The address that it was to read.
    pub at: Iova,
    /// The space whose memory it read, if it read any.
    pub read: Option<usize>,
    /// The space through which it wrote, if that reached memory.
    pub written: Option<usize>,
    /// How often spaces were exchanged while it was reading.
    pub switches: u32,
}

/// Where a transfer that was checked went through.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DmaProof {
    /// Bytes that were moved.
    pub bytes: u64,
    /// The address that the device used.
    pub iova: Iova,
    /// The memory behind it.
    pub pa: PhysAddr,
}

//! The device under a driver that manages its IOMMU by itself. There are two address
//! spaces, `a` and `b`, and where the IOMMU has two stages two more that are nested in
//! a common one, `nested-a` and `nested-b`. They map the same addresses to different
//! memory with different bytes; the core attaches none of them. What the device reads,
//! and where what it writes arrives, tell which space each transfer went through.
//!
//! Its interrupt is wired: the doorbell of message interrupts is mapped in no space.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use mastiff_core::addr::{Iova, PAGE};
use mastiff_core::driver::{Bound, DmaProof, DmaTest, Driver, Match, Seen, Spaces, Way};
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::iommu::{Managed, Permission, Space};
use mastiff_core::platform::{Barrier, PageRequest, Platform};
use mastiff_core::probe::{Interrupt, Probe};
use spin::Mutex;

use crate::device::{self, Device};
use crate::{MASK_BITS, compare, pattern};

/// The driver.
pub struct EduManaged;

const MATCHES: &[Match] = &[Match::pci(0x1234, 0x11e8).managed()];
/// Neighbours of a kind are exchanged for each other.
const NAMES: &[&str] = &["a", "b", "nested-a", "nested-b"];
/// Where each space has a page to read, and one to write to. Both are within the bits
/// that the device puts on the bus.
const SOURCE: Iova = Iova(0x0100_0000);
const SINK: Iova = Iova(0x0200_0000);
/// Bytes of a transfer. Aimed at what is not mapped it makes an event for every few of
/// them, and so few that no IOMMU takes it for a storm.
const LEN: usize = 1024;
/// What the pages to write to hold until the device has. A transfer that was aborted
/// leaves zeroes in the device, or what was there before.
const UNTOUCHED: u8 = 0xa5;

impl<P: Platform> Driver<P> for EduManaged {
    fn name(&self) -> &'static str {
        "edu-managed"
    }

    fn matches(&self) -> &'static [Match] {
        MATCHES
    }

    fn probe(&self, probe: &mut Probe<'_, P>) -> Result<Box<dyn Bound>, ProbeError> {
        let registers = probe.mmio(0, device::REGISTERS)?;
        let managed = probe.managed()?;
        let platform = probe.platform().clone();
        let mut spaces = Vec::from([managed.space()?, managed.space()?]);
        match managed.lower() {
            Ok(lower) => {
                spaces.push(managed.nested_space(&lower)?);
                spaces.push(managed.nested_space(&lower)?);
            }
            Err(Fault::Unsupported { .. }) => {}
            Err(fault) => return Err(fault.into()),
        }
        for space in &spaces {
            for at in [SOURCE, SINK] {
                map(&platform, space, at)?;
            }
        }
        let device = Arc::new(Device::new(&platform, registers));
        let interrupt = probe.interrupt(device.clone())?;
        device.check()?;
        Ok(Box::new(BoundManaged {
            _interrupt: interrupt,
            state: Mutex::new(State {
                platform,
                device,
                managed,
                spaces,
                attached: None,
            }),
        }))
    }
}

struct BoundManaged<P: Platform> {
    // Gone first: its handler uses the device.
    _interrupt: Interrupt,
    // One transfer at a time: there is one buffer.
    state: Mutex<State<P>>,
}

struct State<P: Platform> {
    platform: P,
    device: Arc<Device<P>>,
    managed: Managed<P>,
    spaces: Vec<Space<P>>,
    attached: Option<usize>,
}

impl<P: Platform> Bound for BoundManaged<P> {
    fn quiesce(&self) {
        self.state.lock().device.silence();
    }

    fn suspend(&self) -> Result<(), Fault> {
        self.state.lock().device.settle()
    }

    fn resume(&self) -> Result<(), Fault> {
        self.state.lock().device.check()
    }

    fn dma_test(&self) -> Option<&dyn DmaTest> {
        Some(self)
    }

    fn spaces(&self) -> Option<&dyn Spaces> {
        Some(self)
    }
}

impl<P: Platform> DmaTest for BoundManaged<P> {
    /// Through the space that is attached, or through the first for as long as it
    /// takes.
    fn round_trip(&self) -> Result<DmaProof, Fault> {
        let mut state = self.state.lock();
        let before = state.attached;
        let space = before.unwrap_or(0);
        state.attach(space)?;
        let seen = state.transfer(SOURCE, |_| Ok(0));
        if before.is_none() {
            state.detach();
        }
        let Seen { read, written, .. } = seen?;
        if (read, written) != (Some(space), Some(space)) {
            return Err(Fault::invalid("its transfer did not reach its memory"));
        }
        Ok(DmaProof {
            bytes: 2 * LEN as u64,
            iova: SOURCE,
            pa: state.spaces[space].pa(SOURCE)?,
        })
    }
}

impl<P: Platform> Spaces for BoundManaged<P> {
    fn names(&self) -> &'static [&'static str] {
        let spaces = self.state.lock().spaces.len();
        &NAMES[..spaces]
    }

    fn attached(&self) -> Option<usize> {
        self.state.lock().attached
    }

    fn attach(&self, space: usize) -> Result<(), Fault> {
        self.state.lock().attach(space)
    }

    fn detach(&self) {
        self.state.lock().detach();
    }

    fn map(&self, at: Iova) -> Result<(), Fault> {
        let state = self.state.lock();
        reachable(at)?;
        for (done, space) in state.spaces.iter().enumerate() {
            if let Err(fault) = map(&state.platform, space, at) {
                for space in &state.spaces[..done] {
                    space.unmap(at)?;
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    fn unmap(&self, at: Iova) -> Result<(), Fault> {
        if [SOURCE, SINK].contains(&at) {
            return Err(Fault::invalid("this page stays: transfers use it"));
        }
        let state = self.state.lock();
        let mut result = Ok(());
        for space in &state.spaces {
            result = result.and(space.unmap(at).map(drop));
        }
        result
    }

    fn transfer(&self, at: Iova) -> Result<Seen, Fault> {
        reachable(at)?;
        if at == SINK {
            return Err(Fault::invalid("this page is what transfers write to"));
        }
        self.state.lock().transfer(at, |_| Ok(0))
    }

    fn switch(&self) -> Result<Seen, Fault> {
        let mut state = self.state.lock();
        if state.attached.is_none() {
            return Err(Fault::invalid("no space is attached"));
        }
        state.transfer(SOURCE, |state| {
            let device = state.device.clone();
            let mut switches = 0;
            device.finish_while(|| {
                switches += 1;
                state.attach(state.attached.unwrap_or(0) ^ 1)
            })?;
            Ok(switches)
        })
    }
}

impl<P: Platform> State<P> {
    fn attach(&mut self, space: usize) -> Result<(), Fault> {
        if self.attached == Some(space) {
            return Ok(());
        }
        let tables = self.spaces.get(space).ok_or(Fault::Revoked)?;
        // On an error none is: the core sees to that.
        self.attached = None;
        self.managed.attach(tables)?;
        self.attached = Some(space);
        Ok(())
    }

    fn detach(&mut self) {
        self.managed.detach();
        self.attached = None;
    }

    /// Memory to the device and back, with `during` called while the device reads. Its
    /// value is how often it exchanged spaces.
    fn transfer(
        &mut self,
        at: Iova,
        during: impl FnOnce(&mut Self) -> Result<u32, Fault>,
    ) -> Result<Seen, Fault> {
        let patterns = self.prepare(at)?;
        self.device.start(Way::Read, at, LEN as u32)?;
        let switches = during(self)?;
        self.device.finish()?;
        self.device.transfer(Way::Write, SINK, LEN as u32)?;
        self.device.barrier(Barrier::Acquire);
        let (written, bytes) = self.arrived()?;
        let read = match bytes {
            None => None,
            Some(bytes) => which(&bytes, &patterns)?,
        };
        Ok(Seen {
            at,
            read,
            written,
            switches,
        })
    }

    /// Fills what is mapped at `at` with bytes that are new, so that nothing which is
    /// left from before can be taken for them, and readies the pages to write to.
    fn prepare(&self, at: Iova) -> Result<Vec<Vec<u8>>, Fault> {
        let now = self.device.now();
        let pattern_of = |space: usize| {
            let mut bytes = pattern(now ^ (space as u64) << 40);
            bytes.truncate(LEN);
            bytes
        };
        let patterns: Vec<_> = (0..self.spaces.len()).map(pattern_of).collect();
        for (space, pattern) in self.spaces.iter().zip(&patterns) {
            match space.write(at, pattern) {
                // The device is aimed at nothing on purpose.
                Ok(()) | Err(Fault::NotMapped { .. }) => {}
                Err(fault) => return Err(fault),
            }
            space.write(SINK, &[UNTOUCHED; LEN])?;
        }
        self.device.barrier(Barrier::Publish);
        Ok(patterns)
    }

    /// The space in whose memory something arrived, and what.
    fn arrived(&self) -> Result<(Option<usize>, Option<Vec<u8>>), Fault> {
        let mut found = (None, None);
        for (index, space) in self.spaces.iter().enumerate() {
            let mut bytes = vec![0; LEN];
            space.read(SINK, &mut bytes)?;
            if bytes.iter().any(|&byte| byte != UNTOUCHED) {
                if found.0.is_some() {
                    return Err(Fault::invalid("one transfer wrote to two spaces"));
                }
                found = (Some(index), Some(bytes));
            }
        }
        Ok(found)
    }
}

/// Which pattern these bytes are, all of them; `None` where they have nothing of
/// either.
fn which(bytes: &[u8], patterns: &[Vec<u8>]) -> Result<Option<usize>, Fault> {
    let same = |pattern: &Vec<u8>| bytes.iter().zip(pattern).filter(|(a, b)| a == b).count();
    // Of unrelated bytes one in 256 is the same by chance; a cache line is more.
    let closest = patterns.iter().position(|known| same(known) > LEN / 16);
    if let Some(closest) = closest {
        compare(bytes, &patterns[closest])?;
    }
    Ok(closest)
}

fn map<P: Platform>(platform: &P, space: &Space<P>, at: Iova) -> Result<(), Fault> {
    let pages = platform.alloc_pages(PageRequest::new(PAGE))?;
    space.map(at, pages, Permission::ReadWrite)
}

/// The device leaves higher bits of an address out.
fn reachable(at: Iova) -> Result<(), Fault> {
    let limit = (1 << MASK_BITS) - PAGE;
    match at.0 > limit || !at.0.is_multiple_of(PAGE) {
        false => Ok(()),
        true => Err(Fault::invalid("edu is aimed at whole pages below 256 MiB")),
    }
}

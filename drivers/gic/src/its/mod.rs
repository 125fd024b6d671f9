//! The Interrupt Translation Service (IHI 0069 §5): a device writes an EventID to
//! the doorbell, the ITS looks up device and event in tables of ours, and the LPI
//! found there becomes pending at the redistributor. Each device has a translation
//! table of its own, so one cannot raise another's interrupts.
//!
//! A collection stands for the CPU that an event goes to: the first for the one that
//! boots, where events start, another for each CPU that one was ever steered to.

mod queue;
mod table;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::{PAGE, PhysAddr, PhysRange};
use mastiff_core::error::Fault;
use mastiff_core::irq::{MsiChip, MsiVector};
use mastiff_core::platform::{MAX_CPUS, Mmio, Platform, poll};
use mastiff_core::probe::{Probe, Service};
use mastiff_dt::Node;
use spin::Mutex;

use crate::PATIENCE_US;
use crate::lpi::Lpis;
use crate::redistributor::Redistributor;
use crate::shared::Shared;
use crate::spec::its::{self as gits, Command, Typer};
use crate::spec::redistributor::processor_number;
use crate::v3::{Chip, expect_version};
use queue::Queue;
use table::Table;

const COMPATIBLE: &str = "arm,gic-v3-its";
/// The collection of the CPU that boots.
const HOME: u16 = 0;
/// Events of a device, as many as the bits of [`Device::events`].
const EVENT_BITS: u32 = 6;

/// Machines whose GIC does not snoop the CPUs' caches, whatever its registers and, where
/// they are older, their trees say: erratum 3588001 (Linux,
/// Documentation/arch/arm64/silicon-errata.rst).
const NEVER_COHERENT: [&str; 2] = ["rockchip,rk3588", "rockchip,rk3588s"];

/// Whether the GIC, or its part at `node`, snoops the CPUs' caches, as far as the tree
/// knows.
fn is_coherent(node: Node<'_>) -> bool {
    let machine = node.tree().root();
    let mut never = NEVER_COHERENT.iter();
    !node.has("dma-noncoherent") && !never.any(|model| machine.is_compatible(model))
}

/// Publishes the ITS below a GICv3's node. Where one cannot be had the GIC is as
/// good as without: its devices have their wired interrupts still.
pub fn publish_all<P: Platform>(
    probe: &mut Probe<'_, P>,
    chip: &Arc<Chip<P>>,
) -> Result<Vec<Arc<Its<P>>>, Fault> {
    let node = probe.require_node()?;
    let mut found = Vec::new();
    let mut lpis: Option<Arc<Lpis<P>>> = None;
    for child in node.children() {
        if !child.is_compatible(COMPATIBLE) || !child.status().is_enabled() {
            continue;
        }
        let mut start = || -> Result<Its<P>, Fault> {
            let lpis = match &lpis {
                Some(lpis) => lpis.clone(),
                None => {
                    let coherent = is_coherent(node);
                    let started = Arc::new(Lpis::start(chip.clone(), coherent)?);
                    lpis.insert(started).clone()
                }
            };
            Its::start(probe, child, chip.clone(), lpis)
        };
        match start() {
            Ok(its) => {
                let bits = its.typer.device_bits();
                log::info!("{}: ITS, DeviceIDs of {bits} bits", child.path());
                let its = Arc::new(its);
                probe.publish_at(child.id(), Service::Msi(its.clone()));
                found.push(its);
            }
            Err(fault) => log::warn!("{}: no message interrupts: {fault}", child.path()),
        }
    }
    Ok(found)
}

/// An ITS. Whatever it uses goes after it: its own tables, then the LPIs, then the
/// redistributor.
pub struct Its<P: Platform> {
    regs: P::Mmio,
    doorbell: PhysAddr,
    typer: Typer,
    state: Mutex<State<P>>,
    lpis: Arc<Lpis<P>>,
    chip: Arc<Chip<P>>,
}

struct State<P: Platform> {
    queue: Queue<P>,
    table: Table<P>,
    /// Where the ITS keeps the collection, unless it does so in itself.
    collections: Option<Table<P>>,
    devices: BTreeMap<u32, Device<P>>,
    /// The CPUs that collections stand for, by collection, and their redistributors as
    /// commands name them.
    cpus: Vec<(usize, u64)>,
}

/// A device that has events.
struct Device<P: Platform> {
    itt: Shared<P>,
    /// Whether the ITS is known to have taken the table.
    mapped: bool,
    /// A bit per event that is given out.
    events: u64,
}

impl<P: Platform> Its<P> {
    fn start(
        probe: &mut Probe<'_, P>,
        node: Node<'_>,
        chip: Arc<Chip<P>>,
        lpis: Arc<Lpis<P>>,
    ) -> Result<Self, Fault> {
        let regions = node.reg()?;
        let region = regions.first().ok_or(Fault::NoWindow { index: 0 })?;
        if region.size < 2 * gits::CONTROL_LEN {
            return Err(Fault::WindowTooSmall {
                index: 0,
                have: region.size,
                need: 2 * gits::CONTROL_LEN,
            });
        }
        let start = PhysAddr(region.base);
        let len = gits::CONTROL_LEN;
        let regs = probe.map(PhysRange { start, len })?;
        expect_version(&regs, "GITS_PIDR2")?;
        let typer = Typer(regs.read64(gits::TYPER));
        if !typer.physical() {
            return Err(Fault::Unsupported {
                what: "ITS without physical LPIs",
                seen: typer.0,
            });
        }
        stop(&chip.platform, &regs)?;
        let coherent = is_coherent(node);
        let mut state = State::new(&chip.platform, &regs, typer, coherent)?;
        state.cpus.push((chip.home, target(typer, &chip.redist)));
        let its = Self {
            doorbell: start.add(gits::TRANSLATER),
            regs,
            typer,
            state: Mutex::new(state),
            lpis,
            chip,
        };
        its.switch_on()?;
        Ok(its)
    }

    /// Switches an ITS on that is off, with the tables as they are.
    fn switch_on(&self) -> Result<(), Fault> {
        let mut state = self.state.lock();
        state.point(&self.regs);
        self.regs.write32(gits::CTLR, gits::CTLR_ENABLED);
        let maps: Vec<_> = state.collections().collect();
        self.run(&mut state, &maps)
    }

    /// Has the ITS write to its tables all that it knows.
    pub fn suspend(&self) -> Result<(), Fault> {
        stop(&self.chip.platform, &self.regs)
    }

    /// Has it start over from there, also where its registers were lost.
    pub fn resume(&self) -> Result<(), Fault> {
        self.lpis.resume()?;
        stop(&self.chip.platform, &self.regs)?;
        self.switch_on()
    }

    /// Runs `commands` and a SYNC for each CPU that they may be about.
    fn run(&self, state: &mut State<P>, commands: &[Command]) -> Result<(), Fault> {
        let (_, home) = state.cpus[usize::from(HOME)];
        let syncs = state.cpus.iter().map(|&(_, target)| Command::sync(target));
        let batch: Vec<_> = commands.iter().copied().chain(syncs).collect();
        let skip = Command::sync(home);
        state
            .queue
            .run(&self.chip.platform, &self.regs, &batch, skip)
    }

    /// The collection of CPU `cpu`, which takes LPIs when this returns.
    fn collection(&self, state: &mut State<P>, cpu: usize) -> Result<u16, Fault> {
        if let Some(known) = state.cpus.iter().position(|&(known, _)| known == cpu) {
            return Ok(known as u16);
        }
        self.lpis.serve(cpu)?;
        let number = state.cpus.len() as u16;
        let target = target(self.typer, self.chip.of(cpu)?);
        self.run(state, &[Command::map_collection(number, target)])?;
        state.cpus.push((cpu, target));
        Ok(number)
    }

    /// Sees to it that the ITS knows a device.
    fn map_device(&self, state: &mut State<P>, id: u32) -> Result<(), Fault> {
        let platform = &self.chip.platform;
        if !state.devices.contains_key(&id) {
            state.table.make_room(platform, id)?;
            let bytes = self.typer.itt_entry() << self.event_bits();
            let coherent = state.table.first.coherent();
            let device = Device {
                itt: Shared::zeroed(platform, bytes, PAGE, coherent)?,
                mapped: false,
                events: 0,
            };
            state.devices.insert(id, device);
        }
        let Some(device) = state.devices.get(&id).filter(|device| !device.mapped) else {
            return Ok(());
        };
        // If it fails the table stays, for the ITS may have it all the same.
        let map = Command::map_device(id, device.itt.at(), self.event_bits());
        self.run(state, &[map])?;
        if let Some(device) = state.devices.get_mut(&id) {
            device.mapped = true;
        }
        Ok(())
    }

    /// Reserves an event of a device.
    fn reserve(&self, state: &mut State<P>, id: u32) -> Result<u32, Fault> {
        self.map_device(state, id)?;
        let limit = 1 << self.event_bits();
        let free = |device: &&mut Device<P>| device.events.trailing_ones() < limit;
        let device = state.devices.get_mut(&id).filter(free);
        let device = device.ok_or(Fault::Exhausted {
            what: "ITS event of the device",
            limit: u64::from(limit),
        })?;
        let event = device.events.trailing_ones();
        device.events |= 1 << event;
        Ok(event)
    }

    fn event_bits(&self) -> u32 {
        EVENT_BITS.min(self.typer.event_bits())
    }

    /// Has the ITS translate a device's event to an LPI.
    fn connect(&self, state: &mut State<P>, id: u32, event: u32, lpi: u32) -> Result<(), Fault> {
        let map = Command::map_event(id, event, lpi, HOME);
        self.run(state, &[map, Command::reload(id, event)])
    }

    /// Undoes [`Its::connect`], and [`Its::reserve`] with it.
    fn disconnect(&self, state: &mut State<P>, id: u32, event: u32) -> Result<(), Fault> {
        self.run(
            state,
            &[Command::reload(id, event), Command::discard(id, event)],
        )?;
        if let Some(device) = state.devices.get_mut(&id) {
            device.events &= !(1 << event);
        }
        Ok(())
    }

    /// Takes the table from a device that has no events any more. Where the ITS does
    /// not let go of it, the device keeps it for its next event.
    fn unmap_if_idle(&self, state: &mut State<P>, id: u32) -> Result<(), Fault> {
        let idle = |device: &&mut Device<P>| device.events == 0;
        if let Some(device) = state.devices.get_mut(&id).filter(idle) {
            device.mapped = false;
            self.run(state, &[Command::unmap_device(id)])?;
            state.devices.remove(&id);
        }
        Ok(())
    }

    /// Silences an event and gives back all that it has. What the ITS does not let
    /// go of is not used again.
    fn let_go(&self, state: &mut State<P>, id: u32, event: u32, lpi: u32) {
        self.lpis.set_enabled(lpi, false);
        match self.disconnect(state, id, event) {
            Ok(()) => self.lpis.give_back(lpi),
            Err(fault) => log::error!("LPI {lpi} is lost: {fault}"),
        }
        if let Err(fault) = self.unmap_if_idle(state, id) {
            log::error!("the ITS keeps device {id:#x}: {fault}");
        }
    }
}

impl<P: Platform> MsiChip for Its<P> {
    fn allocate(&self, requester: u32) -> Result<MsiVector, Fault> {
        let mut state = self.state.lock();
        let lpi = self.lpis.take()?;
        let event = self
            .reserve(&mut state, requester)
            .inspect_err(|_| self.lpis.give_back(lpi))?;
        self.lpis.set_enabled(lpi, true);
        self.connect(&mut state, requester, event, lpi)
            .inspect_err(|_| self.let_go(&mut state, requester, event, lpi))?;
        Ok(MsiVector {
            requester,
            intid: lpi,
            doorbell: self.doorbell,
            data: event,
        })
    }

    fn steer(&self, vector: &MsiVector, cpu: usize) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let collection = self.collection(&mut state, cpu)?;
        let to = Command::move_event(vector.requester, vector.data, collection);
        self.run(&mut state, &[to])
    }

    fn release(&self, vector: &MsiVector) {
        let mut state = self.state.lock();
        self.let_go(&mut state, vector.requester, vector.data, vector.intid);
    }
}

impl<P: Platform> State<P> {
    fn new(platform: &P, regs: &P::Mmio, typer: Typer, coherent: bool) -> Result<Self, Fault> {
        let mut devices = None;
        let mut collections = None;
        for n in 0..gits::BASERS {
            let register = gits::BASER + 8 * n;
            // What it had before is somebody else's memory by now, and a table that is
            // not known for what it is must not be used with it.
            regs.write64(register, 0);
            let (table, entries) = match gits::table_type(regs.read64(register)) {
                gits::TYPE_DEVICES => (&mut devices, 1 << typer.device_bits()),
                gits::TYPE_COLLECTIONS => (&mut collections, MAX_CPUS as u64),
                _ => continue,
            };
            *table = Some(Table::new(platform, regs, register, entries, coherent)?);
        }
        let table = devices.ok_or(Fault::Unsupported {
            what: "ITS without a device table (GITS_TYPER)",
            seen: typer.0,
        })?;
        Ok(Self {
            queue: Queue::new(platform, coherent)?,
            table,
            collections,
            devices: BTreeMap::new(),
            cpus: Vec::new(),
        })
    }

    /// The commands that make the collections known.
    fn collections(&self) -> impl Iterator<Item = Command> {
        let numbered = (HOME..).zip(&self.cpus);
        numbered.map(|(number, &(_, target))| Command::map_collection(number, target))
    }

    fn point(&mut self, regs: &P::Mmio) {
        self.queue.point(regs);
        self.table.point(regs);
        if let Some(table) = &self.collections {
            table.point(regs);
        }
    }

    fn park(&mut self) {
        self.queue.ring.park();
        self.table.park();
        if let Some(table) = &mut self.collections {
            table.park();
        }
        for device in self.devices.values_mut() {
            device.itt.park();
        }
    }
}

impl<P: Platform> Drop for Its<P> {
    fn drop(&mut self) {
        if let Err(fault) = stop(&self.chip.platform, &self.regs) {
            log::error!("the ITS runs on, its tables are parked: {fault}");
            self.state.get_mut().park();
        }
    }
}

/// A redistributor as commands name it (IHI 0069 §5.3.1, GITS_TYPER.PTA).
fn target<M: Mmio>(typer: Typer, redist: &Redistributor<M>) -> u64 {
    if typer.by_address() {
        redist.at.0
    } else {
        processor_number(redist.typer) << 16
    }
}

/// Switches an ITS off; after that it does not touch memory.
fn stop<P: Platform>(platform: &P, regs: &P::Mmio) -> Result<(), Fault> {
    regs.write32(gits::CTLR, 0);
    poll(platform, PATIENCE_US, || {
        (regs.read32(gits::CTLR) & gits::CTLR_QUIESCENT != 0).then_some(())
    })
    .ok_or_else(|| Fault::Timeout {
        awaited: "quiescence of the ITS",
        register: "GITS_CTLR",
        seen: u64::from(regs.read32(gits::CTLR)),
        us: PATIENCE_US,
    })
}

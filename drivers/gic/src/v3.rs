//! GICv3: a distributor for the shared interrupts, a redistributor for the CPU's
//! own, and a CPU interface of system registers that the board provides.
//! Interrupts are in group 1 and routed by affinity, to the CPU that boots unless they
//! are steered to another (IHI 0069 §3.1, §4.6; initialisation in the order of §12.1).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::cpu_interface::CpuInterface;
use mastiff_core::driver::Bound;
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::{FIRST_LPI, IrqChip, IrqSpec};
use mastiff_core::platform::{MAX_CPUS, Mmio, Platform, poll};
use mastiff_core::probe::{Probe, Service};
use spin::{Mutex, Once};

use crate::bank::{Bank, Saved};
use crate::its::{self, Its};
use crate::redistributor::{Redistributor, Row};
use crate::root::{FIRST_PPI, Root, RootChip, Routes};
use crate::spec::distributor as gicd;
use crate::{PATIENCE_US, specifier};

const GICD_LEN: u64 = 0x1_0000;

/// Binds a GICv3 and its ITS.
pub fn bind<P: Platform>(
    probe: &mut Probe<'_, P>,
    cpu: &'static dyn CpuInterface,
) -> Result<Box<dyn Bound>, ProbeError> {
    let dist = probe.mmio(0, GICD_LEN)?;
    expect_version(&dist, "GICD_PIDR2")?;
    let row = Row::of(probe)?;
    let redist = Redistributor::find(&row, cpu.affinity(), |range| probe.map(range))?;
    let home = probe.platform().cpu();
    let typer = dist.read32(gicd::TYPER);
    let chip = Arc::new(Chip {
        platform: probe.platform().clone(),
        cpu,
        dist,
        row,
        home,
        redist,
        others: [const { Once::new() }; MAX_CPUS],
        routes: Routes::all_to(home),
        typer,
        lines: gicd::lines(typer),
        config: Mutex::new(()),
    });
    probe.publish(Service::Irq(chip.clone()))?;
    let root = Root::install(probe.platform(), chip)?;
    log::info!("{}: GICv3, {} interrupts", probe.name(), root.chip().lines);
    let its = its::publish_all(probe, root.chip())?;
    Ok(Box::new(Binding { its, root }))
}

/// The binding; what the ITS need of the root controller goes after them.
struct Binding<P: Platform> {
    its: Vec<Arc<Its<P>>>,
    root: Root<P, Chip<P>>,
}

impl<P: Platform> Bound for Binding<P> {
    fn suspend(&self) -> Result<(), Fault> {
        for (done, its) in self.its.iter().enumerate() {
            if let Err(fault) = its.suspend() {
                // Those that did it already are wanted again.
                let again = self.its[..done].iter().try_for_each(|its| its.resume());
                return Err(again.err().unwrap_or(fault));
            }
        }
        self.root.suspend()
    }

    fn resume(&self) -> Result<(), Fault> {
        self.root.resume()?;
        self.its.iter().try_for_each(|its| its.resume())
    }
}

/// Refuses frames that are not of a GICv3 or GICv4, such as those of a bus error.
pub fn expect_version<M: Mmio>(frame: &M, name: &'static str) -> Result<(), Fault> {
    let pidr2 = frame.read32(gicd::PIDR2);
    match gicd::arch_rev(pidr2) {
        3 | 4 => Ok(()),
        _ => Err(Fault::Register {
            name,
            expected: 0x30,
            seen: u64::from(pidr2),
        }),
    }
}

/// A GICv3.
pub struct Chip<P: Platform> {
    pub platform: P,
    cpu: &'static dyn CpuInterface,
    dist: P::Mmio,
    row: Row,
    /// The CPU that binds the GIC, and its redistributor: what is not steered elsewhere
    /// goes there.
    pub home: usize,
    pub redist: Redistributor<P::Mmio>,
    /// Those of the CPUs that joined.
    others: [Once<Redistributor<P::Mmio>>; MAX_CPUS],
    routes: Routes,
    /// GICD_TYPER.
    pub typer: u32,
    lines: u32,
    // ICFGR is shared by 16 interrupts, so changing it is a read and a write.
    config: Mutex<()>,
}

impl<P: Platform> Chip<P> {
    /// The redistributor of a CPU that takes interrupts.
    pub fn of(&self, cpu: usize) -> Result<&Redistributor<P::Mmio>, Fault> {
        if cpu == self.home {
            return Ok(&self.redist);
        }
        let other = self.others.get(cpu).and_then(Once::get);
        other.ok_or(Fault::CpuDeaf { cpu })
    }

    /// The registers that `intid` is in: of a private one, each CPU's, so that it is on
    /// or off everywhere, wherever it was taken and wherever it is served.
    fn banks(&self, intid: u32) -> impl Iterator<Item = Bank<'_, P::Mmio>> {
        let shared = (intid >= 32).then(|| Bank::new(&self.dist, 0));
        let private = (intid < 32).then(|| self.redists().map(Redistributor::bank));
        shared.into_iter().chain(private.into_iter().flatten())
    }

    fn redists(&self) -> impl Iterator<Item = &Redistributor<P::Mmio>> {
        core::iter::once(&self.redist).chain(self.others.iter().filter_map(Once::get))
    }

    fn route(&self, intid: u32) {
        if intid >= 32 {
            // One that left since had the interrupt last.
            let to = self.of(self.routes.get(intid)).unwrap_or(&self.redist);
            let at = gicd::IROUTER + 8 * intid as usize;
            self.dist.write64(at, to.affinity);
        }
    }

    fn words(&self) -> impl Iterator<Item = u32> + use<P> {
        0..self.lines.div_ceil(32)
    }

    /// Waits until what was written about `intid` has taken effect.
    fn settle(&self, intid: u32) -> Result<(), Fault> {
        if intid < 32 {
            self.redists()
                .try_for_each(|redist| redist.settle(&self.platform))
        } else {
            self.settle_distributor()
        }
    }

    fn settle_distributor(&self) -> Result<(), Fault> {
        poll(&self.platform, PATIENCE_US, || {
            (self.dist.read32(gicd::CTLR) & gicd::CTLR_RWP == 0).then_some(())
        })
        .ok_or_else(|| Fault::Timeout {
            awaited: "effect of a write (RWP = 0)",
            register: "GICD_CTLR",
            seen: u64::from(self.dist.read32(gicd::CTLR)),
            us: PATIENCE_US,
        })
    }

    fn disable(&self, intid: u32) -> Result<(), Fault> {
        self.banks(intid).for_each(|bank| bank.disable(intid));
        self.settle(intid)
    }
}

impl<P: Platform> RootChip for Chip<P> {
    fn start(&self) -> Result<(), Fault> {
        // Affinity routing may be switched on only while the groups are off, and
        // never off again (IHI 0069 §12.9.4), so where it is on already it stays.
        let routing = self.dist.read32(gicd::CTLR) & gicd::CTLR_ARE;
        self.dist.write32(gicd::CTLR, routing);
        self.settle_distributor()?;
        self.dist.write32(gicd::CTLR, gicd::CTLR_ARE);
        let shared = Bank::new(&self.dist, 0);
        for word in self.words().skip(1) {
            shared.set_group(word, true);
            shared.reset(word);
        }
        self.settle_distributor()?;
        self.redist.start(&self.platform)?;
        self.cpu.enable()?;
        self.dist
            .write32(gicd::CTLR, gicd::CTLR_ARE | gicd::CTLR_GROUP1);
        self.settle_distributor()
    }

    fn silence(&self) {
        // The CPU is deaf from here on; that the distributor goes quiet too is
        // tidiness, and needs no waiting for.
        self.cpu.disable();
        let routing = self.dist.read32(gicd::CTLR) & gicd::CTLR_ARE;
        self.dist.write32(gicd::CTLR, routing);
    }

    fn save(&self) -> Vec<Saved> {
        let save = |word| self.banks(32 * word).next().map(|bank| bank.save(word));
        self.words().filter_map(save).collect()
    }

    fn restore(&self, saved: &[Saved]) {
        for (word, saved) in self.words().zip(saved) {
            saved.enabled().for_each(|n| self.route(32 * word + n));
            self.banks(32 * word)
                .for_each(|bank| bank.restore(word, saved));
        }
    }
}

impl<P: Platform> IrqChip for Chip<P> {
    fn translate(&self, cells: &[u32]) -> Result<IrqSpec, Fault> {
        specifier::decode(cells, self.lines)
    }

    fn enable(&self, irq: IrqSpec) -> Result<(), Fault> {
        let intid = irq.intid;
        if intid >= self.lines {
            return Err(Fault::IrqOutOfRange { intid });
        }
        let _config = self.config.lock();
        self.disable(intid)?;
        for bank in self.banks(intid) {
            bank.set_trigger(intid, irq.trigger)?;
            bank.clear_pending(intid);
        }
        if intid >= 32 {
            self.routes.set(intid, self.home);
        }
        self.route(intid);
        self.banks(intid).for_each(|bank| bank.enable(intid));
        Ok(())
    }

    fn mask(&self, intid: u32) {
        // A GIC that does not take the write will not take the next one either,
        // and `enable` reports that; here there is nobody to tell.
        if intid < self.lines {
            let _ = self.disable(intid);
        }
    }

    fn unmask(&self, intid: u32) {
        if intid < self.lines {
            self.banks(intid).for_each(|bank| bank.enable(intid));
        }
    }

    fn claim(&self) -> Option<u32> {
        let mut intid = self.cpu.acknowledge();
        while intid < FIRST_PPI {
            // A nudge: the CPU is awake, which is all that it was for.
            self.cpu.end(intid);
            intid = self.cpu.acknowledge();
        }
        (!(gicd::SPECIAL..FIRST_LPI).contains(&intid)).then_some(intid)
    }

    fn complete(&self, intid: u32) {
        self.cpu.end(intid);
    }

    fn join(&self) -> Result<(), Fault> {
        let _config = self.config.lock();
        let cpu = self.platform.cpu();
        let map = |range| self.platform.map_mmio(range);
        let slot = self.others.get(cpu).ok_or(Fault::CpuDeaf { cpu })?;
        let redist = Redistributor::find(&self.row, self.cpu.affinity(), map)?;
        redist.start(&self.platform)?;
        redist.bank().restore(0, &self.redist.bank().save(0));
        self.cpu.enable()?;
        slot.call_once(|| redist);
        Ok(())
    }

    fn nudge(&self, cpu: usize) {
        if let Ok(redist) = self.of(cpu) {
            self.cpu.send(redist.affinity);
        }
    }

    fn steer(&self, intid: u32, cpu: usize) -> Result<(), Fault> {
        if !(32..self.lines).contains(&intid) {
            return Err(Fault::IrqOutOfRange { intid });
        }
        self.of(cpu)?;
        self.routes.set(intid, cpu);
        self.route(intid);
        Ok(())
    }
}

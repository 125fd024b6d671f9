//! GICv3: a distributor for the shared interrupts, a redistributor for the CPU's
//! own, and a CPU interface of system registers that the board provides.
//! Interrupts are in group 1 and routed by affinity to the CPU that boots
//! (IHI 0069 §3.1, §4.6; initialisation in the order of §12.1).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::cpu_interface::CpuInterface;
use mastiff_core::driver::Bound;
use mastiff_core::error::{Fault, ProbeError};
use mastiff_core::irq::{FIRST_LPI, IrqChip, IrqSpec};
use mastiff_core::platform::{Mmio, Platform, poll};
use mastiff_core::probe::{Probe, Service};
use spin::Mutex;

use crate::bank::{Bank, Saved};
use crate::its::{self, Its};
use crate::redistributor::Redistributor;
use crate::root::{Root, RootChip};
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
    let affinity = cpu.affinity();
    let redist = Redistributor::find(probe, affinity)?;
    let typer = dist.read32(gicd::TYPER);
    let chip = Arc::new(Chip {
        platform: probe.platform().clone(),
        cpu,
        affinity,
        dist,
        redist,
        typer,
        lines: gicd::lines(typer),
        config: Mutex::new(()),
    });
    probe.publish(Service::Irq(chip.clone()))?;
    let root = Root::install(probe.platform().irqs(), chip)?;
    log::info!("{}: GICv3, {} interrupts", probe.name(), root.chip().lines);
    let its = its::publish_all(probe, root.chip())?;
    Ok(Box::new(Binding { its, root }))
}

/// The binding; what the ITS need of the root controller goes after them.
struct Binding<P: Platform> {
    its: Vec<Arc<Its<P>>>,
    root: Root<Chip<P>>,
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
    /// Of the CPU that binds the GIC: all interrupts go there.
    affinity: u64,
    dist: P::Mmio,
    pub redist: Redistributor<P::Mmio>,
    /// GICD_TYPER.
    pub typer: u32,
    lines: u32,
    // ICFGR is shared by 16 interrupts, so changing it is a read and a write.
    config: Mutex<()>,
}

impl<P: Platform> Chip<P> {
    /// The registers that `intid` is in.
    fn bank(&self, intid: u32) -> Bank<'_, P::Mmio> {
        if intid < 32 {
            self.redist.bank()
        } else {
            Bank::new(&self.dist, 0)
        }
    }

    fn route(&self, intid: u32) {
        if intid >= 32 {
            let at = gicd::IROUTER + 8 * intid as usize;
            self.dist.write64(at, self.affinity);
        }
    }

    fn words(&self) -> impl Iterator<Item = u32> + use<P> {
        0..self.lines.div_ceil(32)
    }

    /// Waits until what was written about `intid` has taken effect.
    fn settle(&self, intid: u32) -> Result<(), Fault> {
        if intid < 32 {
            self.redist.settle(&self.platform)
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
        self.bank(intid).disable(intid);
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
        self.redist.wake(&self.platform)?;
        self.redist.bank().set_group(0, true);
        self.redist.bank().reset(0);
        self.redist.settle(&self.platform)?;
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
        let save = |word| self.bank(32 * word).save(word);
        self.words().map(save).collect()
    }

    fn restore(&self, saved: &[Saved]) {
        for (word, saved) in self.words().zip(saved) {
            saved.enabled().for_each(|n| self.route(32 * word + n));
            self.bank(32 * word).restore(word, saved);
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
        let bank = self.bank(intid);
        bank.set_trigger(intid, irq.trigger)?;
        bank.clear_pending(intid);
        self.route(intid);
        bank.enable(intid);
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
            self.bank(intid).enable(intid);
        }
    }

    fn claim(&self) -> Option<u32> {
        let intid = self.cpu.acknowledge();
        (!(gicd::SPECIAL..FIRST_LPI).contains(&intid)).then_some(intid)
    }

    fn complete(&self, intid: u32) {
        self.cpu.end(intid);
    }
}

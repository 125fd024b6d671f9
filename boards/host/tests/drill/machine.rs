//! A machine for the drill, whatever it is made of: what is on it, and what can be
//! made to fail there.

use std::collections::BTreeSet;
use std::sync::Mutex;

use mastiff_core::driver::Driver;
use mastiff_core::engine::Engine;
use mastiff_qemu_virt::Drivers;
use mastiff_testkit::Sim;
use mastiff_testkit::fake_iommu::FakeIommu;
use mastiff_testkit::inject::{Injections, Step};

use crate::bench::Bench;
use crate::paper_cpu::PaperCpu;
use crate::snapshot::Snapshot;

/// The drivers of the image.
pub fn image() -> &'static [&'static dyn Driver<Sim>] {
    Drivers::<Sim, PaperCpu>::LIST
}

/// What a model holds that must be as before.
pub type Held = Box<dyn Fn() -> Vec<u64>>;

/// The machine, with everything bound that can be.
pub struct Machine {
    pub sim: Sim,
    pub engine: Engine<Sim>,
    pub fake: Option<FakeIommu>,
    pub held: Held,
}

impl Machine {
    /// Unbinds a device, and has nobody come back with it.
    pub fn isolate(&mut self, target: &str) {
        let device = self.engine.device(target).expect(target);
        let own = self.engine.driver_of(device);
        self.engine.unbind(target).expect(target);
        let engine = &self.engine;
        let bound = engine.devices().filter(|device| device.bound().is_some());
        let busy: BTreeSet<_> = bound
            .filter_map(|device| engine.driver_of(device))
            .collect();
        for driver in engine.drivers() {
            if Some(driver.name) != own && !busy.contains(driver.name) {
                // One that is held back already is what it is to be.
                let _ = self.engine.remove_driver(driver.name);
            }
        }
    }

    fn injections(&self) -> impl Iterator<Item = &Injections> {
        let fake = self.fake.as_ref().map(FakeIommu::inject);
        std::iter::once(self.sim.inject()).chain(fake)
    }

    /// Has the `n`-th step from here fail.
    pub fn fail(&self, step: Step, n: u32) {
        self.injections().for_each(|inject| inject.fail(step, n));
    }

    /// Has no step fail any more; says whether one did.
    pub fn disarm(&self, step: Step) -> bool {
        let failed = self.injections().any(|inject| !inject.is_armed(step));
        self.injections().for_each(|inject| inject.disarm(step));
        failed
    }

    pub fn snapshot(&self, target: &str) -> Snapshot {
        Snapshot::take(self, target)
    }

    /// A master's DMA is right, and it is left in the midst of it.
    pub fn prove(&self, target: &str) {
        let bound = self.engine.device(target).and_then(|device| device.bound());
        if let Some(test) = bound.and_then(|bound| bound.dma_test()) {
            test.round_trip().expect(target);
            // Not everybody can be.
            let _ = test.begin();
        }
        if let Some(spaces) = bound.and_then(|bound| bound.spaces()) {
            spaces.attach(0).expect(target);
        }
    }

    /// Nothing of an unbound device, or of one behind it, reaches memory.
    pub fn check_aborts(&self, target: &str, what: &str) {
        let masters = self.engine.devices().filter(|device| {
            device.bound().is_none() && (&*device.name == target || device.is_master())
        });
        let (ram, _) = self.sim.memory().span();
        for stream in masters.flat_map(|device| &device.streams) {
            for at in [0x1000, 0x10_0000, 0x100_0000, ram, ram + 0x10_0000] {
                let read = self.sim.port().read(stream.id.0, at, &mut [0; 8]);
                assert!(read.is_err(), "{what}: stream {} reads {at:#x}", stream.id);
            }
        }
    }
}

fn gic(bench: Bench, v3: bool) -> Machine {
    let tree = if v3 { bench.v3_tree() } else { bench.v2_tree() };
    let engine = bench.start(tree);
    let model = bench.model.clone();
    Machine {
        sim: bench.sim.clone(),
        engine,
        fake: None,
        held: Box::new(move || {
            let state = model.state();
            vec![state.cpu_on.into(), state.lpis_on.into()]
        }),
    }
}

pub fn gicv2() -> Machine {
    gic(Bench::v2(), false)
}

pub fn gicv3() -> Machine {
    gic(Bench::v3(), true)
}

/// State that models of the drill keep.
pub fn count<T>(of: &Mutex<T>, look: impl FnOnce(&T) -> u64) -> u64 {
    look(&of.lock().expect("no model panicked"))
}

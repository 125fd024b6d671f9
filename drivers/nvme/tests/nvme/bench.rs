//! A machine with one NVMe behind a fake IOMMU, and a disk on which no two blocks are
//! alike.

use mastiff_core::driver::Disk;
use mastiff_core::driver::DmaProof;
use mastiff_core::driver::Driver;
use mastiff_core::engine::Engine;
use mastiff_core::engine::State;
use mastiff_core::error::Fault;
use mastiff_nvme::Nvme;
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::nvme::SimNvme;
use mastiff_testkit::pci::PciMachine;
use mastiff_testkit::pci::SimBus;

pub const HOST: &str = "/pcie@10000000";
pub const NAME: &str = "/pcie@10000000/00:01.0";
const DRIVERS: [&'static dyn Driver<Sim>; 2] = [&Pcie, &Nvme];

pub struct Bench {
    pub machine: PciMachine,
    pub device: Shared<SimNvme>,
}

/// A disk on which no two blocks are alike.
pub fn contents(len: usize) -> Vec<u8> {
    let word = |index: u64| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7).to_le_bytes();
    (0..len as u64 / 8).flat_map(word).collect()
}

pub fn bench(len: usize) -> Bench {
    let (device, function) = SimNvme::function(contents(len));
    let machine = PciMachine::new(SimBus::new().with(1, 0, function));
    Bench { machine, device }
}

impl Bench {
    pub fn boot(&self) -> Engine<Sim> {
        self.machine.boot(&DRIVERS)
    }

    pub fn change(&self, change: impl FnOnce(&mut SimNvme)) {
        change(&mut self.device.lock().unwrap());
    }

    /// Nothing is left once the driver is gone.
    pub fn check_clean(&self) {
        let counts = self.machine.iommu.counts();
        assert_eq!((counts.attached, counts.mappings), (0, 0));
        assert_eq!(self.machine.sim.memory().live(), 0);
        assert_eq!(self.machine.sim.memory().quarantined(), 0);
        assert_eq!(self.machine.msi.used().len(), 0);
        assert!(!self.device.lock().unwrap().is_enabled());
    }
}

pub fn disk(engine: &Engine<Sim>) -> &dyn Disk {
    let device = engine.device(NAME).expect("it was found");
    let State::Bound = device.state else {
        panic!("it is {:?}", device.state);
    };
    device.bound().unwrap().disk().unwrap()
}

pub fn fault(engine: &Engine<Sim>) -> Fault {
    match &engine.device(NAME).expect("it was found").state {
        State::Failed(fault) => fault.clone(),
        other => panic!("it is {other:?}"),
    }
}

pub fn read(disk: &dyn Disk, first: u64, count: u64) -> Result<(Vec<u8>, DmaProof), Fault> {
    let mut data = Vec::new();
    let proof = disk.read(first, count, &mut |piece| data.extend_from_slice(piece))?;
    Ok((data, proof))
}

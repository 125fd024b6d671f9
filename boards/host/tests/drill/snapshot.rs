//! Everything that an attempt could leave behind.

use std::collections::{BTreeMap, BTreeSet};

use mastiff_core::engine::DmaSetup;
use mastiff_core::platform::Platform;
use mastiff_core::probe::Service;

use crate::machine::Machine;

#[derive(PartialEq, Debug)]
pub struct Snapshot {
    frames: usize,
    quarantined: usize,
    windows: usize,
    claims: Vec<(u64, u64, Box<str>)>,
    interrupts: Vec<(u32, Box<str>)>,
    unmasked: BTreeSet<u32>,
    services: Vec<String>,
    // Clocks, power domains, supplies: who is on, for how many.
    switches: BTreeMap<String, u32>,
    lines: Vec<(u32, Box<str>)>,
    // Streams that do not abort, domains (with an ASID each), what is mapped in them.
    live: Vec<u32>,
    domains: u64,
    mapped: Vec<(Box<str>, u64)>,
    owners: Vec<String>,
    fake: Option<(usize, usize, usize)>,
    states: BTreeMap<Box<str>, &'static str>,
    models: Vec<u64>,
}

impl Snapshot {
    /// Of all devices but the state of one, which may have failed or not been tried.
    pub fn take(machine: &Machine, target: &str) -> Self {
        let Machine { sim, engine, .. } = machine;
        let context = engine.context();
        let mut switches = BTreeMap::new();
        let mut lines = Vec::new();
        let mut services = Vec::new();
        for (dependency, service) in context.services() {
            services.push(format!("{} {:?}", dependency.class, dependency.node));
            match service {
                Service::Switches(_, all) => {
                    let all = all.all();
                    let users = all
                        .iter()
                        .map(|switch| (switch.name().into(), switch.users()));
                    switches.extend(users);
                }
                Service::Gpio(bank) => lines.extend(bank.owners()),
                _ => {}
            }
        }
        let iommus = context.iommus();
        let live = iommus.iter().flat_map(|(_, iommu)| iommu.live_streams());
        let mapped = engine.devices().filter_map(|device| match device.dma() {
            DmaSetup::Group(info) => Some((device.name.clone(), info.mapped)),
            _ => None,
        });
        let owners = context.streams.all().into_iter();
        let others = engine.devices().filter(|device| &*device.name != target);
        // Functions come and go with their bus, on which nobody is bound.
        let there = others.filter(|device| device.bound().is_some());
        let counts = machine.fake.as_ref().map(|fake| fake.counts());
        Self {
            frames: sim.memory().live(),
            quarantined: sim.memory().quarantined(),
            windows: sim.windows(),
            claims: context.claims.list(),
            interrupts: sim
                .irqs()
                .table()
                .into_iter()
                .map(|irq| (irq.intid, irq.owner))
                .collect(),
            unmasked: sim.chip().enabled(),
            services,
            switches,
            lines,
            live: live.map(|stream| stream.0).collect(),
            domains: iommus.iter().map(|(_, iommu)| iommu.status().domains).sum(),
            mapped: mapped.collect(),
            owners: owners.map(|owner| format!("{owner:?}")).collect(),
            fake: counts.map(|counts| (counts.domains, counts.attached, counts.mappings)),
            states: there
                .map(|device| (device.name.clone(), device.state.name()))
                .collect(),
            models: (machine.held)(),
        }
    }
}

//! Finding out what is there: buses are numbered depth first as bridges turn up
//! (PCI-to-PCI Bridge 12), configuration space is mapped for the buses that exist
//! and no others, and every function found is silenced at once, since firmware may
//! have left it doing DMA.

use alloc::vec::Vec;

use mastiff_core::bus::PciId;
use mastiff_core::error::Fault;
use mastiff_dt::{Node, NodeId};

use crate::access::{self, AccessControl};
use crate::address::{Bdf, swizzle};
use crate::bar::{self, Bar};
use crate::config::{self, BusSpace, Config};
use crate::express::{self, Port};

/// Bridges behind bridges: more than anybody builds, and few enough that the
/// recursion over them stays small.
const MAX_DEPTH: usize = 16;
const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

/// A bus and what is on it.
pub struct Bus {
    /// The functions, in order.
    pub functions: Vec<Found>,
}

/// A function.
pub struct Found {
    /// Where it is.
    pub bdf: Bdf,
    /// Its configuration space.
    pub config: Config,
    /// What it is.
    pub id: PciId,
    /// What it wants.
    pub bars: Vec<Bar>,
    /// What its transactions carry when they leave the host.
    pub requester: u16,
    /// Bridges between it and the root bus, the nearest last.
    pub bridges: Vec<Config>,
    /// Its access control.
    pub control: Option<AccessControl>,
    /// The first of those that can reach each other past the IOMMU, if it is one.
    pub shares: Option<Bdf>,
    // What kind of port it is, and whether it keeps apart: asked of bridges, and of
    // functions that have others beside them.
    port: Option<Port>,
    isolates: bool,
    /// The pin that it pulls, and where on the root bus that arrives.
    pub pin: Option<Pin>,
    /// Its tree node.
    pub node: Option<NodeId>,
    /// What is behind it, if it is a bridge.
    pub behind: Option<Bus>,
}

/// A wired interrupt as it arrives on the root bus.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The device there that it arrives from.
    pub from: Bdf,
    /// 1 is INTA.
    pub pin: u8,
}

/// The way from a bus to the root bus.
struct Way<'t> {
    bridges: Vec<Config>,
    // Their places, for the turning of pins.
    places: Vec<Bdf>,
    alias: Option<u16>,
    // A link has one device at its end (PCIe Base 7.3.1).
    is_link: bool,
    // What is here can reach each other, and maybe more: the first of it all.
    shares: Option<Bdf>,
    // The port above, where this is the inside of a switch.
    switch: Option<Bdf>,
    node: Option<Node<'t>>,
}

/// Where a host has configuration space.
pub trait Buses {
    /// That of one bus, which is asked for once.
    fn open(&mut self, number: u8) -> Result<BusSpace, Fault>;
}

/// Scans one host.
pub struct Scanner<'a> {
    buses: &'a mut dyn Buses,
    first_bus: u8,
    last_bus: u8,
    // The highest number given out.
    highest: u8,
}

impl<'a> Scanner<'a> {
    /// For a host with the buses `first` to `last`.
    pub fn new(buses: &'a mut dyn Buses, first: u8, last: u8) -> Self {
        Self {
            buses,
            first_bus: first,
            last_bus: last,
            highest: first,
        }
    }

    /// Everything below the host at `node`.
    pub fn scan(&mut self, node: Node<'_>) -> Result<Bus, Fault> {
        let way = Way {
            bridges: Vec::new(),
            places: Vec::new(),
            alias: None,
            is_link: false,
            shares: None,
            switch: None,
            node: Some(node),
        };
        self.bus(self.first_bus, &way)
    }

    fn bus(&mut self, number: u8, way: &Way<'_>) -> Result<Bus, Fault> {
        let window = self.buses.open(number)?;
        let mut functions = Vec::new();
        for device in 0..if way.is_link { 1 } else { DEVICES } {
            for function in 0..FUNCTIONS {
                let bdf = Bdf {
                    bus: number,
                    device,
                    function,
                };
                let config = Config::new(&window, bdf.offset_in_bus());
                let present = config.read16(config::ID) != u16::MAX;
                // The first function is there if any is, and says if more are.
                let alone = function == 0 && !(present && has_more(&config));
                if present {
                    functions.push(self.function(bdf, config, alone, way));
                }
                if alone {
                    break;
                }
            }
        }
        share(&mut functions, way);
        // Bridges are opened only when all on this bus are known to be closed: two
        // that forward the same bus number would answer for each other.
        for found in functions
            .iter_mut()
            .filter(|found| is_bridge(&found.config))
        {
            found.behind = Some(self.behind(found, way)?);
        }
        Ok(Bus { functions })
    }

    fn function(&self, bdf: Bdf, config: Config, alone: bool, way: &Way<'_>) -> Found {
        // No DMA, no wired interrupt, and nothing decoded while BARs change.
        config.write16(config::COMMAND, config::COMMAND_NO_INTX);
        let id = config.read32(config::ID);
        let bridge = is_bridge(&config);
        let port = (bridge || !alone).then(|| express::port(&config)).flatten();
        // Conventional PCI has no extended capabilities.
        let control = port.and_then(|_| AccessControl::enable(&config));
        let bars = if bridge {
            set_buses(&config, 0, 0, 0);
            2
        } else {
            6
        };
        let node = way.node.and_then(|bus| node_of(bus, bdf));
        Found {
            bdf,
            id: PciId {
                vendor: id as u16,
                device: (id >> 16) as u16,
                class: config.read32(config::CLASS) >> 8,
            },
            bars: bar::wanted(&config, bars),
            requester: way.alias.unwrap_or(bdf.requester()),
            bridges: way.bridges.clone(),
            control,
            shares: None,
            port,
            isolates: access::isolates(port, control),
            pin: pin(bdf, config.read8(config::INTERRUPT_PIN), &way.places),
            node: node.map(|node| node.id()),
            behind: None,
            config,
        }
    }

    /// Numbers the bus behind a bridge and scans it.
    fn behind(&mut self, bridge: &Found, way: &Way<'_>) -> Result<Bus, Fault> {
        let config = &bridge.config;
        let primary = bridge.bdf.bus;
        if self.highest == self.last_bus || way.bridges.len() == MAX_DEPTH {
            log::warn!(
                "{}: no bus number left, what is behind stays out",
                bridge.bdf
            );
            let functions = Vec::new();
            return Ok(Bus { functions });
        }
        self.highest += 1;
        let secondary = self.highest;
        // Everything that is found below lies up to here; narrowed afterwards.
        set_buses(config, primary, secondary, self.last_bus);
        let port = bridge.port;
        // A switch's port towards the root keeps nothing apart: its others do.
        let leaks = port != Some(Port::Upstream) && !bridge.isolates;
        let mut below = Way {
            bridges: way.bridges.clone(),
            places: way.places.clone(),
            alias: way.alias.or(alias(bridge.bdf, secondary, port)),
            is_link: matches!(port, Some(Port::Root | Port::Downstream)),
            shares: bridge.shares.or(leaks.then_some(bridge.bdf)),
            switch: (port == Some(Port::Upstream)).then_some(bridge.bdf),
            node: bridge
                .node
                .zip(way.node)
                .map(|(id, bus)| bus.tree().node(id)),
        };
        below.bridges.push(config.clone());
        below.places.push(bridge.bdf);
        let bus = self.bus(secondary, &below)?;
        set_buses(config, primary, secondary, self.highest);
        Ok(bus)
    }
}

/// Finds those on a bus that can reach each other. One port of a switch that sends
/// requests across is enough for all behind the switch, one such function for all of
/// its device: it reaches those that send none.
fn share(functions: &mut [Found], way: &Way<'_>) {
    let open = |those: &[Found]| !those.iter().all(|found| found.isolates);
    let inside = way.switch.filter(|_| open(functions));
    let of_bus = way.shares.or(inside);
    for device in functions.chunk_by_mut(|a, b| a.bdf.device == b.bdf.device) {
        let of_device = (device.len() > 1 && open(device)).then_some(device[0].bdf);
        for found in device {
            found.shares = of_bus.or(of_device);
        }
    }
}

fn has_more(config: &Config) -> bool {
    config.read8(config::HEADER) & config::HEADER_MULTI != 0
}

fn is_bridge(config: &Config) -> bool {
    config.read8(config::HEADER) & !config::HEADER_MULTI == config::HEADER_BRIDGE
}

fn set_buses(config: &Config, primary: u8, secondary: u8, subordinate: u8) {
    let value = u32::from_le_bytes([primary, secondary, subordinate, 0]);
    config.write32(config::BUSES, value);
}

/// Where the pin of a function arrives on the root bus.
fn pin(bdf: Bdf, pin: u8, bridges: &[Bdf]) -> Option<Pin> {
    if !(1..=4).contains(&pin) {
        return None;
    }
    let start = Pin { from: bdf, pin };
    Some(bridges.iter().rev().fold(start, |at, &bridge| Pin {
        from: bridge,
        pin: swizzle(at.pin, at.from.device),
    }))
}

/// The Requester ID that a bridge puts in place of those behind it, if it does:
/// conventional PCI has none, so the bridge to it answers for all (PCI Express to
/// PCI/PCI-X Bridge 2.3).
fn alias(bridge: Bdf, secondary: u8, port: Option<Port>) -> Option<u16> {
    match port {
        Some(Port::ToConventional) => Some(u16::from(secondary) << 8),
        None => Some(bridge.requester()),
        Some(_) => None,
    }
}

/// The node below `bus` for a function: its `reg` starts with bus, device and
/// function. The bus number there is firmware's, and not ours, so it is left out.
fn node_of<'t>(bus: Node<'t>, bdf: Bdf) -> Option<Node<'t>> {
    bus.children().find(|child| match child.reg_raw() {
        Ok(reg) => reg
            .first()
            .is_some_and(|entry| (entry.space >> 8) as u8 == bdf.devfn()),
        // A node without a proper `reg` describes no function.
        Err(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bdf(bus: u8, device: u8) -> Bdf {
        Bdf {
            bus,
            device,
            function: 0,
        }
    }

    #[test]
    fn pins_are_followed_to_the_root_bus() {
        assert_eq!(pin(bdf(0, 3), 0, &[]), None);
        assert_eq!(pin(bdf(0, 3), 5, &[]), None);
        let here = Pin {
            from: bdf(0, 3),
            pin: 2,
        };
        assert_eq!(pin(bdf(0, 3), 2, &[]), Some(here));
        // INTA of device 3 is INTD of its bridge, device 2 on bus 1; that is INTB
        // of the bridge above, device 5 on the root bus.
        let there = Pin {
            from: bdf(0, 5),
            pin: 2,
        };
        assert_eq!(pin(bdf(2, 3), 1, &[bdf(0, 5), bdf(1, 2)]), Some(there));
    }

    #[test]
    fn who_answers_for_what_is_behind_a_bridge() {
        assert_eq!(alias(bdf(0, 4), 2, Some(Port::ToConventional)), Some(0x200));
        assert_eq!(alias(bdf(1, 4), 2, None), Some(0x120));
        assert_eq!(alias(bdf(0, 4), 2, Some(Port::Root)), None);
        assert_eq!(alias(bdf(0, 4), 2, Some(Port::Other)), None);
    }
}

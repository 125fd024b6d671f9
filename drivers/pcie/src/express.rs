//! The PCI Express capability, as far as enumeration needs it: what kind of port a
//! bridge is (PCIe Base 7.5.3.2).

use crate::config::Config;

const PCI_EXPRESS: u8 = 0x10;
const CAPABILITIES: usize = 2;

/// What kind of PCI Express function this is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Port {
    /// A port of the root complex; behind it is a link.
    Root,
    /// A switch's port towards the root; behind it are the switch's other ports.
    Upstream,
    /// A switch's port towards the devices; behind it is a link.
    Downstream,
    /// A bridge to conventional PCI.
    ToConventional,
    /// Anything else, such as an endpoint.
    Other,
}

/// What kind of port a function is; `None` for conventional PCI.
pub fn port(config: &Config) -> Option<Port> {
    let at = config.capability(PCI_EXPRESS)?;
    Some(match config.read16(at + CAPABILITIES) >> 4 & 0xf {
        4 => Port::Root,
        5 => Port::Upstream,
        6 => Port::Downstream,
        7 => Port::ToConventional,
        _ => Port::Other,
    })
}

//! Access control services (PCIe Base 6.12): whether what one function asks of
//! another goes up to the IOMMU or straight across. Where it goes across, no page
//! table keeps the two apart, so they belong into one group.

use crate::config::Config;
use crate::express::Port;

/// The extended capability (PCIe Base 7.7.11).
const ACCESS_CONTROL: u16 = 0x000d;
/// What a function can do, and below which bits to turn it on.
const CAPABILITY: usize = 4;
const CONTROL: usize = 6;

/// A Requester ID that is not of this side is refused: nobody takes another's stream.
const SOURCE_VALIDATION: u16 = 1 << 0;
/// Addresses that claim to be translated are refused. None ever is: nothing here
/// lets a function ask for translations.
const TRANSLATION_BLOCKING: u16 = 1 << 1;
/// Requests for another port or function go up instead of across.
const REQUEST_REDIRECT: u16 = 1 << 2;
/// So do the answers.
const COMPLETION_REDIRECT: u16 = 1 << 3;
/// Requests that would turn round inside the port go up as well.
const UPSTREAM_FORWARDING: u16 = 1 << 4;

/// What is turned on where it is there. Left off are the ways across: egress control
/// by list, and direct traffic of translated requests.
const WANTED: u16 = SOURCE_VALIDATION
    | TRANSLATION_BLOCKING
    | REQUEST_REDIRECT
    | COMPLETION_REDIRECT
    | UPSTREAM_FORWARDING;
/// What a switch's port cannot do without (PCIe Base 6.12.1.1).
const OF_SWITCH: u16 =
    SOURCE_VALIDATION | REQUEST_REDIRECT | COMPLETION_REDIRECT | UPSTREAM_FORWARDING;

/// The access control of one function.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AccessControl {
    at: usize,
    on: u16,
    // Everything that was asked for stays on.
    whole: bool,
}

impl AccessControl {
    /// Turns it on, where a function has it. Nothing may master the bus there yet.
    pub fn enable(config: &Config) -> Option<Self> {
        let at = config.extended_capability(ACCESS_CONTROL)?;
        let on = config.read16(at + CAPABILITY) & WANTED;
        config.write16(at + CONTROL, on);
        let whole = config.read16(at + CONTROL) & WANTED == on;
        Some(Self { at, on, whole })
    }

    /// Turns it on again after power took it.
    pub fn restore(self, config: &Config) {
        config.write16(self.at + CONTROL, self.on);
    }

    /// Turns it off, as power does.
    pub fn lose(self, config: &Config) {
        config.write16(self.at + CONTROL, 0);
    }
}

/// Whether a function of this kind keeps apart: a port what is below it from
/// everything else, any other the functions of its device from itself. What a root
/// port or a function with access control is not capable of cannot happen there
/// (PCIe Base 6.12.1.1, 6.12.1.2); without access control it may.
pub fn isolates(port: Option<Port>, control: Option<AccessControl>) -> bool {
    let Some(control) = control.filter(|control| control.whole) else {
        return false;
    };
    let has = |needed| control.on & needed == needed;
    match port {
        Some(Port::Root) => has(SOURCE_VALIDATION),
        Some(Port::Downstream) => has(OF_SWITCH),
        Some(Port::Upstream | Port::Other) => true,
        // Those behind it share one bus.
        Some(Port::ToConventional) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_apart() {
        let control = |on, whole| {
            let at = 0x148;
            Some(AccessControl { at, on, whole })
        };
        let port = |port, on| isolates(Some(port), control(on, true));
        // QEMU's root ports: all but egress control.
        assert!(port(Port::Root, 0x1f) && port(Port::Downstream, 0x1f));
        assert!(port(Port::Root, 0x01), "it sends nothing across");
        assert!(!port(Port::Root, 0x1e), "anybody's Requester ID passes");
        for missing in [0x01, 0x04, 0x08, 0x10] {
            assert!(!port(Port::Downstream, 0x1f & !missing), "{missing:#x}");
        }
        assert!(
            port(Port::Other, 0),
            "its functions cannot reach each other"
        );
        assert!(!port(Port::ToConventional, 0x1f));
        assert!(!isolates(None, control(0x1f, true)));
        for kind in [Port::Root, Port::Downstream, Port::Upstream, Port::Other] {
            assert!(!isolates(Some(kind), None));
            assert!(
                !isolates(Some(kind), control(0x1f, false)),
                "it did not stay on"
            );
        }
    }
}

//! PSCI, through the conduit that the tree names (Arm DEN 0022; Devicetree binding
//! `arm/psci`).

use core::sync::atomic::{AtomicU8, Ordering};

use log::warn;
use mastiff_dt::Tree;
use smccc::{Hvc, Smc, psci};

const NONE: u8 = 0;
const HVC: u8 = 1;
const SMC: u8 = 2;

static CONDUIT: AtomicU8 = AtomicU8::new(NONE);

/// Notes how firmware is called. Its absence is no error: a board may do without.
pub(crate) fn find(tree: &Tree) {
    let models = ["arm,psci-1.0", "arm,psci-0.2"];
    let Some(node) = tree
        .nodes()
        .find(|node| models.iter().any(|model| node.is_compatible(model)))
    else {
        return;
    };
    let conduit = match node.prop("method").and_then(|method| method.as_str()) {
        Some("hvc") => HVC,
        Some("smc") => SMC,
        _ => {
            warn!("{}: method is neither hvc nor smc; no PSCI", node.path());
            NONE
        }
    };
    CONDUIT.store(conduit, Ordering::Relaxed);
}

/// Switches the power off; returns if that does not work.
pub(crate) fn power_off() {
    // The answer would be an error, and there is nothing left to try.
    let _ = match CONDUIT.load(Ordering::Relaxed) {
        HVC => psci::system_off::<Hvc>(),
        SMC => psci::system_off::<Smc>(),
        _ => return,
    };
}

/// Resets the machine; returns if that does not work.
pub(crate) fn reset() {
    let _ = match CONDUIT.load(Ordering::Relaxed) {
        HVC => psci::system_reset::<Hvc>(),
        SMC => psci::system_reset::<Smc>(),
        _ => return,
    };
}

//! PSCI, through the conduit that the tree names (Arm DEN 0022; Devicetree binding
//! `arm/psci`).

use alloc::format;
use alloc::string::String;
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

/// Whether there is PSCI.
pub(crate) fn is_there() -> bool {
    CONDUIT.load(Ordering::Relaxed) != NONE
}

/// Has the CPU of that affinity begin at `entry`, with `argument` in x0.
pub(crate) fn power_on(affinity: u64, entry: u64, argument: u64) -> Result<(), String> {
    let called = match CONDUIT.load(Ordering::Relaxed) {
        HVC => psci::cpu_on::<Hvc>(affinity, entry, argument),
        SMC => psci::cpu_on::<Smc>(affinity, entry, argument),
        _ => return Err("there is no PSCI to start it".into()),
    };
    called.map_err(|error| format!("PSCI CPU_ON: {error} ({})", i64::from(error)))
}

/// What PSCI says of the CPU of that affinity.
pub(crate) fn affinity_info(affinity: u64) -> String {
    let level = psci::LowestAffinityLevel::All;
    let answer = match CONDUIT.load(Ordering::Relaxed) {
        HVC => psci::affinity_info::<Hvc>(affinity, level),
        SMC => psci::affinity_info::<Smc>(affinity, level),
        _ => return "no PSCI".into(),
    };
    match answer {
        Ok(state) => format!("{state:?}"),
        Err(error) => format!("{error}"),
    }
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

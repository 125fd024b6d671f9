//! What is switched on and off for others.

use alloc::string::{String, ToString};

use mastiff_core::supply::Switch;
use mastiff_dt::SupplierClass;
use serde::Serialize;

/// One clock, power domain, supply or reset.
#[derive(Clone, Debug, Serialize)]
pub struct SwitchRecord {
    /// Its name: that of its device, where that has only one.
    pub name: String,
    /// `clock`, `power-domain`, `regulator` or `reset`.
    pub class: String,
    /// The device that supplies it.
    pub supplier: String,
    /// How many hold it on.
    pub users: u32,
    /// Whether anybody does.
    pub on: bool,
    /// Hertz, of a clock whose rate is known.
    pub rate: Option<u64>,
}

impl SwitchRecord {
    /// A switch of this class, of the node at this path.
    pub fn new(class: SupplierClass, supplier: String, switch: &Switch) -> Self {
        let users = switch.users();
        Self {
            name: switch.name().into(),
            class: class.to_string(),
            supplier,
            users,
            on: users > 0,
            rate: switch.rate(),
        }
    }
}

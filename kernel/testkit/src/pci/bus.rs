//! A bus: functions by device and function number, and the way of configuration
//! and memory accesses down through its bridges.

use std::collections::BTreeMap;

use super::function::SimFunction;

/// A bus.
#[derive(Default)]
pub struct SimBus {
    pub(super) functions: BTreeMap<u8, SimFunction>,
}

impl SimBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a function at this device and function number.
    pub fn with(mut self, device: u8, function: u8, it: SimFunction) -> Self {
        self.functions.insert(device << 3 | function, it);
        self
    }

    /// A function on this bus.
    pub fn function(&self, device: u8, function: u8) -> Option<&SimFunction> {
        self.functions.get(&(device << 3 | function))
    }

    /// The bus behind a bridge.
    pub fn behind(&self, device: u8, function: u8) -> Option<&SimBus> {
        self.function(device, function)?.behind.as_ref()
    }

    /// The function that a configuration request for (`bus`, `devfn`) reaches,
    /// when this bus has number `own`.
    pub(super) fn find(&mut self, own: u8, bus: u8, devfn: u8) -> Option<&mut SimFunction> {
        if bus == own {
            return self.functions.get_mut(&devfn);
        }
        let mut found = None;
        let mut covering = 0;
        for function in self.functions.values_mut() {
            let [_, secondary, subordinate, _] = function.config.get32(0x18).to_le_bytes();
            if let Some(behind) = &mut function.behind
                && secondary > own
                && (secondary..=subordinate).contains(&bus)
            {
                covering += 1;
                found = behind.find(secondary, bus, devfn);
            }
        }
        assert!(
            covering <= 1,
            "{covering} bridges forward requests for bus {bus}"
        );
        found
    }

    /// The function and BAR that decode an address.
    pub(super) fn decode(
        &mut self,
        address: u64,
        width: usize,
    ) -> Option<(&mut SimFunction, usize, u64)> {
        for function in self.functions.values_mut() {
            if !function.decodes() {
                continue;
            }
            if let Some((bar, offset)) = function.hit(address, width) {
                return Some((function, bar, offset));
            }
            if function.forwards(address)
                && let Some(behind) = &mut function.behind
            {
                return behind.decode(address, width);
            }
        }
        None
    }
}

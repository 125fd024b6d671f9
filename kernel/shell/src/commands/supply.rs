//! What is switched on and off for others.

use alloc::vec::Vec;

use mastiff_core::platform::Platform;
use mastiff_core::probe::Service;

use super::Failure;
use crate::records::{Record, SwitchRecord};
use crate::shell::Shell;

pub fn clocks<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let context = shell.engine.context();
    for (dependency, service) in context.services() {
        let Service::Switches(class, switches) = service else {
            continue;
        };
        let supplier = context.tree.node(dependency.node).path();
        let all = switches.all().into_iter();
        out.extend(
            all.map(|switch| Record::Switch(SwitchRecord::new(class, supplier.clone(), &switch))),
        );
    }
    Ok(())
}

//! How long a master reaches what was unmapped: transfers that arrive so much later. In
//! strict mode none gets through; in lazy mode those do that come before the
//! invalidation, and no others.

use alloc::format;
use alloc::vec::Vec;

use mastiff_core::driver::Way;
use mastiff_core::iommu::PATIENCE_US;
use mastiff_core::platform::{Platform, poll, wait};

use super::attempt::{Attacker, LEN, Memory, Rights, Target};
use super::{Failure, master};
use crate::records::Record;
use crate::shell::Shell;

/// Microseconds from the unmapping to the arrival.
const DELAYS: [u64; 4] = [1_000, 8_000, 12_000, 20_000];
/// Longer than a transfer takes on any machine that is not held up itself.
const WAIT_US: u64 = 250_000;
/// Bytes that it leaves in the page while that is mapped.
const USED: usize = 8;
/// How often it is looked whether a transfer is at its end.
const LOOK_US: u64 = 1_000;

/// A read that arrives after each delay.
pub fn window<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let mut attacker = Attacker::new(shell, name)?;
    let own = attacker.noise().bytes(LEN);
    let lent = attacker.hostile().lend(&own)?;
    let target = Target::new("its own buffer", lent.iova, Memory::Still(lent.pa));
    attacker.arm(LEN)?;
    let (platform, hostile) = (&shell.engine.context().platform, attacker.hostile());
    let mut takes = 0;
    let first = attacker.read_meanwhile(&target.rights(Rights::All), || {
        let start = platform.now();
        poll(platform, WAIT_US, || hostile.is_back().then_some(()));
        takes = platform.now().us_since(start);
        Ok(())
    })?;
    let proves = first.ok;
    out.push(Record::Hostile(first));
    for delay in DELAYS {
        if proves {
            once(shell, name, (delay, takes), out)?;
        }
    }
    master(shell, name)?.take_back();
    Ok(())
}

fn once<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    (delay, takes): (u64, u64),
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let context = shell.engine.context();
    let platform = &context.platform;
    let mut attacker = Attacker::new(shell, name)?;
    let secret = attacker.noise().bytes(LEN);
    let hostile = attacker.hostile();
    let lent = hostile.lend(&secret)?;
    let memory = Memory::Still(lent.pa);
    attacker.arm(LEN)?;
    // What that put off is done, or its end would be the end of the rest as well.
    wait(platform, 2 * PATIENCE_US, || None::<()>);
    // It uses the mapping, so the IOMMU has it cached, and keeps what it holds.
    hostile.launch(Way::Write, lent.iova, USED)?;
    hostile.land()?;
    let rights = match context.policy.lazy && delay < PATIENCE_US {
        true => Rights::Late,
        false => Rights::None,
    };
    let what = format!("what was unmapped {delay} us before");
    let target = Target::new(what, lent.iova, memory).rights(rights);
    let result = attacker.read_meanwhile(&target, || {
        poll(platform, takes.saturating_sub(delay), || None::<()>);
        hostile.give_back()?;
        let back = || hostile.is_back().then_some(());
        let mut looks = (0..WAIT_US / LOOK_US).map(|_| wait(platform, LOOK_US, back));
        looks.find(Option::is_some);
        Ok(())
    });
    out.push(Record::Hostile(result?));
    Ok(())
}

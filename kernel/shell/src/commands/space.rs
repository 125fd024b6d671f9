//! Masters whose driver manages their IOMMU by itself.

use mastiff_core::addr::Iova;
use mastiff_core::driver::{Seen, Spaces};
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::{Failure, device, number, wrong_words};
use crate::records::{Record, SpaceRecord};
use crate::shell::Shell;

/// The most transfers that `switch` makes at a time.
const MOST: u64 = 1000;

pub fn space<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let device = device(shell, arguments[0])?;
    let spaces = device.bound().and_then(|bound| bound.spaces());
    let spaces = spaces
        .ok_or_else(|| Failure::new(format!("{} has no address spaces of its own", device.name)))?;
    let mut answer = Answer {
        device: device.name.clone(),
        spaces,
        out,
    };
    let address = |text| number(text, "the address").map(Iova);
    match arguments[1..] {
        ["attach", name] => {
            spaces.attach(find(spaces, name)?)?;
            answer.push("attach", None);
        }
        ["detach"] => {
            spaces.detach();
            answer.push("detach", None);
        }
        ["map", at] => {
            let at = address(at)?;
            spaces.map(at)?;
            answer.push("map", Some(at));
        }
        ["unmap", at] => {
            let at = address(at)?;
            spaces.unmap(at)?;
            answer.push("unmap", Some(at));
        }
        ["read", at] => answer.seen("read", spaces.transfer(address(at)?))?,
        ["switch", count] => {
            let count = number(count, "the number of transfers")?;
            if count == 0 || count > MOST {
                let text = format!("1 to {MOST} transfers can be made at a time");
                return Err(Failure::new(text));
            }
            for _ in 0..count {
                answer.seen("switch", spaces.switch())?;
            }
        }
        _ => return Err(wrong_words::<P>("space")),
    }
    // A fault that this caused has been announced by now.
    shell.engine.context().platform.irqs().service();
    Ok(())
}

fn find(spaces: &dyn Spaces, name: &str) -> Result<usize, Failure> {
    let names = spaces.names();
    let found = names.iter().position(|known| *known == name);
    found.ok_or_else(|| {
        let names = names.join(", ");
        Failure::new(format!("no space {name}; there are: {names}"))
    })
}

/// The records of one command.
struct Answer<'a> {
    device: Box<str>,
    spaces: &'a dyn Spaces,
    out: &'a mut Vec<Record>,
}

impl Answer<'_> {
    fn push(&mut self, op: &'static str, at: Option<Iova>) {
        self.add(op, at, None, None, 0);
    }

    fn seen(&mut self, op: &'static str, seen: Result<Seen, Fault>) -> Result<(), Failure> {
        let Seen {
            at,
            read,
            written,
            switches,
        } = seen?;
        self.add(op, Some(at), read, written, switches);
        Ok(())
    }

    fn add(
        &mut self,
        op: &'static str,
        at: Option<Iova>,
        read: Option<usize>,
        written: Option<usize>,
        switches: u32,
    ) {
        let name = |space: Option<usize>| Some(self.spaces.names()[space?]);
        self.out.push(Record::Space(SpaceRecord {
            device: self.device.clone(),
            op,
            attached: name(self.spaces.attached()),
            iova: at.map(|at| at.0),
            read: name(read),
            written: name(written),
            switches,
        }));
    }
}

//! Masters and disks.

use alloc::format;

use mastiff_core::addr::Iova;
use mastiff_core::platform::Platform;

use super::{Failure, device, number, wrong_words};
use crate::records::{DmaRecord, Record};
use crate::render;
use crate::shell::Shell;

/// What `dma read` takes where no length is given.
const SHOWN: u64 = 64;
/// The most that it takes.
const LONGEST: u64 = 4096;

pub fn dma<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    match arguments {
        ["verify"] => match shell.verify_all() {
            Ok(0) => Err(Failure::new("no bound master can prove its DMA")),
            Ok(_) => Ok(()),
            Err(()) => Err(Failure::new("a master's DMA is not right; see above")),
        },
        ["verify", name] => {
            let device = device(shell, name)?;
            let name = device.name.clone();
            if !shell.verify(&name) {
                return Err(Failure::new("its DMA is not right; see above"));
            }
            Ok(())
        }
        ["read", name, iova] => read(shell, name, iova, SHOWN),
        ["read", name, iova, bytes] => {
            let bytes = number(bytes, "the number of bytes")?;
            read(shell, name, iova, bytes)
        }
        _ => Err(wrong_words::<P>("dma")),
    }
}

fn read<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    iova: &str,
    bytes: u64,
) -> Result<(), Failure> {
    if bytes == 0 || bytes > LONGEST {
        return Err(Failure::new(format!(
            "1 to {LONGEST} bytes can be read at a time"
        )));
    }
    let iova = number(iova, "the address")?;
    let device = device(shell, name)?;
    let master = device.bound().and_then(|bound| bound.dma_test());
    let master = master
        .ok_or_else(|| Failure::new(format!("{} is no bound master for this", device.name)))?;
    let data = master.read_at(Iova(iova), bytes as u32)?;
    shell.say(format_args!(
        "{} says that it read:\n{}",
        device.name,
        render::hex(iova, &data)
    ));
    // A fault that this caused has been announced by now.
    shell.engine.context().platform.irqs().service();
    Ok(())
}

pub fn disk<P: Platform>(shell: &mut Shell<'_, P>, arguments: &[&str]) -> Result<(), Failure> {
    let name = device(shell, arguments[0])?.name.clone();
    match &arguments[1..] {
        ["hash"] => {
            let record = shell.hash(&name)?;
            if shell.options.records {
                shell.record(Record::Dma(record));
            }
            Ok(())
        }
        ["read", block] => blocks(shell, &name, number(block, "the block")?, 1),
        ["read", block, count] => {
            let block = number(block, "the block")?;
            blocks(shell, &name, block, number(count, "the number of blocks")?)
        }
        _ => Err(wrong_words::<P>("disk")),
    }
}

fn blocks<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    first: u64,
    count: u64,
) -> Result<(), Failure> {
    let device = device(shell, name)?;
    let disk = device.bound().and_then(|bound| bound.disk());
    let disk = disk.ok_or_else(|| Failure::new(format!("{name} is no bound disk")))?;
    let size = u64::from(disk.block_size());
    let most = (1 << 20) / size;
    if count == 0 || count > most {
        return Err(Failure::new(format!(
            "1 to {most} blocks can be shown at a time"
        )));
    }
    let mut offset = first.saturating_mul(size);
    let proof = disk.read(first, count, &mut |data| {
        shell.say(format_args!("{}", render::hex(offset, data)));
        offset += data.len() as u64;
    })?;
    if shell.options.records {
        shell.record(Record::Dma(DmaRecord::good(name, "read", &proof, None)));
    }
    Ok(())
}

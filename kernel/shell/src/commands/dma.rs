//! Masters and disks.

use alloc::format;
use alloc::vec::Vec;

use mastiff_core::addr::Iova;
use mastiff_core::driver::{DmaTest, Way};
use mastiff_core::platform::Platform;

use super::{Failure, device, number, wrong_words};
use crate::bench;
use crate::records::{DataRecord, DmaRecord, Record};
use crate::shell::Shell;

/// What `dma read` takes where no length is given.
const SHOWN: u64 = 64;
/// The most that it takes.
const LONGEST: u64 = 4096;
/// The most that `disk read` shows at a time.
const DISK_LONGEST: u64 = 64 << 10;

pub fn main_job<P: Platform>(
    shell: &mut Shell<'_, P>,
    _: &[&str],
    _: &mut Vec<Record>,
) -> Result<(), Failure> {
    if shell.main_job() {
        Ok(())
    } else {
        Err(Failure::new("not every master's DMA was proved; see above"))
    }
}

pub fn dma<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    match arguments {
        ["verify"] => verify_all(shell, out),
        ["verify", name] => {
            let name = device(shell, name)?.name.clone();
            let proof = shell.prove(&name)?;
            let ok = proof.ok;
            out.push(Record::Dma(proof));
            if ok {
                Ok(())
            } else {
                Err(Failure::new("its DMA is not right; see above"))
            }
        }
        ["begin", name] => {
            master(shell, name)?.begin()?;
            Ok(())
        }
        ["finish", name] => finish(shell, name, out),
        ["read", name, iova] => read(shell, name, iova, SHOWN, out),
        ["read", name, iova, bytes] => {
            let bytes = number(bytes, "the number of bytes")?;
            read(shell, name, iova, bytes, out)
        }
        _ => Err(wrong_words::<P>("dma")),
    }
}

fn verify_all<P: Platform>(shell: &mut Shell<'_, P>, out: &mut Vec<Record>) -> Result<(), Failure> {
    let proofs = shell.prove_all();
    let (all, bad) = (
        proofs.len(),
        proofs.iter().filter(|proof| !proof.ok).count(),
    );
    out.extend(proofs.into_iter().map(Record::Dma));
    match (all, bad) {
        (0, _) => Err(Failure::new("no bound master can prove its DMA")),
        (_, 0) => Ok(()),
        (all, bad) => Err(Failure::new(format!(
            "the DMA of {bad} of {all} is not right; see above"
        ))),
    }
}

/// The master of this name, if it is bound and can be told to do DMA.
fn master<'a, P: Platform>(
    shell: &'a Shell<'_, P>,
    name: &str,
) -> Result<&'a dyn DmaTest, Failure> {
    let device = device(shell, name)?;
    let master = device.bound().and_then(|bound| bound.dma_test());
    master.ok_or_else(|| {
        Failure::new(format!(
            "{} is no bound master that can be told what to do",
            device.name
        ))
    })
}

fn finish<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let proof = master(shell, name)?.finish()?;
    let name = &device(shell, name)?.name;
    out.push(Record::Dma(DmaRecord::good(name, "verify", &proof)));
    Ok(())
}

fn read<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    iova: &str,
    bytes: u64,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    if bytes == 0 || bytes > LONGEST {
        return Err(Failure::new(format!(
            "1 to {LONGEST} bytes can be read at a time"
        )));
    }
    let at = number(iova, "the address")?;
    let before = faults_of(shell, name)?;
    let hostile = super::hostile::master(shell, name)?;
    hostile.launch(Way::Read, Iova(at), bytes as usize)?;
    hostile.land()?;
    let data = hostile.loot(bytes as usize)?;
    out.push(Record::Data(DataRecord {
        device: device(shell, name)?.name.clone(),
        space: "memory",
        at,
        faulted: faults_of(shell, name)? > before,
        data,
    }));
    Ok(())
}

/// How many faults of a device's streams are known by now.
fn faults_of<P: Platform>(shell: &Shell<'_, P>, name: &str) -> Result<u64, Failure> {
    let context = shell.engine.context();
    // What was announced and not yet taken.
    context.platform.irqs().service();
    let streams = device(shell, name)?.streams.iter();
    Ok(streams
        .map(|stream| context.faults.count(stream.iommu, stream.id))
        .sum())
}

pub fn disk<P: Platform>(
    shell: &mut Shell<'_, P>,
    arguments: &[&str],
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let name = device(shell, arguments[0])?.name.clone();
    match &arguments[1..] {
        ["hash"] => {
            out.push(Record::Dma(shell.hash(&name)?));
            Ok(())
        }
        ["bench"] => bench::disk(shell, &name, out),
        ["read", block] => blocks(shell, &name, number(block, "the block")?, 1, out),
        ["read", block, count] => {
            let block = number(block, "the block")?;
            let count = number(count, "the number of blocks")?;
            blocks(shell, &name, block, count, out)
        }
        _ => Err(wrong_words::<P>("disk")),
    }
}

fn blocks<P: Platform>(
    shell: &Shell<'_, P>,
    name: &str,
    first: u64,
    count: u64,
    out: &mut Vec<Record>,
) -> Result<(), Failure> {
    let disk = shell.disk(name)?;
    let size = u64::from(disk.block_size());
    let bytes = count.checked_mul(size);
    if count == 0 || bytes.is_none_or(|bytes| bytes > DISK_LONGEST) {
        return Err(Failure::new(format!(
            "1 block to {} KiB can be shown at a time",
            DISK_LONGEST >> 10
        )));
    }
    let mut at = first.saturating_mul(size);
    disk.read(first, count, &mut |data| {
        out.push(Record::Data(DataRecord {
            device: name.into(),
            space: "disk",
            at,
            faulted: false,
            data: data.into(),
        }));
        at = at.saturating_add(data.len() as u64);
    })?;
    Ok(())
}

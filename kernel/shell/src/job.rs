//! The main job: what a boot does without being asked. It tells the probe story,
//! proves the DMA of every bound master byte by byte, and shows what separates
//! them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::driver::{Bound, DmaTest};
use mastiff_core::engine::Device;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_core::policy::{MissingIommu, Policy};
use sha2::{Digest, Sha256};

use crate::records::{DeviceRecord, DmaRecord, Record};
use crate::shell::Shell;
use crate::text::{format as numbers, proof, story, text};

const BAR: usize = 32;

impl<P: Platform> Shell<'_, P> {
    /// Returns whether at least one master proved its DMA and none of the bound ones
    /// failed to.
    pub(crate) fn main_job(&mut self) -> bool {
        // First, so that the boot's cost is not that of talking about it.
        let proofs = self.prove_all();
        self.tell_story();
        self.say(format_args!(
            "\nPolicy\n{}",
            policy(&self.engine.context().policy)
        ));
        self.say(format_args!("\nDMA, verified byte by byte\n"));
        let mut results = Vec::new();
        for proof in proofs {
            results.push(proof.ok);
            self.show_proof(proof);
        }
        let disks = self.names(|bound| bound.disk().is_some());
        if disks.is_empty() {
            self.say(format_args!(
                "  no disk is bound: nothing to read and hash\n"
            ));
        }
        for name in disks {
            let record = match self.hash(&name) {
                Ok(record) => record,
                Err(fault) => DmaRecord::bad(&name, "read", fault.to_string()),
            };
            results.push(record.ok);
            self.show_proof(record);
        }
        self.show_isolation();
        self.judge(&results)
    }

    fn judge(&self, results: &[bool]) -> bool {
        let all = results.len() as u64;
        let bad = results.iter().filter(|ok| !**ok).count();
        match (all, bad) {
            (0, _) => {
                let masters = self.engine.devices().filter(|device| device.is_master());
                let what = match masters.filter(|master| master.bound().is_some()).count() {
                    0 => "no bus master is bound",
                    _ => "no bus master that is bound can prove its DMA",
                };
                self.say(format_args!("\nFAILED: {what}, so no DMA was proved\n"));
                self.blame_masters();
            }
            (all, 0) => {
                let proofs = numbers::count(all, "proof");
                self.say(format_args!("\nOK: {proofs} of DMA, none failed\n"));
            }
            (all, bad) => {
                let proofs = numbers::count(all, "proof");
                self.say(format_args!("\nFAILED: {bad} of {proofs} of DMA\n"));
            }
        }
        all > 0 && bad == 0
    }

    /// A round trip by every bound master that can do one.
    pub(crate) fn prove_all(&mut self) -> Vec<DmaRecord> {
        // Disks first: the first verified block is what a boot's cost is told by.
        let disks = self.names(|bound| bound.dma_test().is_some() && bound.disk().is_some());
        let others = self.names(|bound| bound.dma_test().is_some() && bound.disk().is_none());
        let names = disks.into_iter().chain(others);
        names.filter_map(|name| self.prove(&name).ok()).collect()
    }

    /// A round trip by one master. An error says that it is none which can do one;
    /// a trip that went wrong is a record that says so.
    pub(crate) fn prove(&mut self, name: &str) -> Result<DmaRecord, Fault> {
        let device = self.engine.device(name);
        let bound = device.and_then(|device| device.bound());
        let test: Option<&dyn DmaTest> = bound.and_then(|bound| bound.dma_test());
        let test = test.ok_or_else(|| {
            Fault::invalid(format!("{name} is no bound master that can prove its DMA"))
        })?;
        let result = test.round_trip();
        let is_disk = bound.is_some_and(|bound| bound.disk().is_some());
        Ok(match result {
            Ok(proof) => {
                if is_disk && self.first_block.is_none() {
                    self.first_block = Some((self.system.instructions(), self.system.uptime_us()));
                }
                DmaRecord::good(name, "verify", &proof)
            }
            Err(fault) => DmaRecord::bad(name, "verify", fault.to_string()),
        })
    }

    /// Reads a whole disk and hashes it.
    pub(crate) fn hash(&self, name: &str) -> Result<DmaRecord, Fault> {
        let disk = self.disk(name)?;
        let total = disk.blocks().saturating_mul(u64::from(disk.block_size()));
        let mut hash = Sha256::new();
        let mut progress = Progress::new(total);
        let proof = disk.read(0, disk.blocks(), &mut |data| {
            hash.update(data);
            if self.interactive {
                progress.advance(data.len() as u64, |bar| self.say(format_args!("{bar}")));
            }
        });
        if self.interactive {
            self.say(format_args!("\r\x1b[K"));
        }
        let mut record = DmaRecord::good(name, "read", &proof?);
        record.bytes = total;
        record.sha256 = Some(numbers::digits(&hash.finalize()));
        Ok(record)
    }

    fn names(&self, filter: impl Fn(&dyn Bound) -> bool) -> Vec<Box<str>> {
        let is_it = |device: &&Device<P>| device.bound().is_some_and(&filter);
        let devices = self.engine.devices().filter(is_it);
        devices.map(|device| device.name.clone()).collect()
    }

    /// The main job talks to people; for scripts its transfers are records as well.
    fn show_proof(&self, record: DmaRecord) {
        self.say(format_args!("{}", proof(&record)));
        if self.records {
            self.report(&[Record::Dma(record)]);
        }
    }

    /// One line a device that a driver is for or that waits; the rest is counted.
    fn tell_story(&self) {
        self.say(format_args!("\nProbe story\n"));
        let (mut told, silent): (Vec<DeviceRecord>, Vec<_>) = self
            .devices()
            .partition(|device| device.attempts > 0 || device.driver.is_some());
        told.sort_by_key(|device| (device.order.unwrap_or(u32::MAX), device.attempts == 0));
        for device in &told {
            self.say(format_args!("{}", story(device)));
        }
        let (disabled, driverless): (Vec<_>, Vec<_>) =
            silent.iter().partition(|device| device.state == "disabled");
        for (devices, what) in [
            (driverless, "without a driver here"),
            (disabled, "disabled"),
        ] {
            if !devices.is_empty() {
                self.say(format_args!(
                    "  and {} {what}; `devices` lists them\n",
                    devices.len()
                ));
            }
        }
    }

    fn show_isolation(&self) {
        self.say(format_args!("\nIsolation\n"));
        let records: Vec<Record> = self.isolation().map(Record::Isolation).collect();
        for line in text(&records).lines() {
            self.say(format_args!("  {line}\n"));
        }
        if records.is_empty() {
            self.say(format_args!("  no masters\n"));
        }
    }

    /// Why there is no master, for each that might have been one.
    fn blame_masters(&self) {
        let masters = || self.engine.devices().filter(|device| device.is_master());
        for cause in masters().flat_map(|device| self.engine.causes_of(device)) {
            self.say(format_args!("  {}: {}\n", cause.device, cause.reason));
        }
        if masters().next().is_none() {
            self.say(format_args!(
                "  nothing in the tree or on its buses is a master that this image has a driver for\n"
            ));
        }
    }
}

/// The rules of this boot, a line each.
fn policy(policy: &Policy) -> String {
    let missing = |decision| match decision {
        MissingIommu::Refuse => "refused (iommu.missing=refuse)",
        MissingIommu::Direct => "allowed direct DMA (iommu.missing=direct)",
    };
    let domains = match (policy.passthrough, policy.lazy) {
        (true, _) => "identity domains (iommu.passthrough=1)",
        (false, true) => "DMA domains, unmapped lazily (iommu.strict=0)",
        (false, false) => "DMA domains, unmapped strictly (iommu.passthrough=0)",
    };
    let mut text = format!(
        "  a master whose IOMMU cannot come: {}\n  masters behind an IOMMU: {domains}\n",
        missing(policy.missing_iommu)
    );
    for (device, decision) in policy.devices {
        text.push_str(&format!(
            "  {device}, by the board: {}\n",
            missing(*decision)
        ));
    }
    text
}

/// A bar that is drawn again only where it changed.
struct Progress {
    total: u64,
    done: u64,
    shown: Option<u64>,
}

impl Progress {
    fn new(total: u64) -> Self {
        Self {
            total,
            done: 0,
            shown: None,
        }
    }

    fn advance(&mut self, bytes: u64, draw: impl FnOnce(String)) {
        self.done += bytes;
        // Of terabytes a hundredfold does not fit 64 bits.
        let percent = (u128::from(self.done) * 100 / u128::from(self.total.max(1))) as u64;
        if self.shown != Some(percent) {
            self.shown = Some(percent);
            let full = (percent as usize * BAR / 100).min(BAR);
            let (full, empty) = ("#".repeat(full), ".".repeat(BAR - full));
            let (done, total) = (self.done >> 20, self.total >> 20);
            draw(format!(
                "\r  [{full}{empty}] {percent:3} %  {done} of {total} MiB"
            ));
        }
    }
}

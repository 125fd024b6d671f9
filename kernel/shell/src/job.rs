//! The main job: what a boot does without being asked. It tells the probe story,
//! proves the DMA of every bound master byte by byte, and shows what separates
//! them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::engine::{DmaSetup, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use sha2::{Digest, Sha256};

use crate::records::{DeviceRecord, DmaRecord, Record};
use crate::render;
use crate::shell::Shell;

const BAR: usize = 32;

impl<P: Platform> Shell<'_, P> {
    /// Returns the status: 0 if at least one master proved its DMA and none of the
    /// bound ones failed to.
    pub(crate) fn main_job(&mut self) -> u8 {
        // First, so that the boot's cost is not that of talking about it.
        let proofs = self.prove_first();
        self.tell_story();
        self.say(format_args!("\nDMA, verified byte by byte\n"));
        let mut good = 0;
        let mut bad = 0;
        for record in proofs {
            match record.ok {
                true => good += 1,
                false => bad += 1,
            }
            self.show_proof(record);
        }
        let disks = self.names(|device| device.bound().is_some_and(|bound| bound.disk().is_some()));
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
            match record.ok {
                true => good += 1,
                false => {
                    bad += 1;
                    self.show_proof(record.clone());
                }
            }
            if self.options.records && record.ok {
                self.record(Record::Dma(record));
            }
        }
        self.show_isolation();
        match (good, bad) {
            (0, 0) => {
                self.say(format_args!(
                    "\nFAILED: no bus master is bound, so no DMA was proved\n"
                ));
                self.blame_masters();
                1
            }
            (good, 0) => {
                self.say(format_args!("\nOK: {good} proofs of DMA, none failed\n"));
                0
            }
            (good, bad) => {
                self.say(format_args!(
                    "\nFAILED: {bad} of {} proofs of DMA\n",
                    good + bad
                ));
                1
            }
        }
    }

    /// A round trip by every bound master that can do one.
    fn prove_first(&mut self) -> Vec<DmaRecord> {
        let names = self.names(|device| {
            device
                .bound()
                .is_some_and(|bound| bound.dma_test().is_some())
        });
        // Disks first: the first verified block is what a boot's cost is told by.
        let (disks, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| {
            let device = self.engine.device(name);
            device
                .and_then(|device| device.bound())
                .is_some_and(|bound| bound.disk().is_some())
        });
        disks
            .into_iter()
            .chain(others)
            .map(|name| self.round_trip(&name))
            .collect()
    }

    fn round_trip(&mut self, name: &str) -> DmaRecord {
        let device = self.engine.device(name);
        let bound = device.and_then(|device| device.bound());
        let Some(test) = bound.and_then(|bound| bound.dma_test()) else {
            return DmaRecord::bad(name, "verify", "no bound master for this".into());
        };
        let result = test.round_trip();
        let is_disk = bound.is_some_and(|bound| bound.disk().is_some());
        match result {
            Ok(proof) => {
                if is_disk && self.first_block.is_none() {
                    self.first_block = Some((self.system.instructions(), self.system.uptime_us()));
                }
                DmaRecord::good(name, "verify", &proof, None)
            }
            Err(fault) => DmaRecord::bad(name, "verify", fault.to_string()),
        }
    }

    /// Verifies every bound master: how many were right, or that one was not.
    pub(crate) fn verify_all(&mut self) -> Result<usize, ()> {
        let proofs = self.prove_first();
        let count = proofs.len();
        let all = proofs.iter().all(|proof| proof.ok);
        for proof in proofs {
            self.show_proof(proof);
        }
        if all { Ok(count) } else { Err(()) }
    }

    /// Verifies one master and shows the result.
    pub(crate) fn verify(&mut self, name: &str) -> bool {
        let proof = self.round_trip(name);
        let ok = proof.ok;
        self.show_proof(proof);
        ok
    }

    fn show_proof(&self, record: DmaRecord) {
        match (&record.error, record.iova, record.pa) {
            (None, Some(iova), Some(pa)) => self.say(format_args!(
                "  {}: {} there and back, IOVA {iova:#x} -> PA {pa:#x}: right\n",
                record.device,
                render::size(record.bytes)
            )),
            (error, ..) => self.say(format_args!(
                "  {}: FAILED: {}\n",
                record.device,
                error.as_deref().unwrap_or("no address")
            )),
        }
        if self.options.records {
            self.record(Record::Dma(record));
        }
    }

    /// Reads a whole disk and hashes it.
    pub(crate) fn hash(&self, name: &str) -> Result<DmaRecord, Fault> {
        let device = self.engine.device(name);
        let disk = device
            .and_then(|device| device.bound())
            .and_then(|bound| bound.disk())
            .ok_or_else(|| Fault::invalid(format!("{name} is no bound disk")))?;
        let total = disk.blocks() * u64::from(disk.block_size());
        let mut hash = Sha256::new();
        let mut progress = Progress::new(total);
        let proof = disk.read(0, disk.blocks(), &mut |data| {
            hash.update(data);
            if self.options.interactive {
                progress.advance(data.len() as u64, |bar| self.say(format_args!("{bar}")));
            }
        })?;
        if self.options.interactive {
            self.say(format_args!("\r\x1b[K"));
        }
        let digest = render::digest(&hash.finalize());
        self.say(format_args!(
            "  {name}: {} read\n  sha256 {digest}\n",
            render::size(total)
        ));
        Ok(DmaRecord::good(name, "read", &proof, Some(digest)))
    }

    fn names(&self, filter: impl Fn(&mastiff_core::engine::Device<P>) -> bool) -> Vec<Box<str>> {
        let devices = self.engine.devices().filter(|device| filter(device));
        devices.map(|device| device.name.clone()).collect()
    }

    /// One line a device that a driver is for or that waits; the rest is counted.
    fn tell_story(&self) {
        self.say(format_args!("\nProbe story\n"));
        let mut devices: Vec<DeviceRecord> = self.device_records();
        devices.sort_by_key(|device| (device.order.unwrap_or(u32::MAX), device.attempts == 0));
        let mut unclaimed = 0;
        for device in &devices {
            if device.attempts == 0 && device.state == "unclaimed" {
                unclaimed += 1;
                continue;
            }
            self.say(format_args!("  {}\n", line(device)));
        }
        if unclaimed > 0 {
            self.say(format_args!(
                "  {unclaimed} more have no driver here; `devices` lists them\n"
            ));
        }
    }

    /// Who can reach what.
    fn show_isolation(&self) {
        self.say(format_args!("\nIsolation\n"));
        let tree = &self.engine.context().tree;
        let mut rows = Vec::new();
        for device in self.engine.devices() {
            let known = device.streams.first();
            if !device.is_master() && known.is_none() {
                continue;
            }
            let iommu = known.map_or(String::from("none"), |stream| {
                tree.node(stream.iommu).path()
            });
            let streams: Vec<String> = device
                .streams
                .iter()
                .map(|stream| stream.id.to_string())
                .collect();
            let reach = match (device.dma(), &device.state) {
                (DmaSetup::Group(info), _) if info.identity => {
                    "all memory (identity domain)".into()
                }
                (DmaSetup::Group(info), _) => {
                    let tag = info
                        .tag
                        .map_or(String::new(), |tag| format!(", ASID {tag}"));
                    let mapped = render::size(info.mapped);
                    format!("only what is mapped: {mapped} now{tag}")
                }
                (DmaSetup::Direct, _) => "all memory (no IOMMU)".into(),
                (DmaSetup::None, State::Bound) => "nothing: no master".into(),
                (DmaSetup::None, _) if known.is_some() => "nothing: its stream aborts".into(),
                (DmaSetup::None, _) => "nothing: bus mastering is off".into(),
            };
            rows.push(Vec::from([
                device.name.to_string(),
                iommu,
                streams.join(","),
                reach,
            ]));
        }
        let text = render::table(&["master", "IOMMU", "stream", "reaches"], &rows);
        for line in text.lines() {
            self.say(format_args!("  {line}\n"));
        }
    }

    /// Why there is no master, for each that might have been one.
    fn blame_masters(&self) {
        for device in self.engine.devices().filter(|device| device.is_master()) {
            for cause in self.engine.causes_of(device) {
                self.say(format_args!("  {}: {}\n", cause.device, cause.reason));
            }
        }
    }
}

/// A device's line of the story.
fn line(device: &DeviceRecord) -> String {
    let driver = device.driver.unwrap_or("-");
    let mut text = format!("{:<8} {} [{driver}]", device.state, device.name);
    for waited in &device.waited {
        let (class, on, property) = (&waited.class, &waited.on, waited.property);
        text.push_str(&format!(", waited for {class} {on} ({property})"));
    }
    for cause in &device.cause {
        text.push_str(&format!(
            "\n             {}: {}",
            cause.device, cause.reason
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
        let percent = self.done * 100 / self.total.max(1);
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

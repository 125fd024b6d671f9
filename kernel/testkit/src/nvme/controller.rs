//! What the controller does: registers, commands, data.

use std::collections::BTreeMap;

use super::SimNvme;
use super::queue::{Completions, Entry, Submissions};
use crate::bus::BusError;
use crate::pci::{FunctionPort, PciDevice};

/// How long it takes to become ready, to finish a command, to shut down.
const READY_NS: u64 = 20_000;
const COMMAND_NS: u64 = 10_000;
const SHUTDOWN_NS: u64 = 50_000;
const PAGE: u64 = 4096;

const ENABLE: u32 = 1;
const READY: u32 = 1;
const FATAL: u32 = 2;
const SHUTDOWN_DONE: u32 = 2 << 2;

/// Status codes (NVM Express Base 3.3.3.2.1).
const INVALID_OPCODE: u16 = 0x01;
const INVALID_FIELD: u16 = 0x02;
const TRANSFER_ERROR: u16 = 0x04;
const PRP_OFFSET_INVALID: u16 = 0x13;
const LBA_OUT_OF_RANGE: u16 = 0x80;
const INVALID_QUEUE: u16 = 0x101;
const INVALID_QUEUE_SIZE: u16 = 0x102;

/// What a reset clears.
#[derive(Default)]
pub(super) struct State {
    configuration: u32,
    status: u32,
    attributes: u32,
    submissions_at: u64,
    completions_at: u64,
    // When something that takes time was begun.
    since: u64,
    submissions: BTreeMap<usize, Submissions>,
    completions: BTreeMap<usize, Completions>,
    out: Vec<Out>,
    doorbells: Vec<(usize, u32)>,
    // I/O pairs that were granted.
    granted: u32,
}

/// A command that was fetched.
struct Out {
    queue: usize,
    entry: Entry,
    due: u64,
}

impl State {
    pub fn enabled(&self) -> bool {
        self.configuration & ENABLE != 0 || self.status & READY != 0
    }
}

impl PciDevice for SimNvme {
    fn read(&mut self, _bar: usize, offset: u64, _width: usize) -> u64 {
        match offset {
            0x00 => self.capabilities,
            0x08 => 0x0001_0400,
            0x14 => self.state.configuration.into(),
            0x1c => self.state.status.into(),
            0x24 => self.state.attributes.into(),
            0x28 => self.state.submissions_at,
            0x30 => self.state.completions_at,
            _ => 0,
        }
    }

    fn write(&mut self, _bar: usize, offset: u64, _width: usize, value: u64) {
        let stopped = !self.state.enabled();
        match offset {
            0x14 => self.configure(value as u32),
            0x24 if stopped => self.state.attributes = value as u32,
            0x28 if stopped => self.state.submissions_at = value,
            0x30 if stopped => self.state.completions_at = value,
            0x24..=0x37 => panic!("admin queues change while the controller runs"),
            0x1000.. => {
                assert!(!stopped, "a doorbell rings at a controller that is off");
                let stride = 4 << (self.capabilities >> 32 & 0xf);
                let index = ((offset - 0x1000) / stride) as usize;
                self.state.doorbells.push((index, value as u32));
            }
            _ => {}
        }
    }

    fn tick(&mut self, port: &mut FunctionPort<'_, '_>) {
        self.change_state(port.now());
        self.shut_down(port);
        if self.state.status & (READY | FATAL) == READY {
            self.check_queues(port);
            self.ring();
            self.fetch(port);
            self.work(port);
        }
        let waiting = self
            .state
            .completions
            .values()
            .any(|queue| !queue.is_empty());
        port.set_pin(waiting && !self.silent);
    }
}

impl SimNvme {
    fn configure(&mut self, value: u32) {
        let before = self.state.configuration;
        self.state.configuration = value;
        // 0 until the next tick says when it is.
        self.state.since = 0;
        if value & ENABLE != 0 && before & ENABLE == 0 {
            assert_eq!(value >> 16 & 0xff, 0x46, "entries of 64 and 16 bytes");
            assert_eq!(value >> 7 & 0xf, 0, "pages of 4 KiB");
        }
        if value & ENABLE == 0 && before & ENABLE != 0 && !self.never_stops {
            // It lets go of all memory before it says so.
            self.state.out.clear();
            self.state.doorbells.clear();
            self.state.submissions.clear();
            self.state.completions.clear();
        }
    }

    fn change_state(&mut self, now: u64) {
        let state = &mut self.state;
        if state.since == 0 {
            state.since = now;
        }
        let elapsed = now - state.since;
        let enable = state.configuration & ENABLE != 0;
        let ready = state.status & READY != 0;
        if enable && !ready && elapsed >= READY_NS && !self.never_ready {
            let entries = state.attributes;
            let (submissions, completions) = (entries & 0xfff, entries >> 16 & 0xfff);
            let admin = Submissions::new(state.submissions_at, submissions + 1, 0);
            state.submissions.insert(0, admin);
            let admin = Completions::new(state.completions_at, completions + 1, 0);
            state.completions.insert(0, admin);
            state.status = READY;
        }
        if !enable && ready && elapsed >= READY_NS && !self.never_stops {
            state.status = 0;
        }
    }

    /// A shutdown needs the bus: what is in memory of the host is fetched back.
    fn shut_down(&mut self, port: &mut FunctionPort<'_, '_>) {
        let state = &mut self.state;
        let announced = state.configuration >> 14 & 3 != 0 && state.status & SHUTDOWN_DONE == 0;
        let elapsed = port.now() - state.since;
        let queues = state.completions_at;
        if announced
            && elapsed >= SHUTDOWN_NS
            && !self.never_shuts_down
            && port.read(queues, &mut [0; 4]).is_ok()
        {
            state.status |= SHUTDOWN_DONE;
            self.shutdowns += 1;
        }
    }

    /// Whoever takes the queues away from a controller that runs has freed memory
    /// that it may write.
    fn check_queues(&self, port: &mut FunctionPort<'_, '_>) {
        for queue in self.state.completions.values() {
            let gone = port.read(queue.base, &mut [0; 4]) == Err(BusError::Aborted);
            assert!(
                !gone || self.never_stops,
                "queues go while the controller runs"
            );
        }
    }

    fn ring(&mut self) {
        for (index, value) in std::mem::take(&mut self.state.doorbells) {
            let queue = index / 2;
            match index % 2 {
                0 => self
                    .state
                    .submissions
                    .get_mut(&queue)
                    .map(|it| it.ring(value)),
                _ => self
                    .state
                    .completions
                    .get_mut(&queue)
                    .map(|it| it.ring(value)),
            }
            .unwrap_or_else(|| panic!("doorbell {index} of a queue that is not there"));
        }
    }

    fn fetch(&mut self, port: &mut FunctionPort<'_, '_>) {
        for (&queue, submissions) in &mut self.state.submissions {
            while let Some(fetched) = submissions.fetch(port) {
                let Ok(entry) = fetched else {
                    self.state.status |= FATAL;
                    return;
                };
                let taken = |out: &Out| out.queue == queue && out.entry.id() == entry.id();
                assert!(
                    !self.state.out.iter().any(taken),
                    "identifier {} twice",
                    entry.id()
                );
                // Odd ones take longer, so that completions overtake each other.
                let due = port.now() + COMMAND_NS * (1 + 2 * u64::from(entry.id() % 2));
                self.state.out.push(Out { queue, entry, due });
            }
        }
        self.most_out = self.most_out.max(self.state.out.len());
    }

    fn work(&mut self, port: &mut FunctionPort<'_, '_>) {
        let now = port.now();
        let (due, later) = std::mem::take(&mut self.state.out)
            .into_iter()
            .partition::<Vec<_>, _>(|out| out.due <= now);
        self.state.out = later;
        for out in due {
            let Out { queue, entry, .. } = &out;
            let submissions = &self.state.submissions[queue];
            let (head, to) = (submissions.head, submissions.completes_to);
            if self.state.completions[&to].is_full() {
                self.state.out.push(out);
                continue;
            }
            let answer = match queue {
                0 => Some(self.admin(port, entry)),
                queue => self.io(port, *queue, entry).map(|status| (status, 0)),
            };
            let Some((status, result)) = answer else {
                continue;
            };
            let id = self.wrong_identifier.unwrap_or(entry.id());
            let wrong = self.wrong_phase;
            let Some(completions) = self.state.completions.get_mut(&to) else {
                continue;
            };
            let vector = completions.vector;
            let posted = completions.post(port, (*queue, head), id, (status, result), wrong);
            if posted.is_err() {
                self.state.status |= FATAL;
            } else if !self.silent {
                port.message(vector);
            }
        }
    }

    /// An admin command: its status and its result.
    fn admin(&mut self, port: &mut FunctionPort<'_, '_>, entry: &Entry) -> (u16, u32) {
        let status = match self.bad_admin.get(&entry.opcode()) {
            Some(&status) => status,
            None => self.administer(port, entry),
        };
        // Set Features says how many queues there are, counted from 0.
        let last = self.state.granted.saturating_sub(1);
        let result = match entry.opcode() {
            0x09 => last << 16 | last,
            _ => 0,
        };
        (status, result)
    }

    fn administer(&mut self, port: &mut FunctionPort<'_, '_>, entry: &Entry) -> u16 {
        let (dword10, dword11) = (entry.0[10], entry.0[11]);
        let (id, entries) = ((dword10 & 0xffff) as usize, (dword10 >> 16) + 1);
        let contiguous = dword11 & 1 != 0;
        match entry.opcode() {
            0x01 | 0x05 if !contiguous => INVALID_FIELD,
            0x01 | 0x05 if id == 0 || id > self.state.granted as usize => INVALID_QUEUE,
            0x01 | 0x05 if entries < 2 || entries > (self.capabilities & 0xffff) as u32 + 1 => {
                INVALID_QUEUE_SIZE
            }
            0x01 => {
                let to = (dword11 >> 16) as usize;
                assert!(
                    self.state.completions.contains_key(&to),
                    "no completion queue {to}"
                );
                let queue = Submissions::new(entry.prp(0), entries, to);
                self.state.submissions.insert(id, queue);
                0
            }
            0x05 => {
                assert_eq!(dword11 & 2, 2, "completions that nobody is told of");
                let vector = (dword11 >> 16) as usize;
                let queue = Completions::new(entry.prp(0), entries, vector);
                self.state.completions.insert(id, queue);
                0
            }
            0x06 => match self.identify(entry) {
                Some(page) => self.store(port, entry, &page),
                None => INVALID_FIELD,
            },
            0x09 => {
                let asked = (dword11 & 0xffff).min(dword11 >> 16) + 1;
                self.state.granted = asked.min(self.queues);
                0
            }
            _ => INVALID_OPCODE,
        }
    }

    fn identify(&self, entry: &Entry) -> Option<Vec<u8>> {
        let mut page = vec![0; PAGE as usize];
        match entry.0[10] & 0xff {
            0 if entry.0[1] == 1 => {
                let blocks = (self.disk.len() >> self.block_log) as u64;
                page[..8].copy_from_slice(&blocks.to_le_bytes());
                page[128 + 2] = self.block_log as u8;
            }
            // Identify of a namespace that is not there gives zeroes.
            0 => {}
            1 => {
                page[4..24].copy_from_slice(b"SIM-1               ");
                page[24..36].copy_from_slice(b"Simulated   ");
                page[36..64].fill(b' ');
                page[77] = self.mdts;
                page[111] = 1;
            }
            2 => page[0] = 1,
            _ => return None,
        }
        Some(page)
    }

    /// A command of an I/O queue; `None` if it is never completed.
    fn io(&mut self, port: &mut FunctionPort<'_, '_>, queue: usize, entry: &Entry) -> Option<u16> {
        if entry.opcode() != 0x02 {
            return Some(INVALID_OPCODE);
        }
        let first = u64::from(entry.0[11]) << 32 | u64::from(entry.0[10]);
        let count = u64::from(entry.0[12] & 0xffff) + 1;
        let blocks = first..first + count;
        if self
            .fatal_block
            .is_some_and(|block| blocks.contains(&block))
        {
            self.state.status |= FATAL;
            return None;
        }
        if self.lost_block.is_some_and(|block| blocks.contains(&block)) {
            return None;
        }
        self.reads += 1;
        *self.reads_by.entry(queue).or_default() += 1;
        if let Some((_, &status)) = self.bad_blocks.range(blocks.clone()).next() {
            return Some(status);
        }
        let log = self.block_log;
        if blocks.end << log > self.disk.len() as u64 {
            return Some(LBA_OUT_OF_RANGE);
        }
        if self.mdts != 0 && count << log > PAGE << self.mdts {
            return Some(INVALID_FIELD);
        }
        let data = self.disk[(first << log) as usize..(blocks.end << log) as usize].to_vec();
        Some(self.store(port, entry, &data))
    }

    /// Writes data where the PRPs say (NVM Express Base 4.1.1).
    fn store(&self, port: &mut FunctionPort<'_, '_>, entry: &Entry, data: &[u8]) -> u16 {
        let pages = match prp_pages(port, entry, data.len()) {
            Ok(pages) => pages,
            Err(status) => return status,
        };
        let mut rest = data;
        for page in pages {
            let piece = rest.len().min((PAGE - page % PAGE) as usize);
            // A byte that is left out splits the first page's transfer in two.
            let skipped = self.skipped_byte.filter(|_| rest.len() == data.len());
            let (head, tail) = match skipped {
                Some(byte) if byte < piece => (byte, byte + 1),
                _ => (piece, piece),
            };
            let written = port.write(page, &rest[..head]).is_ok()
                && port.write(page + tail as u64, &rest[tail..piece]).is_ok();
            if !written {
                return TRANSFER_ERROR;
            }
            rest = &rest[piece..];
        }
        0
    }
}

/// The pages that a command's PRPs describe.
fn prp_pages(port: &mut FunctionPort<'_, '_>, entry: &Entry, len: usize) -> Result<Vec<u64>, u16> {
    let (first, second) = (entry.prp(0), entry.prp(1));
    let covered = (PAGE - first % PAGE) as usize;
    let mut pages = vec![first];
    let more = len.saturating_sub(covered).div_ceil(PAGE as usize);
    if more == 1 {
        pages.push(second);
    } else if more > 1 {
        let room = ((PAGE - second % PAGE) / 8) as usize;
        assert!(more <= room, "a PRP list that goes on is not modelled");
        let mut list = vec![0; 8 * more];
        port.read(second, &mut list).map_err(|_| TRANSFER_ERROR)?;
        let (entries, _) = list.as_chunks();
        pages.extend(entries.iter().map(|&entry| u64::from_le_bytes(entry)));
    }
    let aligned = pages[1..].iter().all(|page| page.is_multiple_of(PAGE));
    if first % 4 != 0 || !aligned {
        return Err(PRP_OFFSET_INVALID);
    }
    Ok(pages)
}

//! RAM, as the CPU and as devices see it.
//!
//! Each frame has two copies. The CPU stores into its own; the devices' copy
//! follows, line by line, at the next barrier, and where the machine is not
//! coherent only for lines that were cleaned before that barrier. So a missing
//! barrier or clean shows as stale data in a simulated device, which is what it
//! would be on a bad day on hardware. A device's write reaches the CPU at once on
//! a coherent machine, after an invalidate otherwise.
//!
//! Frames that nobody holds are poisoned, and a device that touches one has gone
//! astray: the test stops, unless it said that it wants strays.

use std::collections::BTreeSet;
use std::sync::Mutex;

use mastiff_core::platform::PageRequest;

use crate::lock;

/// Bytes in a frame.
pub const FRAME: u64 = 4096;
/// Bytes in a cache line; 64 of them make a frame, one bit each.
const LINE: u64 = 64;
/// What memory holds that nobody owns.
pub const POISON: u8 = 0xDD;

/// RAM and who holds it.
pub struct Memory {
    base: u64,
    len: u64,
    state: Mutex<State>,
}

struct State {
    frames: Vec<Frame>,
    // Where the search for free frames goes on: a freed frame is reused last.
    next: usize,
    coherent: bool,
    strays_allowed: bool,
    strays: Vec<Stray>,
    // Frames with lines that wait for a barrier.
    behind: BTreeSet<usize>,
}

#[derive(Default)]
struct Frame {
    holder: Holder,
    bytes: Option<Box<Copies>>,
    // A bit for each line.
    dirty: u64,
    cleaned: u64,
}

struct Copies {
    cpu: [u8; FRAME as usize],
    device: [u8; FRAME as usize],
}

#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
enum Holder {
    #[default]
    Nobody,
    Software,
    Quarantine,
}

/// A device's access to memory that nobody holds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stray {
    /// Physical address.
    pub pa: u64,
    /// Whether it was a write.
    pub write: bool,
}

impl Memory {
    /// RAM of `len` bytes at `base`, coherent.
    pub fn new(base: u64, len: u64) -> Self {
        assert!(base.is_multiple_of(FRAME) && len.is_multiple_of(FRAME));
        let mut frames = Vec::new();
        frames.resize_with((len / FRAME) as usize, Frame::default);
        Self {
            base,
            len,
            state: Mutex::new(State {
                frames,
                next: 0,
                coherent: true,
                strays_allowed: false,
                strays: Vec::new(),
                behind: BTreeSet::new(),
            }),
        }
    }

    /// First and last address.
    pub fn span(&self) -> (u64, u64) {
        (self.base, self.base + (self.len - 1))
    }

    /// Whether any of `len` bytes from `pa` are RAM.
    pub fn overlaps(&self, pa: u64, len: u64) -> bool {
        pa < self.base + self.len && self.base < pa.saturating_add(len)
    }

    /// Whether devices see the CPU's caches.
    pub fn set_coherent(&self, coherent: bool) {
        lock(&self.state).coherent = coherent;
    }

    /// The same, asked.
    pub fn is_coherent(&self) -> bool {
        lock(&self.state).coherent
    }

    /// Lets devices touch memory that nobody holds; it is still noted.
    pub fn allow_strays(&self) {
        lock(&self.state).strays_allowed = true;
    }

    /// Accesses of devices to memory that nobody held.
    pub fn strays(&self) -> Vec<Stray> {
        lock(&self.state).strays.clone()
    }

    /// Frames that software holds.
    pub fn live(&self) -> usize {
        self.count(Holder::Software)
    }

    /// Frames that were parked for ever.
    pub fn quarantined(&self) -> usize {
        self.count(Holder::Quarantine)
    }

    fn count(&self, holder: Holder) -> usize {
        let state = lock(&self.state);
        state
            .frames
            .iter()
            .filter(|frame| frame.holder == holder)
            .count()
    }

    /// Hands out contiguous frames. Their content is poison, not zeroes.
    pub fn alloc(&self, request: PageRequest) -> Option<u64> {
        let count = request.bytes.max(1).div_ceil(FRAME) as usize;
        let align = request.align.max(FRAME);
        let mut state = lock(&self.state);
        let total = state.frames.len();
        let fits = |first: usize| {
            let pa = self.base + first as u64 * FRAME;
            let last = pa + (count as u64 * FRAME - 1);
            first + count <= total
                && pa.is_multiple_of(align)
                && last <= request.limit
                && state.frames[first..first + count]
                    .iter()
                    .all(|frame| frame.holder == Holder::Nobody)
        };
        let from = state.next;
        let first = (from..total).chain(0..from).find(|&first| fits(first))?;
        for frame in &mut state.frames[first..first + count] {
            frame.holder = Holder::Software;
        }
        state.next = first + count;
        Some(self.base + first as u64 * FRAME)
    }

    /// Takes frames back and poisons them.
    #[track_caller]
    pub fn free(&self, pa: u64, len: u64) {
        self.pass_on(pa, len, Holder::Nobody);
    }

    /// Parks frames for ever.
    #[track_caller]
    pub fn park(&self, pa: u64, len: u64) {
        self.pass_on(pa, len, Holder::Quarantine);
    }

    #[track_caller]
    fn pass_on(&self, pa: u64, len: u64, to: Holder) {
        let mut state = lock(&self.state);
        for at in (pa..pa + len).step_by(FRAME as usize) {
            let index = self.index(at);
            state.behind.remove(&index);
            let frame = &mut state.frames[index];
            let held = frame.holder == Holder::Software;
            frame.holder = to;
            if to == Holder::Nobody {
                frame.bytes = None;
            }
            frame.dirty = 0;
            frame.cleaned = 0;
            if !held {
                crate::breach(&format!("memory at {at:#x} is freed, but nobody holds it"));
            }
        }
    }

    #[track_caller]
    fn index(&self, pa: u64) -> usize {
        let inside = (self.base..self.base + self.len).contains(&pa);
        assert!(inside, "physical address {pa:#x} is not RAM");
        ((pa - self.base) / FRAME) as usize
    }

    /// Splits a range at frames and calls `each` with the frame, the offset in it
    /// and the range of the caller's bytes.
    #[track_caller]
    fn pieces(
        &self,
        pa: u64,
        len: usize,
        mut each: impl FnMut(usize, usize, std::ops::Range<usize>),
    ) {
        let mut done = 0;
        while done < len {
            let at = pa + done as u64;
            let offset = (at % FRAME) as usize;
            let piece = (FRAME as usize - offset).min(len - done);
            each(self.index(at), offset, done..done + piece);
            done += piece;
        }
    }

    /// The CPU loads.
    #[track_caller]
    pub fn cpu_read(&self, pa: u64, to: &mut [u8]) {
        let mut state = lock(&self.state);
        self.pieces(pa, to.len(), |index, offset, range| {
            let frame = state.held(index, pa);
            let bytes = &frame.copies().cpu[offset..offset + range.len()];
            to[range].copy_from_slice(bytes);
        });
    }

    /// What the CPU would load, whoever holds it; `false` where there is no RAM.
    pub fn peek(&self, pa: u64, to: &mut [u8]) -> bool {
        let ram = self.base..=self.base + self.len;
        if !ram.contains(&pa) || !ram.contains(&pa.saturating_add(to.len() as u64)) {
            return false;
        }
        let state = lock(&self.state);
        self.pieces(pa, to.len(), |index, offset, range| {
            match &state.frames[index].bytes {
                Some(copies) => {
                    let bytes = &copies.cpu[offset..offset + range.len()];
                    to[range].copy_from_slice(bytes);
                }
                None => to[range].fill(POISON),
            }
        });
        true
    }

    /// The CPU stores.
    #[track_caller]
    pub fn cpu_write(&self, pa: u64, from: &[u8]) {
        let mut state = lock(&self.state);
        self.pieces(pa, from.len(), |index, offset, range| {
            let lines = lines(offset, range.len());
            state.behind.insert(index);
            let frame = state.held(index, pa);
            frame.copies().cpu[offset..offset + range.len()].copy_from_slice(&from[range]);
            frame.dirty |= lines;
            frame.cleaned &= !lines;
        });
    }

    /// The CPU replaces `old` by `new`, or gets what is there instead.
    #[track_caller]
    pub fn cpu_compare_exchange(&self, pa: u64, old: u64, new: u64) -> Result<u64, u64> {
        let mut state = lock(&self.state);
        let index = self.index(pa);
        let offset = (pa % FRAME) as usize;
        let frame = state.held(index, pa);
        let word = &mut frame.copies().cpu[offset..offset + 8];
        let seen = u64::from_le_bytes(word.try_into().expect("8 bytes"));
        if seen != old {
            return Err(seen);
        }
        word.copy_from_slice(&new.to_le_bytes());
        frame.dirty |= lines(offset, 8);
        frame.cleaned &= !lines(offset, 8);
        state.behind.insert(index);
        Ok(old)
    }

    /// Lines are on their way to where devices look; a barrier completes it.
    #[track_caller]
    pub fn clean(&self, pa: u64, len: usize) {
        let mut state = lock(&self.state);
        self.pieces(pa, len, |index, offset, range| {
            let frame = state.held(index, pa);
            frame.cleaned |= frame.dirty & lines(offset, range.len());
        });
    }

    /// Lines are dropped from the CPU's cache, stores that were not cleaned too.
    #[track_caller]
    pub fn invalidate(&self, pa: u64, len: usize) {
        let mut state = lock(&self.state);
        if state.coherent {
            return;
        }
        self.pieces(pa, len, |index, offset, range| {
            let gone = lines(offset, range.len());
            let frame = state.held(index, pa);
            let copies = frame.copies();
            let Copies { cpu, device } = copies;
            each_line(gone, |line| {
                cpu[line.clone()].copy_from_slice(&device[line])
            });
            frame.dirty &= !gone;
            frame.cleaned &= !gone;
        });
    }

    /// Stores become visible to devices: all of them on a coherent machine, those
    /// that were cleaned on another.
    pub fn barrier(&self) {
        let mut state = lock(&self.state);
        let coherent = state.coherent;
        for index in std::mem::take(&mut state.behind) {
            let frame = &mut state.frames[index];
            let out = if coherent { frame.dirty } else { frame.cleaned };
            let Copies { cpu, device } = frame.copies();
            each_line(out, |line| device[line.clone()].copy_from_slice(&cpu[line]));
            frame.dirty &= !out;
            frame.cleaned &= !out;
            if frame.dirty != 0 {
                state.behind.insert(index);
            }
        }
    }

    /// A device reads. Memory that nobody holds gives poison, if that is allowed.
    pub fn device_read(&self, pa: u64, to: &mut [u8]) {
        let mut state = lock(&self.state);
        self.pieces(pa, to.len(), |index, offset, range| {
            if state.device_may(index, pa, false) {
                let bytes = &state.frames[index].copies().device[offset..offset + range.len()];
                to[range].copy_from_slice(bytes);
            } else {
                to[range].fill(POISON);
            }
        });
    }

    /// A device writes.
    pub fn device_write(&self, pa: u64, from: &[u8]) {
        let mut state = lock(&self.state);
        let coherent = state.coherent;
        self.pieces(pa, from.len(), |index, offset, range| {
            if !state.device_may(index, pa, true) {
                return;
            }
            let place = offset..offset + range.len();
            let copies = state.frames[index].copies();
            copies.device[place.clone()].copy_from_slice(&from[range.clone()]);
            if coherent {
                copies.cpu[place].copy_from_slice(&from[range]);
            }
        });
    }

    /// Whether a device could reach RAM here at all.
    pub fn is_ram(&self, pa: u64) -> bool {
        (self.base..self.base + self.len).contains(&pa)
    }
}

impl State {
    #[track_caller]
    fn held(&mut self, index: usize, pa: u64) -> &mut Frame {
        let frame = &mut self.frames[index];
        assert!(
            frame.holder != Holder::Nobody,
            "the CPU touches {pa:#x}, which nobody holds"
        );
        frame
    }

    fn device_may(&mut self, index: usize, pa: u64, write: bool) -> bool {
        let held = self.frames[index].holder != Holder::Nobody;
        if !held {
            self.strays.push(Stray { pa, write });
            let access = if write { "writes" } else { "reads" };
            assert!(
                self.strays_allowed,
                "a device {access} memory at {pa:#x}, which nobody holds"
            );
        }
        held
    }
}

impl Frame {
    fn copies(&mut self) -> &mut Copies {
        self.bytes.get_or_insert_with(|| {
            Box::new(Copies {
                cpu: [POISON; FRAME as usize],
                device: [POISON; FRAME as usize],
            })
        })
    }
}

/// The lines that `len` bytes from `offset` lie in.
fn lines(offset: usize, len: usize) -> u64 {
    if len == 0 {
        return 0;
    }
    let first = offset as u64 / LINE;
    let last = (offset + len - 1) as u64 / LINE;
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

fn each_line(mut bits: u64, mut each: impl FnMut(std::ops::Range<usize>)) {
    while bits != 0 {
        let start = bits.trailing_zeros() as usize * LINE as usize;
        each(start..start + LINE as usize);
        bits &= bits - 1;
    }
}

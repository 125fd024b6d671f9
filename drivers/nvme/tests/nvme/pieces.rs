//! Pieces from anywhere, many at a time.

use mastiff_core::driver::Disk;
use mastiff_core::driver::DmaProof;
use mastiff_core::driver::Pace;
use mastiff_core::driver::Piece;
use mastiff_core::driver::Pieces;
use mastiff_core::error::Fault;
use mastiff_testkit::inject::Step;
use mastiff_testkit::trace::Event;

use crate::bench::*;

/// Pieces from places of its own, with what came of them.
struct Scattered {
    places: Vec<(u64, u32)>,
    asked: usize,
    data: Vec<Vec<u8>>,
}

impl Scattered {
    fn new(places: impl IntoIterator<Item = (u64, u32)>) -> Self {
        Self {
            places: places.into_iter().collect(),
            asked: 0,
            data: Vec::new(),
        }
    }

    fn fetch(&mut self, disk: &dyn Disk, bytes: u64, depth: usize) -> Result<DmaProof, Fault> {
        let count = self.places.len() as u64;
        let over = Some(0xee);
        disk.fetch(
            &Pace {
                count,
                bytes,
                depth,
                over,
            },
            self,
        )
    }

    /// Whether what came is what is there.
    fn check(&self, disk: &[u8]) {
        for (data, &(first, blocks)) in self.data.iter().zip(&self.places) {
            let at = first as usize * 512;
            assert!(*data == disk[at..at + blocks as usize * 512], "{first}");
        }
    }
}

impl Pieces for Scattered {
    fn next(&mut self) -> (u64, u32) {
        self.asked += 1;
        self.places[self.asked - 1]
    }

    fn landed(&mut self, piece: &dyn Piece) {
        let mut data = vec![0; piece.len()];
        piece.copy(0, &mut data);
        self.data.push(data);
    }
}

#[test]
fn pieces_from_anywhere_come_in_order_many_at_a_time() {
    for (depth, most) in [(0, 1), (1, 1), (2, 2), (5, 4), (32, 32), (1000, 32)] {
        let bench = bench(2 << 20);
        let engine = bench.boot();
        let resting = bench.machine.iommu.counts();
        let places = (0..300).map(|index| (index * 1237 % 4000, 1 + index as u32 % 20));
        let mut pieces = Scattered::new(places);
        let proof = pieces.fetch(disk(&engine), 20 * 512, depth).unwrap();
        assert_eq!(pieces.data.len(), 300);
        pieces.check(&contents(2 << 20));
        let bytes: usize = pieces.data.iter().map(Vec::len).sum();
        assert_eq!(proof.bytes, bytes as u64);
        assert_eq!(bench.device.lock().unwrap().most_out, most, "depth {depth}");
        let counts = bench.machine.iommu.counts();
        assert_eq!(counts.mappings, resting.mappings);
        assert_eq!(bench.machine.iommu.aborted(), []);
    }
}

#[test]
fn fewer_at_a_time_where_memory_is_short() {
    let bench = bench(2 << 20);
    let engine = bench.boot();
    // There are pages for one side of half the size.
    bench.machine.sim.inject().fail(Step::Pages, 1);
    let mut pieces = Scattered::new((0..50).map(|index| (index * 8, 8)));
    pieces.fetch(disk(&engine), 4096, 32).unwrap();
    pieces.check(&contents(2 << 20));
    assert_eq!(bench.device.lock().unwrap().most_out, 16);
}

#[test]
fn a_piece_that_has_no_room_is_refused_before_it_is_read() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    let reads = || bench.device.lock().unwrap().reads;
    let before = reads();
    for (places, bytes) in [
        (vec![(0, 9)], 4096),
        (vec![(0, 0)], 4096),
        (vec![(0, u32::MAX)], 4096),
        (vec![(0, 1)], 0),
        (vec![(0, 1)], 1 << 30),
        (vec![], 4096),
    ] {
        let result = Scattered::new(places).fetch(disk(&engine), bytes, 4);
        assert!(matches!(result, Err(Fault::Invalid { .. })), "{result:?}");
    }
    assert_eq!(reads(), before);
    // What is beyond the end the controller refuses, and the others are good.
    let mut pieces = Scattered::new([(0, 8), (8, 8), (2048, 8), (16, 8)]);
    let error = pieces.fetch(disk(&engine), 4096, 8).unwrap_err();
    assert_eq!(error.to_string(), "Read: LBA Out of Range (status 0x80)");
    assert_eq!(pieces.data.len(), 2);
    pieces.check(&contents(1 << 20));
    assert!(read(disk(&engine), 0, 2048).is_ok());
}

#[test]
fn the_doorbell_rings_once_for_a_batch() {
    let bench = bench(4 << 20);
    let engine = bench.boot();
    bench.machine.sim.trace().start();
    let mut pieces = Scattered::new((0..32).map(|index| (index * 256, 256)));
    pieces.fetch(disk(&engine), 128 << 10, 4).unwrap();
    pieces.check(&contents(4 << 20));
    let events = bench.machine.sim.trace().stop();
    let doorbells = |offset| {
        let rung =
            |event: &&Event| matches!(event, Event::Write { pa, .. } if pa & 0xfff == offset);
        events.iter().filter(rung).count()
    };
    assert_eq!(doorbells(8), 16, "one for two commands");
}

#[test]
fn lists_follow_the_memory_from_one_size_to_the_next() {
    let bench = bench(4 << 20);
    let engine = bench.boot();
    for blocks in [256, 24, 200, 24, 256, 100] {
        let mut pieces = Scattered::new((0..40).map(|index| (index * 171, blocks)));
        let bytes = u64::from(blocks) * 512;
        pieces.fetch(disk(&engine), bytes, 32).unwrap();
        assert_eq!(pieces.data.len(), 40);
        pieces.check(&contents(4 << 20));
    }
    assert_eq!(bench.machine.iommu.aborted(), []);
}

//! The driver against the model: reading whatever the sizes, and letting go of all
//! memory whatever goes wrong.

use mastiff_core::driver::{Disk, DmaProof, Driver, Pace, Piece, Pieces};
use mastiff_core::engine::{Engine, State};
use mastiff_core::error::Fault;
use mastiff_core::platform::Barrier;
use mastiff_nvme::Nvme;
use mastiff_pcie::Pcie;
use mastiff_testkit::Sim;
use mastiff_testkit::bus::Shared;
use mastiff_testkit::inject::Step;
use mastiff_testkit::nvme::SimNvme;
use mastiff_testkit::pci::{PciMachine, SimBus};
use mastiff_testkit::trace::Event;
use proptest::prelude::*;
use std::collections::BTreeSet;

const HOST: &str = "/pcie@10000000";
const NAME: &str = "/pcie@10000000/00:01.0";
const DRIVERS: [&'static dyn Driver<Sim>; 2] = [&Pcie, &Nvme];

struct Bench {
    machine: PciMachine,
    device: Shared<SimNvme>,
}

/// A disk on which no two blocks are alike.
fn contents(len: usize) -> Vec<u8> {
    let word = |index: u64| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7).to_le_bytes();
    (0..len as u64 / 8).flat_map(word).collect()
}

fn bench(len: usize) -> Bench {
    let (device, function) = SimNvme::function(contents(len));
    let machine = PciMachine::new(SimBus::new().with(1, 0, function));
    Bench { machine, device }
}

impl Bench {
    fn boot(&self) -> Engine<Sim> {
        self.machine.boot(&DRIVERS)
    }

    fn change(&self, change: impl FnOnce(&mut SimNvme)) {
        change(&mut self.device.lock().unwrap());
    }

    /// Nothing is left once the driver is gone.
    fn check_clean(&self) {
        let counts = self.machine.iommu.counts();
        assert_eq!((counts.attached, counts.mappings), (0, 0));
        assert_eq!(self.machine.sim.memory().live(), 0);
        assert_eq!(self.machine.sim.memory().quarantined(), 0);
        assert_eq!(self.machine.msi.used().len(), 0);
        assert!(!self.device.lock().unwrap().is_enabled());
    }
}

fn disk(engine: &Engine<Sim>) -> &dyn Disk {
    let device = engine.device(NAME).expect("it was found");
    let State::Bound = device.state else {
        panic!("it is {:?}", device.state);
    };
    device.bound().unwrap().disk().unwrap()
}

fn fault(engine: &Engine<Sim>) -> Fault {
    match &engine.device(NAME).expect("it was found").state {
        State::Failed(fault) => fault.clone(),
        other => panic!("it is {other:?}"),
    }
}

fn read(disk: &dyn Disk, first: u64, count: u64) -> Result<(Vec<u8>, DmaProof), Fault> {
    let mut data = Vec::new();
    let proof = disk.read(first, count, &mut |piece| data.extend_from_slice(piece))?;
    Ok((data, proof))
}

#[test]
fn the_whole_disk_is_read_in_order() {
    let bench = bench(3 << 20);
    let mut engine = bench.boot();
    let disk = disk(&engine);
    assert_eq!((disk.block_size(), disk.blocks()), (512, 6144));
    let resting = bench.machine.iommu.counts().mappings;
    let (data, proof) = read(disk, 0, 6144).unwrap();
    assert!(data == contents(3 << 20));
    assert_eq!(proof.bytes, 3 << 20);
    assert_ne!(proof.iova.0, proof.pa.0, "it was translated");
    assert_eq!(bench.machine.iommu.counts().mappings, resting);
    assert_eq!(bench.machine.iommu.aborted(), []);
    let most_out = bench.device.lock().unwrap().most_out;
    assert_eq!(most_out, 8, "several at a time");
    engine.unbind(NAME).unwrap();
    bench.check_clean();
    assert_eq!(bench.device.lock().unwrap().shutdowns, 1);
}

#[test]
fn s27_it_reads_on_after_its_power_was_gone() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    let all = |engine: &Engine<Sim>| read(disk(engine), 0, 2048).unwrap().0;
    for _ in 0..3 {
        // Queues have turned around by an odd number of entries.
        assert!(all(&engine) == contents(1 << 20));
        read(disk(&engine), 7, 1).unwrap();
        let mapped = bench.machine.iommu.counts().mappings;
        engine.suspend().unwrap();
        assert!(!bench.device.lock().unwrap().is_enabled());
        engine.resume().unwrap();
        assert_eq!(bench.machine.iommu.counts().mappings, mapped);
    }
    assert!(all(&engine) == contents(1 << 20));
    engine.unbind(NAME).unwrap();
    bench.check_clean();
}

#[test]
fn another_controller_is_not_taken_for_the_one_before() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    engine.suspend().unwrap();
    bench.change(|device| device.capabilities ^= 1 << 40);
    assert!(matches!(
        engine.resume(),
        Err(Fault::Register { name: "CAP", .. })
    ));
    assert!(matches!(fault(&engine), Fault::Register { .. }));
    bench.check_clean();
}

#[test]
fn a_suspend_that_it_refuses_leaves_it_to_be_given_up() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    bench.change(|device| device.never_stops = true);
    assert!(matches!(engine.suspend(), Err(Fault::Timeout { .. })));
    assert!(!engine.is_suspended());
    bench.change(|device| device.never_stops = false);
    engine.unbind(NAME).unwrap();
    bench.check_clean();
}

#[test]
fn a_round_trip_notices_a_byte_that_the_device_did_not_write() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    let verify = || {
        let device = engine.device(NAME).unwrap();
        device.bound().unwrap().dma_test().unwrap().round_trip()
    };
    let proof = verify().unwrap();
    assert_eq!(proof.bytes, 512);
    assert_ne!(proof.iova.0, proof.pa.0, "it was translated");
    for byte in [0, 17, 511] {
        bench.change(|device| device.skipped_byte = Some(byte));
        let Err(Fault::Mismatch { offset, .. }) = verify() else {
            panic!("byte {byte} was not missed");
        };
        assert_eq!(offset, byte as u64);
    }
}

#[test]
fn completions_are_ordered_before_data_and_doorbell() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    bench.machine.sim.trace().start();
    read(disk(&engine), 0, 64).unwrap();
    let mut unordered = false;
    let (mut doorbells, mut data) = (0, 0);
    for event in bench.machine.sim.trace().stop() {
        match event {
            Event::Load { len: 4, .. } => unordered = true,
            Event::Barrier(Barrier::Full) => unordered = false,
            Event::Load { .. } => {
                data += 1;
                assert!(!unordered, "data may be read before its completion");
            }
            Event::Write { pa, .. } if pa & 0xfff == 0xc => {
                doorbells += 1;
                assert!(!unordered, "an entry is given back before it is read");
            }
            _ => {}
        }
    }
    assert!(doorbells > 0 && data > 0);
}

#[test]
fn one_block_costs_one_page() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    let before = bench.machine.sim.inject().taken(Step::Pages);
    let (data, _) = read(disk(&engine), 77, 1).unwrap();
    assert!(data == contents(1 << 20)[77 * 512..78 * 512]);
    assert_eq!(bench.machine.sim.inject().taken(Step::Pages), before + 1);
}

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

/// Reads by so many CPUs at once. Says how many reads went to each queue.
fn by_cpus(cpus: usize, queues: u32, has_msi: bool) -> Vec<(usize, u64)> {
    let mut bench = bench(1 << 20);
    bench.machine.sim.set_cpus(cpus);
    bench.machine.has_msi = has_msi;
    bench.change(|device| device.queues = queues);
    let mut engine = bench.boot();
    let bound = engine.device(NAME).unwrap().bound().unwrap();
    let together = std::sync::Barrier::new(cpus);
    std::thread::scope(|scope| {
        for cpu in 0..cpus as u64 {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                let first = 100 * cpu;
                for _ in 0..4 {
                    let disk = bound.disk().unwrap();
                    let (data, _) = read(disk, first, 1000).unwrap();
                    let at = first as usize * 512;
                    assert!(data == contents(1 << 20)[at..at + 1000 * 512]);
                }
            });
        }
    });
    let reads = bench.device.lock().unwrap().reads_by.clone();
    if has_msi && reads.len() == cpus {
        // Each pair's interrupt goes to the CPU that waits for it.
        let takers = bench.machine.msi.used().into_iter();
        let takers: BTreeSet<usize> = takers
            .map(|it| bench.machine.sim.chip().target(it))
            .collect();
        assert_eq!(takers, (0..cpus).collect());
    }
    engine.suspend().unwrap();
    engine.resume().unwrap();
    assert!(read(disk(&engine), 0, 2048).unwrap().0 == contents(1 << 20));
    engine.unbind(NAME).unwrap();
    bench.check_clean();
    reads.into_iter().collect()
}

#[test]
fn each_cpu_reads_by_its_own_queues() {
    // Four pieces of up to 128 KiB, four times.
    assert_eq!(by_cpus(1, 64, true), [(1, 16)]);
    assert_eq!(by_cpus(3, 64, true), [(1, 16), (2, 16), (3, 16)]);
}

#[test]
fn cpus_share_queues_where_there_are_fewer() {
    let all = |reads: Vec<(usize, u64)>| reads.iter().map(|(_, count)| count).sum::<u64>();
    // As many as the controller has, as the function has messages, or just the pin.
    let reads = by_cpus(3, 2, true);
    assert_eq!((reads.len(), all(reads)), (2, 48));
    let reads = by_cpus(6, 64, true);
    assert_eq!((reads.len(), all(reads)), (4, 96));
    assert_eq!(by_cpus(2, 64, false), [(1, 32)]);
}

#[test]
fn what_is_not_on_the_disk_is_refused() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    for (first, count) in [(0, 0), (2048, 1), (2047, 2), (u64::MAX, 1), (1, u64::MAX)] {
        let result = read(disk(&engine), first, count);
        assert!(
            matches!(result, Err(Fault::Invalid { .. })),
            "{first} {count}"
        );
    }
    assert!(read(disk(&engine), 2047, 1).is_ok());
}

#[test]
fn a_sink_that_reads_does_not_hang() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    let disk = disk(&engine);
    let mut inner = None;
    disk.read(0, 1, &mut |_| inner = Some(disk.read(0, 1, &mut |_| {})))
        .unwrap();
    assert!(matches!(inner, Some(Err(Fault::Invalid { .. }))));
}

#[test]
fn blocks_of_four_kilobytes_and_small_transfers() {
    let bench = bench(1 << 20);
    bench.change(|nvme| {
        nvme.block_log = 12;
        nvme.mdts = 1;
    });
    let engine = bench.boot();
    assert_eq!(disk(&engine).block_size(), 4096);
    let (data, _) = read(disk(&engine), 1, 255).unwrap();
    assert!(data == contents(1 << 20)[4096..]);
    let reads = bench.device.lock().unwrap().reads;
    assert_eq!(reads, 128, "two blocks at a time");
}

#[test]
fn by_pin_without_coherency_and_without_iommu() {
    for (has_msi, coherent, has_iommu) in [
        (false, true, true),
        (true, false, true),
        (false, false, false),
    ] {
        let mut bench = bench(1 << 20);
        bench.machine.has_msi = has_msi;
        bench.machine.has_iommu = has_iommu;
        if !coherent {
            bench.machine.sim.memory().set_coherent(false);
            bench.machine.extra = |host| host.flag("dma-noncoherent");
        }
        let mut engine = bench.boot();
        let (data, _) = read(disk(&engine), 0, 2048).unwrap();
        assert!(
            data == contents(1 << 20),
            "{has_msi} {coherent} {has_iommu}"
        );
        engine.unbind(NAME).unwrap();
        bench.check_clean();
    }
}

#[test]
fn queues_as_small_as_they_come() {
    let bench = bench(1 << 20);
    bench.change(|nvme| nvme.capabilities = nvme.capabilities & !0xffff | 1 | 2 << 32);
    let engine = bench.boot();
    let (data, _) = read(disk(&engine), 0, 2048).unwrap();
    assert!(
        data == contents(1 << 20),
        "two entries, doorbells 16 bytes apart"
    );
    assert_eq!(bench.device.lock().unwrap().most_out, 1);
}

#[test]
fn binding_again_and_again_leaves_nothing() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    for _ in 0..20 {
        let (data, _) = read(disk(&engine), 100, 300).unwrap();
        assert!(data == contents(1 << 20)[100 * 512..400 * 512]);
        engine.unbind(NAME).unwrap();
        bench.check_clean();
        engine.bind(NAME).unwrap();
    }
}

#[test]
fn an_error_of_the_medium_is_named_and_the_next_read_works() {
    let bench = bench(4 << 20);
    bench.change(|nvme| nvme.bad_blocks = [(700, 0x281)].into());
    let engine = bench.boot();
    let resting = bench.machine.iommu.counts().mappings;
    let mut good = 0;
    let result = disk(&engine).read(0, 8192, &mut |piece| good += piece.len());
    assert_eq!(
        result.unwrap_err().to_string(),
        "Read: Unrecovered Read Error (status 0x281)"
    );
    assert_eq!(good, 512 * 512, "what came before is good");
    assert_eq!(bench.machine.iommu.counts().mappings, resting);
    let (data, _) = read(disk(&engine), 1000, 4000).unwrap();
    assert!(data == contents(4 << 20)[1000 * 512..5000 * 512]);
}

/// Reads a disk of which something is wrong, expects that the controller is given
/// up for it, and that nothing is left.
fn gives_up(change: fn(&mut SimNvme), text: &str) {
    let bench = bench(2 << 20);
    let mut engine = bench.boot();
    bench.change(change);
    let error = read(disk(&engine), 0, 4096).unwrap_err().to_string();
    assert!(error.contains(text), "{error}");
    assert!(!bench.device.lock().unwrap().is_enabled(), "it was stopped");
    let again = read(disk(&engine), 0, 1).unwrap_err().to_string();
    assert_eq!(again, error, "and is not used any more");
    engine.unbind(NAME).unwrap();
    bench.check_clean();
    bench.change(|nvme| {
        nvme.lost_block = None;
        nvme.fatal_block = None;
        nvme.wrong_phase = false;
        nvme.wrong_identifier = None;
        nvme.silent = false;
    });
    engine.bind(NAME).unwrap();
    assert!(
        read(disk(&engine), 0, 4096).unwrap().0 == contents(2 << 20),
        "bound anew it works"
    );
}

#[test]
fn a_command_that_never_completes() {
    gives_up(
        |nvme| nvme.lost_block = Some(1500),
        "no completion after 30000000 us: CSTS = 0x1",
    );
}

#[test]
fn a_controller_that_fails() {
    gives_up(
        |nvme| nvme.fatal_block = Some(1500),
        "Controller Fatal Status",
    );
}

#[test]
fn completions_that_look_old() {
    gives_up(|nvme| nvme.wrong_phase = true, "no completion after");
}

#[test]
fn completions_of_something_else() {
    gives_up(
        |nvme| nvme.wrong_identifier = Some(0x1234),
        "no completion after",
    );
}

#[test]
fn interrupts_that_get_lost() {
    gives_up(|nvme| nvme.silent = true, "no completion interrupt after");
}

#[test]
fn a_controller_that_does_not_come_up() {
    let bench = bench(1 << 20);
    bench.change(|nvme| nvme.never_ready = true);
    let engine = bench.boot();
    let text = fault(&engine).to_string();
    assert_eq!(text, "no CSTS.RDY = 1 after 500000 us: CSTS = 0x0");
    assert_eq!(bench.machine.sim.memory().live(), 0);
}

#[test]
fn a_controller_that_does_not_shut_down_is_disabled() {
    let bench = bench(1 << 20);
    let mut engine = bench.boot();
    bench.change(|nvme| nvme.never_shuts_down = true);
    engine.unbind(NAME).unwrap();
    bench.check_clean();
}

#[test]
fn memory_of_a_controller_that_does_not_stop_is_never_reused() {
    let mut bench = bench(2 << 20);
    bench.machine.has_iommu = false;
    let mut engine = bench.boot();
    bench.change(|nvme| {
        nvme.never_stops = true;
        nvme.lost_block = Some(0);
    });
    assert!(read(disk(&engine), 0, 4096).is_err());
    let parked = bench.machine.sim.memory().quarantined();
    assert_eq!(parked, 8 * 32, "the data of all commands that were out");
    engine.unbind(NAME).unwrap();
    let memory = bench.machine.sim.memory();
    assert_eq!(memory.quarantined(), parked + 6, "its queues");
    assert_eq!(memory.live(), 0);
}

#[test]
fn admin_commands_that_fail_are_named() {
    for (opcode, status, text) in [
        (
            0x06,
            0x0002,
            "Identify: Invalid Field in Command (status 0x2)",
        ),
        (
            0x05,
            0x0102,
            "Create I/O Completion Queue: Invalid Queue Size (status 0x102)",
        ),
        (
            0x01,
            0x0101,
            "Create I/O Submission Queue: Invalid Queue Identifier (status 0x101)",
        ),
        (
            0x09,
            0x4006,
            "Set Features (Number of Queues): Internal Error (status 0x6)",
        ),
    ] {
        let bench = bench(1 << 20);
        bench.change(|nvme| nvme.bad_admin = [(opcode, status)].into());
        let engine = bench.boot();
        assert_eq!(fault(&engine).to_string(), text);
        bench.check_clean();
    }
}

#[test]
fn controllers_that_are_not_for_us() {
    for (capabilities, text) in [
        (1 << 24 | 0x7ff, "CAP.CSS"),
        (1 << 48 | 1 << 37 | 0x7ff, "CAP.MPSMIN"),
        (15 << 32 | 1 << 37 | 0x7ff, "CAP.DSTRD"),
        (1 << 37, "CAP.MQES"),
    ] {
        let bench = bench(1 << 20);
        bench.change(|nvme| nvme.capabilities = capabilities);
        let engine = bench.boot();
        let fault = fault(&engine).to_string();
        assert!(fault.contains(text), "{fault}");
        bench.check_clean();
    }
}

#[test]
fn a_failure_anywhere_leaves_nothing() {
    for step in [Step::Pages, Step::Mmio] {
        for n in 0.. {
            let bench = bench(1 << 20);
            bench.machine.sim.inject().fail(step, n);
            let mut engine = bench.boot();
            let bound = engine
                .device(NAME)
                .is_some_and(|device| matches!(device.state, State::Bound));
            if bound {
                let _ = read(disk(&engine), 0, 2048);
            }
            let done = bench.machine.sim.inject().is_armed(step);
            bench.machine.sim.inject().disarm(step);
            let _ = engine.unbind(HOST);
            bench.check_clean();
            assert_eq!(bench.machine.sim.windows(), 0);
            if done {
                break;
            }
        }
    }
}

#[test]
fn mappings_that_fail_leave_nothing() {
    for n in 0.. {
        let bench = bench(1 << 20);
        bench.machine.iommu.inject().fail(Step::Map, n);
        let mut engine = bench.boot();
        let bound = engine
            .device(NAME)
            .is_some_and(|device| matches!(device.state, State::Bound));
        if bound {
            let _ = read(disk(&engine), 0, 2048);
        }
        let done = bench.machine.iommu.inject().is_armed(Step::Map);
        let _ = engine.unbind(HOST);
        bench.check_clean();
        if done {
            assert!(n >= 4, "queues, doorbell, two batches");
            break;
        }
    }
}

#[test]
fn an_unmapping_that_fails_fails_the_read_and_parks_the_memory() {
    let bench = bench(1 << 20);
    let engine = bench.boot();
    bench.machine.iommu.inject().fail(Step::Unmap, 1);
    assert!(matches!(
        read(disk(&engine), 0, 2048),
        Err(Fault::Timeout { .. })
    ));
    let batch = bench.machine.sim.memory().quarantined();
    assert_eq!(batch, 4 * 32, "all that was mapped together");
    assert!(read(disk(&engine), 0, 2048).unwrap().0 == contents(1 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_stretch_reads_as_it_is(first in 0u64..2047, count in 1u64..2048, mdts in 0u8..9) {
        let bench = bench(1 << 20);
        bench.change(|nvme| nvme.mdts = mdts);
        let engine = bench.boot();
        let count = count.min(2048 - first);
        let (data, _) = read(disk(&engine), first, count).unwrap();
        let range = first as usize * 512..(first + count) as usize * 512;
        prop_assert!(data == contents(1 << 20)[range]);
    }
}

//! Several CPUs that read at once, each by a thread.

use std::collections::BTreeSet;

use crate::bench::*;

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

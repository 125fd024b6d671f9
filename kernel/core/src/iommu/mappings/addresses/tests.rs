use super::*;
use crate::addr::PAGE;
use crate::dma::Hole;
use alloc::collections::BTreeSet;

extern crate std;

const CPUS: usize = 4;
const HIGH: u64 = 1 << 32;

fn take(addresses: &Addresses, cpu: usize, len: u64, limit: u64) -> Result<Slot, Fault> {
    match addresses.take(cpu, len, limit) {
        Some(slot) => Ok(slot),
        None => addresses.take_more(cpu, len, limit),
    }
}

#[test]
fn no_address_is_with_two_cpus_at_once() {
    let addresses = Addresses::new(u64::MAX, CPUS);
    let out = std::sync::Mutex::new(BTreeSet::new());
    let work = |cpu: usize| {
        let mut mine = Vec::new();
        for round in 0..2000 {
            // Each gives back what another CPU took, too.
            if round % 3 < 2 {
                let len = PAGE << (round % 5);
                let slot = take(&addresses, cpu, len, u64::MAX).unwrap();
                assert!(slot.iova.0 >= HIGH && slot.iova.0.is_multiple_of(len));
                let pages = slot.iova.0 / PAGE..(slot.iova.0 + len) / PAGE;
                let mut out = out.lock().unwrap();
                assert!(pages.clone().all(|page| out.insert(page)));
                mine.push((slot, len));
            } else {
                let (slot, len) = mine.swap_remove(round % mine.len());
                let mut out = out.lock().unwrap();
                (slot.iova.0 / PAGE..(slot.iova.0 + len) / PAGE).for_each(|page| {
                    assert!(out.remove(&page));
                });
                drop(out);
                addresses.give((cpu + round) % CPUS, slot, len);
            }
        }
        mine
    };
    let held: Vec<(Slot, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CPUS)
            .map(|cpu| scope.spawn(move || work(cpu)))
            .collect();
        let mut ended = threads.into_iter().map(|thread| thread.join().unwrap());
        // What a limited device has comes from below, whatever is on shelves.
        assert!(take(&addresses, 0, PAGE, HIGH - 1).unwrap().iova.0 < HIGH);
        ended.by_ref().flatten().collect()
    });
    let pages = out.lock().unwrap().len() as u64;
    assert_eq!(addresses.bytes(), (pages + 1) * PAGE);
    for (slot, len) in held {
        addresses.give(0, slot, len);
    }
    assert_eq!(addresses.bytes(), PAGE);
}

#[test]
fn what_is_on_shelves_counts_as_free() {
    let addresses = Addresses::new(u64::MAX, CPUS);
    let slots: Vec<Slot> = (0..200)
        .map(|cpu| take(&addresses, cpu % CPUS, PAGE, u64::MAX).unwrap())
        .collect();
    let hole = |first| Hole {
        first,
        last: first + PAGE - 1,
    };
    let first = slots[7].iova.0;
    let exclude = |first| addresses.reshape(|space| space.exclude(&[hole(first)]));
    assert!(exclude(first).is_err());
    for (cpu, &slot) in slots.iter().enumerate() {
        addresses.give(cpu % CPUS, slot, PAGE);
    }
    exclude(first).unwrap();
    let again: Vec<Slot> = (0..400)
        .map(|cpu| take(&addresses, cpu % CPUS, PAGE, u64::MAX).unwrap())
        .collect();
    assert!(again.iter().all(|slot| slot.iova.0 != first));
}

#[test]
fn a_window_that_comes_to_end_within_a_range_is_no_trouble() {
    let addresses = Addresses::new(u64::MAX, CPUS);
    let large = take(&addresses, 0, 16 * PAGE, u64::MAX).unwrap();
    let other = take(&addresses, 1, PAGE, u64::MAX).unwrap();
    addresses.give(1, other, PAGE);
    let limit = large.iova.0 + 4 * PAGE - 1;
    addresses.reshape(|space| space.split_at(limit));
    addresses.give(0, large, 16 * PAGE);
    // Four of its pages are below the limit now, and the others above.
    let low = take(&addresses, 2, 4 * PAGE, limit).unwrap();
    assert_eq!(low.iova, large.iova);
    assert!(take(&addresses, 3, PAGE, u64::MAX).unwrap().iova.0 > limit);
}

#[test]
fn all_of_a_small_space_is_found_whoever_has_it() {
    let addresses = Addresses::new(256 * PAGE - 1, CPUS);
    let all = |cpu: usize| {
        let mut got = Vec::new();
        loop {
            match take(&addresses, cpu, PAGE, u64::MAX) {
                Ok(slot) => got.push(slot),
                Err(_) => return got,
            }
        }
    };
    let first = all(0);
    assert_eq!(first.len(), 255, "all but page 0");
    for (cpu, &slot) in first.iter().enumerate() {
        addresses.give(cpu % CPUS, slot, PAGE);
    }
    let second = all(1);
    addresses.reshape(|_| ());
    let third = all(2);
    assert_eq!(second.len() + third.len(), 255);
    assert!(!third.is_empty(), "or the shelves were empty");
}

//! Every order of a few steps of two CPUs: no address is with both, and none is lost.

use super::*;
use crate::addr::PAGE;
use loom::sync::Arc;
use loom::thread;

fn take(addresses: &Addresses, cpu: usize) -> Slot {
    match addresses.take(cpu, PAGE, u64::MAX) {
        Some(slot) => slot,
        None => addresses
            .take_more(cpu, PAGE, u64::MAX)
            .expect("there are more"),
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn two_take_and_one_gives_on_the_others_shelf() {
    check(|| {
        let addresses = Arc::new(Addresses::new(u64::MAX, 2));
        let others = addresses.clone();
        let other = thread::spawn(move || {
            let first = take(&others, 1);
            others.give(0, first, PAGE);
            take(&others, 1).iova
        });
        let mine = take(&addresses, 0).iova;
        assert_ne!(other.join().unwrap(), mine);
        assert_eq!(addresses.bytes(), 2 * PAGE);
    });
}

#[test]
fn one_takes_while_another_changes_the_space() {
    check(|| {
        let addresses = Arc::new(Addresses::new(u64::MAX, 1));
        let first = take(&addresses, 0);
        let limit = first.iova.0 + 8 * PAGE - 1;
        let others = addresses.clone();
        let other = thread::spawn(move || others.reshape(|space| space.split_at(limit)));
        addresses.give(0, first, PAGE);
        let (one, two) = (take(&addresses, 0).iova, take(&addresses, 0).iova);
        assert_ne!(one, two);
        other.join().unwrap();
        assert!(take(&addresses, 0).iova.0 > limit, "low ones are left");
        assert_eq!(addresses.bytes(), 3 * PAGE);
    });
}

//! Changing a stream's entry under the eyes of the hardware.
//!
//! It reads entries as 64-bit words, in any order and at any time, and keeps what
//! it read until an invalidation has completed (IHI 0070 §3.21.3). Between two
//! completed invalidations it may therefore see any mix of what the words held.
//! Which bits it looks at depends on the entry's configuration, and that is what
//! makes a change without a gap possible: bits that do not count yet are written
//! first, then one word flips, and with it all of them count. Only where several
//! words that count would have to change does the stream abort in between.

use crate::spec::Ste;

/// What is to be written next to turn `now`, which the hardware is known to use,
/// into `then`; nothing once it does all that `then` does. An invalidation has to
/// complete before the next step.
///
/// Bits that `then` does not use are left as they are: the hardware does not look
/// at them, and cleaning up would take one more invalidation.
pub(crate) fn next(now: &Ste, then: &Ste) -> Option<Ste> {
    let (uses, will) = (now.used(), then.used());
    let open = |word: usize| (now.0[word] ^ then.0[word]) & will[word];
    let words = || 0..Ste::WORDS;
    let mut critical = words().filter(|&word| open(word) & uses[word] != 0);
    let flip = critical.next()?;
    if critical.next().is_some() {
        let mut aborting = *now;
        aborting.0[0] = Ste::ABORT.0[0];
        return Some(aborting);
    }
    let mut prepared = *now;
    for word in words().filter(|&word| word != flip) {
        prepared.0[word] = now.0[word] & uses[word] | then.0[word] & !uses[word];
    }
    if words().any(|word| word != flip && open(word) != 0) {
        return Some(prepared);
    }
    let mut flipped = *now;
    flipped.0[flip] = then.0[flip];
    Some(flipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Access;
    use crate::spec::ste::{CdTable, Plain, STE1, Stage2};
    use alloc::collections::{BTreeMap, VecDeque};
    use alloc::vec::Vec;

    /// One of each kind, and what differs from it in one thing.
    fn configurations() -> Vec<Ste> {
        let stage1 = |cd, access, stall| Ste::stage1(cd, access, stall);
        let first = stage1(0x4000_0000, Access::Coherent, false);
        let stage2 = |vmid, ttb| Stage2 {
            vmid,
            ttb,
            granule: 12,
            input_bits: 44,
            start_level: 0,
            ps: 4,
            access: Access::Coherent,
        };
        let substreams = |base, plain| {
            let table = CdTable {
                base,
                two_level: true,
                bits: 8,
                plain,
            };
            Ste::substreams(table, Access::Coherent, false)
        };
        let nested = |cd, below| Ste::nested(cd, Access::Coherent, false, below);
        let mut dirty = Ste::ABORT;
        dirty.0[1..].fill(!0);
        Vec::from([
            Ste::ABORT,
            dirty,
            Ste::default(),
            Ste::bypass(),
            first,
            stage1(0x4000_1000, Access::Coherent, false),
            stage1(0x4000_1000, Access::NonCoherent, true),
            Ste::stage2(stage2(1, 0x5000_0000)),
            Ste::stage2(stage2(1, 0x6000_0000)),
            Ste::stage2(stage2(2, 0x6000_0000)),
            nested(0x4000_0000, stage2(1, 0x5000_0000)),
            nested(0x4000_1000, stage2(1, 0x5000_0000)),
            nested(0x4000_0000, stage2(2, 0x5000_0000)),
            nested(0x4000_1000, stage2(2, 0x6000_0000)),
            substreams(0x4001_0000, Plain::Terminate),
            substreams(0x4001_0000, Plain::Bypass),
            substreams(0x4001_0000, Plain::Substream0),
            substreams(0x4002_0000, Plain::Substream0),
        ])
    }

    /// What the hardware makes of an entry: its configuration and all that counts.
    fn meaning(ste: &Ste) -> Ste {
        let used = ste.used();
        Ste(core::array::from_fn(|word| ste.0[word] & used[word]))
    }

    /// Everything that it may see while one is turned into the other.
    fn mixes(from: &Ste, to: &Ste) -> Vec<Ste> {
        let open: Vec<usize> = (0..8).filter(|&word| from.0[word] != to.0[word]).collect();
        let mix = |chosen: u32| {
            let mut seen = *from;
            for (bit, &word) in open.iter().enumerate() {
                if chosen >> bit & 1 == 1 {
                    seen.0[word] = to.0[word];
                }
            }
            meaning(&seen)
        };
        (0..1 << open.len()).map(mix).collect()
    }

    fn steps(now: &Ste, then: &Ste) -> Vec<Ste> {
        let mut steps = Vec::from([*now]);
        while let Some(next) = next(steps.last().unwrap(), then) {
            steps.push(next);
            assert!(steps.len() <= 4, "it does not end");
        }
        steps
    }

    /// The fewest steps of any way there is, if the stream may only be in one of
    /// `allowed` meanwhile: found by trying all.
    fn fewest(now: &Ste, then: &Ste, allowed: &[Ste]) -> Option<usize> {
        // Each word as it was, as it will be, a bit of both, or that of an abort.
        let (uses, will) = (now.used(), then.used());
        let choices = |word: usize| {
            let (old, new) = (now.0[word], then.0[word]);
            let both = [
                old & uses[word] | new & !uses[word],
                new & will[word] | old & !will[word],
            ];
            let mut all = Vec::from([old, new, both[0], both[1]]);
            if word == 0 {
                all.push(Ste::ABORT.0[0]);
            }
            all.sort_unstable();
            all.dedup();
            all
        };
        let mut states = Vec::from([*now]);
        for word in 0..4 {
            let with = |state: &Ste| {
                let state = *state;
                choices(word).into_iter().map(move |value| {
                    let mut state = state;
                    state.0[word] = value;
                    state
                })
            };
            states = states.iter().flat_map(with).collect();
        }
        let mut seen = BTreeMap::from([(now.0, 0)]);
        let mut queue = VecDeque::from([*now]);
        while let Some(state) = queue.pop_front() {
            let count = seen[&state.0];
            if meaning(&state) == meaning(then) {
                return Some(count);
            }
            for to in &states {
                let fine = || mixes(&state, to).iter().all(|mix| allowed.contains(mix));
                if !seen.contains_key(&to.0) && fine() {
                    seen.insert(to.0, count + 1);
                    queue.push_back(*to);
                }
            }
        }
        None
    }

    #[test]
    fn every_change_is_seen_as_the_old_or_the_new_with_the_fewest_syncs() {
        let all = configurations();
        for (now, then) in all
            .iter()
            .flat_map(|now| all.iter().map(move |then| (now, then)))
        {
            let steps = steps(now, then);
            assert_eq!(meaning(steps.last().unwrap()), meaning(then));
            let whole = [meaning(now), meaning(then)];
            let gap = [whole[0], whole[1], Ste::ABORT];
            // Where nothing but an abort can come between the two, only that does.
            let hitless = fewest(now, then, &whole);
            let allowed = if hitless.is_some() { &whole[..] } else { &gap };
            for pair in steps.windows(2) {
                for mix in mixes(&pair[0], &pair[1]) {
                    assert!(allowed.contains(&mix), "{now:x?} to {then:x?}: {mix:x?}");
                }
            }
            let fewest = hitless.or_else(|| fewest(now, then, &gap));
            assert_eq!(Some(steps.len() - 1), fewest, "{now:x?} to {then:x?}");
        }
    }

    #[test]
    fn what_has_no_gap() {
        let all = configurations();
        let [
            abort,
            _,
            invalid,
            bypass,
            one,
            other,
            attributes,
            below,
            _,
            _,
            on,
            above,
            apart,
            _,
            mute,
            passing,
            table,
            moved,
        ] = &all[..]
        else {
            panic!("there are that many");
        };
        let count = |now, then| steps(now, then).len() - 1;
        // Another CD; nothing but a change of the first word.
        assert_eq!(count(one, other), 1);
        assert_eq!(count(one, bypass), 1);
        assert_eq!(count(one, abort), 1);
        assert_eq!(count(one, one), 0);
        // The second word first.
        assert_eq!(count(bypass, one), 2);
        assert_eq!(count(abort, one), 2);
        assert_eq!(count(invalid, one), 2);
        // Above one stage 2: stage 1 alone changes, comes and goes.
        assert_eq!(count(on, above), 1);
        assert_eq!(count(on, below), 1);
        assert_eq!(count(below, on), 2);
        assert_eq!(count(abort, on), 2);
        // The VMID is in another word.
        assert_eq!(count(one, on), 3);
        assert_eq!(count(on, apart), 1);
        assert_eq!(count(above, apart), 3);
        // Substreams come and go under what has none, and that changes under them.
        assert_eq!(count(one, table), 1);
        assert_eq!(count(table, one), 1);
        assert_eq!(count(bypass, passing), 2);
        assert_eq!(count(passing, bypass), 1);
        assert_eq!(count(abort, mute), 2);
        assert_eq!(count(mute, table), 1);
        assert_eq!(count(table, passing), 1);
        assert_eq!(count(table, moved), 1);
        assert_eq!(count(passing, moved), 3);
        // Two words that count.
        let through = steps(other, attributes);
        assert_eq!(through.len() - 1, 1, "only the second word differs");
        assert_eq!(count(one, attributes), 3);
        assert_eq!(steps(one, attributes)[1].0[0], 1);
        assert_eq!(
            STE1::MEV.read(bypass.0[1]),
            1,
            "shared with the translated ones"
        );
    }
}

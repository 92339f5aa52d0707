//! Places that several threads change at once, as workers do.

use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::state::entity::WhenFull::{Evict, Refuse};

const SECOND: u64 = 1_000_000_000;

/// Has so many threads do something at once; the results of all together.
fn at_once(threads: usize, work: impl Fn(usize) -> usize + Sync) -> usize {
    let ready = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let begun: Vec<_> = (0..threads)
            .map(|number| {
                let (ready, work) = (&ready, &work);
                scope.spawn(move || {
                    ready.fetch_add(1, SeqCst);
                    while ready.load(SeqCst) < threads {
                        std::hint::spin_loop();
                    }
                    work(number)
                })
            })
            .collect();
        begun.into_iter().map(|each| each.join().unwrap()).sum()
    })
}

fn admitted(places: Places<'_>, key: u64, pace: Pace, now_ns: u64) -> usize {
    places
        .charge(key, pace, now_ns, Evict)
        .outcome
        .is_ok()
        .into()
}

#[test]
fn all_workers_together_let_through_what_one_would() {
    let words = Places::own();
    let places = Places(&words);
    let pace = Pace::new(1000, 1000, 500);
    let passed = at_once(4, |_| {
        (0..20_000).map(|_| admitted(places, 7, pace, SECOND)).sum()
    });
    assert_eq!(passed, 500);
    // One comes back each millisecond, whoever asks for it, in the order of time or not.
    let passed = at_once(4, |number| {
        let at = |step: u64| SECOND + (step * 4 + number as u64) * 25_000;
        (0..10_000)
            .map(|step| admitted(places, 7, pace, at(step)))
            .sum()
    });
    assert_eq!(
        passed, 999,
        "the last of them asks a little before the end of the second"
    );
}

#[test]
fn a_key_that_several_find_no_place_for_gets_one() {
    let words = Places::own();
    let places = Places(&words);
    let pace = Pace::new(1, 1000, 1);
    // Neighbours, so that all of them look for room in few sets.
    let keys: Vec<u64> = (1..=40_000)
        .map(|number| number / 4 + number % 4 * SETS as u64 * 7)
        .collect();
    let keys: std::collections::BTreeSet<u64> =
        keys.into_iter().filter(|key| *key != NOBODY).collect();
    let passed = at_once(4, |_| {
        keys.iter()
            .map(|key| admitted(places, *key, pace, SECOND))
            .sum()
    });
    assert_eq!(passed, keys.len());
}

#[test]
fn a_full_set_is_fought_for_and_nobody_gets_stuck() {
    let words = Places::own();
    let places = Places(&words);
    let slow = Pace::new(1, 3_600_000, 1);
    let quick = Pace::new(1, 1000, 1);
    assert_eq!(admitted(places, SETS as u64, slow, SECOND), 1);
    let passed = at_once(4, |number| {
        let keys = (0..20_000).map(|step| (2 + step % 50 + 100 * number as u64) * SETS as u64);
        keys.map(|key| admitted(places, key, quick, SECOND)).sum()
    });
    assert!(passed >= 200, "{passed}");
    assert_eq!(
        admitted(places, SETS as u64, slow, SECOND),
        0,
        "its end is the farthest"
    );
}

#[test]
fn who_finds_a_full_set_is_refused_where_that_is_asked_for() {
    let words = Places::own();
    let places = Places(&words);
    let pace = Pace::new(1, 1000, 2);
    let key = |number: u64| number * SETS as u64;
    for number in 1..=WAYS as u64 {
        let charged = places.charge(key(number), pace, SECOND + number, Refuse);
        assert!(charged.outcome.is_ok() && !charged.crowded_out);
    }
    let late = places.charge(key(9), pace, SECOND + 8, Refuse);
    assert!(late.crowded_out && !late.evicted);
    assert_eq!(
        late.outcome,
        Err(SECOND - 7),
        "the first of them is through with it then"
    );
    assert!(
        places
            .charge(key(1), pace, SECOND + 8, Refuse)
            .outcome
            .is_ok(),
        "who is known goes on"
    );
    let evicting = places.charge(key(9), pace, SECOND + 8, Evict);
    assert!(evicting.evicted && evicting.outcome.is_ok());
    assert!(
        places
            .charge(key(10), pace, 3 * SECOND, Refuse)
            .outcome
            .is_ok(),
        "time makes room"
    );
}

#[test]
fn what_is_given_back_may_be_used_again() {
    let words = Places::own();
    let places = Places(&words);
    let pace = Pace::new(10, 1000, 2);
    let ask = || admitted(places, 7, pace, SECOND);
    assert_eq!([ask(), ask(), ask()], [1, 1, 0]);
    places.refund(7, SECOND / 10);
    places.refund(8, SECOND / 10);
    assert_eq!([ask(), ask()], [1, 0]);
}

proptest! {
    #[test]
    fn any_words_are_safe(
        set in proptest::collection::vec(prop_oneof![Just(0), Just(u64::MAX), Just(5), any::<u64>()], 2 * WAYS),
        key in prop_oneof![Just(5u64), Just(u64::MAX), any::<u64>()],
        now_ns in any::<u64>(),
        requests in 1u32..1_000_000,
        burst in 1u32..1_000_000,
    ) {
        let words = Places::own();
        let places = Places(&words);
        let first = (key as usize % SETS) * WAYS * 2;
        for (word, value) in words[first..].iter().zip(&set) {
            word.store(*value, SeqCst);
        }
        let pace = Pace::new(requests, 86_400_000, burst);
        if let Err(wait_ns) = places.charge(key, pace, now_ns, Evict).outcome {
            prop_assert!(wait_ns > 0);
        }
        places.refund(key, 1);
        places.forget(key);
        prop_assert!(places.charge(key, pace, now_ns, Evict).outcome.is_ok());
    }
}

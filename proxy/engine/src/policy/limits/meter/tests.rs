//! The meter over a table of its own; [`super::super::places`] has those of several workers.

use proptest::prelude::*;

use super::*;
use crate::state::entity::WhenFull::Evict;

const SECOND: u64 = 1_000_000_000;

proptest! {
    #[test]
    fn a_rate_is_never_passed_and_never_held_back(
        requests in 1u32..50,
        per_ms in 1u64..5000,
        burst in 1u32..20,
        steps in proptest::collection::vec(0u64..300, 1..200),
    ) {
        let (meter, pace) = (Meter::default(), Pace::new(requests, per_ms, burst));
        let interval = per_ms * 1_000_000 / u64::from(requests);
        let (mut now, mut given) = (SECOND, Vec::new());
        for step in steps {
            now += step * 1_000_000;
            // A bucket that holds `burst`, and is filled evenly.
            let mut bucket_ns = u64::from(burst) * interval;
            let mut before = SECOND;
            for at in &given {
                bucket_ns = (bucket_ns + (at - before)).min(u64::from(burst) * interval) - interval;
                before = *at;
            }
            bucket_ns = (bucket_ns + (now - before)).min(u64::from(burst) * interval);
            match meter.charge(Key(7), pace, now, Evict) {
                Ok(()) => {
                    prop_assert!(bucket_ns >= interval);
                    given.push(now);
                }
                Err(wait) => {
                    prop_assert!(bucket_ns < interval);
                    prop_assert_eq!(wait, interval - bucket_ns);
                    // It is told the truth.
                    prop_assert!(meter.charge(Key(7), pace, now + wait - 1, Evict).is_err());
                }
            }
        }
    }

    #[test]
    fn keys_are_counted_apart_while_there_is_room(keys in proptest::collection::hash_set(any::<u64>(), 1..50)) {
        let (meter, pace) = (Meter::default(), Pace::new(1, 1000, 1));
        for key in &keys {
            prop_assert_eq!(meter.charge(Key(*key), pace, SECOND, Evict), Ok(()));
        }
        for key in &keys {
            prop_assert_eq!(meter.charge(Key(*key), pace, SECOND, Evict), Err(SECOND));
        }
        prop_assert_eq!(meter.take_counts(), [0, 0, 0]);
    }
}

#[test]
fn a_flood_of_keys_frees_nobody_who_is_over_his_rate() {
    let meter = Meter::default();
    let (slow, quick) = (Pace::new(1, 60_000, 1), Pace::new(1, 1000, 1));
    assert_eq!(meter.charge(Key(1), slow, SECOND, Evict), Ok(()));
    for key in 2..1_000_000 {
        assert_eq!(meter.charge(Key(key), quick, SECOND, Evict), Ok(()));
    }
    assert!(
        meter.charge(Key(1), slow, SECOND, Evict).is_err(),
        "its end is the farthest"
    );
    let [evicted, ..] = meter.take_counts();
    assert_eq!(evicted, 999_999 - WORDS as u64 / 2);
    assert_eq!(meter.take_counts(), [0, 0, 0]);
}

#[test]
fn looking_takes_nothing_and_who_is_forgotten_begins_anew() {
    let (meter, pace) = (Meter::default(), Pace::new(1, 1000, 1));
    assert_eq!(meter.look(Key(1), pace, SECOND), Ok(()));
    meter.forget(Key(1));
    assert_eq!(meter.charge(Key(1), pace, SECOND, Evict), Ok(()));
    assert_eq!(meter.charge(Key(2), pace, SECOND, Evict), Ok(()));
    assert_eq!(meter.look(Key(1), pace, SECOND), Err(SECOND));
    assert_eq!(meter.look(Key(1), pace, 2 * SECOND), Ok(()));
    meter.forget(Key(1));
    let both = |meter: &Meter| [1, 2].map(|key| meter.look(Key(key), pace, SECOND).is_ok());
    assert_eq!(both(&meter), [true, false]);
    meter.forget_all();
    assert_eq!(both(&meter), [true, true]);
}

#[test]
fn who_is_limited_by_nothing_takes_no_memory() {
    let meter = Meter::default();
    assert!(meter.look(Key(1), Pace::new(1, 1000, 1), SECOND).is_ok());
    assert!(meter.own.get().is_none());
}

#[test]
fn what_is_left_is_what_may_be_had() {
    let (meter, pace) = (Meter::default(), Pace::new(10, 1000, 3));
    let tenth = SECOND / 10;
    assert_eq!(meter.left(Key(7), pace, SECOND), (3, 0));
    for left in (0..3).rev() {
        meter.charge(Key(7), pace, SECOND, Evict).unwrap();
        let until = if left == 0 { tenth } else { (3 - left) * tenth };
        assert_eq!(meter.left(Key(7), pace, SECOND), (left, until));
    }
    assert_eq!(meter.left(Key(7), pace, SECOND + tenth - 1), (0, 1));
    assert_eq!(meter.left(Key(7), pace, SECOND + tenth), (1, 2 * tenth));
    assert_eq!(meter.left(Key(7), pace, 2 * SECOND), (3, 0));
}

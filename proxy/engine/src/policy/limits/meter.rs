//! How often somebody asks: what each key has used of its rate, in a table of bounded size.
//!
//! Rule: time is an argument. A rate is kept by one number, the time at which its key has paid for all that
//! it has been given (GCRA); a time that is past says nothing, so that what has expired needs no sweeping.
//! Where all places of a key are taken, the one goes that is nearest to its end: of somebody who floods the
//! table with keys, nobody who is over a rate profits. Keys are hashed with a seed of the worker's own.

use std::cell::{Cell, RefCell};

use ahash::RandomState;

/// A rate that holds for one key at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What one request uses, in nanoseconds.
    interval_ns: u64,
    /// What may be used ahead of time, beside that of one request.
    tolerance_ns: u64,
}

impl Pace {
    /// So many requests in so much time, and so many of them at once. All of them are bounded where they
    /// are checked.
    #[must_use]
    pub fn new(requests: u32, per_ms: u64, burst: u32) -> Self {
        let interval_ns = per_ms * 1_000_000 / u64::from(requests.max(1));
        let ahead = u64::from(burst.max(1)) - 1;
        Self {
            interval_ns,
            tolerance_ns: interval_ns.saturating_mul(ahead),
        }
    }

    /// The time at which a key has paid for one more request, if it is within the rate; else how long it has to wait.
    #[inline]
    fn admit(self, paid_at_ns: u64, now_ns: u64) -> Result<u64, u64> {
        let paid_at_ns = paid_at_ns.max(now_ns);
        let early_ns = paid_at_ns - now_ns;
        if early_ns > self.tolerance_ns {
            return Err(early_ns - self.tolerance_ns);
        }
        Ok(paid_at_ns.saturating_add(self.interval_ns))
    }
}

/// Whose requests are counted together, hashed with a seed of the worker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub u64);

/// Who has asked how often, of all who are limited.
pub struct Meter {
    seed: RandomState,
    /// None before somebody is limited.
    places: RefCell<Vec<Place>>,
    evicted: Cell<u64>,
    spared: Cell<u64>,
}

/// What one key has used: nothing, if its time is past.
#[derive(Clone, Copy, Default)]
struct Place {
    key: u64,
    paid_at_ns: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            seed: RandomState::new(),
            places: RefCell::default(),
            evicted: Cell::new(0),
            spared: Cell::new(0),
        }
    }
}

impl Meter {
    /// The key of something.
    #[must_use]
    pub fn key(&self, of: impl std::hash::Hash) -> Key {
        Key(self.seed.hash_one(of))
    }

    /// Whether one more request of a key is within its rate; it is not taken into account.
    ///
    /// # Errors
    /// How long it has to wait, in nanoseconds.
    pub fn look(&self, key: Key, pace: Pace, now_ns: u64) -> Result<(), u64> {
        let places = self.places.borrow();
        let set = places.get(set_of(key)).unwrap_or_default();
        let found = set.iter().find(|place| place.key == key.0);
        let paid_at_ns = found.map_or(0, |place| place.paid_at_ns);
        pace.admit(paid_at_ns, now_ns).map(drop)
    }

    /// Has a key used nothing.
    pub fn forget(&self, key: Key) {
        let mut places = self.places.borrow_mut();
        let set = places.get_mut(set_of(key)).unwrap_or_default();
        for place in set.iter_mut().filter(|place| place.key == key.0) {
            *place = Place::default();
        }
    }

    /// Has all keys used nothing.
    pub fn forget_all(&self) {
        self.places.borrow_mut().fill(Place::default());
    }

    /// Takes one request of a key into account.
    ///
    /// # Errors
    /// How long it has to wait, in nanoseconds: the rate is used up, and nothing is taken into account.
    pub fn charge(&self, key: Key, pace: Pace, now_ns: u64) -> Result<(), u64> {
        let mut places = self.places.borrow_mut();
        if places.is_empty() {
            places.resize(SETS * WAYS, Place::default());
        }
        let set = &mut places[set_of(key)];
        let found = set.iter().position(|place| place.key == key.0);
        let at = found.unwrap_or_else(|| {
            let ends = |at: &usize| set[*at].paid_at_ns;
            let at = (0..WAYS).min_by_key(ends).unwrap_or_default();
            let is_live = set[at].paid_at_ns > now_ns;
            self.evicted.set(self.evicted.get() + u64::from(is_live));
            set[at] = Place {
                key: key.0,
                paid_at_ns: 0,
            };
            at
        });
        set[at].paid_at_ns = pace.admit(set[at].paid_at_ns, now_ns)?;
        Ok(())
    }

    /// One that is over its rate is let through, since that is only tried.
    pub(in crate::policy) fn spare(&self) {
        self.spared.set(self.spared.get() + 1);
    }

    /// Keys that have lost their places, and requests that were let through, since it was asked last.
    #[must_use]
    pub fn take_counts(&self) -> [u64; 2] {
        [self.evicted.take(), self.spared.take()]
    }
}

/// Where the places of a key are.
#[inline]
fn set_of(key: Key) -> std::ops::Range<usize> {
    let first = (key.0 as usize % SETS) * WAYS;
    first..first + WAYS
}

/// Places of one set: two lines of a cache.
const WAYS: usize = 8;
/// Sets: a mebibyte for 65,536 keys.
const SETS: usize = 8192;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                match meter.charge(Key(7), pace, now) {
                    Ok(()) => {
                        prop_assert!(bucket_ns >= interval);
                        given.push(now);
                    }
                    Err(wait) => {
                        prop_assert!(bucket_ns < interval);
                        prop_assert_eq!(wait, interval - bucket_ns);
                        // It is told the truth.
                        prop_assert!(meter.charge(Key(7), pace, now + wait - 1).is_err());
                    }
                }
            }
        }

        #[test]
        fn keys_are_counted_apart_while_there_is_room(keys in proptest::collection::hash_set(any::<u64>(), 1..50)) {
            let (meter, pace) = (Meter::default(), Pace::new(1, 1000, 1));
            for key in &keys {
                prop_assert_eq!(meter.charge(Key(*key), pace, SECOND), Ok(()));
            }
            for key in &keys {
                prop_assert_eq!(meter.charge(Key(*key), pace, SECOND), Err(SECOND));
            }
            prop_assert_eq!(meter.take_counts(), [0, 0]);
        }
    }

    #[test]
    fn a_flood_of_keys_frees_nobody_who_is_over_his_rate() {
        let meter = Meter::default();
        let (slow, quick) = (Pace::new(1, 60_000, 1), Pace::new(1, 1000, 1));
        assert_eq!(meter.charge(Key(1), slow, SECOND), Ok(()));
        for key in 2..1_000_000 {
            assert_eq!(meter.charge(Key(key), quick, SECOND), Ok(()));
        }
        assert!(
            meter.charge(Key(1), slow, SECOND).is_err(),
            "its end is the farthest"
        );
        let [evicted, _] = meter.take_counts();
        assert_eq!(evicted, 999_999 - (SETS * WAYS) as u64);
        assert_eq!(meter.places.borrow().len(), SETS * WAYS);
        assert_eq!(meter.take_counts(), [0, 0]);
    }

    #[test]
    fn looking_takes_nothing_and_who_is_forgotten_begins_anew() {
        let (meter, pace) = (Meter::default(), Pace::new(1, 1000, 1));
        assert_eq!(meter.look(Key(1), pace, SECOND), Ok(()));
        meter.forget(Key(1));
        assert_eq!(meter.charge(Key(1), pace, SECOND), Ok(()));
        assert_eq!(meter.charge(Key(2), pace, SECOND), Ok(()));
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
        assert_eq!(Meter::default().places.borrow().capacity(), 0);
    }
}

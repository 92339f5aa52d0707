//! What each key has used of its rate: places in memory that all workers of the host may have in common.
//!
//! Rule: nobody waits for anybody. A place is two words, a key and the time until which it has paid, which are changed
//! by compare-and-swap alone, one after the other; in whatever state one who dies between the two leaves them, the
//! others go on, and nobody gets anything back. Any value of any word is safe. Called by [`super::meter`].
//!
//! A time that is past says nothing, so that a place whose time is over goes to another key by its first word. One that
//! is taken from a key that still has some to wait keeps that time for a moment: who comes then is held back by it,
//! and lets nobody through. Who finds that a place has changed its key while he paid there takes that back, and
//! begins anew.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::meter::Pace;
use crate::state::entity::WhenFull;

/// Places of one set: two lines of a cache.
const WAYS: usize = 8;
/// Sets: a mebibyte for 65,536 keys.
const SETS: usize = 8192;
/// All words of all places.
pub(super) const WORDS: usize = 2 * WAYS * SETS;
/// Who has been in others' way so often gives up, which costs one of a rate: none of them is ever held up.
const ATTEMPTS_MAX: u32 = 1000;

/// All places, of which there are [`WORDS`] words.
#[derive(Clone, Copy)]
pub(super) struct Places<'a>(pub(super) &'a [AtomicU64]);

/// What one key has used.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a AtomicU64,
    paid_at_ns: &'a AtomicU64,
}

/// What has become of a request.
pub(super) struct Charged {
    /// How long it has to wait otherwise.
    pub(super) outcome: Result<(), u64>,
    /// A key has lost its place that was not through with it.
    pub(super) evicted: bool,
    /// There was no room for it.
    pub(super) crowded_out: bool,
}

impl<'a> Places<'a> {
    /// Memory of one's own.
    pub(super) fn own() -> Box<[AtomicU64]> {
        std::iter::repeat_with(AtomicU64::default)
            .take(WORDS)
            .collect()
    }

    /// The time until which a key has paid; 0: it has used nothing.
    pub(super) fn paid_at_ns(self, key: u64) -> u64 {
        let found = self.find(key);
        found.map_or(0, |place| place.paid_at_ns.load(SeqCst))
    }

    /// Has a key used nothing.
    pub(super) fn forget(self, key: u64) {
        for place in self.set(key).filter(|place| place.is_of(key)) {
            place.paid_at_ns.store(0, SeqCst);
        }
    }

    /// Has all keys used nothing.
    pub(super) fn forget_all(self) {
        for word in self.0 {
            word.store(0, SeqCst);
        }
    }

    /// Takes one request of a key into account, if it is within its rate.
    pub(super) fn charge(self, key: u64, pace: Pace, now_ns: u64, full: WhenFull) -> Charged {
        let charged = |outcome, evicted| Charged {
            outcome,
            evicted,
            crowded_out: false,
        };
        let mut evicted = false;
        for _ in 0..ATTEMPTS_MAX {
            let place = match self.find(key) {
                Some(place) => place,
                None if full == WhenFull::Refuse && self.ends_ns(key) > now_ns => {
                    return Charged {
                        crowded_out: true,
                        ..charged(
                            Err(self.ends_ns(key).saturating_sub(now_ns).max(1)),
                            evicted,
                        )
                    };
                }
                None => match self.take_place(key, now_ns) {
                    Some((place, lives)) => {
                        evicted |= lives.is_some();
                        if let Some(foreign_ns) = lives {
                            // Somebody else who found it under our key has paid already if this fails.
                            let _ = place.exchange(foreign_ns, 0);
                        }
                        place
                    }
                    None => continue,
                },
            };
            let paid_at_ns = place.paid_at_ns.load(SeqCst);
            let outcome = pace.admit(paid_at_ns, now_ns);
            if let Ok(paid_ns) = outcome
                && !place.exchange(paid_at_ns, paid_ns)
            {
                continue;
            }
            if place.is_of(key) {
                return charged(outcome.map(drop), evicted);
            }
            if let Ok(paid_ns) = outcome {
                // It was another key's by then, who may have paid since: then he waits for longer.
                let _ = place.exchange(paid_ns, paid_at_ns);
            }
        }
        charged(Ok(()), evicted)
    }

    /// When one of those that have the places of a key is through with it, the first of them.
    fn ends_ns(self, key: u64) -> u64 {
        let ends = self.set(key).map(|place| place.paid_at_ns.load(SeqCst));
        ends.min().unwrap_or_default()
    }

    /// Gives back what one request of a key has used.
    pub(super) fn refund(self, key: u64, used_ns: u64) {
        for _ in 0..ATTEMPTS_MAX {
            let Some(place) = self.find(key) else { return };
            let paid_at_ns = place.paid_at_ns.load(SeqCst);
            if place.exchange(paid_at_ns, paid_at_ns.saturating_sub(used_ns)) {
                return;
            }
        }
    }

    fn find(self, key: u64) -> Option<Place<'a>> {
        self.set(key).find(|place| place.is_of(key))
    }

    /// The places that a key may have.
    #[inline]
    fn set(self, key: u64) -> impl Iterator<Item = Place<'a>> {
        let first = (key as usize % SETS) * WAYS * 2;
        let words = self.0.get(first..first + 2 * WAYS).unwrap_or_default();
        words.chunks_exact(2).map(|pair| Place {
            key: &pair[0],
            paid_at_ns: &pair[1],
        })
    }

    /// Makes the place that is nearest to its end that of a key, which has none, and the time that somebody else's was
    /// paid until, if that is not over. None when others were quicker, with the key or with the place.
    fn take_place(self, key: u64, now_ns: u64) -> Option<(Place<'a>, Option<u64>)> {
        let seen = self.set(key).map(|place| {
            let foreign = place.key.load(SeqCst);
            (place.paid_at_ns.load(SeqCst), foreign, place)
        });
        let (ends_ns, foreign, place) = seen.min_by_key(|(ends_ns, ..)| *ends_ns)?;
        place
            .key
            .compare_exchange(foreign, key, SeqCst, SeqCst)
            .ok()?;
        if self.set(key).filter(|place| place.is_of(key)).count() > 1 {
            // Another worker has found room for it elsewhere at the same time.
            let _ = place.key.compare_exchange(key, NOBODY, SeqCst, SeqCst);
            return None;
        }
        Some((place, (ends_ns > now_ns).then_some(ends_ns)))
    }
}

impl Place<'_> {
    #[inline]
    fn is_of(self, key: u64) -> bool {
        self.key.load(SeqCst) == key
    }

    /// Has it paid until another time, unless that has changed.
    fn exchange(self, from_ns: u64, to_ns: u64) -> bool {
        let paid_at_ns = self.paid_at_ns;
        paid_at_ns
            .compare_exchange(from_ns, to_ns, SeqCst, SeqCst)
            .is_ok()
    }
}

/// The key that nobody has.
pub(super) const NOBODY: u64 = 0;

#[cfg(test)]
mod tests;

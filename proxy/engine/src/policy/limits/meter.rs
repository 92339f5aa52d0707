//! How often somebody asks: what each key has used of its rate, in a table of bounded size.
//!
//! Rule: time is an argument. A rate is kept by one number, the time at which its key has paid for all that
//! it has been given (GCRA); a time that is past says nothing, so that what has expired needs no sweeping.
//! Where all places of a key are taken, the one goes that is nearest to its end: of somebody who floods the
//! table with keys, nobody who is over a rate profits. The table is one of the host, which all its workers change
//! ([`super::places`]); a worker that has not got it counts by itself. Keys are hashed with a seed of the table.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use ahash::RandomState;
use blake2::Blake2b;
use blake2::Digest as _;
use blake2::digest::consts::U6;

use super::places::{NOBODY, Places, WORDS};
use crate::runtime::common::{CommonFile, CommonWords};
use crate::state::entity::WhenFull;

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
    pub(super) fn admit(self, paid_at_ns: u64, now_ns: u64) -> Result<u64, u64> {
        let paid_at_ns = paid_at_ns.max(now_ns);
        let early_ns = paid_at_ns - now_ns;
        if early_ns > self.tolerance_ns {
            return Err(early_ns - self.tolerance_ns);
        }
        Ok(paid_at_ns.saturating_add(self.interval_ns))
    }
}

/// Whose requests are counted together, hashed with a seed of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub u64);

/// Who has asked how often, of all who are limited.
pub struct Meter {
    seed: RandomState,
    common: Option<CommonWords>,
    /// Where there is no common one; none before somebody is limited.
    own: OnceCell<Box<[AtomicU64]>>,
    evicted: Cell<u64>,
    crowded_out: Cell<u64>,
    spared: Cell<u64>,
    spared_by: RefCell<Vec<Box<str>>>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            seed: RandomState::new(),
            common: None,
            own: OnceCell::new(),
            evicted: Cell::new(0),
            crowded_out: Cell::new(0),
            spared: Cell::new(0),
            spared_by: RefCell::default(),
        }
    }
}

/// A table of the host, as a file has it.
pub struct CommonTable(CommonWords);

impl CommonTable {
    /// Looks at one.
    ///
    /// # Errors
    /// When it is none, or one of another version.
    pub fn of(file: &CommonFile) -> io::Result<Self> {
        let words = file.map(HEAD_WORDS + WORDS)?;
        let head = [0, 1].map(|at| words.words()[at].load(SeqCst).to_le_bytes());
        if head.concat() != MAGIC {
            return Err(io::Error::other("it is no table of this version"));
        }
        Ok(Self(words))
    }

    /// A name of the host's own: no other one has this seed, which it does not tell.
    #[must_use]
    pub fn name(&self) -> String {
        let seed = [2, 3, 4, 5].map(|at| self.0.words()[at].load(SeqCst).to_le_bytes());
        name_by(&seed.concat())
    }

    /// The same in all processes that have it.
    fn seed(&self) -> RandomState {
        let [one, two, three, four] = [2, 3, 4, 5].map(|at| self.0.words()[at].load(SeqCst));
        RandomState::with_seeds(one, two, three, four)
    }
}

impl Meter {
    /// Counts in a table of the host from now on.
    pub fn share(&mut self, table: CommonTable) {
        if !matches!(&self.common, Some(known) if known.is_same(&table.0)) {
            self.seed = table.seed();
            self.own = OnceCell::new();
            self.common = Some(table.0);
        }
    }

    /// The key of something.
    #[must_use]
    pub fn key(&self, of: impl std::hash::Hash) -> Key {
        let hash = self.seed.hash_one(of);
        Key(if hash == NOBODY { !NOBODY } else { hash })
    }

    /// Whether one more request of a key is within its rate; it is not taken into account.
    ///
    /// # Errors
    /// How long it has to wait, in nanoseconds.
    pub fn look(&self, key: Key, pace: Pace, now_ns: u64) -> Result<(), u64> {
        let paid_at_ns = self.places().map_or(0, |places| places.paid_at_ns(key.0));
        pace.admit(paid_at_ns, now_ns).map(drop)
    }

    /// How many requests of a key are within its rate yet, and how long it takes until all are, in nanoseconds; of none
    /// until one is.
    #[must_use]
    pub fn left(&self, key: Key, pace: Pace, now_ns: u64) -> (u64, u64) {
        let paid_at_ns = self.places().map_or(0, |places| places.paid_at_ns(key.0));
        let early_ns = paid_at_ns.saturating_sub(now_ns);
        match pace.tolerance_ns.checked_sub(early_ns) {
            Some(ahead_ns) => (ahead_ns / pace.interval_ns.max(1) + 1, early_ns),
            None => (0, early_ns - pace.tolerance_ns),
        }
    }

    /// Has a key used nothing.
    pub fn forget(&self, key: Key) {
        if let Some(places) = self.places() {
            places.forget(key.0);
        }
    }

    /// Has all keys used nothing.
    pub fn forget_all(&self) {
        if let Some(places) = self.places() {
            places.forget_all();
        }
    }

    /// Takes one request of a key into account.
    ///
    /// # Errors
    /// How long it has to wait, in nanoseconds: the rate is used up, and nothing is taken into account.
    pub fn charge(&self, key: Key, pace: Pace, now_ns: u64, full: WhenFull) -> Result<(), u64> {
        let places = self.places();
        let places = places.unwrap_or_else(|| Places(self.own.get_or_init(Places::own)));
        let charged = places.charge(key.0, pace, now_ns, full);
        self.evicted
            .set(self.evicted.get() + u64::from(charged.evicted));
        self.crowded_out
            .set(self.crowded_out.get() + u64::from(charged.crowded_out));
        charged.outcome
    }

    /// Gives back what a request has used that was taken into account.
    pub fn refund(&self, key: Key, pace: Pace) {
        if let Some(places) = self.places() {
            places.refund(key.0, pace.interval_ns);
        }
    }

    /// One that is over its rate is let through, since that is only tried: by a policy, or the frontend itself.
    pub(in crate::policy) fn spare(&self, policy: Option<&str>) {
        self.spared.set(self.spared.get() + 1);
        self.spared_by.borrow_mut().extend(policy.map(Into::into));
    }

    /// The policies by which some were let through since it was asked last, each as often as it was.
    #[must_use]
    pub fn take_spared(&self) -> Vec<Box<str>> {
        self.spared_by.take()
    }

    /// Keys that have lost their places, requests for which there was none, and those that were let through, since it
    /// was asked last.
    #[must_use]
    pub fn take_counts(&self) -> [u64; 3] {
        [
            self.evicted.take(),
            self.crowded_out.take(),
            self.spared.take(),
        ]
    }

    #[inline]
    fn places(&self) -> Option<Places<'_>> {
        match &self.common {
            Some(common) => common.words().get(HEAD_WORDS..).map(Places),
            None => self.own.get().map(|own| Places(own)),
        }
    }
}

/// A name of whoever has this secret.
#[must_use]
pub fn name_by(secret: &[u8]) -> String {
    let hash = Blake2b::<U6>::new_with_prefix(b"kakehi via")
        .chain_update(secret)
        .finalize();
    hash.iter().fold("kakehi-".to_owned(), |name, byte| {
        format!("{name}{byte:02x}")
    })
}

/// What the file of a table begins with. Another layout, and another hash, has another one.
const MAGIC: [u8; 16] = *b"kakehi rates  1\n";
/// In front of the places: a page, of which the seed is 32 bytes behind the magic.
pub(super) const HEAD_WORDS: usize = 512;

#[cfg(test)]
mod tests;

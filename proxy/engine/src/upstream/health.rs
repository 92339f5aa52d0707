//! What the prober of the host has found of backends: a word for each, in a file that it alone writes.
//!
//! Rule: whoever chooses reads one word of each backend that is checked, and nothing else; what becomes of it
//! counts from the next request on. A backend without a word has not been looked at yet. The file outlives the
//! prober, the daemon and each worker (`runtime/common`); it is made by the daemon, and written by `probing`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use blake2::Blake2b;
use blake2::Digest as _;
use blake2::digest::consts::U8;

use crate::runtime::common::{CommonFile, CommonWords};
use crate::runtime::socket::Endpoint;
use crate::telemetry::counters::Metrics;

/// What is known of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No check has come to a result yet.
    Unknown,
    /// It gets requests.
    Healthy,
    /// It gets none.
    Unhealthy,
}

/// A word: what is known, and since when, by the clock that all processes of the host have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is known.
    pub health: Health,
    /// Since when, in milliseconds.
    pub since_ms: u64,
}

impl Found {
    fn word(self) -> u64 {
        let bits = match self.health {
            Health::Unknown => 0,
            Health::Healthy => 1,
            Health::Unhealthy => 2,
        };
        self.since_ms << 2 | bits
    }

    fn of(word: u64) -> Self {
        Self {
            health: match word & 3 {
                1 => Health::Healthy,
                2 => Health::Unhealthy,
                _ => Health::Unknown,
            },
            since_ms: word >> 2,
        }
    }
}

/// By which the word of a backend is found: of its name and where it listens, so that one that has moved is
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackendKey(u64);

impl BackendKey {
    /// The key of a backend.
    #[must_use]
    pub fn of(name: &str, address: &Endpoint) -> Self {
        let hash = Blake2b::<U8>::new()
            .chain_update(name)
            .chain_update([0])
            .chain_update(address.to_string())
            .finalize();
        // 0 is nobody's.
        Self(u64::from_le_bytes(hash.into()).max(1))
    }
}

/// The words of all backends that are checked on this host.
#[derive(Debug)]
pub struct HealthWords(CommonWords);

impl HealthWords {
    /// Looks at a file.
    ///
    /// # Errors
    /// When it is none of this version.
    pub fn of(file: &CommonFile) -> io::Result<Self> {
        let words = file.map(HEAD_WORDS + ARRAYS * PLACES)?;
        let head = [0, 1].map(|at| words.words()[at].load(Acquire).to_le_bytes());
        if head.concat() != MAGIC {
            return Err(io::Error::other("it is no table of this version"));
        }
        Ok(Self(words))
    }

    /// Whether both are of one file.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }

    /// Where the word of a backend is.
    #[must_use]
    pub fn find(&self, key: BackendKey) -> Option<usize> {
        ways(key).find(|&place| self.key(place).load(Acquire) == key.0)
    }

    /// What is known of the backend whose word is at a place; `None`: it is another one's by now.
    #[must_use]
    #[inline]
    pub fn read(&self, place: usize, key: BackendKey) -> Option<Found> {
        let is_its = || self.key(place).load(Acquire) == key.0;
        let word = is_its().then(|| self.word(place).load(Acquire))?;
        is_its().then(|| Found::of(word))
    }

    /// Gives a backend a place, where it has none yet. `None`: all that it may have are taken.
    pub fn claim(&self, key: BackendKey) -> Option<usize> {
        let found = self.find(key);
        found.or_else(|| {
            let place = ways(key).find(|&place| self.key(place).load(Acquire) == 0)?;
            self.word(place).store(0, Release);
            self.key(place).store(key.0, Release);
            Some(place)
        })
    }

    /// Says what is known of the backend at a place.
    pub fn write(&self, place: usize, found: Found) {
        self.word(place).store(found.word(), Release);
    }

    /// Takes a place back.
    pub fn release(&self, place: usize) {
        self.key(place).store(0, Release);
    }

    /// Takes all places back but those of which the key is kept.
    pub fn sweep(&self, is_kept: impl Fn(BackendKey) -> bool) {
        for place in 0..PLACES {
            let key = self.key(place).load(Acquire);
            if key != 0 && !is_kept(BackendKey(key)) {
                self.release(place);
            }
        }
    }

    fn key(&self, place: usize) -> &AtomicU64 {
        &self.0.words()[HEAD_WORDS + place % PLACES]
    }

    fn word(&self, place: usize) -> &AtomicU64 {
        &self.0.words()[HEAD_WORDS + PLACES + place % PLACES]
    }
}

/// The places that a key may have.
fn ways(key: BackendKey) -> std::ops::Range<usize> {
    let first = (key.0 as usize % (PLACES / WAYS)) * WAYS;
    first..first + WAYS
}

/// The words as one worker has them, once it has got the file.
#[derive(Debug, Default)]
pub struct HealthTable(RefCell<Option<HealthWords>>);

impl HealthTable {
    /// Reads these from now on.
    pub fn share(&self, words: HealthWords) {
        self.0.replace(Some(words));
    }

    /// What is known of a backend.
    #[must_use]
    pub fn look(&self, watched: &Watched) -> Option<Found> {
        let words = self.0.borrow();
        let words = words.as_ref()?;
        words
            .read(watched.place.get(), watched.key)
            .or_else(|| watched.find(words))
    }
}

/// What a worker has in memory that other processes have as well.
pub struct SharedMemory {
    /// What it counts.
    pub metrics: Rc<Metrics>,
    /// What the prober of the host has found.
    pub health: HealthTable,
}

impl SharedMemory {
    /// It has its counters, and nothing of the prober's yet.
    #[must_use]
    pub fn new(metrics: Rc<Metrics>) -> Self {
        Self {
            metrics,
            health: HealthTable::default(),
        }
    }
}

/// A backend of a cluster that is checked, as a worker finds its word.
#[derive(Debug)]
pub struct Watched {
    key: BackendKey,
    place: Cell<usize>,
}

impl Watched {
    /// One that has not been looked for yet.
    #[must_use]
    pub fn new(key: BackendKey) -> Self {
        Self {
            key,
            place: Cell::new(0),
        }
    }

    #[cold]
    fn find(&self, words: &HealthWords) -> Option<Found> {
        let place = words.find(self.key)?;
        self.place.set(place);
        words.read(place, self.key)
    }
}

/// What the file begins with. Another layout, and another hash, has another one.
const MAGIC: [u8; 16] = *b"kakehi health 1\n";
/// In front of the places: a page.
const HEAD_WORDS: usize = 512;
/// So many backends have a word, by far: those that may be checked are half of them.
const PLACES: usize = 131_072;
/// Among so many a key may choose: where half of all are taken, less than one key in a million finds none.
const WAYS: usize = 64;
/// Keys, words, and two words for each that are kept free.
const ARRAYS: usize = 4;

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    /// A file as the daemon makes it.
    pub(crate) fn file(name: &str) -> CommonFile {
        let path = std::env::temp_dir().join(format!("kakehi-{name}-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(&MAGIC).unwrap();
        file.set_len(((HEAD_WORDS + ARRAYS * PLACES) * 8) as u64)
            .unwrap();
        CommonFile::of(file.as_raw_fd()).unwrap()
    }

    fn key(name: &str, address: &str) -> BackendKey {
        BackendKey::of(name, &Endpoint::Tcp(address.parse().unwrap()))
    }

    #[test]
    fn what_the_prober_writes_the_workers_read() {
        let file = file("health-words");
        let writer = HealthWords::of(&file).unwrap();
        let (table, watched) = (
            HealthTable::default(),
            Watched::new(key("c/a", "1.2.3.4:5")),
        );
        assert_eq!(table.look(&watched), None, "it has no file yet");
        table.share(HealthWords::of(&file).unwrap());
        assert_eq!(table.look(&watched), None, "it has no word yet");
        let place = writer.claim(key("c/a", "1.2.3.4:5")).unwrap();
        let unknown = Found {
            health: Health::Unknown,
            since_ms: 0,
        };
        assert_eq!(table.look(&watched), Some(unknown));
        for health in [Health::Unhealthy, Health::Healthy] {
            let found = Found {
                health,
                since_ms: 123_456_789,
            };
            writer.write(place, found);
            assert_eq!(table.look(&watched), Some(found));
        }
        // One that has moved is another one.
        assert_eq!(table.look(&Watched::new(key("c/a", "1.2.3.4:6"))), None);
        writer.release(place);
        assert_eq!(table.look(&watched), None);
        // Its place is another one's, and it gets another, wherever that is.
        assert!(writer.claim(key("c/a", "1.2.3.4:5")).is_some());
        assert_eq!(table.look(&watched), Some(unknown));
        writer.sweep(|kept| kept != key("c/a", "1.2.3.4:5"));
        assert_eq!(table.look(&watched), None);
    }

    #[test]
    fn half_of_all_places_can_be_had() {
        let words = HealthWords::of(&file("health-half")).unwrap();
        for number in 0..PLACES / 2 {
            let key = key(&format!("cluster/{number}"), "1.2.3.4:5");
            assert!(words.claim(key).is_some(), "{number}");
        }
    }
}

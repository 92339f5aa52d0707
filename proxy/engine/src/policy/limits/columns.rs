//! Requests in flight of all workers: in memory of the host a column for each of them, which it alone writes.
//!
//! Rule: nobody waits for anybody. A column is its worker's by a lock that ends with it, however it ends; who finds
//! no room for a request tries the locks of the others it stands behind, and drops the columns of those who have gone.
//! Any value of any word is safe. The file has no memory for columns that nobody has taken. Its beginning is that of the
//! table of rates ([`super::meter`]). Called by [`super::in_flight`].

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::meter::{HEAD_WORDS, Key};
use super::places;
use crate::runtime::common::{CommonFile, CommonWords};

/// Places of one set: two lines of a cache.
const WAYS: usize = 8;
/// Sets of a column: 8,192 places, of two words each, the key and how many there are.
const SETS: usize = 1024;
const COLUMN_WORDS: usize = 2 * WAYS * SETS;
/// So many workers count in common, those included that are about to end.
const COLUMNS: usize = 128;
/// Which columns count, a bit each, at the beginning of a page.
const TAKEN_AT: usize = HEAD_WORDS + places::WORDS;
const TAKEN_WORDS: usize = COLUMNS / 64;
const COLUMNS_AT: usize = TAKEN_AT + 512;
/// All words of the file.
pub(super) const WORDS: usize = COLUMNS_AT + COLUMNS * COLUMN_WORDS;

/// All columns, of which one is this worker's.
pub(super) struct Columns {
    words: CommonWords,
    file: CommonFile,
    own: usize,
}

impl Columns {
    /// Takes a column that nobody has.
    ///
    /// # Errors
    /// When there is none, no room for it, or no such memory.
    pub(super) fn take(file: &CommonFile) -> io::Result<Self> {
        let file = file.try_clone()?;
        let words = file.map(WORDS)?;
        let free = (0..COLUMNS).find(|&column| file.lock(column as u64));
        let own =
            free.ok_or_else(|| io::Error::other("there are as many workers as there may be"))?;
        let columns = Self { words, file, own };
        let at = (COLUMNS_AT + own * COLUMN_WORDS) * size_of::<AtomicU64>();
        let length = COLUMN_WORDS * size_of::<AtomicU64>();
        columns.file.reserve(at as u64, length as u64)?;
        // What somebody has left in it who is gone.
        for word in columns.column(own) {
            word.store(0, SeqCst);
        }
        columns.taken(own).fetch_or(bit(own), SeqCst);
        Ok(columns)
    }

    /// How many there are of a key, in all columns.
    pub(super) fn of(&self, key: Key) -> u64 {
        let counts = self.live().map(|column| self.count(column, key));
        counts.fold(0, u64::saturating_add)
    }

    /// One more; false: there is no room for the key.
    pub(super) fn add(&self, key: Key) -> bool {
        let mut free = None;
        for [known, count] in self.set(self.own, key) {
            let counted = count.load(SeqCst);
            if known.load(SeqCst) == key.0 {
                count.store(counted.saturating_add(1), SeqCst);
                return true;
            }
            if counted == 0 {
                free = Some((known, count));
            }
        }
        let Some((known, count)) = free else {
            return false;
        };
        known.store(key.0, SeqCst);
        count.store(1, SeqCst);
        true
    }

    /// One less.
    pub(super) fn subtract(&self, key: Key) {
        let found = self
            .set(self.own, key)
            .find(|[known, _]| known.load(SeqCst) == key.0);
        if let Some([_, count]) = found {
            count.store(count.load(SeqCst).saturating_sub(1), SeqCst);
        }
    }

    /// Drops the columns with some of a key whose workers have gone; whether there were any.
    pub(super) fn drop_dead(&self, key: Key) -> bool {
        let mut dropped = false;
        for column in self.live().filter(|&column| column != self.own) {
            if self.count(column, key) > 0 && self.file.lock(column as u64) {
                self.taken(column).fetch_and(!bit(column), SeqCst);
                self.file.unlock(column as u64);
                dropped = true;
            }
        }
        dropped
    }

    /// All that this worker has counted, by key.
    pub(super) fn all(&self) -> impl Iterator<Item = (Key, u64)> {
        let counts = pairs(self.column(self.own)).map(|[key, count]| {
            let key = Key(key.load(SeqCst));
            (key, count.load(SeqCst))
        });
        counts.filter(|(_, count)| *count > 0)
    }

    /// Those that count.
    fn live(&self) -> impl Iterator<Item = usize> {
        (0..TAKEN_WORDS).flat_map(|word| {
            let mut left = self.taken(word * 64).load(SeqCst);
            std::iter::from_fn(move || {
                let found = (left != 0).then(|| word * 64 + left.trailing_zeros() as usize);
                left &= left.wrapping_sub(1);
                found
            })
        })
    }

    /// How many of a key there are in a column, whose worker may give its place to another key meanwhile.
    fn count(&self, column: usize, key: Key) -> u64 {
        let found = self.set(column, key).find_map(|[known, count]| {
            let is_its = || known.load(SeqCst) == key.0;
            let counted = is_its().then(|| count.load(SeqCst));
            counted.filter(|_| is_its())
        });
        found.unwrap_or_default()
    }

    fn taken(&self, column: usize) -> &AtomicU64 {
        &self.words.words()[TAKEN_AT + column / 64]
    }

    fn column(&self, column: usize) -> &[AtomicU64] {
        let first = COLUMNS_AT + column * COLUMN_WORDS;
        &self.words.words()[first..first + COLUMN_WORDS]
    }

    /// The places that a key may have.
    fn set(&self, column: usize, key: Key) -> impl Iterator<Item = [&AtomicU64; 2]> {
        let first = (key.0 as usize % SETS) * WAYS * 2;
        pairs(&self.column(column)[first..first + 2 * WAYS])
    }
}

impl Drop for Columns {
    fn drop(&mut self) {
        self.taken(self.own).fetch_and(!bit(self.own), SeqCst);
    }
}

fn pairs(words: &[AtomicU64]) -> impl Iterator<Item = [&AtomicU64; 2]> {
    words.chunks_exact(2).map(|pair| [&pair[0], &pair[1]])
}

fn bit(column: usize) -> u64 {
    1 << (column % 64)
}

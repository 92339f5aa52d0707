//! How many requests of each sort are in flight: on the host, where its workers have memory in common, else here.
//!
//! Rule: whoever gets in has counted itself before it looks how many there are, so that no two of a host have the last
//! place; and whoever has not got in has not been there. A worker that counts nothing has no memory for it. What
//! finds no room in the common memory ([`super::columns`]) is counted by this worker alone.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;

use super::columns::Columns;
use super::meter::Key;
use super::rate::Who;
use crate::runtime::common::CommonFile;

/// Of whose requests one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// They are counted by this.
    pub key: Key,
    /// As people know them.
    pub who: Who,
}

/// Of whose requests one is, by each bound that it has to keep.
pub type Keys = Box<[Counted]>;

/// How many there are, by key.
#[derive(Default)]
pub struct InFlight {
    /// What all workers write, and what this one has of it; none before it counts anything.
    offered: Option<CommonFile>,
    columns: OnceCell<Option<Columns>>,
    /// Of keys that have no place there.
    own: RefCell<HashMap<Key, u64, ahash::RandomState>>,
    /// Places of a request that is being decided on.
    reserved: RefCell<Vec<Key>>,
    /// Requests that were counted by this worker alone.
    alone: Cell<u64>,
}

impl InFlight {
    /// Counts in memory of the host from now on.
    pub fn share(&mut self, file: CommonFile) {
        if matches!(&self.offered, Some(known) if known.is_same(&file)) {
            return;
        }
        if let Some(Some(columns)) = self.columns.take() {
            // By keys of another seed: those who have them give them back.
            self.own.get_mut().extend(columns.all());
        }
        self.offered = Some(file);
    }

    /// Counts a request that is being decided on, unless there are so many; it is kept until it gets in, or all that
    /// was kept is given up.
    pub fn reserve(&self, key: Key, most: u32) -> bool {
        for _ in 0..ATTEMPTS_MAX {
            self.add(key);
            if self.of(key) <= u64::from(most) {
                self.reserved.borrow_mut().push(key);
                let is_alone = self.own.borrow().contains_key(&key);
                self.alone.set(self.alone.get() + u64::from(is_alone));
                return true;
            }
            self.subtract(key);
            let columns = self.columns();
            let freed = columns.is_some_and(|columns| columns.drop_dead(key));
            if !freed && self.of(key) >= u64::from(most) {
                return false;
            }
            // Somebody else has given way at the same time.
        }
        false
    }

    /// How many requests were counted by this worker alone since it was asked last, and whether all are, since it has
    /// no memory of the host.
    pub fn take_alone(&self) -> (u64, bool) {
        (self.alone.take(), matches!(self.columns.get(), Some(None)))
    }

    /// Gives up what was kept for a request that has not got in.
    #[inline]
    pub fn give_up(&self) {
        for key in self.reserved.take() {
            self.subtract(key);
        }
    }

    /// One more of each.
    pub fn enter(&self, keys: &Keys) {
        for Counted { key, .. } in keys {
            let mut reserved = self.reserved.borrow_mut();
            match reserved.iter().position(|kept| kept == key) {
                Some(place) => drop(reserved.swap_remove(place)),
                None => self.add(*key),
            }
        }
    }

    /// One more of each of both; returns them.
    #[inline]
    pub fn enter_all(&self, keys: Option<Keys>, more: Option<&[Counted]>) -> Option<Keys> {
        let keys = match (keys, more) {
            (keys, None) => keys,
            (keys, Some(more)) => Some([&keys.unwrap_or_default(), more].concat().into()),
        };
        keys.inspect(|keys| self.enter(keys))
    }

    /// One less of each.
    pub fn leave(&self, keys: &Keys) {
        for counted in keys {
            self.subtract(counted.key);
        }
    }

    /// How many there are of a key, in all workers.
    fn of(&self, key: Key) -> u64 {
        let own = self.own.borrow().get(&key).copied().unwrap_or_default();
        let common = self.columns().map_or(0, |columns| columns.of(key));
        own.saturating_add(common)
    }

    fn columns(&self) -> Option<&Columns> {
        let taken = self.columns.get_or_init(|| {
            let file = self.offered.as_ref()?;
            Columns::take(file).ok()
        });
        taken.as_ref()
    }

    fn add(&self, key: Key) {
        let mut own = self.own.borrow_mut();
        if let Some(count) = own.get_mut(&key) {
            *count += 1;
        } else if !self.columns().is_some_and(|columns| columns.add(key)) {
            own.insert(key, 1);
        }
    }

    fn subtract(&self, key: Key) {
        let mut own = self.own.borrow_mut();
        match own.get_mut(&key) {
            Some(1) => drop(own.remove(&key)),
            Some(count) => *count -= 1,
            None => drop(self.columns().map(|columns| columns.subtract(key))),
        }
    }
}

/// So often a place is looked for while others give way: after that it is as if there were none.
const ATTEMPTS_MAX: u32 = 16;

#[cfg(test)]
mod tests;

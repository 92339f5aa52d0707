//! Things by the name that they have themselves, and by position for those who walk over them in parts.
//!
//! A name is not kept a second time to be found by: what is found tells it. Used by the ledger and the
//! tables.

use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// What can be found by its name, which must not change.
pub trait HasName {
    /// Its name.
    fn name(&self) -> &str;
}

/// Things, each name once.
#[derive(Debug)]
pub struct Named<T> {
    things: Vec<T>,
    /// So many of them have been walked over, whatever has come and gone since: they come first.
    walked: usize,
    /// Positions in `things`.
    places: HashTable<u32>,
    hasher: RandomState,
}

impl<T: HasName> Named<T> {
    /// The thing of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.place(name).map(|place| &self.things[place])
    }

    /// Adds a thing, or puts it in the place of the one of the same name, which is returned.
    pub fn insert(&mut self, thing: T) -> Option<T> {
        let (things, hasher) = (&self.things, &self.hasher);
        let same = |place: &u32| things[*place as usize].name() == thing.name();
        let hash_of = |place: &u32| hasher.hash_one(things[*place as usize].name());
        match self
            .places
            .entry(hasher.hash_one(thing.name()), same, hash_of)
        {
            Entry::Occupied(found) => {
                let place = *found.get() as usize;
                Some(std::mem::replace(&mut self.things[place], thing))
            }
            Entry::Vacant(free) => {
                free.insert(self.things.len() as u32);
                if self.things.len() == self.things.capacity() {
                    // There may be 100,000: room for twice as many would be a third of what they take.
                    self.things.reserve_exact(4.max(self.things.len() / 8));
                }
                self.things.push(thing);
                None
            }
        }
    }

    /// Makes room for so many more at once: growing on the way asks each thing for its name again.
    pub fn reserve(&mut self, count: usize) {
        let (things, hasher) = (&self.things, &self.hasher);
        self.places.reserve(count, |place| {
            hasher.hash_one(things[*place as usize].name())
        });
        self.things.reserve_exact(count);
    }

    /// Takes a thing out; the last one takes its place, or first the last one that was walked over.
    pub fn swap_remove(&mut self, name: &str) -> Option<T> {
        let hash = self.hasher.hash_one(name);
        let same = |place: &u32| self.things[*place as usize].name() == name;
        let mut place = self.places.find_entry(hash, same).ok()?.remove().0 as usize;
        if place < self.walked {
            self.walked -= 1;
            self.things.swap(place, self.walked);
            self.has_moved(self.walked, place);
            place = self.walked;
        }
        let thing = self.things.swap_remove(place);
        self.has_moved(self.things.len(), place);
        Some(thing)
    }

    fn has_moved(&mut self, from: usize, to: usize) {
        if let Some(thing) = self.things.get(to).filter(|_| from != to) {
            let hash = self.hasher.hash_one(thing.name());
            if let Some(place) = self.places.find_mut(hash, |other| *other as usize == from) {
                *place = to as u32;
            }
        }
    }

    /// How many have been walked over: those at the first positions.
    #[must_use]
    pub fn walked(&self) -> usize {
        self.walked
    }

    /// Whether the thing of that name has been. What is put in its place counts as well.
    pub fn is_walked(&self, name: &str) -> bool {
        self.walked > 0 && self.place(name).is_some_and(|place| place < self.walked)
    }

    /// From now on so many have been walked over.
    pub fn walk_to(&mut self, position: usize) {
        self.walked = position.min(self.things.len());
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// All of them.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.things.iter()
    }

    /// So many of them, from a position on: at no cost for those that come before.
    #[must_use]
    pub fn part(&self, offset: usize, count: usize) -> &[T] {
        let end = offset.saturating_add(count).min(self.things.len());
        self.things.get(offset..end).unwrap_or_default()
    }

    /// Where it is; what is taken out has the last one come there.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        let same = |place: &u32| self.things[*place as usize].name() == name;
        let place = self.places.find(self.hasher.hash_one(name), same)?;
        Some(*place as usize)
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self {
            things: Vec::new(),
            walked: 0,
            places: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    impl HasName for (String, u32) {
        fn name(&self) -> &str {
            &self.0
        }
    }

    proptest! {
        #[test]
        fn is_a_map(steps in proptest::collection::vec((0u32..20, any::<bool>()), 0..200)) {
            let (mut named, mut model) = (Named::default(), BTreeMap::new());
            for (number, (name, adds)) in steps.into_iter().enumerate() {
                let name = name.to_string();
                if adds {
                    let thing = (name.clone(), number as u32);
                    let before = named.insert(thing.clone());
                    prop_assert_eq!(before, model.insert(name, thing));
                } else {
                    prop_assert_eq!(named.swap_remove(&name), model.remove(&name));
                }
                prop_assert_eq!(named.len(), model.len());
                for name in 0..20u32 {
                    let name = name.to_string();
                    prop_assert_eq!(named.get(&name), model.get(&name));
                }
                let mut parts: Vec<_> = (0..3).flat_map(|part| named.part(part * 7, 7)).collect();
                parts.sort();
                prop_assert_eq!(parts, model.values().collect::<Vec<_>>());
            }
        }

        #[test]
        fn who_walks_over_all_misses_none_and_sees_none_twice(
            steps in proptest::collection::vec((0u32..20, 0u8..4), 0..200)
        ) {
            let (mut named, mut seen) = (Named::default(), BTreeSet::new());
            for (name, does) in steps {
                let name = name.to_string();
                match does {
                    0 => {
                        named.insert((name.clone(), 0));
                    }
                    1 => {
                        let was_walked = named.is_walked(&name);
                        named.swap_remove(&name);
                        prop_assert_eq!(seen.remove(&name), was_walked);
                    }
                    _ => {
                        let part = named.part(named.walked(), does.into());
                        for (name, _) in part {
                            prop_assert!(seen.insert(name.clone()), "{} was seen", name);
                        }
                        named.walk_to(named.walked() + usize::from(does));
                    }
                }
                for (name, _) in named.values() {
                    prop_assert_eq!(named.is_walked(name), seen.contains(name));
                    prop_assert!(named.get(name).is_some_and(|found| &found.0 == name));
                }
                prop_assert_eq!(named.walked(), seen.len());
            }
        }
    }
}

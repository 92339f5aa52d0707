//! The entities that a ledger holds, and by how many others each of them is needed.

use std::sync::Arc;

use ahash::AHashMap;

use super::digest::Digest;
use super::entity::Kind;
use super::entry::Entry;
use super::named::Named;

/// Entities by kind and name.
#[derive(Default)]
pub(super) struct Held {
    kinds: [OfKind; Kind::ALL.len()],
}

#[derive(Default)]
struct OfKind {
    entries: Named<Arc<Entry>>,
    /// Who needs each, for kinds of which a change is one of theirs too.
    by: AHashMap<Box<str>, [Named<Arc<Entry>>; Kind::ALL.len()]>,
    /// How many others need each, by the places of the entries; nothing of kinds that nobody needs.
    users: Vec<u32>,
}

impl Held {
    /// All entities of a kind.
    pub(super) fn of(&self, kind: Kind) -> &Named<Arc<Entry>> {
        &self.kinds[kind as usize].entries
    }

    /// An entity.
    pub(super) fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Entry>> {
        self.of(kind).get(name)
    }

    /// By how many others it is needed.
    pub(super) fn users(&self, kind: Kind, name: &str) -> u32 {
        let place = self.of(kind).place(name);
        let count = place.and_then(|place| self.kinds[kind as usize].users.get(place));
        count.copied().unwrap_or(0)
    }

    /// Those of a kind that need an entity; known of policies alone.
    pub(super) fn who_uses(
        &self,
        kind: Kind,
        name: &str,
        of_kind: Kind,
    ) -> impl Iterator<Item = &Arc<Entry>> {
        let by = self.kinds[kind as usize].by.get(name);
        by.into_iter()
            .flat_map(move |users| users[of_kind as usize].values())
    }

    /// Its part of the digest; nothing for what is not held.
    pub(super) fn hash(&self, kind: Kind, name: &str) -> Digest {
        self.get(kind, name)
            .map_or(Digest::default(), |entry| entry.hash)
    }

    /// Takes entities out and puts others in, in the place of those of the same name. What they need is
    /// there afterwards, in whatever order they come.
    pub(super) fn change(&mut self, removes: &[(Kind, String)], puts: Vec<Arc<Entry>>) {
        for (kind, name) in removes {
            let OfKind { entries, users, .. } = &mut self.kinds[*kind as usize];
            let Some(place) = entries.place(name) else {
                continue;
            };
            if place < users.len() {
                // As the entries do it: the last one takes its place.
                users.resize(entries.len(), 0);
                users.swap_remove(place);
            }
            if let Some(before) = entries.swap_remove(name) {
                self.release(&before);
            }
        }
        if puts.len() > MANY {
            self.make_room(&puts);
        }
        for entry in &puts {
            let entries = &mut self.kinds[entry.kind() as usize].entries;
            if let Some(before) = entries.insert(entry.clone()) {
                self.release(&before);
            }
        }
        for entry in puts {
            for (kind, name) in entry.needs() {
                self.count(kind, name, |users| users + 1);
                if kind == Kind::Policy {
                    let by = &mut self.kinds[kind as usize].by;
                    let users = by.entry(name.into()).or_default();
                    users[entry.kind() as usize].insert(entry.clone());
                }
            }
        }
    }

    /// For a large change, of which most is new where little is held.
    fn make_room(&mut self, puts: &[Arc<Entry>]) {
        for kind in Kind::ALL {
            let of_kind = puts.iter().filter(|entry| entry.kind() == kind).count();
            let entries = &mut self.kinds[kind as usize].entries;
            if of_kind > MANY.max(entries.len()) {
                entries.reserve(of_kind - entries.len());
            }
        }
    }

    fn release(&mut self, entry: &Entry) {
        for (kind, name) in entry.needs() {
            self.count(kind, name, |users| users.saturating_sub(1));
            let by = &mut self.kinds[kind as usize].by;
            if let Some(users) = by.get_mut(name) {
                users[entry.kind() as usize].swap_remove(&entry.name);
                if users.iter().all(Named::is_empty) {
                    by.remove(name);
                }
            }
        }
    }

    fn count(&mut self, kind: Kind, name: &str, change: impl FnOnce(u32) -> u32) {
        let OfKind { entries, users, .. } = &mut self.kinds[kind as usize];
        if let Some(place) = entries.place(name) {
            if users.len() < entries.len() {
                users.resize(entries.len(), 0);
            }
            users[place] = change(users[place]);
        }
    }
}

/// Fewer find their room on the way.
const MANY: usize = 1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::entity::Entity;

    fn entry(kind: Kind, name: &str, value: &str) -> Arc<Entry> {
        let entity = Entity::from_json(kind, value).unwrap();
        Arc::new(Entry::new(name, entity, Digest::default()))
    }

    /// What the ledger holds if these clusters have so many backends each.
    fn backends(counts: &[u8]) -> Vec<(String, Vec<String>)> {
        let name = |number: usize| format!("c{number}");
        let of = |(number, count): (usize, &u8)| {
            let backends = (0..*count).map(|each| format!("c{number}/b{each}"));
            (name(number), backends.collect())
        };
        counts.iter().enumerate().map(of).collect()
    }

    proptest! {
        #[test]
        fn every_entity_knows_how_many_need_it(
            states in prop::collection::vec(prop::collection::vec(0u8..3, 0..12), 1..8),
            again: bool,
        ) {
            let mut held = Held::default();
            let mut before: Vec<(Kind, String)> = Vec::new();
            for state in states {
                let wanted = backends(&state);
                let mut puts = Vec::new();
                for (cluster, backends) in &wanted {
                    for name in backends {
                        puts.push(entry(Kind::Backend, name, r#"{"address":"127.0.0.1:1"}"#));
                    }
                    puts.push(entry(Kind::Cluster, cluster, "{}"));
                }
                let keys: Vec<_> = puts.iter().map(|put| (put.kind(), put.name.to_string())).collect();
                let removes: Vec<_> = before.iter().filter(|key| !keys.contains(key)).cloned().collect();
                if !again {
                    puts.retain(|put| held.get(put.kind(), &put.name).is_none());
                }
                held.change(&removes, puts);
                before = keys;
                prop_assert_eq!(held.of(Kind::Cluster).len(), wanted.len());
                for (cluster, backends) in &wanted {
                    prop_assert_eq!(held.users(Kind::Cluster, cluster) as usize, backends.len());
                }
            }
        }
    }
}

//! The audit: the digest computed anew from everything that the engine holds, and what differs from
//! its own hash. Called by `session::control`, a slice in each turn of the loop.
//!
//! Rule: a slice costs what its entities cost, however many there are, and nothing is kept between two
//! slices but a position; whatever changes the tables in between makes it begin anew.

use super::digest::Digest;
use super::entity::Kind;
use super::entry::Entry;
use super::tables::Tables;

/// Names that are told; where more differ, something larger is wrong than their names could tell.
const DIFFERING_MAX: usize = 8;

/// What an audit has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The generation that was looked at.
    pub generation: u64,
    /// The digest of what is really held.
    pub digest: Digest,
    /// `KIND/NAME` of entities that are not what was committed.
    pub differing: Vec<String>,
}

/// An audit that is under way.
pub struct Audit {
    found: Audited,
    /// Index into [`Kind::ALL`].
    kind: usize,
    /// Entities of that kind that have been looked at.
    offset: usize,
}

impl Audit {
    /// Begins with the first entity.
    #[must_use]
    pub fn begin(tables: &Tables) -> Self {
        Self {
            found: Audited {
                generation: tables.generation,
                digest: Digest::default(),
                differing: Vec::new(),
            },
            kind: 0,
            offset: 0,
        }
    }

    /// Looks at the next `count` entities; tells what was found when these were the last ones.
    pub fn advance(&mut self, tables: &Tables, count: usize) -> Option<Audited> {
        if tables.generation != self.found.generation {
            *self = Self::begin(tables);
        }
        let mut left = count;
        while let Some(kind) = Kind::ALL.get(self.kind) {
            if left == 0 {
                return None;
            }
            let before = left;
            tables.running.each(*kind, self.offset, left, &mut |entry| {
                left -= 1;
                self.found.take(*kind, entry);
            });
            if left > 0 {
                self.kind += 1;
                self.offset = 0;
            } else {
                self.offset += before;
            }
        }
        Some(self.found.clone())
    }
}

impl Audited {
    fn take(&mut self, kind: Kind, entry: &Entry) {
        let name = &entry.name;
        let actual = Digest::from_entity(kind, name, &entry.entity.canonical());
        self.digest = self.digest.add(actual);
        if actual != entry.hash && self.differing.len() < DIFFERING_MAX {
            self.differing.push(format!("{}/{name}", kind.as_str()));
        }
    }
}

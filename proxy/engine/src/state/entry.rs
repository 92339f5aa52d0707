//! One entity as it was committed: its name, its value and its hash, kept once for all who need it.
//!
//! The ledger on the control thread and the tables on the engine thread hold the same entry, which never
//! changes. Rule: nothing is kept beside it that can be read from it.

use super::digest::Digest;
use super::entity::{Entity, Kind};
use super::named::HasName;

/// An entity as it was committed.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: Box<str>,
    /// Its value.
    pub entity: Entity,
    /// Its part of the digest.
    pub hash: Digest,
}

impl Entry {
    /// An entity of that name.
    #[must_use]
    pub fn new(name: &str, entity: Entity, hash: Digest) -> Self {
        Self {
            name: name.into(),
            entity,
            hash,
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.entity.kind()
    }

    /// What it needs to exist.
    pub fn needs(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.entity.needs(&self.name).iter()
    }
}

impl HasName for std::sync::Arc<Entry> {
    fn name(&self) -> &str {
        &self.name
    }
}

/// The cluster's part of `CLUSTER/BACKEND`.
#[must_use]
pub fn cluster_of(backend: &str) -> &str {
    backend
        .split_once('/')
        .map_or(backend, |(cluster, _)| cluster)
}

//! One entity as it was committed: its name, its value and its hash, kept once for all who need it.
//!
//! The ledger on the control thread and the tables on the engine thread hold the same entry, which never
//! changes. Rule: nothing is kept beside it that can be read from it.

use super::digest::Digest;
use super::entity::{self, Entity, Kind};
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

    /// The value of a frontend's entry.
    #[must_use]
    pub fn frontend(&self) -> &entity::Frontend {
        match &self.entity {
            Entity::Frontend(frontend) => frontend,
            _ => unreachable!("only a frontend's entry is asked for it"),
        }
    }

    /// The value of a backend's entry.
    #[must_use]
    pub fn backend(&self) -> &entity::Backend {
        match &self.entity {
            Entity::Backend(backend) => backend,
            _ => unreachable!("only a backend's entry is asked for it"),
        }
    }

    /// What it needs to exist.
    pub fn needs(&self) -> impl Iterator<Item = (Kind, &str)> {
        let (listeners, other): (&[Box<str>], _) = match &self.entity {
            Entity::Frontend(frontend) => (
                &frontend.listeners,
                frontend
                    .cluster
                    .as_deref()
                    .map(|name| (Kind::Cluster, name)),
            ),
            Entity::Backend(_) => (&[], Some((Kind::Cluster, cluster_of(&self.name)))),
            Entity::Listener(listener) => (
                &[],
                listener
                    .tls
                    .as_ref()
                    .and_then(|tls| tls.default_certificate.as_deref())
                    .map(|name| (Kind::Certificate, name)),
            ),
            Entity::Settings(_) | Entity::Certificate(_) | Entity::Cluster(_) => (&[], None),
        };
        listeners
            .iter()
            .map(move |name| (Kind::Listener, &**name))
            .chain(other)
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

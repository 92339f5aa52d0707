//! One frontend as it runs: where its requests go. The match itself lives in `routing`.

use std::rc::Rc;

use super::digest::Digest;
use super::entity;
use super::slot::Slot;
use crate::upstream::Cluster;

/// The target of a routing table's entry.
pub struct Frontend {
    /// Its name.
    pub name: String,
    /// Where its requests go.
    pub cluster: Rc<Cluster>,
    /// The entity as committed.
    pub entity: entity::Frontend,
    /// The line of `hsts`, with its CRLF.
    pub hsts: Option<Box<str>>,
    /// Hash of the entity, part of the state's digest.
    pub hash: Digest,
    /// Its counters in shared memory, kept over changes of the frontend.
    pub slot: Rc<Slot>,
}

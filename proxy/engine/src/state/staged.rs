//! A change that has been checked whole and waits for its commit: handed from the control thread to
//! the engine thread, which can only swap it in.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustls::ClientConfig;

use super::digest::Digest;
use super::entity::{Entity, Kind};
use crate::routing::rule::Rule;
use crate::telemetry::access_log::LogSink;
use crate::tls::certificates::Identity;
use crate::tls::policy::Agreements;

/// One checked transaction.
pub struct Staged {
    /// The generation it leads to.
    pub generation: u64,
    /// The git commit that it stands for.
    pub commit: String,
    /// The digest of the state after it.
    pub digest: Digest,
    /// Entities to add or replace.
    pub puts: Vec<StagedPut>,
    /// Entities to take away.
    pub removes: Vec<(Kind, String)>,
    /// Listening sockets by listener, for those that are new or have moved.
    pub sockets: HashMap<String, OwnedFd>,
    /// The access log, opened, when its target changes.
    pub log: Option<LogSink>,
}

/// One entity to add or replace, with everything compiled that can fail to compile.
pub struct StagedPut {
    /// Its name.
    pub name: String,
    /// Its value.
    pub entity: Entity,
    /// Its hash.
    pub hash: Digest,
    /// A frontend's compiled match, one for each of its listeners.
    pub rules: Vec<(String, Rule)>,
    /// A certificate's chain and key.
    pub identity: Option<Identity>,
    /// What an https listener agrees to.
    pub tls: Option<Agreements>,
    /// What a cluster over TLS asks of its backends.
    pub upstream_tls: Option<Arc<ClientConfig>>,
}

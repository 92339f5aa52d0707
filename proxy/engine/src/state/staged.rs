//! A change that has been checked whole and waits for its commit: handed from the control thread to
//! the engine thread, which can only swap it in.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::digest::Digest;
use super::entity::Kind;
use super::entry::Entry;
use super::merging::Found;
use crate::state::kinds::registry::Compiled;
use crate::telemetry::access_log::LogSink;

/// One checked transaction.
pub struct Staged {
    /// The generation it leads to.
    pub generation: u64,
    /// The git commit that it stands for.
    pub commit: String,
    /// The digest of the state after it.
    pub digest: Digest,
    /// Entities to add or replace, each behind what it needs.
    pub puts: Vec<StagedPut>,
    /// Entities to take away, each before what it needs.
    pub removes: Vec<(Kind, String)>,
    /// What holds from then on by policies, for those who are not put and for listeners.
    pub(super) merged: Found,
    /// Listening sockets by listener, for those that are new or have moved.
    pub sockets: HashMap<String, OwnedFd>,
    /// The access log, opened, when its target changes.
    pub log: Option<LogSink>,
}

/// One entity to add or replace.
pub struct StagedPut {
    /// The entity.
    pub entry: Arc<Entry>,
    /// Everything of it that can fail to compile.
    pub compiled: Compiled,
}

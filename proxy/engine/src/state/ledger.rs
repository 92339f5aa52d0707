//! The control thread's side of a transaction: everything that can fail, before the commit.
//!
//! The ledger holds the very entries that the tables hold, and how often each is referred to.
//! [`Ledger::stage`] decodes and compiles a change as it comes in, [`Ledger::prepare`] checks the whole
//! of it against what is held; the result either waits as [`Staged`] or leaves no trace. Called by the
//! engine's Python face with no lock on the request path.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::digest::Digest;
use super::entity::{Kind, Materials};
use super::entry::Entry;
use super::held::Held;
use super::incoming::Incoming;
use super::merging::Merging;
use super::ops::Refused;
use super::staged::{Staged, StagedPut};
use crate::policy::plan::Plan;
use crate::routing::regexes::Regexes;
use crate::state::kinds::registry::{Compiled, Providing};
use crate::telemetry::access_log::LogSink;
use crate::tls::policy::Tls;

/// The committed state as the control thread knows it, and at most one staged transaction.
pub struct Ledger {
    /// The committed generation.
    pub generation: u64,
    /// The commit that it stands for.
    pub commit: String,
    /// The digest of the committed state.
    pub digest: Digest,
    held: Held,
    /// A listener has its socket from the moment that it is committed. Before a worker serves it has
    /// none: it gets all of them at once.
    pub serving: bool,
    incoming: Option<Incoming>,
    staged: Option<(Staged, Delta)>,
    tls: Tls,
    regexes: Regexes,
}

/// What a staged transaction does to the ledger.
struct Delta {
    puts: Vec<Arc<Entry>>,
    removes: Vec<(Kind, String)>,
}

impl Ledger {
    /// Generation 0, which holds nothing.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self {
            generation: 0,
            commit: String::new(),
            digest: Digest::default(),
            held: Held::default(),
            serving: false,
            incoming: None,
            staged: None,
            tls,
            regexes: Regexes::default(),
        }
    }

    /// The staged generation, if any.
    #[must_use]
    pub fn staged_generation(&self) -> Option<u64> {
        self.staged.as_ref().map(|(staged, _)| staged.generation)
    }

    /// Entities of a kind that the staged transaction takes away.
    #[must_use]
    pub fn staged_removals(&self, of: Kind) -> Vec<String> {
        let removes = self.staged.iter().flat_map(|(staged, _)| &staged.removes);
        removes
            .filter(|(kind, _)| *kind == of)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// Takes one chunk of a change to that generation. Number 0 begins it, in place of whatever was
    /// staged or on its way; each of the others follows the one before.
    ///
    /// # Errors
    /// [`Refused`] with the entity and the reason; so are all further chunks, and the change itself.
    pub fn stage(
        &mut self,
        generation: u64,
        number: u64,
        bytes: &[u8],
        materials: &Materials,
    ) -> Result<(), Refused> {
        if number == 0 {
            self.staged = None;
            self.incoming = Some(Incoming::begin(generation));
        }
        match &mut self.incoming {
            Some(incoming) if (incoming.generation, incoming.chunks) == (generation, number) => {
                incoming.take(bytes, materials, &self.tls, &mut self.regexes)
            }
            Some(incoming) if incoming.generation == generation => {
                // What follows a refused chunk was on its way already.
                Err(incoming
                    .refusal()
                    .unwrap_or_else(|| out_of_turn(generation, number)))
            }
            _ => Err(out_of_turn(generation, number)),
        }
    }

    /// Drops a change whose rest does not come any more.
    pub fn drop_incoming(&mut self) {
        self.incoming = None;
    }

    /// Checks the change that has come in so many chunks whole, and keeps it for its commit; returns
    /// the digest that the state will have. A generation that is staged or committed already answers
    /// as the first time.
    ///
    /// # Errors
    /// [`Refused`] with the entity and the reason; the ledger is as before.
    pub fn prepare(
        &mut self,
        generation: u64,
        base: (u64, Digest),
        commit: &str,
        chunks: u64,
        sockets: HashMap<String, OwnedFd>,
    ) -> Result<Digest, Refused> {
        let incoming = self.incoming.take();
        if generation == self.generation && generation > 0 {
            return Ok(self.digest);
        }
        if base != (self.generation, self.digest) {
            return Err(refused(
                "state",
                "",
                format!(
                    "the change is based on generation {} with digest {}, but this worker runs generation {} with digest {}",
                    base.0, base.1, self.generation, self.digest,
                ),
            ));
        }
        if incoming.is_none()
            && let Some((staged, _)) = &self.staged
            && staged.generation == generation
        {
            return Ok(staged.digest);
        }
        let incoming = match incoming {
            Some(incoming) if (incoming.generation, incoming.chunks) == (generation, chunks) => {
                incoming
            }
            Some(incoming) if incoming.generation == generation && incoming.refusal().is_some() => {
                incoming
            }
            _ if chunks == 0 => Incoming::begin(generation),
            _ => return Err(out_of_turn(generation, chunks)),
        };
        if let Some(refusal) = incoming.refusal() {
            return Err(refusal);
        }
        self.staged = None;
        let Incoming {
            mut puts,
            mut removes,
            ..
        } = incoming;
        // Made behind what it needs, and taken away before: so nothing ever leads nowhere.
        puts.sort_unstable_by_key(|put| put.entry.kind());
        removes.sort_unstable_by_key(|(kind, _)| Reverse(*kind));
        let log = self.provide(&puts, &sockets)?;
        let delta = Delta {
            puts: puts.iter().map(|put| put.entry.clone()).collect(),
            removes,
        };
        self.check_references(&delta)?;
        let mut merged =
            Merging::new(&self.held, &delta.puts, &delta.removes).find(&mut self.regexes)?;
        for put in &mut puts {
            if let Compiled::Frontend((_, plan)) = &mut put.compiled
                && let Some(said) = merged.frontends.remove(&put.entry.name)
            {
                *plan = Plan::saying(plan.as_deref(), said);
            }
        }
        let digest = self.digest_after(&delta);
        let staged = Staged {
            generation,
            commit: commit.to_owned(),
            digest,
            puts,
            removes: delta.removes.clone(),
            merged,
            sockets,
            log,
        };
        self.staged = Some((staged, delta));
        Ok(digest)
    }

    /// Takes the staged transaction out to be swapped in; `None` when that generation is not staged.
    pub fn take_staged(&mut self, generation: u64) -> Option<Staged> {
        if self.staged_generation() != Some(generation) {
            return None;
        }
        let (staged, delta) = self.staged.take()?;
        self.generation = staged.generation;
        self.commit.clone_from(&staged.commit);
        self.digest = staged.digest;
        self.held.change(&delta.removes, delta.puts);
        Some(staged)
    }

    /// Drops the staged transaction of that generation, or what has come of it; its sockets close.
    pub fn abort(&mut self, generation: u64) {
        if self
            .incoming
            .as_ref()
            .is_some_and(|incoming| incoming.generation == generation)
        {
            self.incoming = None;
        }
        if self.staged_generation() == Some(generation) {
            self.staged = None;
        }
    }

    /// What the entities of a change want of the machine: the access log, if it is another one.
    fn provide(
        &self,
        puts: &[StagedPut],
        sockets: &HashMap<String, OwnedFd>,
    ) -> Result<Option<LogSink>, Refused> {
        let mut with = Providing {
            serving: self.serving,
            sockets,
            log: None,
        };
        for StagedPut { entry, .. } in puts {
            let before = self.held.get(entry.kind(), &entry.name);
            entry
                .provide(before.map(Arc::as_ref), &mut with)
                .map_err(|reason| refused(entry.kind().as_str(), &entry.name, reason))?;
        }
        Ok(with.log)
    }

    /// Everything that is needed after the change must be there after the change.
    fn check_references(&self, delta: &Delta) -> Result<(), Refused> {
        let of_state = |reason: &str| Err(refused("state", "", reason.into()));
        let put: AHashSet<(Kind, &str)> = delta.puts.iter().map(|put| key(put)).collect();
        if put.len() != delta.puts.len() {
            return of_state("the change names an entity twice");
        }
        let removes = delta.removes.iter().map(|(kind, name)| (*kind, &**name));
        let removed: AHashSet<(Kind, &str)> = removes.collect();
        if removed.len() != delta.removes.len() {
            return of_state("the change removes an entity twice");
        }
        for entry in &delta.puts {
            let there = |need: &(Kind, &str)| {
                put.contains(need)
                    || (self.held.get(need.0, need.1).is_some() && !removed.contains(need))
            };
            if let Some((kind, name)) = entry.needs().find(|need| !there(need)) {
                let kind = kind.as_str();
                return Err(refused(
                    entry.kind().as_str(),
                    &entry.name,
                    format!("refers to the {kind} {name:?}, which is not there"),
                ));
            }
        }
        self.check_removes(delta, &put)
    }

    fn check_removes(&self, delta: &Delta, put: &AHashSet<(Kind, &str)>) -> Result<(), Refused> {
        if delta.removes.is_empty() {
            return Ok(());
        }
        let mut released: AHashMap<(Kind, &str), u32> = AHashMap::new();
        let removed = delta.removes.iter().map(|(kind, name)| (*kind, &**name));
        let replaced = delta.puts.iter().map(|put| key(put));
        for (kind, name) in removed.clone().chain(replaced) {
            let before = self.held.get(kind, name);
            for need in before.iter().flat_map(|entry| entry.needs()) {
                *released.entry(need).or_default() += 1;
            }
        }
        for (kind, name) in removed {
            let refused = |reason: &str| Err(refused(kind.as_str(), name, reason.into()));
            if self.held.get(kind, name).is_none() {
                return refused("cannot be removed, it is not there");
            }
            if kind == Kind::Settings || put.contains(&(kind, name)) {
                return refused("cannot be removed");
            }
            let users = self.held.users(kind, name);
            if users > released.get(&(kind, name)).copied().unwrap_or(0) {
                return refused("cannot be removed, others refer to it");
            }
        }
        Ok(())
    }

    fn digest_after(&self, delta: &Delta) -> Digest {
        let mut digest = self.digest;
        for (kind, name) in &delta.removes {
            digest = digest.sub(self.held.hash(*kind, name));
        }
        for put in &delta.puts {
            let (kind, name) = key(put);
            digest = digest.sub(self.held.hash(kind, name)).add(put.hash);
        }
        digest
    }
}

fn key(entry: &Entry) -> (Kind, &str) {
    (entry.kind(), &entry.name)
}

fn refused(kind: &str, name: &str, reason: String) -> Refused {
    Refused {
        kind: kind.to_owned(),
        name: name.to_owned(),
        reason,
    }
}

fn out_of_turn(generation: u64, number: u64) -> Refused {
    refused(
        "state",
        "",
        format!("chunk {number} of generation {generation} does not follow what came before"),
    )
}

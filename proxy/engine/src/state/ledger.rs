//! The control thread's side of a transaction: everything that can fail, before the commit.
//!
//! The ledger remembers of each entity its hash and what it refers to, no more. [`Ledger::stage`]
//! decodes and compiles a change as it comes in, [`Ledger::prepare`] checks the whole of it against
//! what is held; the result either waits as [`Staged`] or leaves no trace. Called by the engine's
//! Python face with no lock on the request path.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use ahash::AHashMap;

use super::digest::Digest;
use super::entity::{Entity, Kind};
use super::incoming::{Held, Incoming, Materials};
use super::ops::Refused;
use super::staged::{Staged, StagedPut};
use crate::telemetry::access_log::LogWriter;
use crate::tls::policy::Tls;

/// The committed state as the control thread knows it, and at most one staged transaction.
pub struct Ledger {
    /// The committed generation.
    pub generation: u64,
    /// The commit that it stands for.
    pub commit: String,
    /// The digest of the committed state.
    pub digest: Digest,
    held: AHashMap<(Kind, String), Held>,
    /// How many entities need a given one.
    needed: AHashMap<(Kind, String), usize>,
    access_log: String,
    /// A listener has its socket from the moment that it is committed. Before a worker serves it has
    /// none: it gets all of them at once.
    pub serving: bool,
    incoming: Option<Incoming>,
    staged: Option<(Staged, Delta)>,
    tls: Tls,
}

/// What a staged transaction does to the ledger.
struct Delta {
    puts: Vec<((Kind, String), Held)>,
    removes: Vec<(Kind, String)>,
    access_log: Option<String>,
}

impl Ledger {
    /// Generation 0, which holds nothing.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self {
            generation: 0,
            commit: String::new(),
            digest: Digest::default(),
            held: AHashMap::new(),
            needed: AHashMap::new(),
            access_log: String::new(),
            serving: false,
            incoming: None,
            staged: None,
            tls,
        }
    }

    /// The staged generation, if any.
    #[must_use]
    pub fn staged_generation(&self) -> Option<u64> {
        self.staged.as_ref().map(|(staged, _)| staged.generation)
    }

    /// Listeners that the staged transaction takes away.
    #[must_use]
    pub fn staged_listener_removals(&self) -> Vec<String> {
        let removes = self.staged.iter().flat_map(|(staged, _)| &staged.removes);
        removes
            .filter(|(kind, _)| *kind == Kind::Listener)
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
                incoming.take(bytes, materials, &self.tls)
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
            puts,
            held,
            removes,
            access_log,
            ..
        } = incoming;
        let access_log = access_log.filter(|target| *target != self.access_log);
        let log = match &access_log {
            Some(target) => Some(
                LogWriter::open(target)
                    .map_err(|reason| refused("settings", "settings", reason))?,
            ),
            None => None,
        };
        self.check_sockets(&puts, &sockets)?;
        let delta = Delta {
            puts: held,
            removes,
            access_log,
        };
        self.check_references(&delta)?;
        let digest = self.digest_after(&delta);
        let staged = Staged {
            generation,
            commit: commit.to_owned(),
            digest,
            puts,
            removes: delta.removes.clone(),
            sockets,
            log,
        };
        self.staged = Some((staged, delta));
        Ok(digest)
    }

    /// The listeners that are held.
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        let names = self.held.keys();
        names
            .filter(|(kind, _)| *kind == Kind::Listener)
            .map(|(_, name)| name.as_str())
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
        if let Some(target) = delta.access_log {
            self.access_log = target;
        }
        for key in delta.removes {
            self.forget(&key);
        }
        for (key, held) in delta.puts {
            self.forget(&key);
            for need in &held.needs {
                *self.needed.entry(need.clone()).or_default() += 1;
            }
            self.held.insert(key, held);
        }
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

    fn forget(&mut self, key: &(Kind, String)) {
        let Some(held) = self.held.remove(key) else {
            return;
        };
        for need in held.needs {
            if let Some(count) = self.needed.get_mut(&need) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(&need);
                }
            }
        }
    }

    fn check_sockets(
        &self,
        puts: &[StagedPut],
        sockets: &HashMap<String, OwnedFd>,
    ) -> Result<(), Refused> {
        if !self.serving {
            return Ok(());
        }
        for put in puts {
            let Entity::Listener(listener) = &put.entity else {
                continue;
            };
            let before = self.held.get(&(Kind::Listener, put.name.clone()));
            let moved =
                before.is_none_or(|held| held.address.as_deref() != Some(&listener.address));
            if moved && !sockets.contains_key(&put.name) {
                return Err(refused(
                    "listener",
                    &put.name,
                    format!("no listening socket came with {}", listener.address),
                ));
            }
        }
        Ok(())
    }

    /// Everything that is needed after the change must be there after the change.
    fn check_references(&self, delta: &Delta) -> Result<(), Refused> {
        let put_keys: AHashMap<&(Kind, String), ()> =
            delta.puts.iter().map(|(key, _)| (key, ())).collect();
        if put_keys.len() != delta.puts.len() {
            return Err(refused(
                "state",
                "",
                "the change names an entity twice".into(),
            ));
        }
        let removed: AHashMap<&(Kind, String), ()> =
            delta.removes.iter().map(|key| (key, ())).collect();
        if removed.len() != delta.removes.len() {
            return Err(refused(
                "state",
                "",
                "the change removes an entity twice".into(),
            ));
        }
        for (key, held) in &delta.puts {
            for need in &held.needs {
                let there = put_keys.contains_key(need)
                    || (self.held.contains_key(need) && !removed.contains_key(need));
                if !there {
                    return Err(refused(
                        key.0.as_str(),
                        &key.1,
                        format!(
                            "refers to the {} {:?}, which is not there",
                            need.0.as_str(),
                            need.1
                        ),
                    ));
                }
            }
        }
        let mut released: AHashMap<&(Kind, String), usize> = AHashMap::new();
        let replaced = delta.puts.iter().map(|(key, _)| key);
        for key in delta.removes.iter().chain(replaced) {
            for need in self.held.get(key).iter().flat_map(|held| &held.needs) {
                *released.entry(need).or_default() += 1;
            }
        }
        for key in &delta.removes {
            if !self.held.contains_key(key) {
                return Err(refused(
                    key.0.as_str(),
                    &key.1,
                    "cannot be removed, it is not there".into(),
                ));
            }
            if key.0 == Kind::Settings || put_keys.contains_key(key) {
                return Err(refused(key.0.as_str(), &key.1, "cannot be removed".into()));
            }
            let users = self.needed.get(key).copied().unwrap_or(0);
            if users > released.get(key).copied().unwrap_or(0) {
                return Err(refused(
                    key.0.as_str(),
                    &key.1,
                    "cannot be removed, others refer to it".into(),
                ));
            }
        }
        Ok(())
    }

    fn digest_after(&self, delta: &Delta) -> Digest {
        let hash_before = |key: &(Kind, String)| {
            self.held
                .get(key)
                .map_or(Digest::default(), |held| held.hash)
        };
        let mut digest = self.digest;
        for key in &delta.removes {
            digest = digest.sub(hash_before(key));
        }
        for (key, held) in &delta.puts {
            digest = digest.sub(hash_before(key)).add(held.hash);
        }
        digest
    }
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

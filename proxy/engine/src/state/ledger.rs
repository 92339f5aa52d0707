//! The control thread's side of a transaction: everything that can fail, before the commit.
//!
//! The ledger remembers of each entity its hash and what it refers to, no more. [`Ledger::prepare`]
//! decodes, compiles, opens and checks against it; the result either waits as [`Staged`] or leaves
//! no trace. Called by the engine's Python face with no lock on the request path.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ahash::AHashMap;
use rustls::ClientConfig;

use super::digest::Digest;
use super::entity::{self, Entity, Kind};
use super::ops::{self, Ops, Refused};
use super::staged::{Staged, StagedPut};
use super::tables::cluster_of;
use crate::routing::rule::Rule;
use crate::telemetry::access_log::LogWriter;
use crate::tls::certificates::{self, Identity};
use crate::tls::policy::{Agreements, Tls};

/// What the ledger keeps of an entity.
struct Held {
    hash: Digest,
    /// What it needs to exist.
    needs: Vec<(Kind, String)>,
    /// A listener's address: a new one needs a new socket.
    address: Option<String>,
}

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

    /// Checks a change whole and stages it; returns the digest that the state will have.
    /// Preparing what is already staged or committed answers as the first time.
    ///
    /// # Errors
    /// [`Refused`] with the entity and the reason; the ledger is as before.
    pub fn prepare(
        &mut self,
        generation: u64,
        base: (u64, Digest),
        commit: &str,
        bytes: &[u8],
        sockets: HashMap<String, OwnedFd>,
        materials: &HashMap<String, Vec<u8>>,
    ) -> Result<Digest, Refused> {
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
        self.staged = None;
        let Ops { puts, removes } = ops::decode(bytes)?;
        let mut delta = Delta {
            puts: Vec::with_capacity(puts.len()),
            removes,
            access_log: None,
        };
        let mut staged_puts = Vec::with_capacity(puts.len());
        let mut log = None;
        for put in puts {
            if let Entity::Settings(settings) = &put.entity {
                if settings.access_log != self.access_log {
                    let sink = LogWriter::open(&settings.access_log)
                        .map_err(|reason| refused("settings", "settings", reason))?;
                    log = Some(sink);
                    delta.access_log = Some(settings.access_log.clone());
                }
            }
            if let Entity::Listener(listener) = &put.entity {
                self.check_socket(&put.name, listener, &sockets)?;
            }
            let rules = compile_rules(&put.name, &put.entity)?;
            let identity = self.load_identity(&put.name, &put.entity, materials)?;
            let tls = self.agree(&put.name, &put.entity, materials)?;
            let upstream_tls = self.ask(&put.name, &put.entity, materials)?;
            let (needs, address) = needs_of(&put.name, &put.entity);
            let key = (put.entity.kind(), put.name.clone());
            delta.puts.push((
                key,
                Held {
                    hash: put.hash,
                    needs,
                    address,
                },
            ));
            staged_puts.push(StagedPut {
                name: put.name,
                entity: put.entity,
                hash: put.hash,
                rules,
                identity,
                tls,
                upstream_tls,
            });
        }
        self.check_references(&delta)?;
        let digest = self.digest_after(&delta);
        let staged = Staged {
            generation,
            commit: commit.to_owned(),
            digest,
            puts: staged_puts,
            removes: delta.removes.clone(),
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

    /// Drops the staged transaction of that generation; its sockets close.
    pub fn abort(&mut self, generation: u64) {
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

    fn load_identity(
        &self,
        name: &str,
        entity: &Entity,
        materials: &HashMap<String, Vec<u8>>,
    ) -> Result<Option<Identity>, Refused> {
        let Entity::Certificate(entity::Certificate {
            certificate: Some(chain),
            private_key: Some(private_key),
            ocsp,
            ..
        }) = entity
        else {
            return Ok(None);
        };
        let load = || {
            let chain = material(materials, chain)?;
            let private_key = material(materials, private_key)?;
            let key = certificates::load(chain, private_key, &self.tls.provider)?;
            Ok(match ocsp {
                Some(staple) => {
                    let response = material(materials, &staple.material())?;
                    Identity::stapled(key, response, staple.until)
                }
                None => Identity::plain(key),
            })
        };
        load()
            .map(Some)
            .map_err(|reason| refused("certificate", name, reason))
    }

    fn ask(
        &self,
        name: &str,
        entity: &Entity,
        materials: &HashMap<String, Vec<u8>>,
    ) -> Result<Option<Arc<ClientConfig>>, Refused> {
        let Entity::Cluster(entity::Cluster {
            tls: Some(policy),
            protocol,
            ..
        }) = entity
        else {
            return Ok(None);
        };
        self.tls
            .client_config(policy, *protocol, |wanted| material(materials, wanted))
            .map(Some)
            .map_err(|reason| refused("cluster", name, reason))
    }

    fn agree(
        &self,
        name: &str,
        entity: &Entity,
        materials: &HashMap<String, Vec<u8>>,
    ) -> Result<Option<Agreements>, Refused> {
        let Entity::Listener(entity::Listener {
            tls: Some(policy), ..
        }) = entity
        else {
            return Ok(None);
        };
        self.tls
            .server_config(policy, |wanted| material(materials, wanted))
            .map(Some)
            .map_err(|reason| refused("listener", name, reason))
    }

    fn check_socket(
        &self,
        name: &str,
        listener: &entity::Listener,
        sockets: &HashMap<String, OwnedFd>,
    ) -> Result<(), Refused> {
        let before = self.held.get(&(Kind::Listener, name.to_owned()));
        let moved = before.is_none_or(|held| held.address.as_deref() != Some(&listener.address));
        if moved && !sockets.contains_key(name) {
            return Err(refused(
                "listener",
                name,
                format!("no listening socket came with {}", listener.address),
            ));
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

fn material<'a>(
    materials: &'a HashMap<String, Vec<u8>>,
    wanted: &entity::Material,
) -> Result<&'a [u8], String> {
    materials
        .get(&wanted.sha256)
        .map(Vec::as_slice)
        .ok_or_else(|| {
            format!(
                "the content of {} is missing in the state directory, or was altered there",
                wanted.path
            )
        })
}

fn compile_rules(name: &str, entity: &Entity) -> Result<Vec<(String, Rule)>, Refused> {
    let Entity::Frontend(frontend) = entity else {
        return Ok(Vec::new());
    };
    let compile = |listener: &String| {
        let rule =
            Rule::compile(name, frontend).map_err(|reason| refused("frontend", name, reason))?;
        Ok((listener.clone(), rule))
    };
    frontend.listeners.iter().map(compile).collect()
}

fn needs_of(name: &str, entity: &Entity) -> (Vec<(Kind, String)>, Option<String>) {
    match entity {
        Entity::Frontend(frontend) => {
            let listeners = frontend
                .listeners
                .iter()
                .map(|listener| (Kind::Listener, listener.clone()));
            (
                listeners
                    .chain([(Kind::Cluster, frontend.cluster.clone())])
                    .collect(),
                None,
            )
        }
        Entity::Backend(_) => (vec![(Kind::Cluster, cluster_of(name).to_owned())], None),
        Entity::Listener(listener) => {
            let default = listener
                .tls
                .as_ref()
                .and_then(|tls| tls.default_certificate.clone());
            let needs = default.map(|name| (Kind::Certificate, name));
            (needs.into_iter().collect(), Some(listener.address.clone()))
        }
        Entity::Settings(_) | Entity::Certificate(_) | Entity::Cluster(_) => (Vec::new(), None),
    }
}

fn refused(kind: &str, name: &str, reason: String) -> Refused {
    Refused {
        kind: kind.to_owned(),
        name: name.to_owned(),
        reason,
    }
}

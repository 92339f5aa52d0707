//! The running state of the engine thread: what requests look up, and the swap that changes it.
//!
//! Rule: [`Tables::apply`] runs within one loop turn, cannot fail, and costs what the change costs
//! (and the members of the clusters it touches). Objects of entities that did not change stay the
//! same objects: their connections, counters and positions survive.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;

use super::audit::slice;
use super::digest::Digest;
use super::entity::{self, Entity, Kind};
use super::frontend::Frontend;
use super::listener::{Listener, ListenerSettings, Routes};
use super::slot::{Returned, Slot};
use super::staged::{Staged, StagedPut};
use crate::routing::rule::Rule;
use crate::telemetry::access_log::LogSink;
use crate::telemetry::counters::Metrics;
use crate::telemetry::names::SlotKind;
use crate::tls::certificates::{Certificates, Identity};
use crate::upstream::{Backend, Cluster, ClusterSettings};

/// Entities by name, and by position for those who walk over them in parts.
pub type Named<V> = IndexMap<String, V, ahash::RandomState>;

/// Everything that a request can look up, at one generation.
pub struct Tables {
    /// The generation.
    pub generation: u64,
    generation_header: Rc<str>,
    /// The commit.
    pub commit: String,
    /// The digest of what is held here.
    pub digest: Digest,
    /// The settings entity.
    pub settings: Rc<entity::Settings>,
    settings_hash: Digest,
    /// Listeners by name.
    pub listeners: Named<Rc<Listener>>,
    /// Backends by `CLUSTER/BACKEND`.
    pub backends: Named<Rc<Backend>>,
    clusters: Named<Rc<Cluster>>,
    frontends: Named<Rc<Frontend>>,
    certificates: Named<(entity::Certificate, Digest)>,
    /// The same, as handshakes look them up.
    in_service: Arc<Certificates>,
    returned: Returned,
}

/// What a swap leaves the event loop to do.
#[derive(Default)]
pub struct Applied {
    /// Listeners whose sockets are to be watched from now on.
    pub opened: Vec<Rc<Listener>>,
    /// Listeners that accept no more and drain.
    pub closed: Vec<Rc<Listener>>,
    /// Backends that get no more requests and drain.
    pub removed: Vec<Rc<Backend>>,
    /// The access log from now on, if it changed.
    pub log: Option<LogSink>,
}

impl Tables {
    /// Nothing: generation 0. What handshakes look up is kept in `in_service`.
    #[must_use]
    pub fn new(in_service: Arc<Certificates>) -> Self {
        // Before the first commit nothing listens, so that no limit here ever counts.
        let settings = entity::Settings {
            access_log: "off".into(),
            admin: None,
            drain_timeout: 0,
            error_pages: BTreeMap::new(),
            generation_header: false,
            max_buffered_bytes: 0,
            max_connections: 0,
            max_requests: 0,
            workers: entity::Workers::Auto(entity::Auto::Auto),
        };
        Self {
            generation: 0,
            generation_header: "".into(),
            commit: String::new(),
            digest: Digest::default(),
            settings: Rc::new(settings),
            settings_hash: Digest::default(),
            listeners: Named::default(),
            backends: Named::default(),
            clusters: Named::default(),
            frontends: Named::default(),
            certificates: Named::default(),
            in_service,
            returned: Returned::default(),
        }
    }

    /// The response header that names the generation, when the settings ask for it.
    #[must_use]
    pub fn generation_header(&self) -> Option<Rc<str>> {
        self.settings
            .generation_header
            .then(|| self.generation_header.clone())
    }

    /// Swaps a staged transaction in: make before break.
    pub fn apply(&mut self, staged: Staged, metrics: &mut Metrics) -> Applied {
        for slot in self.returned.borrow_mut().drain(..) {
            metrics.free_slot(slot);
        }
        let Staged {
            generation,
            commit,
            digest,
            puts,
            removes,
            mut sockets,
            log,
        } = staged;
        let mut applied = Applied {
            log,
            ..Applied::default()
        };
        let mut touched: Vec<Rc<Cluster>> = Vec::new();
        let mut later: Vec<StagedPut> = Vec::new();
        for put in puts {
            match put.entity {
                Entity::Settings(settings) => self.put_settings(settings, put.hash),
                Entity::Certificate(certificate) => {
                    self.put_certificate(put.name, certificate, put.hash, put.identity);
                }
                Entity::Cluster(cluster) => {
                    let settings = ClusterSettings {
                        entity: cluster,
                        tls: put.upstream_tls,
                    };
                    touched.push(self.put_cluster(put.name, settings, put.hash, metrics))
                }
                Entity::Listener(listener) => {
                    let socket = sockets.remove(&put.name);
                    let settings = ListenerSettings::new(listener, put.tls);
                    self.put_listener(put.name, settings, put.hash, socket, &mut applied);
                }
                Entity::Backend(_) | Entity::Frontend(_) => later.push(put),
            }
        }
        later.sort_by_key(|put| matches!(put.entity, Entity::Frontend(_)));
        for put in later {
            match put.entity {
                Entity::Backend(backend) => {
                    touched.extend(self.put_backend(
                        put.name,
                        backend,
                        put.hash,
                        metrics,
                        &mut applied,
                    ));
                }
                Entity::Frontend(frontend) => {
                    self.put_frontend(put.name, frontend, put.hash, put.rules, metrics)
                }
                _ => unreachable!("only backends and frontends are put off"),
            }
        }
        self.apply_removes(removes, &mut touched, &mut applied);
        touched.sort_by_key(Rc::as_ptr);
        touched.dedup_by_key(|cluster| Rc::as_ptr(cluster));
        for cluster in touched {
            cluster.rebuild();
        }
        debug_assert!(
            self.digest == digest,
            "the ledger and the tables must agree"
        );
        self.generation = generation;
        self.generation_header = format!("Kakehi-Generation: {generation}\r\n").into();
        self.commit = commit;
        applied
    }

    /// How many entities of a kind there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Settings => usize::from(self.settings_hash != Digest::default()),
            Kind::Certificate => self.certificates.len(),
            Kind::Listener => self.listeners.len(),
            Kind::Cluster => self.clusters.len(),
            Kind::Backend => self.backends.len(),
            Kind::Frontend => self.frontends.len(),
        }
    }

    /// Hands entities of a kind with their hashes over, `count` from `offset` on: for audits.
    pub(super) fn each(
        &self,
        kind: Kind,
        offset: usize,
        count: usize,
        take: &mut dyn FnMut(&str, &Entity, Digest),
    ) {
        match kind {
            Kind::Settings => {
                // Before the first commit there are none.
                if offset == 0 && self.settings_hash != Digest::default() {
                    let settings = Entity::Settings((*self.settings).clone());
                    take("settings", &settings, self.settings_hash);
                }
            }
            Kind::Certificate => {
                let entity = |(entity, hash): &(entity::Certificate, Digest)| {
                    (Entity::Certificate(entity.clone()), *hash)
                };
                slice(&self.certificates, offset, count, entity, take);
            }
            Kind::Listener => {
                let entity = |listener: &Rc<Listener>| {
                    let entity = listener.settings().entity.clone();
                    (Entity::Listener(entity), listener.hash.get())
                };
                slice(&self.listeners, offset, count, entity, take);
            }
            Kind::Cluster => {
                let entity = |cluster: &Rc<Cluster>| {
                    let entity = cluster.settings().entity.clone();
                    (Entity::Cluster(entity), cluster.hash.get())
                };
                slice(&self.clusters, offset, count, entity, take);
            }
            Kind::Backend => {
                let entity = |backend: &Rc<Backend>| {
                    let entity = backend.entity.borrow().clone();
                    (Entity::Backend(entity), backend.hash.get())
                };
                slice(&self.backends, offset, count, entity, take);
            }
            Kind::Frontend => {
                let entity = |frontend: &Rc<Frontend>| {
                    (Entity::Frontend(frontend.entity.clone()), frontend.hash)
                };
                slice(&self.frontends, offset, count, entity, take);
            }
        }
    }

    fn put_settings(&mut self, settings: entity::Settings, hash: Digest) {
        self.replace_hash(self.settings_hash, hash);
        self.settings_hash = hash;
        self.settings = Rc::new(settings);
    }

    fn put_certificate(
        &mut self,
        name: String,
        entity: entity::Certificate,
        hash: Digest,
        identity: Option<Identity>,
    ) {
        self.take_certificate(&name);
        // One that has not been issued yet is there for nobody.
        if let Some(identity) = identity {
            // One that was ordered may be of a time when it had other hostnames.
            let hostnames: Vec<_> = entity
                .hostnames
                .iter()
                .filter(|hostname| entity.acme.is_none() || identity.is_valid_for(hostname))
                .cloned()
                .collect();
            self.in_service.insert(&name, &hostnames, &identity);
        }
        self.replace_hash(Digest::default(), hash);
        self.certificates.insert(name, (entity, hash));
    }

    fn take_certificate(&mut self, name: &str) {
        if let Some((entity, hash)) = self.certificates.swap_remove(name) {
            self.replace_hash(hash, Digest::default());
            self.in_service.remove(name, &entity.hostnames);
        }
    }

    fn put_cluster(
        &mut self,
        name: String,
        settings: ClusterSettings,
        hash: Digest,
        metrics: &mut Metrics,
    ) -> Rc<Cluster> {
        if let Some(cluster) = self.clusters.get(&name).cloned() {
            self.replace_hash(cluster.hash.get(), hash);
            cluster.replace_settings(settings, hash);
            return cluster;
        }
        self.replace_hash(Digest::default(), hash);
        let slot = self.slot(SlotKind::Cluster, &name, metrics);
        let cluster = Rc::new(Cluster::new(name.clone(), settings, hash, slot));
        self.clusters.insert(name, cluster.clone());
        cluster
    }

    fn put_listener(
        &mut self,
        name: String,
        settings: ListenerSettings,
        hash: Digest,
        socket: Option<std::os::fd::OwnedFd>,
        applied: &mut Applied,
    ) {
        let before = self.listeners.get(&name).cloned();
        self.replace_hash(
            before
                .as_ref()
                .map_or(Digest::default(), |listener| listener.hash.get()),
            hash,
        );
        let address = settings.entity.socket_addr().ok();
        match (before, socket, address) {
            (Some(listener), None, address) if address == Some(listener.address) => {
                listener.replace_settings(settings, hash);
            }
            (before, socket, Some(address)) => {
                let routes = before
                    .as_ref()
                    .map_or_else(Routes::default, |listener| listener.routes.clone());
                let listener = Rc::new(Listener::new(
                    name.clone(),
                    address,
                    settings,
                    hash,
                    socket,
                    routes,
                ));
                applied.opened.push(listener.clone());
                applied.closed.extend(before);
                self.listeners.insert(name, listener);
            }
            (_, _, None) => unreachable!("the decoder refuses a listener without address"),
        }
    }

    fn put_backend(
        &mut self,
        name: String,
        entity: entity::Backend,
        hash: Digest,
        metrics: &mut Metrics,
        applied: &mut Applied,
    ) -> Option<Rc<Cluster>> {
        let cluster = self.clusters.get(cluster_of(&name))?.clone();
        let address = entity.socket_addr().ok()?;
        let before = self.backends.get(&name).cloned();
        self.replace_hash(
            before
                .as_ref()
                .map_or(Digest::default(), |backend| backend.hash.get()),
            hash,
        );
        match before {
            Some(backend) if backend.address == address => {
                backend.replace_entity(entity, hash);
                return Some(cluster);
            }
            Some(moved) => {
                moved.removed.set(true);
                applied.removed.push(moved);
            }
            None => {}
        }
        let slot = self.slot(SlotKind::Backend, &name, metrics);
        let backend = Rc::new(Backend::new(name.clone(), entity, address, hash, slot));
        cluster.insert(backend.clone());
        self.backends.insert(name, backend);
        Some(cluster)
    }

    fn put_frontend(
        &mut self,
        name: String,
        entity: entity::Frontend,
        hash: Digest,
        rules: Vec<(String, Rule)>,
        metrics: &mut Metrics,
    ) {
        let Some(cluster) = self.clusters.get(&entity.cluster).cloned() else {
            unreachable!("the ledger refuses a frontend without cluster");
        };
        let slot = match self.take_frontend(&name) {
            Some(before) => before.slot.clone(),
            None => Rc::new(self.slot(SlotKind::Frontend, &name, metrics)),
        };
        self.replace_hash(Digest::default(), hash);
        let frontend = Rc::new(Frontend {
            name: name.clone(),
            cluster,
            hsts: entity.hsts.as_ref().map(|hsts| hsts.line().into()),
            entity,
            hash,
            slot,
        });
        for (listener, rule) in rules {
            if let Some(listener) = self.listeners.get(&listener) {
                for table in listener.routes.of(&frontend.entity) {
                    table.borrow_mut().insert(rule.clone(), frontend.clone());
                }
            }
        }
        self.frontends.insert(name, frontend);
    }

    /// Takes a frontend out of every table that leads to it.
    fn take_frontend(&mut self, name: &str) -> Option<Rc<Frontend>> {
        let frontend = self.frontends.swap_remove(name)?;
        self.replace_hash(frontend.hash, Digest::default());
        for listener in &frontend.entity.listeners {
            if let Some(listener) = self.listeners.get(listener) {
                for table in listener.routes.of(&frontend.entity) {
                    table.borrow_mut().remove(name);
                }
            }
        }
        Some(frontend)
    }

    fn apply_removes(
        &mut self,
        removes: Vec<(Kind, String)>,
        touched: &mut Vec<Rc<Cluster>>,
        applied: &mut Applied,
    ) {
        // Frontends first: nothing may lead to what goes next.
        let (frontends, others): (Vec<_>, Vec<_>) = removes
            .into_iter()
            .partition(|(kind, _)| *kind == Kind::Frontend);
        for (_, name) in frontends {
            self.take_frontend(&name);
        }
        for (kind, name) in others {
            match kind {
                Kind::Listener => {
                    if let Some(listener) = self.listeners.swap_remove(&name) {
                        self.replace_hash(listener.hash.get(), Digest::default());
                        applied.closed.push(listener);
                    }
                }
                Kind::Backend => {
                    if let Some(backend) = self.backends.swap_remove(&name) {
                        self.replace_hash(backend.hash.get(), Digest::default());
                        backend.removed.set(true);
                        if let Some(cluster) = self.clusters.get(cluster_of(&name)) {
                            cluster.remove(&name);
                            touched.push(cluster.clone());
                        }
                        applied.removed.push(backend);
                    }
                }
                Kind::Cluster => {
                    if let Some(cluster) = self.clusters.swap_remove(&name) {
                        self.replace_hash(cluster.hash.get(), Digest::default());
                    }
                }
                Kind::Certificate => self.take_certificate(&name),
                Kind::Settings | Kind::Frontend => {}
            }
        }
    }

    fn replace_hash(&mut self, before: Digest, after: Digest) {
        self.digest = self.digest.sub(before).add(after);
    }

    fn slot(&self, kind: SlotKind, name: &str, metrics: &mut Metrics) -> Slot {
        Slot::new(metrics.alloc_slot(kind, name), &self.returned)
    }
}

/// The cluster's part of `CLUSTER/BACKEND`.
#[must_use]
pub fn cluster_of(backend: &str) -> &str {
    backend
        .split_once('/')
        .map_or(backend, |(cluster, _)| cluster)
}

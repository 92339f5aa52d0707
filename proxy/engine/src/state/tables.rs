//! The running state of the engine thread: what requests look up, and the swap that changes it.
//!
//! Rule: [`Tables::apply`] runs within one loop turn, cannot fail, and costs what the change costs
//! (and the members of the clusters it touches). Objects of entities that did not change stay the
//! same objects: their connections, counters and positions survive.

use std::rc::Rc;
use std::sync::Arc;

use super::digest::Digest;
use super::entity::{self, Entity, Kind};
use super::entry::{Entry, cluster_of};
use super::frontend::Frontend;
use super::listener::{Listener, ListenerSettings, Routes};
use super::named::Named;
use super::staged::{Compiled, Staged, StagedPut};
use crate::policy::plan::Plan;
use crate::routing::rule::{Rule, Target};
use crate::telemetry::access_log::LogSink;
use crate::telemetry::counters::Metrics;
use crate::tls::certificates::{Certificates, Identity};
use crate::tls::policy::Agreements;
use crate::upstream::{Backend, Cluster, ClusterSettings};

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
    pub settings: Arc<entity::Settings>,
    /// The same as committed; `None` before the first commit.
    settings_entry: Option<Arc<Entry>>,
    /// Listeners by name.
    pub listeners: Named<Rc<Listener>>,
    clusters: Named<Rc<Cluster>>,
    /// Backends by `CLUSTER/BACKEND`; as they run, they are in their clusters.
    backends: Named<Arc<Entry>>,
    frontends: Named<Rc<Frontend>>,
    certificates: Named<Arc<Entry>>,
    /// The same, as handshakes look them up.
    in_service: Arc<Certificates>,
    metrics: Rc<Metrics>,
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
    pub fn new(in_service: Arc<Certificates>, metrics: Rc<Metrics>) -> Self {
        // Before the first commit nothing listens, so that no limit here ever counts.
        let settings = entity::Settings {
            access_log: "off".into(),
            ..entity::Settings::default()
        };
        Self {
            generation: 0,
            generation_header: "".into(),
            commit: String::new(),
            digest: Digest::default(),
            settings: Arc::new(settings),
            settings_entry: None,
            listeners: Named::default(),
            clusters: Named::default(),
            backends: Named::default(),
            frontends: Named::default(),
            certificates: Named::default(),
            in_service,
            metrics,
        }
    }

    /// A backend as requests see it.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<Rc<Backend>> {
        self.clusters.get(cluster_of(name))?.backend(name)
    }

    /// The response header that names the generation, when the settings ask for it.
    #[must_use]
    pub fn generation_header(&self) -> Option<Rc<str>> {
        self.settings
            .generation_header
            .then(|| self.generation_header.clone())
    }

    /// Swaps a staged transaction in: make before break.
    pub fn apply(&mut self, staged: Staged) -> Applied {
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
        // What frontends and backends name comes first.
        let (others, last): (Vec<_>, Vec<_>) = puts
            .into_iter()
            .partition(|put| !matches!(put.entry.kind(), Kind::Backend | Kind::Frontend));
        self.make_room(&others, &last);
        for StagedPut { entry, compiled } in others {
            match compiled {
                Compiled::Certificate(identity) => self.put_certificate(entry, identity),
                Compiled::Cluster(settings) => touched.extend(self.put_cluster(entry, settings)),
                Compiled::Listener(tls) => {
                    let socket = sockets.remove(&*entry.name);
                    self.put_listener(entry, tls, socket, &mut applied);
                }
                Compiled::Nothing | Compiled::Frontend(..) => self.put_settings(entry),
            }
        }
        for StagedPut { entry, compiled } in last {
            match compiled {
                Compiled::Frontend(rule, plan) => self.put_frontend(rule, plan),
                _ => touched.extend(self.put_backend(entry, &mut applied)),
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

    /// For a large change, of which most is new where little is held.
    fn make_room(&mut self, others: &[StagedPut], last: &[StagedPut]) {
        let count = |puts: &[StagedPut], kind: Kind| {
            let of_kind = puts.iter().filter(|put| put.entry.kind() == kind);
            of_kind.count()
        };
        if last.len() < MANY {
            return;
        }
        let clusters = count(others, Kind::Cluster);
        let backends = count(last, Kind::Backend);
        let frontends = last.len() - backends;
        self.clusters
            .reserve(clusters.saturating_sub(self.clusters.len()));
        self.backends
            .reserve(backends.saturating_sub(self.backends.len()));
        self.frontends
            .reserve(frontends.saturating_sub(self.frontends.len()));
    }

    /// How many entities of a kind there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Settings => self.settings_entry.iter().count(),
            Kind::Certificate => self.certificates.len(),
            Kind::Listener => self.listeners.len(),
            Kind::Cluster => self.clusters.len(),
            Kind::Backend => self.backends.len(),
            Kind::Frontend => self.frontends.len(),
        }
    }

    /// Hands entities of a kind over, `count` from `offset` on: for audits.
    pub(super) fn each(
        &self,
        kind: Kind,
        offset: usize,
        count: usize,
        take: &mut dyn FnMut(&Entry),
    ) {
        match kind {
            Kind::Settings => {
                let settings = self.settings_entry.iter();
                settings
                    .skip(offset)
                    .take(count)
                    .for_each(|entry| take(entry));
            }
            Kind::Certificate => {
                let part = self.certificates.part(offset, count);
                part.iter().for_each(|entry| take(entry));
            }
            Kind::Listener => {
                let part = self.listeners.part(offset, count);
                part.iter().for_each(|it| take(&it.entry.borrow()));
            }
            Kind::Cluster => {
                let part = self.clusters.part(offset, count);
                part.iter().for_each(|it| take(&it.entry()));
            }
            Kind::Backend => {
                let part = self.backends.part(offset, count);
                part.iter().for_each(|entry| take(entry));
            }
            Kind::Frontend => {
                let part = self.frontends.part(offset, count);
                part.iter().for_each(|it| take(it.entry()));
            }
        }
    }

    fn put_settings(&mut self, entry: Arc<Entry>) {
        let Entity::Settings(settings) = &entry.entity else {
            unreachable!("all other kinds compile to something");
        };
        self.settings = settings.clone();
        self.metrics.set_slots_max(settings.max_counted_entities);
        let hash = entry.hash;
        let before = self.settings_entry.replace(entry);
        self.replace_hash(before.map(|before| before.hash), Some(hash));
    }

    fn put_certificate(&mut self, entry: Arc<Entry>, identity: Option<Box<Identity>>) {
        self.take_certificate(&entry.name);
        let Entity::Certificate(certificate) = &entry.entity else {
            unreachable!("only a certificate compiles to an identity");
        };
        // One that has not been issued yet is there for nobody.
        if let Some(identity) = identity {
            // One that was ordered may be of a time when it had other hostnames.
            let hostnames: Vec<_> = certificate
                .hostnames
                .iter()
                .filter(|hostname| certificate.acme.is_none() || identity.is_valid_for(hostname))
                .cloned()
                .collect();
            self.in_service.insert(&entry.name, &hostnames, &identity);
        }
        self.replace_hash(None, Some(entry.hash));
        self.certificates.insert(entry);
    }

    fn take_certificate(&mut self, name: &str) {
        let Some(entry) = self.certificates.swap_remove(name) else {
            return;
        };
        self.replace_hash(Some(entry.hash), None);
        if let Entity::Certificate(certificate) = &entry.entity {
            self.in_service.remove(name, &certificate.hostnames);
        }
    }

    /// Tells the cluster when it was there before.
    fn put_cluster(
        &mut self,
        entry: Arc<Entry>,
        settings: Arc<ClusterSettings>,
    ) -> Option<Rc<Cluster>> {
        if let Some(cluster) = self.clusters.get(&entry.name).cloned() {
            self.replace_hash(Some(cluster.entry().hash), Some(entry.hash));
            cluster.replace_settings(entry, settings);
            return Some(cluster);
        }
        self.replace_hash(None, Some(entry.hash));
        let cluster = Cluster::new(entry, settings, self.metrics.clone());
        self.clusters.insert(Rc::new(cluster));
        None
    }

    fn put_listener(
        &mut self,
        entry: Arc<Entry>,
        tls: Option<Box<Agreements>>,
        socket: Option<std::os::fd::OwnedFd>,
        applied: &mut Applied,
    ) {
        let Entity::Listener(listener) = &entry.entity else {
            unreachable!("only a listener compiles to agreements");
        };
        let settings = ListenerSettings::new(listener.clone(), tls.map(|tls| *tls));
        let before = self.listeners.get(&entry.name).cloned();
        let hash_before = before.as_ref().map(|it| it.entry.borrow().hash);
        self.replace_hash(hash_before, Some(entry.hash));
        let address = settings.entity.socket_addr().ok();
        match (before, socket, address) {
            (Some(listener), None, address) if address == Some(listener.address) => {
                listener.replace_settings(settings, entry);
            }
            (before, socket, Some(address)) => {
                let routes = before
                    .as_ref()
                    .map_or_else(Routes::default, |listener| listener.routes.clone());
                let listener = Listener::new(entry, address, settings, socket, routes);
                let listener = Rc::new(listener);
                applied.opened.push(listener.clone());
                applied.closed.extend(before);
                self.listeners.insert(listener);
            }
            (_, _, None) => unreachable!("the decoder refuses a listener without address"),
        }
    }

    fn put_backend(&mut self, entry: Arc<Entry>, applied: &mut Applied) -> Option<Rc<Cluster>> {
        let cluster = self.clusters.get(cluster_of(&entry.name))?.clone();
        applied.removed.extend(cluster.insert(entry.clone()));
        let hash = entry.hash;
        let before = self.backends.insert(entry);
        self.replace_hash(before.map(|before| before.hash), Some(hash));
        Some(cluster)
    }

    fn put_frontend(&mut self, rule: Rule, plan: Option<Box<Plan>>) {
        let entry = rule.entry();
        let cluster = entry.frontend().cluster.as_deref().map(|name| {
            let Some(cluster) = self.clusters.get(name).cloned() else {
                unreachable!("the ledger refuses a frontend whose cluster is not there");
            };
            cluster
        });
        let before = self.take_frontend(&entry.name);
        self.replace_hash(None, Some(entry.hash));
        let frontend = Rc::new(Frontend::new(rule, plan, cluster, before.as_deref()));
        let value = frontend.entity();
        for listener in value.listeners.iter() {
            if let Some(listener) = self.listeners.get(listener) {
                for table in listener.routes.of(value) {
                    table.borrow_mut().insert(frontend.clone());
                }
            }
        }
        self.frontends.insert(frontend);
    }

    /// Takes a frontend out of every table that leads to it.
    fn take_frontend(&mut self, name: &str) -> Option<Rc<Frontend>> {
        let frontend = self.frontends.swap_remove(name)?;
        self.replace_hash(Some(frontend.entry().hash), None);
        let value = frontend.entity();
        for listener in value.listeners.iter() {
            if let Some(listener) = self.listeners.get(listener) {
                for table in listener.routes.of(value) {
                    table.borrow_mut().remove(frontend.rule());
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
                        let hash = listener.entry.borrow().hash;
                        self.replace_hash(Some(hash), None);
                        applied.closed.push(listener);
                    }
                }
                Kind::Backend => {
                    if let Some(entry) = self.backends.swap_remove(&name) {
                        self.replace_hash(Some(entry.hash), None);
                        if let Some(cluster) = self.clusters.get(cluster_of(&name)) {
                            applied.removed.extend(cluster.remove(&name));
                            touched.push(cluster.clone());
                        }
                    }
                }
                Kind::Cluster => {
                    if let Some(cluster) = self.clusters.swap_remove(&name) {
                        self.replace_hash(Some(cluster.entry().hash), None);
                    }
                }
                Kind::Certificate => self.take_certificate(&name),
                Kind::Settings | Kind::Frontend => {}
            }
        }
    }

    fn replace_hash(&mut self, before: Option<Digest>, after: Option<Digest>) {
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        self.digest = self.digest.sub(before).add(after);
    }
}

/// Fewer entities find their room on the way.
const MANY: usize = 1000;

//! One cluster as it runs: its committed settings and the set of backends that requests choose from.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;

use super::backend::Backend;
use super::balance::{Balancer, Random};
use crate::protocol::h1::HeadLimits;
use crate::state::digest::Digest;
use crate::state::entity::{self, ClusterProtocol, LoadBalancing};
use crate::state::slot::Slot;

/// The committed settings of a cluster, resolved once.
pub struct ClusterSettings {
    /// The entity as committed.
    pub entity: entity::Cluster,
    /// What is asked of backends in handshakes; `None` in clear text.
    pub tls: Option<Arc<ClientConfig>>,
}

impl ClusterSettings {
    /// Limits of response heads, for the parser.
    #[must_use]
    pub fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            head_bytes_max: self.entity.limits.head_bytes as usize,
            header_count_max: self.entity.limits.header_count as usize,
        }
    }

    /// Whether one connection to a backend carries many requests.
    #[must_use]
    pub fn is_multiplexed(&self) -> bool {
        self.entity.protocol == ClusterProtocol::H2
    }
}

/// A cluster. The object outlives changes of its settings and members; a request keeps the
/// [`ClusterSettings`] and the [`BackendSet`] that it found when its head was complete, and is
/// thereby served by one generation.
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its counters in shared memory.
    pub slot: Slot,
    /// Hash of the entity, part of the state's digest.
    pub hash: Cell<Digest>,
    settings: RefCell<Rc<ClusterSettings>>,
    members: RefCell<BTreeMap<String, Rc<Backend>>>,
    set: RefCell<Rc<BackendSet>>,
}

impl Cluster {
    /// A cluster without backends.
    #[must_use]
    pub fn new(name: String, settings: ClusterSettings, hash: Digest, slot: Slot) -> Self {
        let set = BackendSet::new(Vec::new(), settings.entity.load_balancing, None);
        Self {
            name,
            slot,
            hash: Cell::new(hash),
            settings: RefCell::new(Rc::new(settings)),
            members: RefCell::default(),
            set: RefCell::new(Rc::new(set)),
        }
    }

    /// The committed settings.
    #[must_use]
    pub fn settings(&self) -> Rc<ClusterSettings> {
        self.settings.borrow().clone()
    }

    /// The backends to choose from.
    #[must_use]
    pub fn backends(&self) -> Rc<BackendSet> {
        self.set.borrow().clone()
    }

    /// Replaces the settings; [`Cluster::rebuild`] must follow in the same turn.
    pub fn replace_settings(&self, mut settings: ClusterSettings, hash: Digest) {
        self.hash.set(hash);
        let before = self.settings();
        if before.entity.tls == settings.entity.tls
            && before.entity.protocol == settings.entity.protocol
        {
            // The same policy: connections that were made under it may be used again.
            settings.tls.clone_from(&before.tls);
        }
        *self.settings.borrow_mut() = Rc::new(settings);
    }

    /// Adds or replaces a member; [`Cluster::rebuild`] must follow in the same turn.
    pub fn insert(&self, backend: Rc<Backend>) {
        self.members
            .borrow_mut()
            .insert(backend.name.clone(), backend);
    }

    /// Takes a member out; [`Cluster::rebuild`] must follow in the same turn.
    pub fn remove(&self, name: &str) {
        self.members.borrow_mut().remove(name);
    }

    /// Makes the set of backends anew, with the same one's turn as before: costs what the cluster has
    /// members.
    pub fn rebuild(&self) {
        let members = self.members.borrow().values().cloned().collect();
        let policy = self.settings.borrow().entity.load_balancing;
        let before = self.backends();
        *self.set.borrow_mut() = Rc::new(BackendSet::new(members, policy, Some(&before)));
    }
}

/// The backends of one generation of a cluster, and whose turn it is.
pub struct BackendSet {
    backends: Vec<Rc<Backend>>,
    balancer: Balancer,
}

impl BackendSet {
    fn new(members: Vec<Rc<Backend>>, policy: LoadBalancing, before: Option<&Self>) -> Self {
        let backends: Vec<_> = members
            .into_iter()
            .filter(|backend| backend.entity.borrow().weight > 0)
            .collect();
        let weights = backends
            .iter()
            .map(|backend| u32::from(backend.entity.borrow().weight))
            .collect();
        let balancer = Balancer::new(policy, weights);
        if let Some(before) = before {
            // Both are in the order of the names.
            let places: Vec<_> = before
                .backends
                .iter()
                .map(|old| {
                    backends
                        .binary_search_by(|new| new.name.cmp(&old.name))
                        .ok()
                })
                .collect();
            balancer.go_on_from(&before.balancer, &places);
        }
        Self { backends, balancer }
    }

    /// Chooses a backend, none of `tried`. Backends that just failed to connect are passed over as
    /// long as another is left, and so is one that somebody is trying again, which may take `probe_ms`;
    /// when all have failed one of them is tried all the same.
    pub fn choose(
        &self,
        tried: &[Rc<Backend>],
        now_ms: u64,
        probe_ms: u64,
        random: &mut Random,
    ) -> Option<Rc<Backend>> {
        let candidate = |backend: &Backend| {
            backend.accepts_requests()
                && !tried
                    .iter()
                    .any(|other| std::ptr::eq(&raw const **other, backend))
        };
        self.balancer
            .choose(&self.backends, random, |backend| {
                candidate(backend) && backend.is_up(now_ms)
            })
            .or_else(|| self.balancer.choose(&self.backends, random, candidate))
            .map(|index| self.backends[index].clone())
            .inspect(|backend| backend.chosen(now_ms, probe_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str) -> Rc<Backend> {
        let address = "127.0.0.1:9";
        let entity = entity::Backend {
            address: address.into(),
            weight: 1,
        };
        let address = address.parse().unwrap();
        let slot = Slot::none();
        Rc::new(Backend::new(
            name.into(),
            entity,
            address,
            Digest::default(),
            slot,
        ))
    }

    fn set(members: &[&Rc<Backend>]) -> BackendSet {
        let members = members.iter().map(|&it| it.clone()).collect();
        BackendSet::new(members, LoadBalancing::RoundRobin, None)
    }

    #[test]
    fn after_a_pause_one_request_finds_out_for_all() {
        let (up, hole) = (backend("a"), backend("b"));
        let set = set(&[&up, &hole]);
        let mut random = Random::new(1);
        let mut times_in_the_hole = |at_ms: u64| {
            let mut choose = || set.choose(&[], at_ms, 3000, &mut random).unwrap();
            (0..100).filter(|_| Rc::ptr_eq(&choose(), &hole)).count()
        };
        hole.connect_failed(1000);
        assert_eq!(times_in_the_hole(1001), 0);
        // The pause is over: one goes, and nobody else until it is known what became of it.
        assert_eq!(times_in_the_hole(1300), 1);
        assert_eq!(times_in_the_hole(2000), 0);
        hole.connect_failed(4300);
        assert_eq!(times_in_the_hole(4400), 0);
        // Its client has left before it was known: the next one goes.
        assert_eq!(times_in_the_hole(6000), 1);
        hole.probe_ended();
        assert_eq!(times_in_the_hole(6001), 1);
        // Nothing has been heard within the time of a connect.
        assert_eq!(times_in_the_hole(9001), 1);
        hole.connect_succeeded();
        assert_eq!(times_in_the_hole(9002), 50);
    }

    #[test]
    fn where_all_have_failed_somebody_is_asked_all_the_same() {
        let (one, other) = (backend("a"), backend("b"));
        let set = set(&[&one, &other]);
        one.connect_failed(1000);
        other.connect_failed(1000);
        let mut random = Random::new(1);
        for at_ms in 1000..1600 {
            assert!(set.choose(&[], at_ms, 3000, &mut random).is_some());
        }
    }
}

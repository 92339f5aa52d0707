//! One cluster as it runs: its committed settings and the set of backends that requests choose from.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;

use super::backend::Backend;
use super::balance::{Balancer, Random};
use super::budget::Budget;
use super::checked::Checked;
use super::health::SharedMemory;
use super::members::Members;
use crate::policy::ends::respond::Respond;
use crate::protocol::h1::HeadLimits;
use crate::state::digest::Digest;
use crate::state::entity::{self, ClusterProtocol, LoadBalancing};
use crate::state::entry::Entry;
use crate::state::kinds::registry::Runs;
use crate::state::named::HasName;
use crate::state::slot::Slot;
use crate::telemetry::counters::{Metrics, SlotId, SlotKind};

/// The committed settings of a cluster, resolved once; clusters of the same settings share them.
#[derive(Debug)]
pub struct ClusterSettings {
    /// The entity as committed.
    pub entity: Arc<entity::Cluster>,
    /// What is asked of backends in handshakes; `None` in clear text.
    pub tls: Option<Arc<ClientConfig>>,
    /// What requests are answered while no backend can be asked, if that is said.
    pub answer: Option<Arc<Respond>>,
}

impl ClusterSettings {
    /// Those of a cluster that is spoken to in clear text.
    #[must_use]
    pub fn plain(entity: Arc<entity::Cluster>) -> Self {
        Self {
            entity,
            tls: None,
            answer: None,
        }
    }

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
/// thereby served by one generation. What requests alone need comes with the first of them.
pub struct Cluster {
    /// The entry that it was made of, for its name.
    first: Arc<Entry>,
    now: RefCell<Now>,
    shared: Rc<SharedMemory>,
    slot: OnceCell<Slot>,
}

/// What changes of it.
struct Now {
    entry: Arc<Entry>,
    settings: Arc<ClusterSettings>,
    members: Members,
    set: Option<Rc<BackendSet>>,
}

impl Cluster {
    /// A cluster without backends.
    #[must_use]
    pub fn new(
        entry: Arc<Entry>,
        settings: Arc<ClusterSettings>,
        shared: Rc<SharedMemory>,
    ) -> Self {
        Self {
            first: entry.clone(),
            now: RefCell::new(Now {
                entry,
                settings,
                members: Members::default(),
                set: None,
            }),
            shared,
            slot: OnceCell::new(),
        }
    }

    /// The one of requests that go nowhere: nobody has named it, and it counts nothing.
    #[must_use]
    pub fn nowhere(metrics: Rc<Metrics>) -> Self {
        let entity = Arc::<entity::Cluster>::default();
        let settings = ClusterSettings::plain(entity.clone());
        let entry = Entry::new("", entity::Entity::Cluster(entity), Digest::default());
        let shared = Rc::new(SharedMemory::new(metrics));
        Self::new(Arc::new(entry), Arc::new(settings), shared)
    }

    /// Whether it is one of those that the configuration names: none of these has an empty name.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        !self.name().is_empty()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.first.name
    }

    /// The entity as committed.
    #[must_use]
    pub fn entry(&self) -> Arc<Entry> {
        self.now.borrow().entry.clone()
    }

    /// Its counters in shared memory, from its first request on.
    #[must_use]
    pub fn slot(&self) -> SlotId {
        if !self.is_counted() {
            return SlotId::NONE;
        }
        self.counted().id(SlotKind::Cluster, self.name())
    }

    /// A request to it begins.
    pub fn begin(&self) {
        if self.is_counted() {
            self.counted().begin(SlotKind::Cluster, self.name());
        }
    }

    /// A request to it that has begun ends.
    pub fn end(&self) {
        if self.is_counted() {
            self.counted().end(SlotKind::Cluster, self.name());
        }
    }

    fn counted(&self) -> &Slot {
        let make = || Slot::take(&self.shared.metrics, SlotKind::Cluster, self.name());
        self.slot.get_or_init(make)
    }

    /// The committed settings.
    #[must_use]
    pub fn settings(&self) -> Arc<ClusterSettings> {
        self.now.borrow().settings.clone()
    }

    /// The backends to choose from.
    #[must_use]
    pub fn backends(&self) -> Rc<BackendSet> {
        let now = &mut *self.now.borrow_mut();
        let set = now.set.get_or_insert_with(|| {
            let members = now.members.live(&self.shared.metrics);
            let entity = &now.settings.entity;
            let set = BackendSet::new(members, entity.load_balancing, None);
            Rc::new(set.checked(Checked::of(entity, &self.shared)))
        });
        set.clone()
    }

    /// The member of that name, as requests see it.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<Rc<Backend>> {
        self.now
            .borrow_mut()
            .members
            .get(name, &self.shared.metrics)
    }

    /// Replaces the settings; [`Cluster::rebuild`] must follow in the same turn.
    pub fn replace_settings(&self, entry: Arc<Entry>, settings: Arc<ClusterSettings>) {
        let mut now = self.now.borrow_mut();
        let (before, after) = (&now.settings, &settings);
        let same_policy = before.entity.tls == after.entity.tls
            && before.entity.protocol == after.entity.protocol;
        now.settings = if same_policy && after.tls.is_some() {
            // Connections that were made under it may be used again.
            Arc::new(ClusterSettings {
                entity: settings.entity.clone(),
                tls: before.tls.clone(),
                answer: settings.answer.clone(),
            })
        } else {
            settings
        };
        now.entry = entry;
    }

    /// Adds or replaces a member, and returns the one before if it ends; [`Cluster::rebuild`] must follow
    /// in the same turn.
    pub fn insert(&self, entry: Arc<Entry>) -> Option<Rc<Backend>> {
        self.now.borrow_mut().members.insert(entry)
    }

    /// Takes a member out; [`Cluster::rebuild`] must follow in the same turn.
    pub fn remove(&self, name: &str) -> Option<Rc<Backend>> {
        self.now.borrow_mut().members.remove(name)
    }

    /// Makes the set of backends anew if there is one, with the same one's turn as before: costs what the
    /// cluster has members.
    pub fn rebuild(&self) {
        let now = &mut *self.now.borrow_mut();
        if let Some(before) = &now.set {
            let members = now.members.live(&self.shared.metrics);
            let entity = &now.settings.entity;
            let set = BackendSet::new(members, entity.load_balancing, Some(before));
            now.set = Some(Rc::new(set.checked(Checked::of(entity, &self.shared))));
        }
    }
}

impl HasName for Rc<Cluster> {
    fn name(&self) -> &str {
        &self.first.name
    }
}

impl Runs for Rc<Cluster> {
    fn with_entry<R>(&self, read: impl FnOnce(&Entry) -> R) -> R {
        read(&self.entry())
    }
}

/// The backends of one generation of a cluster, and whose turn it is.
pub struct BackendSet {
    usual: Rank,
    /// Those that are asked while none of the usual ones can be; most clusters have none.
    backups: Option<Box<Rank>>,
    /// How it is known who is well; most clusters are not checked.
    checked: Option<Box<Checked>>,
    /// How many further attempts there may be, where that is bounded.
    budget: OnceCell<Rc<Budget>>,
}

/// Backends that may stand for one another.
struct Rank {
    backends: Vec<Rc<Backend>>,
    balancer: Balancer,
}

/// What a request asks for a backend with.
pub struct Choosing<'a> {
    /// Those that it has been to, which it does not go to again.
    pub tried: &'a [Rc<Backend>],
    /// When it asks.
    pub now_ms: u64,
    /// How long one that has failed and is tried again by this request is left alone by others.
    pub probe_ms: u64,
}

impl BackendSet {
    fn new(members: Vec<Rc<Backend>>, policy: LoadBalancing, before: Option<&Self>) -> Self {
        let (backups, usual): (Vec<_>, Vec<_>) = members
            .into_iter()
            .filter(|backend| backend.weight.get() > 0)
            .partition(|backend| backend.is_backup.get());
        let backups_before = before.and_then(|before| before.backups.as_deref());
        Self {
            usual: Rank::new(usual, policy, before.map(|before| &before.usual)),
            backups: (!backups.is_empty())
                .then(|| Box::new(Rank::new(backups, policy, backups_before))),
            checked: None,
            budget: before.map_or_else(OnceCell::new, |before| before.budget.clone()),
        }
    }

    /// The same, of backends that are checked.
    fn checked(self, checked: Option<Box<Checked>>) -> Self {
        Self { checked, ..self }
    }

    fn all(&self) -> impl Iterator<Item = &Rc<Backend>> {
        let backups = self.backups.iter().flat_map(|rank| &rank.backends);
        self.usual.backends.iter().chain(backups)
    }

    /// Chooses one of the usual backends, of those that are up, and healthy where that is checked.
    #[inline]
    pub fn choose(&self, choosing: &Choosing<'_>, random: &mut Random) -> Option<Rc<Backend>> {
        let is_up = |backend: &Backend| backend.is_up(choosing.now_ms);
        match &self.checked {
            None => self.usual.choose(choosing, random, is_up),
            Some(checked) => self.choose_checked(checked, &self.usual, choosing, random),
        }
    }

    #[inline(never)]
    fn choose_checked(
        &self,
        checked: &Checked,
        rank: &Rank,
        choosing: &Choosing<'_>,
        random: &mut Random,
    ) -> Option<Rc<Backend>> {
        let admits = checked.admitting(self.all());
        let is_left = |backend: &Backend| backend.is_up(choosing.now_ms) && admits(backend);
        rank.choose(choosing, random, is_left)
    }

    /// Chooses a backup in the same way.
    pub fn choose_backup(
        &self,
        choosing: &Choosing<'_>,
        random: &mut Random,
    ) -> Option<Rc<Backend>> {
        let is_up = |backend: &Backend| backend.is_up(choosing.now_ms);
        let backups = self.backups.as_deref()?;
        match &self.checked {
            None => backups.choose(choosing, random, is_up),
            Some(checked) => self.choose_checked(checked, backups, choosing, random),
        }
    }

    /// Chooses one all the same where all have just failed to connect, a backup at last.
    pub fn choose_failed(
        &self,
        choosing: &Choosing<'_>,
        random: &mut Random,
    ) -> Option<Rc<Backend>> {
        let checked = self.checked.as_deref();
        let admits = checked.map(|checked| checked.admitting(self.all()));
        let any = |backend: &Backend| admits.as_ref().is_none_or(|admits| admits(backend));
        let backups = self.backups.as_deref();
        let usual = self.usual.choose(choosing, random, any);
        usual.or_else(|| backups?.choose(choosing, random, any))
    }

    /// How many further attempts there may be.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.budget.get_or_init(Rc::default)
    }

    /// Whether there are backends for when no usual one can be asked.
    #[must_use]
    pub fn has_backups(&self) -> bool {
        self.backups.is_some()
    }
}

impl Rank {
    fn new(backends: Vec<Rc<Backend>>, policy: LoadBalancing, before: Option<&Self>) -> Self {
        let weights = backends
            .iter()
            .map(|backend| u32::from(backend.weight.get()))
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

    /// Chooses one that takes requests, none of those that were tried, of those that `is_left`.
    #[inline]
    fn choose(
        &self,
        choosing: &Choosing<'_>,
        random: &mut Random,
        is_left: impl Fn(&Backend) -> bool,
    ) -> Option<Rc<Backend>> {
        let was_tried = |backend: &Backend| {
            (choosing.tried.iter()).any(|it| std::ptr::eq(&raw const **it, backend))
        };
        let qualifies = |backend: &Backend| {
            backend.accepts_requests() && !was_tried(backend) && is_left(backend)
        };
        let index = self.balancer.choose(&self.backends, random, qualifies)?;
        let backend = self.backends[index].clone();
        backend.chosen(choosing.now_ms, choosing.probe_ms);
        Some(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::socket::Endpoint;

    fn backend(name: &str) -> Rc<Backend> {
        let address = Endpoint::Tcp("127.0.0.1:9".parse().unwrap());
        Rc::new(Backend::new(name.into(), address, 1, Slot::none()))
    }

    /// As a request asks for one, whatever has become of those before.
    fn ask(
        set: &BackendSet,
        tried: &[Rc<Backend>],
        at_ms: u64,
        random: &mut Random,
    ) -> Option<Rc<Backend>> {
        let choosing = Choosing {
            tried,
            now_ms: at_ms,
            probe_ms: 3000,
        };
        set.choose(&choosing, random)
            .or_else(|| set.choose_backup(&choosing, random))
            .or_else(|| set.choose_failed(&choosing, random))
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
            let mut choose = || ask(&set, &[], at_ms, &mut random).unwrap();
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
            assert!(ask(&set, &[], at_ms, &mut random).is_some());
        }
    }

    #[test]
    fn backups_are_for_when_no_other_can_be_asked() {
        let (usual, backup) = (backend("a"), backend("b"));
        backup.is_backup.set(true);
        let set = set(&[&usual, &backup]);
        let mut random = Random::new(1);
        let mut chosen = |tried: &[Rc<Backend>], at_ms| {
            ask(&set, tried, at_ms, &mut random).map(|it| it.name.clone())
        };
        for at_ms in 0..10 {
            assert_eq!(chosen(&[], at_ms).as_deref(), Some("a"));
        }
        // What has been tried for a request is not asked again while a backup is left.
        assert_eq!(
            chosen(std::slice::from_ref(&usual), 10).as_deref(),
            Some("b")
        );
        assert_eq!(chosen(&[usual.clone(), backup.clone()], 10), None);
        usual.connect_failed(100);
        assert_eq!(chosen(&[], 200).as_deref(), Some("b"));
        // Its pause is over: one request finds out, and the others stay with the backup.
        assert_eq!(chosen(&[], 400).as_deref(), Some("a"));
        assert_eq!(chosen(&[], 400).as_deref(), Some("b"));
        usual.connect_succeeded();
        assert_eq!(chosen(&[], 401).as_deref(), Some("a"));
        usual.set_drained(true);
        assert_eq!(chosen(&[], 402).as_deref(), Some("b"));
        // All have failed: one of the usual ones.
        usual.set_drained(false);
        usual.connect_failed(500);
        backup.connect_failed(500);
        assert_eq!(chosen(&[], 501).as_deref(), Some("a"));
    }

    #[test]
    fn a_cluster_may_have_backups_alone() {
        let backup = backend("b");
        backup.is_backup.set(true);
        let mut random = Random::new(1);
        let chosen = ask(&set(&[&backup]), &[], 0, &mut random);
        assert!(chosen.is_some());
    }
}

//! The running state of the engine thread: what requests look up, and the swap that changes it.
//!
//! Rule: [`Tables::apply`] runs within one loop turn, cannot fail, and costs what the change costs
//! (and the members of the clusters it touches). Objects of entities that did not change stay the
//! same objects: their connections, counters and positions survive.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::digest::Digest;
use super::entity::{self, Kind};
use super::entry::cluster_of;
use super::listener::Listener;
use super::merging::Found;
use super::slot::Slot;
use super::staged::{Staged, StagedPut};
use crate::protocol::h1::via::Via;
use crate::protocol::lines::LineBuf;
use crate::state::kinds::registry::{Running, Swap};
use crate::telemetry::access_log::LogSink;
use crate::telemetry::counters::{Field, Metrics, SlotKind};
use crate::tls::certificates::Certificates;
use crate::upstream::Backend;
use crate::upstream::health::SharedMemory;

/// Everything that a request can look up, at one generation.
pub struct Tables {
    /// The generation.
    pub generation: u64,
    generation_header: Rc<LineBuf>,
    /// The commit.
    pub commit: String,
    /// The digest of what is held here.
    pub digest: Digest,
    /// The settings, or what holds before there are any.
    pub settings: Arc<entity::Settings>,
    /// By which name requests are passed on: that of the settings, or our own.
    via: Rc<Via>,
    own_name: Box<str>,
    /// What is held of each kind.
    pub running: Running,
    /// Certificates, as handshakes look them up.
    pub(super) in_service: Arc<Certificates>,
    pub(super) metrics: Rc<Metrics>,
    /// The same, and what the prober of the host has found.
    pub shared: Rc<SharedMemory>,
    /// What policies count of which something was counted.
    pub(super) policy_slots: RefCell<HashMap<Box<str>, Slot>>,
    /// The digest of what an audit has walked over, as it was found.
    pub(super) walked: Digest,
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
            generation_header: Rc::default(),
            commit: String::new(),
            digest: Digest::default(),
            settings: Arc::new(settings),
            via: Rc::new(Via::new("")),
            own_name: "".into(),
            running: Running::default(),
            in_service,
            shared: Rc::new(SharedMemory::new(metrics.clone())),
            metrics,
            policy_slots: RefCell::default(),
            walked: Digest::default(),
        }
    }

    /// A backend as requests see it.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<Rc<Backend>> {
        self.running.clusters.get(cluster_of(name))?.backend(name)
    }

    /// The response header that names the generation, when the settings ask for it.
    #[must_use]
    pub fn generation_header(&self) -> Option<Rc<LineBuf>> {
        self.settings
            .generation_header
            .then(|| self.generation_header.clone())
    }

    /// By which name requests are passed on.
    #[inline]
    #[must_use]
    pub fn via(&self) -> &Rc<Via> {
        &self.via
    }

    /// Counts something for a policy that there is.
    pub fn count_for(&self, policy: &str, field: Field) {
        if self.running.policies.get(policy).is_none() {
            return;
        }
        let mut slots = self.policy_slots.borrow_mut();
        if !slots.contains_key(policy) {
            let slot = Slot::take(&self.metrics, SlotKind::Policy, policy);
            slots.insert(policy.into(), slot);
        }
        if let Some(slot) = slots.get(policy) {
            let slot = slot.id(SlotKind::Policy, policy);
            self.metrics.slot_add(slot, field, 1);
        }
    }

    /// Has them passed on by this name from now on, if the settings give no other.
    pub fn be_named(&mut self, own_name: &str) {
        self.own_name = own_name.into();
        self.name_by_settings();
    }

    /// Settings are others.
    pub(super) fn name_by_settings(&mut self) {
        let given = self.settings.via.as_deref();
        self.via = Rc::new(Via::new(given.unwrap_or(&self.own_name)));
    }

    /// Swaps a staged transaction in: make before break.
    pub fn apply(&mut self, staged: Staged) -> Applied {
        let Staged {
            generation,
            commit,
            digest,
            puts,
            removes,
            merged,
            sockets,
            log,
        } = staged;
        self.make_room(&puts);
        let mut swap = Swap {
            sockets,
            ..Swap::default()
        };
        let leaves_first = |(kind, _): &(Kind, String)| kind.leaves_first();
        let (first, last): (Vec<_>, Vec<_>) = removes.into_iter().partition(leaves_first);
        self.take_all(first, &mut swap);
        for StagedPut { entry, compiled } in puts {
            let (kind, added) = (entry.kind(), entry.clone());
            self.uncount(kind, &added.name);
            self.put(entry, compiled, &mut swap);
            self.count(kind, &added.name, added.hash);
        }
        self.say(merged);
        self.take_all(last, &mut swap);
        let Swap {
            mut touched,
            mut applied,
            ..
        } = swap;
        applied.log = log;
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
        let line = LineBuf::one(b"Kakehi-Generation", generation.to_string().as_bytes());
        self.generation_header = line.into();
        self.commit = commit;
        applied
    }

    fn take_all(&mut self, removes: Vec<(Kind, String)>, swap: &mut Swap) {
        for (kind, name) in removes {
            self.uncount(kind, &name);
            self.take(kind, &name, swap);
        }
    }

    /// Counts one that is there in the digests.
    fn count(&mut self, kind: Kind, name: &str, hash: Digest) {
        self.digest = self.digest.add(hash);
        if self.running.is_walked(kind, name) {
            // In the place of what an audit has seen: it does not come here again.
            self.walked = self.walked.add(hash);
        }
    }

    /// Takes one that is there out of the digests.
    fn uncount(&mut self, kind: Kind, name: &str) {
        let Some(hash) = self.running.look(kind, name, |entry| entry.hash) else {
            return;
        };
        self.digest = self.digest.sub(hash);
        if self.running.is_walked(kind, name) {
            self.walked = self.walked.sub(hash);
        }
    }

    /// What holds by policies for those that are not put themselves.
    fn say(&mut self, merged: Found) {
        let Found {
            frontends,
            listeners,
        } = merged;
        for (name, said) in frontends {
            let hash = self.running.look(Kind::Frontend, &name, |entry| entry.hash);
            self.uncount(Kind::Frontend, &name);
            entity::Frontend::say(self, &name, said);
            self.count(Kind::Frontend, &name, hash.unwrap_or_default());
        }
        for (name, said) in listeners {
            if let Some(listener) = self.running.listeners.get(&name) {
                listener.say(said);
            }
        }
    }

    /// For a large change, of which most is new where little is held.
    fn make_room(&mut self, puts: &[StagedPut]) {
        if puts.len() < MANY {
            return;
        }
        for of_kind in puts.chunk_by(|one, next| one.entry.kind() == next.entry.kind()) {
            let kind = of_kind[0].entry.kind();
            let more = of_kind.len().saturating_sub(self.running.count(kind));
            self.running.reserve(kind, more);
        }
    }
}

/// Fewer entities find their room on the way.
const MANY: usize = 1000;

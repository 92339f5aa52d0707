//! One frontend as it runs: where its requests go. The match itself lives in `routing`.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::entity::{self, PathMatch};
use super::entry::Entry;
use super::listener::ListenerSettings;
use super::named::HasName;
use super::slot::Slot;
use crate::policy::merged::{ByListener, Merged};
use crate::policy::plan::Plan;
use crate::protocol::sent::Form;
use crate::routing::matcher::HeaderLookup;
use crate::routing::rule::{Rule, Target};
use crate::routing::split::Split;
use crate::state::kinds::registry::Runs;
use crate::telemetry::counters::{Metrics, SlotId, SlotKind};
use crate::upstream::Cluster;

/// Where the requests of a frontend go.
#[derive(Clone)]
pub enum To {
    /// It answers them itself.
    Nowhere,
    /// All of them to one cluster.
    Cluster(Rc<Cluster>),
    /// To one of several, which lie in the order of the shares.
    Split(Rc<(Split, Box<[Rc<Cluster>]>)>),
}

/// The target of a routing table's entry.
pub struct Frontend {
    rule: Rule,
    to: To,
    plan: Option<Box<Plan>>,
    /// Boxed as a whole, since hardly any has one: a word in each frontend, and not two.
    mirrors: Option<Box<Mirrors>>,
    slot: OnceCell<Rc<Slot>>,
}

/// Where a share of a frontend's requests goes as well.
#[derive(Clone)]
pub struct Mirror {
    /// The cluster.
    pub cluster: Rc<Cluster>,
    /// In percent.
    pub share: u8,
}

/// All of a frontend.
#[derive(Clone)]
struct Mirrors(Box<[Mirror]>);

impl Mirror {
    /// In which form it is told what goes to it.
    #[must_use]
    pub fn form(&self) -> Form {
        Form::of(self.cluster.settings().is_multiplexed())
    }
}

impl Frontend {
    /// A frontend. When it was another one before, it goes on counting where that one did.
    #[must_use]
    pub fn new(
        rule: Rule,
        plan: Option<Box<Plan>>,
        to: To,
        mirrors: Box<[Mirror]>,
        before: Option<&Self>,
    ) -> Self {
        // What has no slot yet serves no request that could ask for one.
        let slot = before.map_or_else(OnceCell::new, |before| before.slot.clone());
        Self {
            rule,
            plan,
            to,
            mirrors: (!mirrors.is_empty()).then(|| Box::new(Mirrors(mirrors))),
            slot,
        }
    }

    /// The same frontend, for which other policies hold.
    #[must_use]
    pub fn saying(&self, said: ByListener) -> Self {
        Self {
            rule: self.rule.clone(),
            to: self.to.clone(),
            mirrors: self.mirrors.clone(),
            plan: Plan::saying(self.plan(), said),
            slot: self.slot.clone(),
        }
    }

    /// As committed.
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        self.rule.entry()
    }

    /// The value of it.
    #[must_use]
    pub fn entity(&self) -> &entity::Frontend {
        self.entry().frontend()
    }

    /// Where all of its requests go, if that is one cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<&Rc<Cluster>> {
        match &self.to {
            To::Cluster(cluster) => Some(cluster),
            To::Nowhere | To::Split(_) => None,
        }
    }

    /// Where a request goes, if it is not answered here. `own_id` is its name.
    #[inline]
    #[must_use]
    pub fn cluster_of<H: HeaderLookup>(&self, request: &H, own_id: &[u8]) -> Option<&Rc<Cluster>> {
        match &self.to {
            To::Cluster(cluster) => Some(cluster),
            To::Nowhere => None,
            To::Split(split) => split.1.get(split.0.choose(request, own_id)),
        }
    }

    /// What holds by policies at a listener, the frontend's own word included.
    #[inline]
    #[must_use]
    pub fn merged<'a>(&'a self, listener: &'a ListenerSettings) -> Option<&'a Merged> {
        match (self.plan(), listener.said()) {
            (None, None) => None,
            (None, Some((_, merged))) => Some(merged),
            (Some(plan), None) => plan.merged(),
            (Some(plan), Some((name, _))) => plan.merged_at(name),
        }
    }

    /// Whether it answers itself what another one would pass on, or lets fewer pass. What has no backend behind
    /// it has nothing to be got past to.
    #[must_use]
    pub fn guards_beyond(
        &self,
        other: &Self,
        listener: &ListenerSettings,
        is_secure: impl FnOnce() -> bool,
    ) -> bool {
        if matches!(other.to, To::Nowhere) {
            return false;
        }
        let guards = self.merged(listener);
        // What is for TLS alone is not to be had in clear text.
        let for_tls =
            |it: &Self| matches!(it.entity().rare().redirect, Some(entity::Redirect::Https));
        self.entity().rare().respond.is_some()
            || (for_tls(self) && !for_tls(other) && !is_secure())
            || guards.is_some_and(|guards| guards.guards_beyond(other.merged(listener)))
    }

    /// Whether its path names escapes or parameters, so that it knows what it does with them.
    #[must_use]
    pub fn spells_escapes(&self) -> bool {
        let text = match &self.entity().path {
            PathMatch::Exact(text) | PathMatch::Prefix(text) => text,
            PathMatch::Regex(pattern) | PathMatch::Suffix(pattern) => &pattern.text,
        };
        text.contains(['%', ';'])
    }

    /// What it has done with its requests; most frontends have nothing done.
    #[inline]
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    /// Where a share of its requests goes as well; that of most frontends nowhere.
    #[inline]
    #[must_use]
    pub fn mirrors(&self) -> &[Mirror] {
        self.mirrors.as_ref().map_or(&[], |mirrors| &mirrors.0)
    }

    /// Its counters in shared memory, from its first request on.
    #[must_use]
    pub fn slot(&self, metrics: &Rc<Metrics>) -> SlotId {
        self.counted(metrics)
            .id(SlotKind::Frontend, self.rule.name())
    }

    /// A request of its begins.
    pub fn begin(&self, metrics: &Rc<Metrics>) {
        self.counted(metrics)
            .begin(SlotKind::Frontend, self.rule.name());
    }

    /// A request of its that has begun ends.
    pub fn end(&self, metrics: &Rc<Metrics>) {
        self.counted(metrics)
            .end(SlotKind::Frontend, self.rule.name());
    }

    fn counted(&self, metrics: &Rc<Metrics>) -> &Slot {
        let make = || Rc::new(Slot::take(metrics, SlotKind::Frontend, self.rule.name()));
        self.slot.get_or_init(make)
    }
}

impl HasName for Rc<Frontend> {
    fn name(&self) -> &str {
        self.rule.name()
    }
}

impl Runs for Rc<Frontend> {
    fn with_entry<R>(&self, read: impl FnOnce(&Entry) -> R) -> R {
        read(self.entry())
    }
}

impl Target for Rc<Frontend> {
    fn rule(&self) -> &Rule {
        &self.rule
    }
}

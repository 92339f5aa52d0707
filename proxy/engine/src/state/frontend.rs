//! One frontend as it runs: where its requests go. The match itself lives in `routing`.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use super::entity;
use super::entry::Entry;
use super::kinds::registry::Runs;
use super::named::HasName;
use super::slot::Slot;
use crate::policy::plan::Plan;
use crate::routing::rule::{Rule, Target};
use crate::telemetry::counters::{Metrics, SlotId, SlotKind};
use crate::upstream::Cluster;

/// The target of a routing table's entry.
pub struct Frontend {
    rule: Rule,
    /// Where its requests go, if it does not answer them itself.
    cluster: Option<Rc<Cluster>>,
    plan: Option<Box<Plan>>,
    mirror: Option<Box<Mirror>>,
    slot: OnceCell<Rc<Slot>>,
}

/// Where a share of a frontend's requests goes as well.
pub struct Mirror {
    /// The cluster.
    pub cluster: Rc<Cluster>,
    /// In percent.
    pub share: u8,
}

impl Frontend {
    /// A frontend. When it was another one before, it goes on counting where that one did.
    #[must_use]
    pub fn new(
        rule: Rule,
        plan: Option<Box<Plan>>,
        cluster: Option<Rc<Cluster>>,
        mirror: Option<Mirror>,
        before: Option<&Self>,
    ) -> Self {
        // What has no slot yet serves no request that could ask for one.
        let slot = before.map_or_else(OnceCell::new, |before| before.slot.clone());
        Self {
            rule,
            plan,
            cluster,
            mirror: mirror.map(Box::new),
            slot,
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

    /// Where its requests go, if it does not answer them itself.
    #[must_use]
    pub fn cluster(&self) -> Option<&Rc<Cluster>> {
        self.cluster.as_ref()
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
    pub fn mirror(&self) -> Option<&Mirror> {
        self.mirror.as_deref()
    }

    /// Its counters in shared memory, from its first request on.
    #[must_use]
    pub fn slot(&self, metrics: &Rc<Metrics>) -> SlotId {
        let make = || Rc::new(Slot::take(metrics, SlotKind::Frontend, self.rule.name()));
        self.slot.get_or_init(make).id()
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

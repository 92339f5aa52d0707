//! The backends of a cluster as they were committed, and as they run once there are requests.

use std::rc::Rc;
use std::sync::Arc;

use super::backend::Backend;
use crate::state::entry::Entry;
use crate::state::slot::Slot;
use crate::telemetry::counters::{Metrics, SlotKind};

/// The backends of one cluster, in the order of their names.
#[derive(Default)]
pub(super) struct Members(Vec<Member>);

struct Member {
    entry: Arc<Entry>,
    live: Option<Rc<Backend>>,
}

impl Members {
    /// All of them, as requests see them.
    pub(super) fn live(&mut self, metrics: &Rc<Metrics>) -> Vec<Rc<Backend>> {
        self.0
            .iter_mut()
            .filter_map(|member| member.live(metrics))
            .collect()
    }

    /// One of them, as requests see it.
    pub(super) fn get(&mut self, name: &str, metrics: &Rc<Metrics>) -> Option<Rc<Backend>> {
        let place = self.place(name).ok()?;
        self.0[place].live(metrics)
    }

    /// Adds or replaces one; returns the one before, if it is another one to requests.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) -> Option<Rc<Backend>> {
        match self.place(&entry.name) {
            Ok(place) => self.0[place].replace(entry),
            Err(place) => {
                // Most clusters have one or two, and there may be 100,000 clusters.
                if self.0.len() < FEW {
                    self.0.reserve_exact(1);
                }
                self.0.insert(place, Member { entry, live: None });
                None
            }
        }
    }

    /// Takes one out; returns it, if requests have seen it.
    pub(super) fn remove(&mut self, name: &str) -> Option<Rc<Backend>> {
        let place = self.place(name).ok()?;
        let live = self.0.remove(place).live?;
        live.removed.set(true);
        Some(live)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|member| (*member.entry.name).cmp(name))
    }
}

impl Member {
    fn live(&mut self, metrics: &Rc<Metrics>) -> Option<Rc<Backend>> {
        if self.live.is_none() {
            let (name, value) = (&self.entry.name, self.entry.backend());
            // The ledger refuses a backend without address.
            let address = value.endpoint().ok()?;
            let slot = Slot::take(metrics, SlotKind::Backend, name);
            let backend = Backend::new(name.to_string(), address, value.weight, slot);
            backend.is_backup.set(value.backup);
            self.live = Some(Rc::new(backend));
        }
        self.live.clone()
    }

    fn replace(&mut self, entry: Arc<Entry>) -> Option<Rc<Backend>> {
        let before = std::mem::replace(&mut self.entry, entry);
        let value = self.entry.backend();
        if before.backend().address == value.address {
            if let Some(live) = &self.live {
                live.weight.set(value.weight);
                live.is_backup.set(value.backup);
            }
            return None;
        }
        let moved = self.live.take()?;
        moved.removed.set(true);
        Some(moved)
    }
}

const FEW: usize = 4;

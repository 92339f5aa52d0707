//! A counter slot that is given back when the entity that owns it is gone.
//!
//! Requests in flight may hold a removed entity for a while; their counts must not land in a slot
//! that somebody else already uses. So an object owns its slot and returns it in `drop`. It takes one
//! with its first request: whoever serves nothing costs no memory.

use std::rc::Rc;

use crate::telemetry::counters::{Metrics, SlotId, SlotKind};

/// An owned slot.
pub struct Slot {
    id: SlotId,
    metrics: Option<Rc<Metrics>>,
}

impl Slot {
    /// Takes a slot, until dropped.
    #[must_use]
    pub fn take(metrics: &Rc<Metrics>, kind: SlotKind, name: &str) -> Self {
        Self {
            id: metrics.alloc_slot(kind, name),
            metrics: Some(metrics.clone()),
        }
    }

    /// A slot that counts nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            id: SlotId::NONE,
            metrics: None,
        }
    }

    /// The slot to count in.
    #[must_use]
    pub fn id(&self) -> SlotId {
        self.id
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.free_slot(self.id);
        }
    }
}

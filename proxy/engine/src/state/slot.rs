//! A counter slot that is given back when the entity that owns it is gone.
//!
//! Requests in flight may hold a removed entity for a while; their counts must not land in a slot
//! that somebody else already uses. So an object owns its slot and returns it in `drop`. It takes one
//! with its first request: whoever serves nothing costs no memory. One that finds no room asks again
//! with each request, so that it is counted as soon as there is some.

use std::cell::Cell;
use std::rc::Rc;

use crate::telemetry::counters::{Field, Metrics, Refused, SlotId, SlotKind};

/// An owned slot, or the wish for one.
pub struct Slot {
    id: Cell<SlotId>,
    refused: Cell<Refused>,
    /// Requests in flight, whether they are counted yet or not.
    active: Cell<u32>,
    metrics: Option<Rc<Metrics>>,
}

impl Slot {
    /// Takes a slot, until dropped.
    #[must_use]
    pub fn take(metrics: &Rc<Metrics>, kind: SlotKind, name: &str) -> Self {
        let slot = Self::of(Some(metrics.clone()));
        slot.ask(kind, name);
        slot
    }

    /// A slot that counts nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::of(None)
    }

    fn of(metrics: Option<Rc<Metrics>>) -> Self {
        Self {
            id: Cell::new(SlotId::NONE),
            refused: Cell::default(),
            active: Cell::new(0),
            metrics,
        }
    }

    /// The slot to count in, for the entity that it was taken for.
    #[inline]
    #[must_use]
    pub fn id(&self, kind: SlotKind, name: &str) -> SlotId {
        if self.id.get() == SlotId::NONE {
            self.ask(kind, name);
        }
        self.id.get()
    }

    /// Whether nothing is counted, for want of room.
    #[inline]
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.id.get() == SlotId::NONE
    }

    /// Requests in flight.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// A request begins.
    pub fn begin(&self, kind: SlotKind, name: &str) {
        self.set_active(self.id(kind, name), self.active.get() + 1);
    }

    /// A request that has begun ends.
    pub fn end(&self, kind: SlotKind, name: &str) {
        self.set_active(self.id(kind, name), self.active.get() - 1);
    }

    /// Sets a field that goes up and down to what it is.
    pub fn set(&self, field: Field, value: u32) {
        if let Some(metrics) = &self.metrics {
            metrics.slot_set(self.id.get(), field, value.into());
        }
    }

    fn set_active(&self, id: SlotId, count: u32) {
        self.active.set(count);
        if let Some(metrics) = &self.metrics {
            metrics.slot_set(id, Field::Active, count.into());
        }
    }

    #[cold]
    fn ask(&self, kind: SlotKind, name: &str) {
        if let Some(metrics) = &self.metrics {
            let slot = metrics.alloc_slot(kind, name);
            match slot {
                SlotId::NONE => self.refused.set(metrics.refuse(self.refused.get())),
                _ => self.refused.set(metrics.forget(self.refused.get())),
            }
            self.id.set(slot);
            self.set_active(slot, self.active.get());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.forget(self.refused.get());
            metrics.free_slot(self.id.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::counters::Counter;

    const KIND: SlotKind = SlotKind::Backend;

    fn refused(metrics: &Metrics) -> u64 {
        metrics.get(Counter::UncountedEntitiesNow)
    }

    fn full() -> (Rc<Metrics>, Slot) {
        let metrics = Rc::new(Metrics::create(0).unwrap());
        metrics.set_slots_max(1);
        let first = Slot::take(&metrics, KIND, "shop/a");
        assert!(!first.is_none());
        (metrics, first)
    }

    #[test]
    fn one_that_was_refused_is_counted_when_the_bound_is_raised() {
        let (metrics, _first) = full();
        let slot = Slot::take(&metrics, KIND, "shop/b");
        let other = Slot::take(&metrics, KIND, "shop/c");
        slot.begin(KIND, "shop/b");
        slot.begin(KIND, "shop/b");
        slot.end(KIND, "shop/b");
        assert!(slot.is_none());
        assert_eq!(refused(&metrics), 2, "each once, however often it asks");

        metrics.set_slots_max(2);
        assert_eq!(refused(&metrics), 0, "who asks now may find room");
        let id = slot.id(KIND, "shop/b");
        assert_ne!(id, SlotId::NONE);
        assert_eq!(metrics.slot_get(id, Field::Active), 1, "what is in flight");
        slot.end(KIND, "shop/b");
        assert_eq!(metrics.slot_get(id, Field::Active), 0);
        assert_eq!(other.id(KIND, "shop/c"), SlotId::NONE);
        assert_eq!(refused(&metrics), 1);
        drop(other);
        assert_eq!(refused(&metrics), 0);
    }

    #[test]
    fn one_that_was_refused_is_counted_when_another_one_leaves() {
        let (metrics, first) = full();
        let slot = Slot::take(&metrics, KIND, "shop/b");
        assert_eq!((slot.is_none(), refused(&metrics)), (true, 1));
        drop(first);
        assert_ne!(slot.id(KIND, "shop/b"), SlotId::NONE);
        assert_eq!(refused(&metrics), 0);
    }
}

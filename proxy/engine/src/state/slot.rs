//! A counter slot that is given back when the entity that owns it is gone.
//!
//! Requests in flight may hold a removed entity for a while; their counts must not land in a slot
//! that somebody else already uses. So an object owns its slot and returns it in `drop`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::telemetry::counters::SlotId;

/// Slots whose owners are gone, to be freed by the engine at its next commit.
pub type Returned = Rc<RefCell<Vec<SlotId>>>;

/// An owned slot.
pub struct Slot {
    id: SlotId,
    returned: Option<Returned>,
}

impl Slot {
    /// Owns `id` until dropped.
    #[must_use]
    pub fn new(id: SlotId, returned: &Returned) -> Self {
        Self {
            id,
            returned: Some(returned.clone()),
        }
    }

    /// A slot that counts nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            id: SlotId::NONE,
            returned: None,
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
        if let Some(returned) = &self.returned {
            returned.borrow_mut().push(self.id);
        }
    }
}

//! How much the values of a request may add to one head.
//!
//! Rule: a template repeats what a client sends as often as the configuration says, and a claim may go to many headers:
//! all of them together may be as large as a whole head may be that comes (`limits.head_bytes` of the listener), whatever
//! is multiplied there. What the configuration itself writes is not counted. Taken from while a head is written, so that
//! nothing grows first.

use std::cell::Cell;

use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason};

/// What is left of it.
pub struct Room(Cell<usize>);

/// More than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overgrown;

impl Room {
    /// That of one head for a request.
    pub fn of(facts: &Facts<'_>) -> Self {
        Self(Cell::new(facts.listener.head_limits.head_bytes_max))
    }

    /// Takes so many bytes of it.
    pub(in crate::policy) fn take(&self, bytes: usize) -> Result<(), Overgrown> {
        let left = self.0.get().checked_sub(bytes).ok_or(Overgrown)?;
        self.0.set(left);
        Ok(())
    }
}

impl From<Overgrown> for Answer {
    fn from(_: Overgrown) -> Self {
        Self::new(431, Reason::Overgrown)
    }
}

//! Requests in flight: how many of one sort there may be.
//!
//! Rule: what frontend, policies and listener say never replaces each other: a request has to find room in each.
//! It is counted when it gets an exchange, which keeps its keys and gives them back at its end, so that there
//! are never more keys than requests. Answers of our own are none in flight.

use std::cell::RefCell;
use std::collections::HashMap;

use super::meter::Key;
use super::rate::{key_of, named};
use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason, Verdict};
use crate::state::entity::{self, RateBy};

/// How many of a sort there may be, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// The policy that says so; none: the frontend.
    policy: Option<Box<str>>,
    by: RateBy,
    most: u32,
    dry_run: bool,
}

/// How many there are, by key.
#[derive(Default)]
pub struct InFlight {
    counts: RefCell<HashMap<Key, u32, ahash::RandomState>>,
}

/// The keys of one request.
pub type Keys = Box<[Key]>;

impl InFlight {
    /// One more of each.
    pub fn enter(&self, keys: &Keys) {
        let mut counts = self.counts.borrow_mut();
        for key in keys {
            *counts.entry(*key).or_default() += 1;
        }
    }

    /// One more of each of both; returns them.
    #[inline]
    pub fn enter_all(&self, keys: Option<Keys>, more: Option<&[Key]>) -> Option<Keys> {
        let keys = match (keys, more) {
            (keys, None) => keys,
            (keys, Some(more)) => Some([&keys.unwrap_or_default(), more].concat().into()),
        };
        keys.inspect(|keys| self.enter(keys))
    }

    /// One less of each.
    pub fn leave(&self, keys: &Keys) {
        let mut counts = self.counts.borrow_mut();
        for key in keys {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
    }

    fn of(&self, key: Key) -> u32 {
        self.counts.borrow().get(&key).copied().unwrap_or_default()
    }
}

impl Crowd {
    pub(in crate::policy) fn of(policy: Option<&str>, said: &entity::Concurrency) -> Self {
        Self {
            policy: policy.map(Into::into),
            by: said.by.clone(),
            most: said.requests,
            dry_run: said.dry_run,
        }
    }

    /// The policy that says so, by its name.
    pub(in crate::policy) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// What it goes by.
    pub(in crate::policy) fn by(&self) -> &RateBy {
        &self.by
    }

    /// Whose requests it is that one of them is counted with.
    pub(in crate::policy) fn key(&self, facts: &Facts<'_>) -> Key {
        key_of(self.policy(), "", &self.by, facts)
    }

    /// Answers a request if it is one too many.
    pub(in crate::policy) fn decide(&self, facts: &Facts<'_>) -> Verdict {
        if facts.in_flight.of(self.key(facts)) < self.most {
            return Verdict::Continue;
        }
        if self.dry_run {
            facts.meter.spare();
            return Verdict::Continue;
        }
        Verdict::Answer(Answer {
            limit: Some(named(self.policy(), "concurrency", facts)),
            line: Some("Retry-After: 1\r\n".into()),
            ..Answer::new(429, Reason::Crowded)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_leaves_nothing_behind() {
        let in_flight = InFlight::default();
        let (one, both): (Keys, Keys) = ([Key(1)].into(), [Key(1), Key(2)].into());
        in_flight.enter(&one);
        in_flight.enter(&both);
        assert_eq!([1, 2, 3].map(|key| in_flight.of(Key(key))), [2, 1, 0]);
        in_flight.leave(&one);
        assert_eq!([1, 2].map(|key| in_flight.of(Key(key))), [1, 1]);
        in_flight.leave(&both);
        assert!(in_flight.counts.borrow().is_empty());
    }
}

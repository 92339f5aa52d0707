//! Requests in flight: how many of one sort there may be.
//!
//! Rule: what frontend, policies and listener say never replaces each other: a request has to find room in each.
//! It is counted when it is let in ([`super::in_flight`]), by an exchange that keeps its keys and gives them back at its
//! end, so that there are never more keys than requests. Answers of our own are none in flight.

use super::in_flight::Counted;
use super::meter::Key;
use super::rate::{Sort, Who, key_of, named};
use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason, Verdict};
use crate::protocol::lines::LineBuf;
use crate::state::entity;

/// How many of a sort there may be, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// The policy that says so; none: the frontend.
    policy: Option<Box<str>>,
    by: Sort,
    most: u32,
    dry_run: bool,
}

impl Crowd {
    pub(in crate::policy) fn of(policy: Option<&str>, said: &entity::Concurrency) -> Self {
        Self {
            policy: policy.map(Into::into),
            by: Sort::new(&said.by, said.ipv6_prefix),
            most: said.requests,
            dry_run: said.dry_run,
        }
    }

    /// The policy that says so, by its name.
    pub(in crate::policy) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// What it goes by.
    pub(in crate::policy) fn by(&self) -> &[entity::RateBy] {
        self.by.by.each()
    }

    /// Whose requests it is that one of them is counted with.
    pub(in crate::policy) fn counted(&self, facts: &Facts<'_>) -> Counted {
        let key = self.key(facts);
        Counted {
            key,
            who: Who::of(&self.by, key, facts),
        }
    }

    /// As logs and operators know it.
    #[must_use]
    pub fn limit(&self, frontend: &str) -> Box<str> {
        named(self.policy(), NAME, frontend)
    }

    fn key(&self, facts: &Facts<'_>) -> Key {
        key_of(self.policy(), "", &self.by, facts)
    }

    /// Answers a request if it is one too many.
    pub(in crate::policy) fn decide(&self, facts: &Facts<'_>) -> Verdict {
        if facts.in_flight.reserve(self.key(facts), self.most) {
            return Verdict::Continue;
        }
        if self.dry_run {
            facts.meter.spare(self.policy());
            return Verdict::Continue;
        }
        Verdict::Answer(Answer {
            limit: Some(self.limit(facts.frontend_name)),
            lines: LineBuf::one(b"Retry-After", b"1"),
            ..Answer::new(429, Reason::Crowded)
        })
    }
}

/// What the bound of a policy or a frontend is called there.
const NAME: &str = "concurrency";

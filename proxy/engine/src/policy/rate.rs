//! Rates: how often who may ask.
//!
//! Rule: what frontend, policies and listener say never replaces each other: a request has to be within each
//! rate. The rate of a policy is one for all who name it, that of a frontend is its own.

use std::net::IpAddr;

use super::facts::Facts;
use super::meter::Pace;
use super::{Answer, Reason, Verdict};
use crate::protocol::cookie;
use crate::state::entity::{self, RateBy};

/// A rate, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The policy that says so; none: the frontend.
    policy: Option<Box<str>>,
    by: RateBy,
    pace: Pace,
    /// As told to clients.
    quota: Box<str>,
    dry_run: bool,
}

impl Rate {
    pub(super) fn of(policy: Option<&str>, said: &entity::RateLimit) -> Self {
        let burst = said.burst.unwrap_or(said.requests);
        let seconds = said.per.div_ceil(1000);
        Self {
            policy: policy.map(Into::into),
            by: said.by.clone(),
            pace: Pace::new(said.requests, said.per, burst),
            quota: format!("q={};w={seconds}", said.requests).into(),
            dry_run: said.dry_run,
        }
    }

    /// The policy that says so, by its name.
    pub(super) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// Takes a request into account, and answers it if it is one too many.
    pub(super) fn decide(&self, facts: &Facts<'_>) -> Verdict {
        let key = key_of(self.policy.as_deref(), &self.by, facts);
        match facts.meter.charge(key, self.pace, facts.now_ns) {
            Ok(()) => Verdict::Continue,
            Err(_) if self.dry_run => {
                facts.meter.spare();
                Verdict::Continue
            }
            Err(wait_ns) => {
                let seconds = wait_ns.div_ceil(1_000_000_000);
                let line = format!(
                    "Retry-After: {seconds}\r\nRateLimit-Policy: \"rate\";{}\r\n\
                     RateLimit: \"rate\";r=0;t={seconds}\r\n",
                    self.quota
                );
                Verdict::Answer(Answer {
                    line: Some(line.into()),
                    ..Answer::new(429, Reason::RateLimited)
                })
            }
        }
    }
}

/// The key of whoever is counted together, by a policy or by the frontend itself.
pub(super) fn key_of(policy: Option<&str>, by: &RateBy, facts: &Facts<'_>) -> u64 {
    let whose = (policy.is_some(), policy.unwrap_or(facts.frontend_name));
    let (head, bytes) = (facts.head, facts.bytes);
    match by {
        RateBy::ClientAddress => facts.meter.key((whose, network_of(facts.asking().told))),
        RateBy::Frontend => facts.meter.key((whose, facts.frontend_name)),
        RateBy::Header(name) => facts.meter.key((whose, head.values(bytes, name).next())),
        RateBy::Cookie(name) => {
            let lines = head.values(bytes, "cookie");
            let mut pairs = lines.flat_map(cookie::pairs);
            let found = pairs.find(|(known, _)| *known == name.as_bytes());
            facts.meter.key((whose, found))
        }
    }
}

/// What one client has, and whether it is of IPv6: there a network, of which it has as many addresses as it
/// likes.
fn network_of(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u32::from(address).into()),
        IpAddr::V6(address) => (true, (u128::from(address) >> 64) as u64),
    }
}

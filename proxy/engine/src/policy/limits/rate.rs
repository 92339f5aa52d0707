//! Rates: how often who may ask.
//!
//! Rule: what frontend, policies and listener say never replaces each other, unless a policy of the listener's is
//! `overridable`: a request has to be within each rate, and one that is refused uses none of them up. The rate
//! of a policy is one for all who name it, that of a frontend is its own. It is told apart by whose it is and by what it is
//! called there, so that it goes on counting whatever else is changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::meter::{Key, Pace};
use super::refused::Whom;
use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason, Verdict};
use crate::protocol::cookie;
use crate::state::entity::{self, RateBy, WhenFull};

/// A rate, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The policy that says so; none: the frontend.
    policy: Option<Box<str>>,
    /// Among those that are said there.
    called: Box<str>,
    /// The same, as clients are told.
    told: Box<str>,
    by: RateBy,
    pace: Pace,
    /// As told to clients.
    quota: Box<str>,
    status: u16,
    dry_run: bool,
    when_full: WhenFull,
}

impl Rate {
    pub(in crate::policy) fn of(policy: Option<&str>, said: &entity::RateLimit) -> Self {
        let burst = said.burst.unwrap_or(said.requests);
        let seconds = said.per.div_ceil(1000);
        Self {
            policy: policy.map(Into::into),
            called: said.called().into(),
            // What it goes by is nobody's business.
            told: said.name.clone().unwrap_or_else(|| "rate".into()),
            by: said.by.clone(),
            pace: Pace::new(said.requests, said.per, burst),
            quota: format!("q={};w={seconds}", said.requests).into(),
            status: said.status,
            dry_run: said.dry_run,
            when_full: said.when_full,
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

    fn key(&self, facts: &Facts<'_>) -> Key {
        key_of(self.policy(), &self.called, &self.by, facts)
    }

    /// Takes a request into account that is within the rate, and tells whether it did; how long it has to wait otherwise.
    fn charge(&self, facts: &Facts<'_>) -> Result<bool, u64> {
        let charged = facts
            .meter
            .charge(self.key(facts), self.pace, facts.now_ns, self.when_full);
        if self.dry_run && charged.is_err() {
            facts.meter.spare();
            return Ok(false);
        }
        charged.map(|()| true)
    }

    /// How long a request would have to wait, in nanoseconds, if it is one too many.
    fn wait(&self, facts: &Facts<'_>) -> Option<u64> {
        if self.dry_run {
            return None;
        }
        let due = facts.meter.look(self.key(facts), self.pace, facts.now_ns);
        due.err()
    }

    /// Answers a request that is one too many.
    fn refuse(&self, wait_ns: u64, facts: &Facts<'_>) -> Verdict {
        let limit = named(self.policy(), &self.called, facts.frontend_name);
        let key = self.key(facts);
        let whom = || Whom {
            limit: limit.clone(),
            who: Who::of(&self.by, key, facts).shown(facts.frontend_name),
        };
        facts.refused.note(key, facts.now_ns, wait_ns, whom);
        let seconds = wait_ns.div_ceil(1_000_000_000);
        let (told, quota) = (&self.told, &self.quota);
        let line = format!(
            "Retry-After: {seconds}\r\nRateLimit-Policy: \"{told}\";{quota}\r\n\
             RateLimit: \"{told}\";r=0;t={seconds}\r\n"
        );
        Verdict::Answer(Answer {
            limit: Some(limit),
            line: Some(line.into()),
            ..Answer::new(self.status, Reason::RateLimited)
        })
    }
}

/// Whose requests are counted together, as far as it may be told: what a client has shown of itself may be what others
/// take it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// What one client has: an address, or a network of IPv6.
    Client(IpAddr),
    /// All that a frontend serves.
    Frontend,
    /// Those with some value, hashed.
    Hash(u32),
    /// Those without any.
    Nobody,
}

impl Who {
    pub(super) fn of(by: &RateBy, key: Key, facts: &Facts<'_>) -> Self {
        let is_absent = match by {
            RateBy::ClientAddress => {
                let network = match network_of(facts.asking().told) {
                    (false, bits) => Ipv4Addr::from_bits(bits as u32).into(),
                    (true, bits) => Ipv6Addr::from_bits(u128::from(bits) << 64).into(),
                };
                return Self::Client(network);
            }
            RateBy::Frontend => return Self::Frontend,
            RateBy::Claim(name) => facts.claim(name).is_none(),
            RateBy::Header(name) => facts.values(name).next().is_none(),
            RateBy::Cookie(name) => cookie_of(name, facts).is_none(),
        };
        match is_absent {
            true => Self::Nobody,
            false => Self::Hash((key.0 >> 32) as u32),
        }
    }

    /// As people read it, of a request to this frontend.
    #[must_use]
    pub fn shown(self, frontend: &str) -> Box<str> {
        match self {
            Self::Client(IpAddr::V4(address)) => address.to_string().into(),
            Self::Client(IpAddr::V6(network)) => format!("{network}/64").into(),
            Self::Frontend => frontend.into(),
            Self::Hash(hash) => format!("hash:{hash:08x}").into(),
            Self::Nobody => "none".into(),
        }
    }
}

/// Takes a request into account that is within all of some rates; else answers it, by the one for which it has to wait
/// longest.
pub(in crate::policy) fn decide(rates: &[Rate], facts: &Facts<'_>) -> Verdict {
    if let [only] = rates {
        return match only.charge(facts) {
            Ok(_) => Verdict::Continue,
            Err(wait_ns) => only.refuse(wait_ns, facts),
        };
    }
    let waits = rates
        .iter()
        .filter_map(|rate| Some((rate.wait(facts)?, rate)));
    if let Some((wait_ns, rate)) = waits.max_by_key(|(wait_ns, _)| *wait_ns) {
        return rate.refuse(wait_ns, facts);
    }
    let mut charged = Vec::with_capacity(rates.len());
    for rate in rates {
        match rate.charge(facts) {
            Ok(true) => charged.push(rate),
            Ok(false) => {}
            Err(wait_ns) => {
                // Another worker has used up meanwhile what was left.
                for taken in charged {
                    facts.meter.refund(taken.key(facts), taken.pace);
                }
                return rate.refuse(wait_ns, facts);
            }
        }
    }
    Verdict::Continue
}

/// A limit, as logs and operators know it: whose it is, and what it is called there.
pub(in crate::policy) fn named(policy: Option<&str>, called: &str, frontend: &str) -> Box<str> {
    match policy {
        Some(policy) => format!("policy/{policy}/{called}").into(),
        None => format!("frontend/{frontend}/{called}").into(),
    }
}

/// The key of whoever is counted together, by a limit of a policy or of the frontend itself.
pub(in crate::policy) fn key_of(
    policy: Option<&str>,
    called: &str,
    by: &RateBy,
    facts: &Facts<'_>,
) -> Key {
    let whose = (
        policy.is_some(),
        policy.unwrap_or(facts.frontend_name),
        called,
    );
    match by {
        RateBy::ClientAddress => facts.meter.key((whose, network_of(facts.asking().told))),
        RateBy::Frontend => facts.meter.key((whose, facts.frontend_name)),
        RateBy::Header(name) => {
            let value = facts.values(name).next();
            facts.meter.key((whose, value))
        }
        RateBy::Claim(name) => facts.meter.key((whose, facts.claim(name))),
        RateBy::Cookie(name) => facts.meter.key((whose, cookie_of(name, facts))),
    }
}

/// The cookie of a name, with that.
fn cookie_of<'a>(name: &str, facts: &Facts<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let lines = facts.head.values(facts.bytes, "cookie");
    let mut pairs = lines.flat_map(cookie::pairs);
    pairs.find(|(known, _)| *known == name.as_bytes())
}

/// What one client has, and whether it is of IPv6: there a network, of which it has as many addresses as it
/// likes.
fn network_of(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u32::from(address).into()),
        IpAddr::V6(address) => (true, (u128::from(address) >> 64) as u64),
    }
}

//! Rates: how often who may ask.
//!
//! Rule: what frontend, policies and listener say never replaces each other, unless a policy of the listener's is
//! `overridable`: a request has to be within each rate, and one that is refused uses none of them up. The rate
//! of a policy is one for all who name it, that of a frontend is its own. It is told apart by whose it is and by what it is
//! called there, so that it goes on counting whatever else is changed.

use std::net::{IpAddr, Ipv6Addr};

use super::meter::{Key, Pace};
use super::refused::Whom;
use crate::policy::facts::Facts;
use crate::policy::{Answer, Reason, Verdict};
use crate::protocol::cookie;
use crate::protocol::lines::LineBuf;
use crate::state::entity::{self, CountedBy, Fields, RateBy, WhenFull};
use crate::state::kinds::keys::rate::IPV6_PREFIX;

/// A rate, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The policy that says so; none: the frontend.
    policy: Option<Box<str>>,
    /// Among those that are said there.
    called: Box<str>,
    /// The same, as clients are told.
    told: Box<str>,
    by: Sort,
    pace: Pace,
    /// As told to clients.
    quota: Box<str>,
    status: u16,
    dry_run: bool,
    fields: Fields,
    when_full: WhenFull,
}

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    pub(super) by: CountedBy,
    ipv6_prefix: u8,
}

impl Sort {
    pub(super) fn new(by: &CountedBy, ipv6_prefix: u8) -> Self {
        Self {
            by: by.clone(),
            ipv6_prefix,
        }
    }
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
            by: Sort::new(&said.by, said.ipv6_prefix),
            pace: Pace::new(said.requests, said.per, burst),
            quota: format!("q={};w={seconds}", said.requests).into(),
            status: said.status,
            dry_run: said.dry_run,
            fields: said.fields,
            when_full: said.when_full,
        }
    }

    /// The policy that says so, by its name.
    pub(in crate::policy) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// What it goes by.
    pub(in crate::policy) fn by(&self) -> &[RateBy] {
        self.by.by.each()
    }

    /// Whether clients are told what is left before it is nothing.
    pub(in crate::policy) fn tells_all(&self) -> bool {
        self.fields == Fields::All
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
            facts.meter.spare(self.policy());
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
        let mut lines = LineBuf::one(b"Retry-After", seconds.to_string().as_bytes());
        if self.fields != Fields::None {
            let left = Left {
                rate: self,
                requests: 0,
                seconds,
            };
            write_fields(&[left], &mut lines);
        }
        Verdict::Answer(Answer {
            limit: Some(limit),
            lines,
            ..Answer::new(self.status, Reason::RateLimited)
        })
    }
}

/// What is left of a rate.
struct Left<'a> {
    rate: &'a Rate,
    requests: u64,
    /// Until it is all there again; until one is, where nothing is left.
    seconds: u64,
}

/// The fields that tell clients what is left of those rates that say so, each by its name, which clients know it
/// by: of several with one name of the one of which least is left.
pub(in crate::policy) fn quotas<'a>(
    rates: impl Iterator<Item = &'a Rate>,
    facts: &Facts<'_>,
) -> LineBuf {
    let mut lefts: Vec<Left<'_>> = Vec::new();
    for rate in rates.filter(|rate| rate.tells_all()) {
        let (requests, wait_ns) = facts.meter.left(rate.key(facts), rate.pace, facts.now_ns);
        let left = Left {
            rate,
            requests,
            seconds: wait_ns.div_ceil(1_000_000_000),
        };
        match lefts.iter_mut().find(|it| it.rate.told == rate.told) {
            Some(known) if known.requests > requests => *known = left,
            Some(_) => {}
            None => lefts.push(left),
        }
    }
    let mut lines = LineBuf::default();
    write_fields(&lefts, &mut lines);
    lines
}

/// As the draft `ratelimit-headers` of HTTPAPI has them, in its tenth version.
fn write_fields(lefts: &[Left<'_>], lines: &mut LineBuf) {
    if lefts.is_empty() {
        return;
    }
    let policies = lefts.iter().map(|Left { rate, .. }| {
        let Rate { told, quota, .. } = rate;
        format!("\"{told}\";{quota}")
    });
    let policies: Vec<String> = policies.collect();
    lines.push(b"RateLimit-Policy", policies.join(", ").as_bytes());
    let rates = lefts.iter().map(|left| {
        let (told, requests, seconds) = (&left.rate.told, left.requests, left.seconds);
        format!("\"{told}\";r={requests};t={seconds}")
    });
    let rates: Vec<String> = rates.collect();
    lines.push(b"RateLimit", rates.join(", ").as_bytes());
}

/// Whose requests are counted together, as far as it may be told: what a client has shown of itself may be what others
/// take it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// What one client has: an address, or a network of IPv6 with so many bits.
    Client(IpAddr, u8),
    /// All that a frontend serves.
    Frontend,
    /// The same, and some other value, hashed with it.
    ClientWith(IpAddr, u8, u32),
    /// Those with some value, or several, hashed.
    Hash(u32),
    /// Those without any.
    Nobody,
}

impl Who {
    pub(super) fn of(sort: &Sort, key: Key, facts: &Facts<'_>) -> Self {
        let hash = (key.0 >> 32) as u32;
        let network = || network_of(facts.asking().told, sort.ipv6_prefix);
        match sort.by.each() {
            [RateBy::ClientAddress] => Self::Client(network(), sort.ipv6_prefix),
            [RateBy::Frontend] => Self::Frontend,
            all if all.contains(&RateBy::ClientAddress) => {
                Self::ClientWith(network(), sort.ipv6_prefix, hash)
            }
            all if all.iter().all(|by| is_absent(by, facts)) => Self::Nobody,
            _ => Self::Hash(hash),
        }
    }

    /// As people read it, of a request to this frontend.
    #[must_use]
    pub fn shown(self, frontend: &str) -> Box<str> {
        match self {
            Self::Client(IpAddr::V6(network), bits @ ..=127) => format!("{network}/{bits}").into(),
            Self::Client(address, _) => address.to_string().into(),
            Self::ClientWith(address, bits, hash) => {
                let client = Self::Client(address, bits).shown(frontend);
                format!("{client},hash:{hash:08x}").into()
            }
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
    sort: &Sort,
    facts: &Facts<'_>,
) -> Key {
    let whose = (
        policy.is_some(),
        policy.unwrap_or(facts.frontend_name),
        called,
    );
    let [first, more @ ..] = sort.by.each() else {
        return facts.meter.key(whose);
    };
    let key = value_key(whose, first, sort.ipv6_prefix, facts);
    // What goes by one counts on as it did before there were several.
    more.iter().fold(key, |key, by| {
        let next = value_key(whose, by, sort.ipv6_prefix, facts);
        facts.meter.key((key.0, next.0))
    })
}

/// The key of those with one value.
fn value_key(whose: (bool, &str, &str), by: &RateBy, ipv6_prefix: u8, facts: &Facts<'_>) -> Key {
    match by {
        RateBy::ClientAddress => match network_of(facts.asking().told, ipv6_prefix) {
            IpAddr::V4(address) => {
                let bits = u64::from(address.to_bits());
                facts.meter.key((whose, (false, bits)))
            }
            IpAddr::V6(network) => {
                let bits = network.to_bits();
                let (upper, lower) = ((bits >> 64) as u64, bits as u64);
                match ipv6_prefix {
                    // What was counted before there were others goes on counting.
                    IPV6_PREFIX => facts.meter.key((whose, (true, upper))),
                    prefix => facts.meter.key((whose, (prefix, upper, lower))),
                }
            }
        },
        RateBy::Frontend => facts.meter.key((whose, facts.frontend_name)),
        RateBy::Header(name) => {
            let value = facts.values(name).next();
            facts.meter.key((whose, value))
        }
        RateBy::Claim(name) => facts.meter.key((whose, facts.claim(name))),
        RateBy::Cookie(name) => facts.meter.key((whose, cookie_of(name, facts))),
    }
}

/// Whether a request has no such value. Everybody has an address and a frontend.
fn is_absent(by: &RateBy, facts: &Facts<'_>) -> bool {
    match by {
        RateBy::ClientAddress | RateBy::Frontend => false,
        RateBy::Claim(name) => facts.claim(name).is_none(),
        RateBy::Header(name) => facts.values(name).next().is_none(),
        RateBy::Cookie(name) => cookie_of(name, facts).is_none(),
    }
}

/// The cookie of a name, with that.
fn cookie_of<'a>(name: &str, facts: &Facts<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let lines = facts.head.values(facts.bytes, "cookie");
    let mut pairs = lines.flat_map(cookie::pairs);
    pairs.find(|(known, _)| *known == name.as_bytes())
}

/// What one client has: of IPv6 a network, of which it has as many addresses as it likes.
fn network_of(address: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let apart = 128 - u32::from(ipv6_prefix.min(128));
            let mask = u128::MAX.checked_shl(apart).unwrap_or_default();
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests;

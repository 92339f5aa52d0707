//! How often who may ask; part of frontend and policy.

use serde::{Deserialize, Serialize};

use crate::state::entity::check::{is_name, is_token, within};
use crate::state::kinds::language::language;

language! {
    /// How many requests in how much time.
    pub struct RateLimit {
        /// How many at once; `None` is as many as `requests`.
        pub burst: Option<u32> = None,
        /// Whose requests are counted together.
        pub by: CountedBy = CountedBy::One(RateBy::ClientAddress),
        /// Nobody is refused, which is counted.
        pub dry_run: bool = false,
        /// Which answers tell clients what is left.
        pub fields: Fields = Fields::Refused,
        /// Of how many bits the networks of IPv6 are that count as one client.
        pub ipv6_prefix: u8 = IPV6_PREFIX,
        /// What it is called, if that is not what it is counted by.
        pub name: Option<Box<str>> = None,
        /// In how much time, in milliseconds.
        pub per: u64 = 1000,
        /// How many requests.
        pub requests: u32,
        /// What those get who are refused.
        pub status: u16 = TOO_MANY_REQUESTS,
        /// What becomes of one more key than there is room for.
        pub when_full: WhenFull = WhenFull::Evict,
    }
}

/// One, or several that all have to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RateLimits {
    /// Written as a map.
    One(RateLimit),
    /// Written as a list.
    Several(Vec<RateLimit>),
}

impl RateLimits {
    /// Each of them.
    pub fn each(&self) -> &[RateLimit] {
        match self {
            Self::One(limit) => std::slice::from_ref(limit),
            Self::Several(limits) => limits,
        }
    }

    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        let limits = self.each();
        if matches!(self, Self::Several(_)) {
            within("limits", limits.len(), 2..=LIMITS_MAX)?;
        }
        let mut names: Vec<String> = limits.iter().map(RateLimit::called).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two limits are called {:?}", twice[0]));
        }
        limits.iter().try_for_each(RateLimit::check)
    }
}

/// What becomes of one more key than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It gets the place of the one whose rate is free again first.
    Evict,
    /// It is refused.
    Refuse,
}

/// Which answers tell clients what is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fields {
    /// All to requests that it has counted.
    All,
    /// None.
    None,
    /// Those to requests that it refuses.
    Refused,
}

/// What has the same value where requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateBy {
    /// Who asks.
    ClientAddress,
    /// The claim of this name of the token that lets the request pass.
    Claim(Box<str>),
    /// The frontend: whoever asks.
    Frontend,
    /// The cookie of this name.
    Cookie(Box<str>),
    /// The header of this name, in lower case.
    Header(Box<str>),
}

/// One of these, or several together: one count for each combination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CountedBy {
    /// Written as it is.
    One(RateBy),
    /// Written as a list.
    Several(Box<[RateBy]>),
}

impl CountedBy {
    /// Each of them.
    pub fn each(&self) -> &[RateBy] {
        match self {
            Self::One(by) => std::slice::from_ref(by),
            Self::Several(all) => all,
        }
    }

    /// As logs have it.
    fn called(&self) -> String {
        let names: Vec<String> = self.each().iter().map(RateBy::called).collect();
        names.join(",")
    }

    /// Checks the value, and of how many bits networks of IPv6 are: what goes by no address has the usual number.
    pub fn check(&self, ipv6_prefix: u8) -> Result<(), String> {
        if let Self::Several(all) = self {
            within("by", all.len(), 2..=BY_MAX)?;
            if !all.is_sorted_by(|one, other| one.called() < other.called()) {
                return Err("by: expected a list, sorted, each once".to_owned());
            }
        }
        if !self.each().contains(&RateBy::ClientAddress) && ipv6_prefix != IPV6_PREFIX {
            return Err("ipv6_prefix: no address is looked at".to_owned());
        }
        within("ipv6_prefix", ipv6_prefix, 32..=128)?;
        self.each().iter().try_for_each(RateBy::check)
    }
}

impl RateLimit {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        within("requests", self.requests, 1..=REQUESTS_MAX)?;
        within("burst", self.burst.unwrap_or(1), 1..=REQUESTS_MAX)?;
        within("per", self.per, 1000..=DAY_MS)?;
        within("status", self.status, 400..=599)?;
        if let Some(name) = self.name.as_deref().filter(|name| !is_name(name)) {
            return Err(format!("name: {name:?} is no name"));
        }
        self.by.check(self.ipv6_prefix)
    }

    /// By what it is told apart from others of whoever says it, over changes as well.
    pub fn called(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => self.by.called(),
        }
    }
}

impl RateBy {
    fn called(&self) -> String {
        match self {
            Self::ClientAddress => "client_address".into(),
            Self::Frontend => "frontend".into(),
            Self::Claim(name) => format!("claim:{name}"),
            Self::Cookie(name) => format!("cookie:{name}"),
            Self::Header(name) => format!("header:{name}"),
        }
    }

    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Cookie(name) | Self::Header(name) if !is_token(name) => {
                Err(format!("by: {name:?} is no name of a field"))
            }
            Self::Claim(name) if !is_claim(name) => {
                Err(format!("by: {name:?} is no name of a claim"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a text can name a claim where it stands in a log.
fn is_claim(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    (1..=CLAIM_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

const CLAIM_BYTES_MAX: usize = 256;
/// What one client has, of which it may use any address.
pub const IPV6_PREFIX: u8 = 64;
/// One a microsecond, if they are in a second.
pub const REQUESTS_MAX: u32 = 1_000_000;
/// Together in one limit.
const BY_MAX: usize = 4;
/// In one list.
const LIMITS_MAX: usize = 8;
const TOO_MANY_REQUESTS: u16 = 429;
const DAY_MS: u64 = 24 * 3_600_000;

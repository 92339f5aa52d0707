//! How often who may ask; part of frontend and policy.

use serde::{Deserialize, Serialize};

use super::language::language;
use crate::state::entity::check::{is_token, within};

language! {
    /// How many requests in how much time.
    pub struct RateLimit {
        /// How many at once; `None` is as many as `requests`.
        pub burst: Option<u32> = None,
        /// Whose requests are counted together.
        pub by: RateBy = RateBy::ClientAddress,
        /// Nobody is refused, which is counted.
        pub dry_run: bool = false,
        /// In how much time, in milliseconds.
        pub per: u64 = 1000,
        /// How many requests.
        pub requests: u32,
    }
}

/// What has the same value where requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateBy {
    /// Who asks.
    ClientAddress,
    /// The frontend: whoever asks.
    Frontend,
    /// The cookie of this name.
    Cookie(Box<str>),
    /// The header of this name, in lower case.
    Header(Box<str>),
}

impl RateLimit {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        within("requests", self.requests, 1..=REQUESTS_MAX)?;
        within("burst", self.burst.unwrap_or(1), 1..=REQUESTS_MAX)?;
        within("per", self.per, 1000..=DAY_MS)?;
        self.by.check()
    }
}

impl RateBy {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Cookie(name) | Self::Header(name) if !is_token(name) => {
                Err(format!("by: {name:?} is no name of a field"))
            }
            _ => Ok(()),
        }
    }
}

/// One a microsecond, if they are in a second.
pub const REQUESTS_MAX: u32 = 1_000_000;
const DAY_MS: u64 = 24 * 3_600_000;

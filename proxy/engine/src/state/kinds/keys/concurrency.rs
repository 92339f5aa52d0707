//! How many requests of one sort may be in flight; part of frontend and policy.

use super::rate::{CountedBy, IPV6_PREFIX, REQUESTS_MAX, RateBy};
use crate::state::entity::check::within;
use crate::state::kinds::language::language;

language! {
    /// How many requests at a time.
    pub struct Concurrency {
        /// Whose requests are counted together.
        pub by: CountedBy = CountedBy::One(RateBy::ClientAddress),
        /// Nobody is refused, which is counted.
        pub dry_run: bool = false,
        /// Of how many bits the networks of IPv6 are that count as one client.
        pub ipv6_prefix: u8 = IPV6_PREFIX,
        /// How many.
        pub requests: u32,
    }
}

impl Concurrency {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        within("requests", self.requests, 1..=REQUESTS_MAX)?;
        self.by.check(self.ipv6_prefix)
    }
}

//! How many requests of one sort may be in flight; part of frontend and policy.

use super::rate::{REQUESTS_MAX, RateBy};
use crate::state::entity::check::within;
use crate::state::kinds::language::language;

language! {
    /// How many requests at a time.
    pub struct Concurrency {
        /// Whose requests are counted together.
        pub by: RateBy = RateBy::ClientAddress,
        /// Nobody is refused, which is counted.
        pub dry_run: bool = false,
        /// How many.
        pub requests: u32,
    }
}

impl Concurrency {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        within("requests", self.requests, 1..=REQUESTS_MAX)?;
        self.by.check()
    }
}

//! How fast answers leave; part of frontend and policy.

use std::ops::RangeInclusive;

use crate::state::entity::check::within;
use crate::state::kinds::language::defaulted;

defaulted! {
    /// Bytes of bodies in a second. None replaces another: an answer has to keep each.
    pub struct Bandwidth {
        /// To one connection of a client.
        pub per_connection: Option<u64> = None,
        /// To all together, by a worker.
        pub total: Option<u64> = None,
    }
}

impl Bandwidth {
    /// Checks the value.
    pub fn check(&self) -> Result<(), String> {
        if *self == Self::default() {
            return Err("expected per_connection, total or both".to_owned());
        }
        for (key, said) in [
            ("per_connection", self.per_connection),
            ("total", self.total),
        ] {
            within(key, said.unwrap_or(*RATES.start()), RATES)?;
        }
        Ok(())
    }
}

const RATES: RangeInclusive<u64> = 1 << 10..=1 << 40;

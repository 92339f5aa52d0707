//! Bounds of single requests: how large, and how long; part of frontend and policy.

use crate::state::entity::check::{TIMEOUT_MS, within};
use crate::state::kinds::language::defaulted;
use crate::state::kinds::policy::Inherited;

defaulted! {
    /// Bounds of requests that a frontend takes. None replaces another: the smallest counts.
    pub struct RequestLimits {
        /// Largest request body; `None` leaves it to others.
        pub body_bytes: Option<u64> = None,
    }
}

defaulted! {
    /// How long each step of a request may take, in milliseconds, in place of what listener and cluster say.
    pub struct RequestTimeouts {
        /// From a request's head to the end of the response.
        pub request: Inherited<u64> = Inherited::Inherit,
        /// Between two pieces of a request body.
        pub request_body: Inherited<u64> = Inherited::Inherit,
        /// Between two pieces of a response body.
        pub response_body: Inherited<u64> = Inherited::Inherit,
        /// From the whole request to the response's head.
        pub response_head: Inherited<u64> = Inherited::Inherit,
        /// Without a byte in a tunnel.
        pub tunnel: Inherited<u64> = Inherited::Inherit,
    }
}

impl RequestTimeouts {
    /// Each step, by its key.
    pub fn steps(&self) -> [(&'static str, &Inherited<u64>); 5] {
        [
            ("request", &self.request),
            ("request_body", &self.request_body),
            ("response_body", &self.response_body),
            ("response_head", &self.response_head),
            ("tunnel", &self.tunnel),
        ]
    }

    /// Checks each.
    pub fn check(&self) -> Result<(), String> {
        for (key, said) in self.steps() {
            if let Inherited::Is(limit) = said {
                within(&format!("timeouts.{key}"), *limit, TIMEOUT_MS)?;
            }
        }
        Ok(())
    }
}

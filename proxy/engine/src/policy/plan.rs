//! What few frontends ask for, compiled: a frontend without any of it has no plan, and its requests pay
//! for one look at that.

use super::facts::Facts;
use super::{Reason, Verdict, secure};
use crate::state::entity::Frontend;

/// What a frontend has done with its requests, and with the answers to them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Requests in clear text are sent to the same place over TLS.
    redirects_to_tls: bool,
    /// Clients must have shown a certificate.
    asks_for_certificate: bool,
    hsts: Option<Box<str>>,
}

impl Plan {
    /// The plan of a frontend, if it asks for anything.
    pub fn of(frontend: &Frontend) -> Option<Box<Self>> {
        let plan = Self {
            redirects_to_tls: frontend.redirect.is_some(),
            asks_for_certificate: frontend.client_certificate.is_some(),
            hsts: frontend.hsts.as_ref().map(|hsts| hsts.line().into()),
        };
        (plan != Self::default()).then(|| Box::new(plan))
    }

    /// The line of Strict-Transport-Security that answers over TLS have, with its CRLF.
    #[must_use]
    pub fn hsts(&self) -> Option<&str> {
        self.hsts.as_deref()
    }

    /// Takes a request through its stages.
    pub(super) fn decide(&self, facts: &Facts<'_>) -> Verdict {
        let certificate = || match self.asks_for_certificate && !facts.has_certificate {
            true => Verdict::answer(403, Reason::CertificateMissing),
            false => Verdict::Continue,
        };
        match self.redirects_to_tls {
            true => secure::redirect(facts).or(certificate),
            false => certificate(),
        }
    }
}

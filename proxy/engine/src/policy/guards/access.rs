//! Who may ask: networks that are turned away, and networks that alone are let in.
//!
//! Rule: what frontend, policies and listener say never replaces each other. Whoever is denied by one of
//! them is denied, and whoever is allowed has to be by each that allows anybody. An address is that of the
//! client, as the PROXY protocol or a trusted proxy tells it.

use std::net::IpAddr;

use crate::policy::{Reason, Verdict};
use crate::state::entity::Policy;
use crate::state::entity::cidr::Networks;

/// Who may ask, by all who have a word.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Access {
    denied: Networks,
    /// One for each who allows only some.
    allowed: Box<[Networks]>,
}

impl Access {
    /// What some policies say together of who may not ask and of who may, if they say anything.
    pub(in crate::policy) fn of(
        denying: &[&Policy],
        allowing: &[&Policy],
    ) -> Result<Option<Self>, String> {
        let denied = denying.iter().filter_map(|policy| policy.deny.as_deref());
        let denied = Networks::parse(denied.flatten().map(AsRef::as_ref))?;
        let allowed = allowing.iter().filter_map(|policy| policy.allow.as_deref());
        let allowed = allowed.map(|networks| Networks::parse(networks.iter().map(AsRef::as_ref)));
        let access = Self {
            denied,
            allowed: allowed.collect::<Result<_, _>>()?,
        };
        let says_anything = access.denied != Networks::default() || !access.allowed.is_empty();
        Ok(says_anything.then_some(access))
    }

    /// Whether a client may ask.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        !self.denied.contains(client)
            && self
                .allowed
                .iter()
                .all(|networks| networks.contains(client))
    }

    /// What becomes of its requests. A client that nobody knows may be any of those who are denied.
    pub(in crate::policy) fn decide(&self, client: Option<IpAddr>) -> Verdict {
        match client.is_some_and(|client| self.admits(client)) {
            true => Verdict::Continue,
            false => Verdict::answer(403, Reason::Denied),
        }
    }
}

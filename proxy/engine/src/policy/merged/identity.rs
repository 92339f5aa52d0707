//! Who asks, as far as somebody has to be convinced of it: certificates, passwords, tokens, other servers.
//!
//! Rule: a header in which one of these says who it is has no word of the client's (T21): it is left out before anybody
//! looks at a request, and has one author. Called by the stages, and by `session/exchange` for the fields.

use std::sync::Arc;

use super::Merged;
use super::authors::Author;
use crate::policy::changes::edits::Reach;
use crate::policy::facts::Facts;
use crate::policy::guards::basic::Basic;
use crate::policy::guards::jwt::Jwt;
use crate::policy::{Answer, Reason, Verdict};
use crate::state::entity::ForwardAuth;

impl Merged {
    /// Whether its client has shown what it has to.
    pub(in crate::policy) fn identify(&self, facts: &Facts<'_>) -> Verdict {
        let mut asked = self.certificates.iter();
        match facts.client {
            _ if self.certificates.is_empty() => Verdict::Continue,
            None => Verdict::answer(403, Reason::CertificateMissing),
            Some(client) if asked.all(|asked| asked.admits(client)) => Verdict::Continue,
            Some(_) => Verdict::answer(403, Reason::CertificateRefused),
        }
    }

    /// The users who may ask, all of whom have to know one.
    #[inline]
    #[must_use]
    pub fn basics(&self) -> &[Basic] {
        &self.basics
    }

    /// Whether a request has to show a token.
    #[inline]
    #[must_use]
    pub fn asks_for_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Looks at the tokens of a request; returns the lines that its backend gets by them.
    pub(in crate::policy) fn verify(&self, facts: &Facts<'_>) -> Result<Vec<u8>, Answer> {
        let mut lines = Vec::new();
        for (number, jwt) in self.tokens.iter().enumerate() {
            let claims = jwt.admit(facts)?;
            let says = |name: &str| self.is_said_by(name, Author::Token(number));
            jwt.write(&claims, says, &mut lines);
        }
        Ok(lines)
    }

    /// Whether somebody tells the backend a header in which it learns who asks; where that is edited, nobody does.
    #[must_use]
    pub fn is_said_by(&self, name: &str, author: Author) -> bool {
        self.authors.has(name, author) && !self.is_edited(name)
    }

    /// Whether a header of requests is replaced or left out.
    fn is_edited(&self, name: &str) -> bool {
        let mut edited = self.edited().iter();
        edited.any(|drop| drop.eq_ignore_ascii_case(name))
    }

    fn edited(&self) -> &[Box<str>] {
        let edits = self.request.as_ref();
        edits.map_or(&[], |edits| edits.drops(Reach::Success))
    }

    /// Headers in which those say who it is who are asked, and nobody else.
    pub fn identifying(&self) -> impl Iterator<Item = &str> {
        let asked = self.asked.iter().flat_map(|asked| &asked.copy_headers);
        let asked = asked.map(|name| &**name);
        asked.chain(self.tokens.iter().flat_map(Jwt::headers))
    }

    /// Headers that a request is left without on its way to a backend.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        let edited = self.edited().iter().map(|name| &**name);
        edited.chain(self.tokens.iter().filter_map(Jwt::dropped))
    }

    /// Who is asked whether a request may pass, one after the other.
    #[must_use]
    pub fn asked(&self) -> &[Arc<ForwardAuth>] {
        &self.asked
    }
}

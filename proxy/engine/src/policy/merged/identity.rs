//! Who asks, as far as somebody has to be convinced of it: certificates, passwords, tokens, other servers.
//!
//! Rule: a header in which one of these says who it is has no word of the client's (T21): it is left out before anybody
//! looks at a request, and has one author. Called by the stages, and by `session/exchange` for the fields.

use std::sync::Arc;

use super::Merged;
use super::authors::Author;
use crate::policy::changes::edits::Reach;
use crate::policy::changes::room::Room;
use crate::policy::facts::Facts;
use crate::policy::guards::basic::Basic;
use crate::policy::guards::jwt::Jwt;
use crate::policy::guards::jwt::token::Claims;
use crate::policy::limits::crowd::Crowd;
use crate::policy::limits::in_flight::Keys;
use crate::policy::limits::rate::{self, Rate};
use crate::policy::{Answer, Reason, Verdict};
use crate::protocol::lines::{LineBuf, Lines};
use crate::state::entity::{ForwardAuth, RateBy};

/// How many requests there may be of somebody who is known, at a time and in a time.
#[derive(Debug)]
pub(super) struct Limits {
    rates: Box<[Rate]>,
    crowds: Box<[Crowd]>,
}

/// What is known of a request that tokens and passwords have let pass.
#[derive(Default)]
pub(in crate::policy) struct Known {
    /// As lines of its head.
    pub lines: LineBuf,
    /// What the tokens say.
    pub claims: Vec<Claims>,
}

impl Known {
    /// Whether nobody has said anything.
    pub(in crate::policy) fn is_nothing(&self) -> bool {
        self.lines.is_empty() && self.claims.is_empty()
    }
}

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

    /// Looks at the tokens of a request, whose user is known.
    pub(in crate::policy) fn verify(&self, facts: &Facts<'_>) -> Result<Known, Answer> {
        let (mut known, room) = (Known::default(), Room::of(facts));
        for (number, jwt) in self.tokens.iter().enumerate() {
            let claims = jwt.admit(facts)?;
            let says = |name: &str| self.is_said_by(name, Author::Token(number));
            jwt.write(&claims, says, &room, &mut known.lines)?;
            known.claims.push(claims);
        }
        for (number, basic) in self.basics.iter().enumerate() {
            let says = |name: &str| self.is_said_by(name, Author::User(number));
            if basic.header().is_some_and(says) {
                basic.write(facts, &mut known.lines);
            }
        }
        Ok(known)
    }

    /// Whether somebody tells a header in which it is learned who asks.
    #[must_use]
    pub fn is_said_by(&self, name: &str, author: Author) -> bool {
        self.authors.has(name, author)
    }

    /// Has those limits wait for all who say who it is that go by that.
    pub(super) fn part_limits(&mut self) {
        self.tells_quotas = self.rates.iter().any(Rate::tells_all);
        let is_late = |by: &RateBy| match by {
            RateBy::Claim(_) => true,
            RateBy::Header(name) => self.identifying().any(|it| it.eq_ignore_ascii_case(name)),
            RateBy::ClientAddress | RateBy::Cookie(_) | RateBy::Frontend => false,
        };
        let (late, rates): (Vec<_>, Vec<_>) = self
            .rates
            .iter()
            .cloned()
            .partition(|it| it.by().iter().any(is_late));
        let (full, crowds): (Vec<_>, Vec<_>) = self
            .crowds
            .iter()
            .cloned()
            .partition(|it| it.by().iter().any(is_late));
        if !late.is_empty() || !full.is_empty() {
            (self.rates, self.crowds) = (rates.into(), crowds.into());
            self.behind = Some(Box::new(Limits {
                rates: late.into(),
                crowds: full.into(),
            }));
        }
    }

    /// Whether a request that all have let pass does not come too early.
    pub(in crate::policy) fn keep_pace_behind(&self, facts: &Facts<'_>) -> Verdict {
        match &self.behind {
            None => Verdict::Continue,
            Some(limits) => super::within(&limits.rates, &limits.crowds, facts),
        }
    }

    /// The lines that tell its client how often it may ask yet, if it is told.
    #[inline]
    pub(in crate::policy) fn quotas(&self, facts: &Facts<'_>) -> Option<LineBuf> {
        let told = || rate::quotas(self.all_rates(), facts);
        self.tells_quotas.then(told)
    }

    /// The same of rates that do not go by who asks, for an answer that comes before that is known.
    pub fn quotas_before(&self, facts: &Facts<'_>) -> Option<LineBuf> {
        let told = || rate::quotas(self.rates.iter(), facts);
        let told = self.tells_quotas.then(told)?;
        (!told.is_empty()).then_some(told)
    }

    /// The keys under which it is counted by these.
    pub(in crate::policy) fn keys_behind(&self, facts: &Facts<'_>) -> Option<Keys> {
        let crowds = &self.behind.as_ref()?.crowds;
        let keys = || crowds.iter().map(|crowd| crowd.counted(facts)).collect();
        (!crowds.is_empty()).then(keys)
    }

    pub(super) fn all_rates(&self) -> impl Iterator<Item = &Rate> {
        let behind = self.behind.iter().flat_map(|limits| &limits.rates);
        self.rates.iter().chain(behind)
    }

    /// How many requests of a sort there may be, in the order in which one is counted.
    pub fn all_crowds(&self) -> impl Iterator<Item = &Crowd> {
        let behind = self.behind.iter().flat_map(|limits| &limits.crowds);
        self.crowds.iter().chain(behind)
    }

    /// Of lines those whose fields nobody edits.
    pub(in crate::policy) fn unedited(&self, lines: Lines<'_>) -> LineBuf {
        let is_edited = |found: &[u8]| {
            let mut edited = self.edited().iter();
            edited.any(|name| found.eq_ignore_ascii_case(name.as_bytes()))
        };
        let some = lines.passing(|name| !is_edited(name));
        some.unwrap_or_else(|| lines.into())
    }

    fn edited(&self) -> &[Box<str>] {
        let edits = self.request.as_ref();
        edits.map_or(&[], |edits| edits.drops(Reach::Success))
    }

    /// Headers in which those say who it is who are asked, and nobody else.
    pub fn identifying(&self) -> impl Iterator<Item = &str> {
        let asked = self.asked.iter().flat_map(|asked| &asked.copy_headers);
        let asked = asked.map(|name| &**name);
        let tokens = self.tokens.iter().flat_map(Jwt::headers);
        let users = self.basics.iter().filter_map(Basic::header);
        asked.chain(tokens).chain(users)
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

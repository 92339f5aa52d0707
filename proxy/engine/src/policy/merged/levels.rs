//! Who has a word about the requests of a frontend, and whose counts where no word replaces another.
//!
//! Rule: everybody's does, the listener's first, and whoever is listed twice counts once; but for what an
//! `overridable` policy of the listener says where somebody nearer says the same. Called by [`super`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::guards::basic::Basic;
use crate::policy::guards::jwt::Jwt;
use crate::policy::limits::bandwidth::Bandwidth;
use crate::policy::limits::crowd::Crowd;
use crate::policy::limits::rate::Rate;
use crate::state::entity::{ClientCertificate, ErrorPage, ForwardAuth, Policy, RateLimits};

/// Who has a word, the nearest first; those of a level by their names.
#[derive(Clone, Copy, Default)]
pub struct Levels<'a> {
    /// What the frontend says itself.
    pub own: Option<&'a Policy>,
    /// Its policies.
    pub policies: &'a [(&'a str, &'a Policy)],
    /// Those of the listener.
    pub beyond: &'a [(&'a str, &'a Policy)],
    /// Pages that the listener has itself, which go before those of its policies.
    pub beyond_pages: Option<&'a BTreeMap<String, Option<ErrorPage>>>,
}

/// What does not replace each other, but for those who let it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Allow,
    Deny,
    /// Whoever is asked to show who he is, in whatever way.
    Authentication,
    Bandwidth,
    BodyBytes,
    Concurrency,
    Rate,
}

impl Word {
    fn is_said_by(self, policy: &Policy) -> bool {
        match self {
            Self::Allow => policy.allow.is_some(),
            Self::Deny => policy.deny.is_some(),
            Self::Authentication => {
                policy.basic_auth.is_some()
                    || policy.client_certificate.is_some()
                    || policy.jwt.is_some()
                    || policy.forward_auth.is_some()
            }
            Self::Bandwidth => policy.bandwidth.is_some(),
            Self::BodyBytes => policy.limits.body_bytes.is_some(),
            Self::Concurrency => policy.concurrency.is_some(),
            Self::Rate => policy.rate_limit.is_some(),
        }
    }
}

impl<'a> Levels<'a> {
    /// Those of the listener's policies that count for a word: all, but for those that are overridable where
    /// somebody nearer says it.
    pub(super) fn beyond(&self, word: Word) -> impl Iterator<Item = (&'a str, &'a Policy)> {
        let nearer = self.policies.iter().map(|(_, policy)| *policy);
        let is_said = self
            .own
            .into_iter()
            .chain(nearer)
            .any(|it| word.is_said_by(it));
        let beyond = self.beyond.iter().copied();
        beyond.filter(move |(_, policy)| !(policy.overridable && is_said))
    }

    /// All whose word counts, the nearest first, with the number of their level and their name.
    pub(super) fn spoken(&self, word: Word) -> impl Iterator<Item = ((u8, &'a str), &'a Policy)> {
        let own = self.own.into_iter().map(|policy| ((0, ""), policy));
        let named = self.policies.iter();
        let named = named.map(|(name, policy)| ((1, *name), *policy));
        let beyond = self.beyond(word);
        let beyond = beyond.map(|(name, policy)| ((super::BEYOND, name), policy));
        own.chain(named).chain(beyond)
    }

    /// Whether the frontend itself says what a header of requests is.
    pub(super) fn edit_themselves(&self, name: &str) -> bool {
        self.own.is_some_and(|own| {
            let set = own.request_headers.set.iter();
            let set = set.filter(|(_, line)| line.is_some()).map(|(it, _)| it);
            set.chain(&own.request_headers.remove)
                .any(|it| it.eq_ignore_ascii_case(name))
        })
    }

    /// All whose word counts.
    pub(super) fn all(&self, word: Word) -> Vec<&'a Policy> {
        let named = self.policies.iter().copied().chain(self.beyond(word));
        self.own
            .into_iter()
            .chain(named.map(|(_, policy)| policy))
            .collect()
    }

    /// All whose word counts where all of them count, with their names, the outermost first and the
    /// frontend itself at last; whoever is listed twice counts once.
    fn each_once(&self, word: Word) -> Vec<(Option<&'a str>, &'a Policy)> {
        let mut found: Vec<(Option<&str>, &Policy)> = Vec::new();
        for (name, policy) in self.beyond(word).chain(self.policies.iter().copied()) {
            if found.iter().all(|(known, _)| *known != Some(name)) {
                found.push((Some(name), policy));
            }
        }
        found.extend(self.own.map(|own| (None, own)));
        found
    }

    /// The rates that all of them name.
    pub(super) fn rates(&self) -> Box<[Rate]> {
        let each = self.each_once(Word::Rate).into_iter();
        let rates = each.flat_map(|(name, policy)| {
            let said = policy.rate_limit.iter().flat_map(RateLimits::each);
            said.map(move |said| Rate::of(name, said))
        });
        rates.collect()
    }

    /// How fast they have answers leave.
    pub(super) fn bandwidths(&self) -> Box<[Bandwidth]> {
        let each = self.each_once(Word::Bandwidth).into_iter();
        let bandwidths = each.filter_map(|(name, policy)| {
            let said = policy.bandwidth.as_ref()?;
            Some(Bandwidth::of(name, said))
        });
        bandwidths.collect()
    }

    /// How many requests they have in flight.
    pub(super) fn crowds(&self) -> Box<[Crowd]> {
        let each = self.each_once(Word::Concurrency).into_iter();
        let crowds = each.filter_map(|(name, policy)| {
            let said = policy.concurrency.as_ref()?;
            Some(Crowd::of(name, said))
        });
        crowds.collect()
    }

    /// What they ask of a client's certificate, nothing twice.
    pub(super) fn certificates(&self) -> Box<[ClientCertificate]> {
        let mut asked: Vec<ClientCertificate> = Vec::new();
        for policy in self.all(Word::Authentication).into_iter().rev() {
            let more = policy.client_certificate.as_ref();
            asked.extend(more.filter(|more| !asked.contains(more)).cloned());
        }
        asked.into()
    }

    /// The users whom they have get in, the outermost first, and no file twice.
    pub(super) fn basics(&self) -> Result<Box<[Basic]>, String> {
        let mut basics: Vec<Basic> = Vec::new();
        for policy in self.all(Word::Authentication).into_iter().rev() {
            let more = policy.basic_auth.as_ref().map(Basic::of).transpose()?;
            let is_new = |more: &Basic| basics.iter().all(|known| !known.is_like(more));
            let more = more.filter(is_new);
            basics.extend(more);
        }
        Ok(basics.into())
    }

    /// The tokens that they ask for, the outermost first, and none twice.
    pub(super) fn tokens(&self) -> Result<Box<[Jwt]>, String> {
        let mut tokens: Vec<Jwt> = Vec::new();
        for policy in self.all(Word::Authentication).into_iter().rev() {
            let more = policy.jwt.as_ref().map(Jwt::of).transpose()?;
            let is_new = |more: &Jwt| tokens.iter().all(|known| !known.is_like(more));
            let more = more.filter(is_new);
            tokens.extend(more);
        }
        Ok(tokens.into())
    }

    /// Those whom they have asked, the outermost first, and nobody twice.
    pub(super) fn asked(&self) -> Box<[Arc<ForwardAuth>]> {
        let mut asked: Vec<&ForwardAuth> = Vec::new();
        for policy in self.all(Word::Authentication) {
            let more = policy.forward_auth.as_ref();
            asked.extend(more.filter(|more| !asked.contains(more)));
        }
        asked.into_iter().rev().cloned().map(Arc::new).collect()
    }

    /// The largest body that all of them take.
    pub(super) fn body_bytes(&self) -> Option<u64> {
        let all = self.all(Word::BodyBytes).into_iter();
        all.filter_map(|policy| policy.limits.body_bytes).min()
    }
}

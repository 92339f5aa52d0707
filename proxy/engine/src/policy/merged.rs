//! What holds for the requests of a frontend at a listener: its own word, its policies', the listener's.
//!
//! Rule: merged by leaf (the name of a header, the status of a page; HSTS, CORS and compression as a whole). Whoever
//! is nearer to the frontend goes first, and a written null switches off; two policies of one list that differ are
//! refused, unless the frontend itself decides. Who may ask, who is asked whether they may, and how much, is no
//! leaf: there everybody's word counts (`guards::access`, `limits::bounds`), but that of an `overridable` policy of the
//! listener's where somebody nearer says the same. The reconciler says the same, with
//! file and line (`reconciler/catalog/policies.py`). Made when a change is prepared, by `state/merging`.

mod authors;
mod levels;

pub use authors::Author;
pub use levels::Levels;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::bytes::Regex;

use super::changes::compression::Compression;
use super::changes::cookies::Cookies;
use super::changes::edits::{Edits, Made};
use super::changes::room::Overgrown;
use super::changes::template::Values;
use super::facts::Facts;
use super::guards::access::Access;
use super::guards::basic::Basic;
use super::guards::jwt::Jwt;
use super::limits::bandwidth::Bandwidth;
use super::limits::bounds;
use super::limits::crowd::Crowd;
use super::limits::in_flight::Keys;
use super::limits::rate::{self, Rate};
use super::{Page, Verdict};
use crate::protocol::lines::{LineBuf, Lines};
use crate::state::entity;
use crate::state::entity::{
    ClientCertificate, CookieChange, Cors, ErrorPage, ForwardAuth, HeaderEdits, Hsts, Inherited,
    Line, Policy,
};
use authors::Authors;
use identity::Limits;
use levels::Word;

/// What holds, compiled.
#[derive(Debug, Default)]
pub struct Merged {
    access: Option<Box<Access>>,
    bounds: Option<Box<bounds::Said>>,
    bandwidths: Box<[Bandwidth]>,
    /// The listener's first.
    rates: Box<[Rate]>,
    /// As above.
    crowds: Box<[Crowd]>,
    /// Of these those that go by who it is: behind everybody who says that.
    behind: Option<Box<Limits>>,
    /// Whether clients are told of one of them while something is left.
    tells_quotas: bool,
    /// As above.
    basics: Box<[Basic]>,
    /// As above.
    tokens: Box<[Jwt]>,
    /// What clients have to have shown: all of it.
    certificates: Box<[ClientCertificate]>,
    compression: Option<Box<Compression>>,
    /// Sorted.
    intercepted: Box<[u16]>,
    request: Option<Edits>,
    response: Option<Edits>,
    cookies: Option<Box<Cookies>>,
    hsts: Option<LineBuf>,
    /// By status; none: the built-in one.
    pages: BTreeMap<u16, Option<Page>>,
    /// Who is asked whether a request may pass, one after the other: the listener's first.
    asked: Box<[Arc<ForwardAuth>]>,
    /// Who of those tells the backend who asks.
    authors: Authors,
    /// That of the frontend's path, if its groups are named.
    expression: Option<Arc<Regex>>,
}

/// What holds for a frontend, by the listener that a request came to.
#[derive(Clone, Debug, Default)]
pub struct ByListener {
    /// Where the listener says nothing.
    pub here: Option<Arc<Merged>>,
    /// Where it says something, by its name.
    pub at: Box<[AtListener]>,
}

/// What holds at a listener of that name.
pub type AtListener = (Box<str>, Option<Arc<Merged>>);

impl Merged {
    /// What holds by some levels, if anything is said. `expression` is that of the frontend's path.
    ///
    /// # Errors
    /// A sentence about who contradicts whom, or about what cannot be compiled.
    pub fn of(
        levels: &Levels<'_>,
        expression: Option<&Arc<Regex>>,
    ) -> Result<Option<Self>, String> {
        let said = Said::by(levels)?;
        let groups = expression.map(Arc::as_ref);
        let cors = said.cors.into_values().find_map(|(cors, _)| cors);
        let request = Edits::of(&edits_of(said.request), groups);
        let response = Edits::with(&edits_of(said.response), cors, groups);
        let compression = said.compression.into_values().find_map(|(said, _)| said);
        let intercepted = said.intercept.into_values().find_map(|(said, _)| said);
        let hsts = said.hsts.into_values().find_map(|(hsts, _)| hsts);
        let pages = said.pages.into_iter().filter_map(|(status, (page, _))| {
            let page = page.map(|page| Page {
                body: page.body.as_bytes().into(),
                content_type: page.content_type.as_str().into(),
            });
            Some((status.parse().ok()?, page))
        });
        let cookies = said.cookies.into_iter();
        let cookies = cookies.map(|(name, (change, _))| (name.into(), change.cloned()));
        let cookies = cookies.collect();
        let access = Access::of(&levels.all(Word::Deny), &levels.all(Word::Allow))?;
        let mut bounds = bounds::Said {
            body_bytes: levels.body_bytes(),
            ..bounds::Said::default()
        };
        for (key, (limit, _)) in said.timeouts {
            limit.into_iter().for_each(|limit| bounds.set(&key, limit));
        }
        let (tokens, asked, basics) = (levels.tokens()?, levels.asked(), levels.basics()?);
        let mut merged = Self {
            authors: Authors::of(levels, &tokens, &asked, &basics)?,
            access: access.map(Box::new),
            bandwidths: levels.bandwidths(),
            basics,
            tokens,
            certificates: levels.certificates(),
            crowds: levels.crowds(),
            rates: levels.rates(),
            behind: None,
            tells_quotas: false,
            bounds: (bounds != bounds::Said::default()).then(|| Box::new(bounds)),
            compression: compression.map(|said| Box::new(Compression::of(said))),
            intercepted: intercepted.unwrap_or_default().into(),
            request: request.map_err(|reason| format!("request_headers: {reason}"))?,
            response: response.map_err(|reason| format!("response_headers: {reason}"))?,
            cookies: Cookies::of(cookies).map(Box::new),
            hsts: hsts
                .map(|hsts| LineBuf::one(b"Strict-Transport-Security", hsts.value().as_bytes())),
            pages: pages.collect(),
            asked,
            expression: None,
        };
        let edits = [&merged.request, &merged.response];
        if edits.into_iter().flatten().any(Edits::has_captures) {
            merged.expression = expression.cloned();
        }
        let is_empty = merged.access.is_none()
            && merged.bounds.is_none()
            && merged.bandwidths.is_empty()
            && merged.rates.is_empty()
            && merged.crowds.is_empty()
            && merged.basics.is_empty()
            && merged.tokens.is_empty()
            && merged.certificates.is_empty()
            && merged.compression.is_none()
            && merged.intercepted.is_empty()
            && merged.request.is_none()
            && merged.response.is_none()
            && merged.cookies.is_none()
            && merged.hsts.is_none()
            && merged.pages.is_empty()
            && merged.asked.is_empty();
        merged.part_limits();
        Ok((!is_empty).then_some(merged))
    }

    /// Who may ask, if not everybody may.
    #[must_use]
    pub fn access(&self) -> Option<&Access> {
        self.access.as_deref()
    }

    /// How large requests may be and how long their steps may take, if anything is said of it.
    #[inline]
    #[must_use]
    pub fn bounds(&self) -> Option<&bounds::Said> {
        self.bounds.as_deref()
    }

    /// Whether somebody may be stopped here whom the other one lets pass.
    #[must_use]
    pub fn guards_beyond(&self, other: Option<&Self>) -> bool {
        let most = |it: &Self| it.bounds().and_then(|said| said.body_bytes);
        let theirs = other.and_then(most);
        if most(self).is_some_and(|most| theirs.is_none_or(|theirs| most < theirs)) {
            return true;
        }
        let Some(other) = other else {
            return self.access.is_some()
                || !self.basics.is_empty()
                || !self.tokens.is_empty()
                || !self.certificates.is_empty()
                || !self.asked.is_empty()
                || self.is_metered();
        };
        let asks_another = |basic: &Basic| !other.basics.iter().any(|known| known.is_like(basic));
        let wants_another = |token: &Jwt| !other.tokens.iter().any(|known| known.is_like(token));
        // What a frontend counts for itself is counted apart from any other's.
        let counts =
            |rate: &Rate| rate.policy().is_none() || !other.all_rates().any(|it| it == rate);
        let crowds =
            |crowd: &Crowd| crowd.policy().is_none() || !other.all_crowds().any(|it| it == crowd);
        (self.access.is_some() && self.access != other.access)
            || self.basics.iter().any(asks_another)
            || self.tokens.iter().any(wants_another)
            || !self
                .certificates
                .iter()
                .all(|asked| other.certificates.contains(asked))
            || !self.asked.iter().all(|asked| other.asked.contains(asked))
            || self.all_rates().any(counts)
            || self.all_crowds().any(crowds)
    }

    /// Whether the head of a request is changed, so that nothing may be said behind its body that was taken out
    /// or put right there.
    #[must_use]
    pub fn edits_requests(&self) -> bool {
        self.request.is_some()
    }

    /// How fast answers leave.
    #[inline]
    #[must_use]
    pub fn bandwidths(&self) -> &[Bandwidth] {
        &self.bandwidths
    }

    /// Whether a request comes from where it may.
    pub(super) fn admit(&self, facts: &Facts<'_>) -> Verdict {
        self.access().map_or(Verdict::Continue, |access| {
            access.decide(facts.asking().client())
        })
    }

    /// Whether there are rates that requests have to keep.
    #[inline]
    #[must_use]
    pub fn is_metered(&self) -> bool {
        !self.rates.is_empty() || !self.crowds.is_empty() || self.behind.is_some()
    }

    /// The keys under which a request is counted while it is in flight, if it is.
    #[must_use]
    pub fn crowd_keys<'a>(&self, facts: impl FnOnce() -> Facts<'a>) -> Option<Keys> {
        if self.crowds.is_empty() {
            return None;
        }
        let facts = facts();
        Some(
            self.crowds
                .iter()
                .map(|crowd| crowd.counted(&facts))
                .collect(),
        )
    }

    /// Whether a request does not come too early.
    pub(super) fn keep_pace(&self, facts: &Facts<'_>) -> Verdict {
        within(&self.rates, &self.crowds, facts)
    }

    /// Answers a browser that asks whether a page may.
    pub(super) fn preflight(&self, facts: &Facts<'_>) -> Verdict {
        let cors = self.response.as_ref().and_then(Edits::cors);
        cors.map_or(Verdict::Continue, |cors| cors.decide(facts))
    }

    /// The line of Strict-Transport-Security that answers over TLS have.
    #[must_use]
    pub fn hsts(&self) -> Option<Lines<'_>> {
        self.hsts.as_ref().map(LineBuf::lines)
    }

    /// What is done with the fields of a request.
    #[must_use]
    pub fn request_edits(&self) -> Option<&Edits> {
        self.request.as_ref()
    }

    /// What is done with the fields of answers, whoever has given them.
    #[must_use]
    pub fn response_edits(&self) -> Option<&Edits> {
        self.response.as_ref()
    }

    /// What is done with cookies that backends set, if anything is.
    #[inline]
    #[must_use]
    pub fn cookies(&self) -> Option<&Cookies> {
        self.cookies.as_deref()
    }

    /// Which answers are compressed, if any are.
    #[inline]
    #[must_use]
    pub fn compression(&self) -> Option<&Compression> {
        self.compression.as_deref()
    }

    /// Whether an answer of a backend is not passed on, but one of ours is.
    #[inline]
    #[must_use]
    pub fn intercepts(&self, status: u16) -> bool {
        self.intercepted.binary_search(&status).is_ok()
    }

    /// The page of a status, if anything is said of it; none within: the built-in one.
    #[must_use]
    pub fn page(&self, status: u16) -> Option<Option<&Page>> {
        self.pages.get(&status).map(Option::as_ref)
    }

    /// The lines that a request gets on its way to a backend.
    ///
    /// # Errors
    /// Its values need more room than there is.
    pub fn request_lines(&self, facts: &Facts<'_>) -> Result<Option<Arc<LineBuf>>, Overgrown> {
        let Some(edits) = &self.request else {
            return Ok(None);
        };
        let made = edits.lines(&Values::new(facts, self.expression.as_ref()))?;
        Ok(Some(made.all()))
    }

    /// The lines that the answer to a request gets, whichever comes.
    ///
    /// # Errors
    /// As above.
    pub fn response_lines<'a>(
        &self,
        facts: impl Fn() -> Facts<'a>,
    ) -> Result<Option<Made>, Overgrown> {
        let Some(edits) = &self.response else {
            return Ok(None);
        };
        let made = edits.lines(&Values::new(&facts(), self.expression.as_ref()))?;
        Ok(Some(made))
    }
}

/// Answers a request that is one too many, at a time or in a time.
fn within(rates: &[Rate], crowds: &[Crowd], facts: &Facts<'_>) -> Verdict {
    let mut verdict = Verdict::Continue;
    for crowd in crowds {
        verdict = verdict.or(|| crowd.decide(facts));
    }
    verdict.or(|| rate::decide(rates, facts))
}

/// What is done with a field; its name as it is written.
#[derive(Clone, Copy)]
enum Edit<'a> {
    Set(&'a str, &'a Line),
    Add(&'a str, &'a Line),
    Remove(&'a str),
}

impl PartialEq for Edit<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Set(_, one), Self::Set(_, other)) | (Self::Add(_, one), Self::Add(_, other)) => {
                one == other
            }
            (Self::Remove(_), Self::Remove(_)) => true,
            _ => false,
        }
    }
}

/// The last word about each leaf, none switching off, and whose it is.
type Leaves<'a, T> = BTreeMap<String, (Option<T>, Speaker<'a>)>;

/// Whose word it is: the number of the level, and the name.
type Speaker<'a> = (u8, &'a str);

#[derive(Default)]
struct Said<'a> {
    request: Leaves<'a, Edit<'a>>,
    response: Leaves<'a, Edit<'a>>,
    compression: Leaves<'a, &'a entity::Compression>,
    cookies: Leaves<'a, &'a CookieChange>,
    cors: Leaves<'a, &'a Cors>,
    hsts: Leaves<'a, &'a Hsts>,
    intercept: Leaves<'a, &'a [u16]>,
    pages: Leaves<'a, &'a ErrorPage>,
    timeouts: Leaves<'a, u64>,
    /// Statuses of which the listener has pages of its own.
    beyond: BTreeSet<&'a str>,
}

impl<'a> Said<'a> {
    fn by(levels: &Levels<'a>) -> Result<Self, String> {
        let mut said = Self::default();
        if let Some(own) = levels.own {
            said.hear(own, (0, ""))?;
        }
        for (name, policy) in levels.policies {
            said.hear(policy, (1, name))?;
        }
        for status in levels.beyond_pages.into_iter().flat_map(BTreeMap::keys) {
            // The listener is asked where nobody here has a page.
            said.beyond.insert(status);
        }
        for (name, policy) in levels.beyond {
            said.hear(policy, (2, name))?;
        }
        Ok(said)
    }

    fn hear(&mut self, policy: &'a Policy, by: Speaker<'a>) -> Result<(), String> {
        match &policy.compression {
            Inherited::Inherit => {}
            Inherited::Off => say(&mut self.compression, "compression", "", None, by)?,
            Inherited::Is(said) => say(&mut self.compression, "compression", "", Some(said), by)?,
        }
        match &policy.cors {
            Inherited::Inherit => {}
            Inherited::Off => say(&mut self.cors, "cors", "", None, by)?,
            Inherited::Is(cors) => say(&mut self.cors, "cors", "", Some(cors), by)?,
        }
        match &policy.hsts {
            Inherited::Inherit => {}
            Inherited::Off => say(&mut self.hsts, "hsts", "", None, by)?,
            Inherited::Is(hsts) => say(&mut self.hsts, "hsts", "", Some(hsts), by)?,
        }
        match &policy.intercept {
            Inherited::Inherit => {}
            Inherited::Off => say(&mut self.intercept, "intercept", "", None, by)?,
            Inherited::Is(said) => say(&mut self.intercept, "intercept", "", Some(&said[..]), by)?,
        }
        for (name, change) in &policy.set_cookie {
            say(&mut self.cookies, "set_cookie", name, change.as_ref(), by)?;
        }
        for (key, limit) in policy.timeouts.steps() {
            match limit {
                Inherited::Inherit => {}
                Inherited::Off => say(&mut self.timeouts, "timeouts", key, None, by)?,
                Inherited::Is(limit) => {
                    say(&mut self.timeouts, "timeouts", key, Some(*limit), by)?;
                }
            }
        }
        for (status, page) in &policy.error_pages {
            if by.0 < BEYOND || !self.beyond.contains(status.as_str()) {
                say(&mut self.pages, "error_pages", status, page.as_ref(), by)?;
            }
        }
        edits(
            &mut self.request,
            "request_headers",
            &policy.request_headers,
            by,
        )?;
        edits(
            &mut self.response,
            "response_headers",
            &policy.response_headers,
            by,
        )
    }
}

fn edits<'a>(
    leaves: &mut Leaves<'a, Edit<'a>>,
    key: &str,
    edits: &'a HeaderEdits,
    by: Speaker<'a>,
) -> Result<(), String> {
    let set = edits.set.iter().map(|(name, line)| {
        let edit = line.as_ref().map(|line| Edit::Set(name, line));
        (name, edit)
    });
    let add = edits.add.iter().map(|(name, line)| {
        let edit = line.as_ref().map(|line| Edit::Add(name, line));
        (name, edit)
    });
    let remove = edits
        .remove
        .iter()
        .map(|name| (name, Some(Edit::Remove(name))));
    for (name, edit) in set.chain(add).chain(remove) {
        say(leaves, key, &name.to_ascii_lowercase(), edit, by)?;
    }
    Ok(())
}

/// Takes a word in, unless somebody nearer has spoken.
fn say<'a, T: Copy + PartialEq>(
    leaves: &mut Leaves<'a, T>,
    key: &str,
    leaf: &str,
    word: Option<T>,
    by: Speaker<'a>,
) -> Result<(), String> {
    match leaves.entry(leaf.to_owned()) {
        Entry::Vacant(free) => {
            free.insert((word, by));
            Ok(())
        }
        Entry::Occupied(taken) => {
            let (other, whose) = taken.get();
            if whose.0 != by.0 || *other == word {
                return Ok(());
            }
            let point = if leaf.is_empty() { "" } else { "." };
            Err(format!(
                "the policies {:?} and {:?} say different things about {key}{point}{leaf}",
                whose.1, by.1
            ))
        }
    }
}

fn edits_of(leaves: Leaves<'_, Edit<'_>>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for (edit, _) in leaves.into_values() {
        match edit {
            None => {}
            Some(Edit::Set(name, line)) => {
                edits.set.insert(name.to_owned(), Some(line.clone()));
            }
            Some(Edit::Add(name, line)) => {
                edits.add.insert(name.to_owned(), Some(line.clone()));
            }
            Some(Edit::Remove(name)) => edits.remove.push(name.to_owned()),
        }
    }
    edits
}

/// The number of the listener's level.
const BEYOND: u8 = 2;

mod identity;
#[cfg(test)]
mod tests;

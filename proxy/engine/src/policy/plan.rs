//! What few frontends ask for, compiled: a frontend without any of it has no plan, and its requests pay
//! for one look at that.

use std::sync::Arc;

use regex::bytes::Regex;

use super::changes::place::{HostChange, PathChange, QueryChange};
use super::changes::template::Values;
use super::ends::redirect::{self, Redirect};
use super::ends::respond::Respond;
use super::facts::Facts;
use super::limits::in_flight::Keys;
use super::merged::{ByListener, Levels, Merged};
use super::{Answer, Verdict};
use crate::protocol::h1::forward::Changed;
use crate::protocol::lines::{LineBuf, Lines};
use crate::routing::regexes::Regexes;
use crate::state::entity::{self, Few, Frontend, PathMatch};

/// What a frontend has done with its requests, and with the answers to them.
#[derive(Debug, Default)]
pub struct Plan {
    own: Option<Arc<Own>>,
    /// By its own word and by policies.
    said: ByListener,
}

/// What a frontend alone may ask for: it stays when policies change.
#[derive(Debug, Default)]
struct Own {
    /// Requests in clear text are sent to the same place over TLS.
    redirects_to_tls: bool,
    /// All requests end here.
    end: Option<End>,
    host: Option<HostChange>,
    path: Option<PathChange>,
    query: QueryChange,
    /// That of the frontend's path, if its groups are named.
    expression: Option<Arc<Regex>>,
}

/// How all requests of a frontend without a cluster end.
#[derive(Debug)]
enum End {
    Redirect(Redirect),
    Respond(Respond),
}

/// What a request is changed to on its way to a backend.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Another path, with the query that goes with it.
    pub target: Option<Vec<u8>>,
    /// Another hostname, without a port.
    pub host: Option<Vec<u8>>,
    /// More lines of its head.
    pub lines: Option<Arc<LineBuf>>,
    /// What is said of it, of which the backend gets what nobody edits.
    pub said: LineBuf,
    /// Under which keys it is counted from now on, while it is in flight.
    pub crowd: Option<Keys>,
    /// More lines of the head of its answer.
    pub answered: Option<LineBuf>,
}

impl Changes {
    /// For whoever writes the head.
    #[must_use]
    pub fn as_written(&self) -> Changed<'_> {
        Changed {
            target: self.target.as_deref(),
            host: self.host.as_deref(),
            lines: self
                .lines
                .as_deref()
                .map_or(Lines::default(), LineBuf::lines),
        }
    }
}

impl Plan {
    /// The plan of a frontend whose listeners and which itself name no policies, if it asks for anything.
    /// `read` gives the content of a file.
    ///
    /// # Errors
    /// A sentence about what cannot be compiled.
    pub fn of<'a>(
        frontend: &Frontend,
        regexes: &mut Regexes,
        read: impl Fn(&entity::Material) -> Result<entity::Content<'a>, String>,
    ) -> Result<Option<Box<Self>>, String> {
        let Some(few) = frontend.few() else {
            return Ok(None);
        };
        let said = few.says.as_deref();
        if let Some(said) = said {
            said.read_files(&read)?;
        }
        if said.is_none() && !asks_for_any(few) {
            return Ok(None);
        }
        let expression = match &frontend.path {
            PathMatch::Regex(pattern) => Some(regexes.compile_pattern(pattern)?),
            PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Suffix(_) => None,
        };
        let own = match asks_for_any(few) {
            true => Some(Own::of(frontend, few, expression.as_ref(), read)?),
            false => None,
        };
        let levels = Levels {
            own: said,
            ..Levels::default()
        };
        let said = ByListener {
            here: Merged::of(&levels, expression.as_ref())?.map(Arc::new),
            ..ByListener::default()
        };
        Ok(Self::made(own.map(Arc::new), said))
    }

    /// The plan of a frontend of which another one is known, when other policies hold for it.
    #[must_use]
    pub fn saying(before: Option<&Self>, said: ByListener) -> Option<Box<Self>> {
        Self::made(before.and_then(|before| before.own.clone()), said)
    }

    fn made(own: Option<Arc<Own>>, said: ByListener) -> Option<Box<Self>> {
        let is_empty = own.is_none() && said.here.is_none() && said.at.is_empty();
        (!is_empty).then(|| Box::new(Self { own, said }))
    }

    /// What holds by the frontend's own word and by its policies.
    #[inline]
    #[must_use]
    pub fn merged(&self) -> Option<&Merged> {
        self.said.here.as_deref()
    }

    /// The same at a listener that has policies too.
    #[must_use]
    pub fn merged_at(&self, listener: &str) -> Option<&Merged> {
        let mut at = self.said.at.iter();
        let found = at.find(|(name, _)| **name == *listener);
        found.map_or(self.merged(), |(_, merged)| merged.as_deref())
    }

    /// The redirect to TLS, before which nothing is asked of a client.
    pub(super) fn to_tls(&self, facts: &Facts<'_>) -> Verdict {
        match self.own.as_deref().is_some_and(|own| own.redirects_to_tls) {
            true => redirect::to_tls(facts),
            false => Verdict::Continue,
        }
    }

    /// What answers all requests that get so far, if anything does.
    pub(super) fn end(&self, facts: &Facts<'_>) -> Verdict {
        let own = self.own.as_deref();
        own.map_or(Verdict::Continue, |own| own.end(facts))
    }

    /// What of a request that goes to a backend is changed; the answer to one that would be none.
    pub(super) fn changes(&self, facts: &Facts<'_>) -> Result<Option<Changes>, Answer> {
        let own = self.own.as_deref();
        own.map_or(Ok(None), |own| own.changes(facts))
    }
}

impl Own {
    fn of<'a>(
        frontend: &Frontend,
        few: &Few,
        expression: Option<&Arc<Regex>>,
        read: impl Fn(&entity::Material) -> Result<entity::Content<'a>, String>,
    ) -> Result<Self, String> {
        let groups = expression.map(Arc::as_ref);
        let mut own = Self {
            redirects_to_tls: matches!(few.redirect, Some(entity::Redirect::Https)),
            ..Self::default()
        };
        if let Some(entity::Redirect::To(target)) = &few.redirect {
            let redirect = Redirect::of(target, frontend, groups);
            let redirect = redirect.map_err(|reason| format!("redirect: {reason}"))?;
            own.end = Some(End::Redirect(redirect));
        }
        if let Some(respond) = &few.respond {
            own.end = Some(End::Respond(Respond::of(respond, read)?));
        }
        if let Some(rewrite) = &few.rewrite {
            let reason = |reason: String| format!("rewrite: {reason}");
            let host = rewrite.hostname.as_deref().map(HostChange::of);
            own.host = host.transpose().map_err(reason)?;
            let path = rewrite.path.as_ref();
            let path = path.map(|path| PathChange::of(path, &frontend.path, groups));
            own.path = path.transpose().map_err(reason)?;
            own.query = QueryChange::of(&rewrite.query, groups).map_err(reason)?;
        }
        if own.has_captures() {
            own.expression = expression.cloned();
        }
        Ok(own)
    }

    fn has_captures(&self) -> bool {
        let by_end = match &self.end {
            Some(End::Redirect(redirect)) => redirect.has_captures(),
            Some(End::Respond(_)) | None => false,
        };
        let path = self.path.as_ref().map(PathChange::template);
        by_end
            || path.is_some_and(super::changes::template::Template::has_captures)
            || self.query.has_captures()
    }

    fn end(&self, facts: &Facts<'_>) -> Verdict {
        match &self.end {
            None => Verdict::Continue,
            Some(End::Respond(respond)) => respond.decide(),
            Some(End::Redirect(redirect)) => {
                redirect.decide(&Values::new(facts, self.expression.as_ref()))
            }
        }
    }

    fn changes(&self, facts: &Facts<'_>) -> Result<Option<Changes>, Answer> {
        let changes_target = self.path.is_some() || self.query != QueryChange::Keep;
        if self.host.is_none() && !changes_target {
            return Ok(None);
        }
        let values = Values::new(facts, self.expression.as_ref());
        let mut changes = Changes {
            host: match &self.host {
                Some(host) => host.made(&values)?,
                None => None,
            },
            ..Changes::default()
        };
        if changes_target {
            let mut made = Vec::new();
            match &self.path {
                Some(path) => path.write(&values, facts.listener.slashes, &mut made)?,
                None => made.extend_from_slice(facts.head.path(facts.bytes)),
            }
            // `OPTIONS *` asks about no path, and has no query.
            let query = self.query.made(&values)?;
            if let Some(query) = query.filter(|_| made.starts_with(b"/")) {
                made.push(b'?');
                made.extend_from_slice(&query);
            }
            changes.target = Some(made);
        }
        Ok(Some(changes))
    }
}

fn asks_for_any(few: &Few) -> bool {
    few.redirect.is_some() || few.respond.is_some() || few.rewrite.is_some()
}

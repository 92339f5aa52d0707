//! What few frontends ask for, compiled: a frontend without any of it has no plan, and its requests pay
//! for one look at that.

use std::sync::Arc;

use regex::bytes::Regex;

use super::edits::Edits;
use super::facts::Facts;
use super::place::{HostChange, PathChange};
use super::redirect::{self, Redirect};
use super::respond::Respond;
use super::template::Values;
use super::{Answer, Reason, Verdict};
use crate::protocol::h1::forward::Changed;
use crate::routing::regexes::Regexes;
use crate::state::entity::{self, Few, Frontend, HeaderEdits, PathMatch};

/// What a frontend has done with its requests, and with the answers to them.
#[derive(Debug, Default)]
pub struct Plan {
    /// Requests in clear text are sent to the same place over TLS.
    redirects_to_tls: bool,
    /// Clients must have shown a certificate.
    asks_for_certificate: bool,
    /// All requests end here.
    end: Option<End>,
    host: Option<HostChange>,
    path: Option<PathChange>,
    request: Option<Edits>,
    response: Option<Edits>,
    hsts: Option<Box<str>>,
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
    /// Another path.
    pub path: Option<Vec<u8>>,
    /// Another hostname, without a port.
    pub host: Option<Vec<u8>>,
    /// More lines of its head, each with its CRLF.
    pub lines: Option<Arc<[u8]>>,
}

impl Changes {
    /// For whoever writes the head.
    #[must_use]
    pub fn as_written(&self) -> Changed<'_> {
        Changed {
            path: self.path.as_deref(),
            host: self.host.as_deref(),
            lines: self.lines.as_deref().unwrap_or_default(),
        }
    }
}

impl Plan {
    /// The plan of a frontend, if it asks for anything. `read` gives the content of a file.
    ///
    /// # Errors
    /// A sentence about what cannot be compiled.
    pub fn of<'a>(
        frontend: &Frontend,
        regexes: &mut Regexes,
        read: impl Fn(&entity::Material) -> Result<&'a [u8], String>,
    ) -> Result<Option<Box<Self>>, String> {
        let Some(few) = frontend.few().filter(|few| asks_for_any(few)) else {
            return Ok(None);
        };
        let expression = match &frontend.path {
            PathMatch::Regex(pattern) => Some(regexes.compile_pattern(pattern)?),
            PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Suffix(_) => None,
        };
        let groups = expression.as_deref();
        let mut plan = Self {
            redirects_to_tls: matches!(few.redirect, Some(entity::Redirect::Https)),
            asks_for_certificate: few.client_certificate.is_some(),
            request: Edits::of(&few.request_headers, groups)
                .map_err(|reason| format!("request_headers: {reason}"))?,
            response: Edits::of(&few.response_headers, groups)
                .map_err(|reason| format!("response_headers: {reason}"))?,
            hsts: few.hsts.as_ref().map(|hsts| hsts.line().into()),
            ..Self::default()
        };
        if let Some(entity::Redirect::To(target)) = &few.redirect {
            let redirect = Redirect::of(target, frontend, groups);
            let redirect = redirect.map_err(|reason| format!("redirect: {reason}"))?;
            plan.end = Some(End::Redirect(redirect));
        }
        if let Some(respond) = &few.respond {
            plan.end = Some(End::Respond(Respond::of(respond, read)?));
        }
        if let Some(rewrite) = &few.rewrite {
            let reason = |reason: String| format!("rewrite: {reason}");
            let host = rewrite.hostname.as_deref().map(HostChange::of);
            plan.host = host.transpose().map_err(reason)?;
            let path = rewrite.path.as_ref();
            let path = path.map(|path| PathChange::of(path, &frontend.path, groups));
            plan.path = path.transpose().map_err(reason)?;
        }
        if plan.has_captures() {
            plan.expression = expression;
        }
        Ok(Some(Box::new(plan)))
    }

    fn has_captures(&self) -> bool {
        let by_end = match &self.end {
            Some(End::Redirect(redirect)) => redirect.has_captures(),
            Some(End::Respond(_)) | None => false,
        };
        let path = self.path.as_ref().map(PathChange::template);
        by_end
            || path.is_some_and(super::template::Template::has_captures)
            || self.request.as_ref().is_some_and(Edits::has_captures)
            || self.response.as_ref().is_some_and(Edits::has_captures)
    }

    /// The line of Strict-Transport-Security that answers over TLS have, with its CRLF.
    #[must_use]
    pub fn hsts(&self) -> Option<&str> {
        self.hsts.as_deref()
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

    /// The lines that the answer to a request gets.
    #[must_use]
    pub fn response_lines<'a>(&self, facts: impl Fn() -> Facts<'a>) -> Option<Arc<[u8]>> {
        let edits = self.response.as_ref()?;
        Some(edits.lines(&Values::new(&facts(), self.expression.as_ref())))
    }

    /// Takes a request through the stages that come before it is known that a backend is asked.
    pub(super) fn decide(&self, facts: &Facts<'_>) -> Verdict {
        if self.redirects_to_tls {
            if let answered @ Verdict::Answer(_) = redirect::to_tls(facts) {
                return answered;
            }
        }
        if self.asks_for_certificate && !facts.has_certificate {
            return Verdict::answer(403, Reason::CertificateMissing);
        }
        match &self.end {
            None => Verdict::Continue,
            Some(End::Respond(respond)) => respond.decide(),
            Some(End::Redirect(redirect)) => {
                redirect.decide(&Values::new(facts, self.expression.as_ref()))
            }
        }
    }

    /// What a request that goes to a backend is changed to; the answer to one that would be none.
    pub(super) fn changes(&self, facts: &Facts<'_>) -> Result<Option<Box<Changes>>, Answer> {
        if self.host.is_none() && self.path.is_none() && self.request.is_none() {
            return Ok(None);
        }
        let values = Values::new(facts, self.expression.as_ref());
        let mut changes = Changes {
            host: self.host.as_ref().and_then(|host| host.made(&values)),
            lines: self.request.as_ref().map(|edits| edits.lines(&values)),
            ..Changes::default()
        };
        if let Some(path) = &self.path {
            let mut made = Vec::new();
            path.write(&values, facts.listener.slashes, &mut made)
                .map_err(|_| Answer::new(400, Reason::Abnormal))?;
            changes.path = Some(made);
        }
        Ok(Some(Box::new(changes)))
    }
}

fn asks_for_any(few: &Few) -> bool {
    let no_edits = HeaderEdits::default();
    few.redirect.is_some()
        || few.client_certificate.is_some()
        || few.respond.is_some()
        || few.rewrite.is_some()
        || few.request_headers != no_edits
        || few.response_headers != no_edits
        || few.hsts.is_some()
}

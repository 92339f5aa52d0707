//! Requests that are sent somewhere else.
//!
//! Rule: what is not named stays as the client asked for it, host and port included, so that a redirect
//! works behind a balancer and on any port. The location is absolute, since a path alone may be read as a
//! host (`//`). What a trusted proxy says that it got over TLS has been there already.

use regex::bytes::Regex;

use crate::policy::changes::place::{HostChange, PathChange, QueryChange, Unfit};
use crate::policy::changes::template::Values;
use crate::policy::facts::Facts;
use crate::policy::{Answer, HTTPS_PORT, Reason, Verdict};
use crate::protocol::lines::LineBuf;
use crate::state::entity::{self, Scheme};

/// Sends a request in clear text to the same place over TLS, unless its client is there already, or does
/// not say where it is. The method is kept (308).
pub(in crate::policy) fn to_tls(facts: &Facts<'_>) -> Verdict {
    let (head, bytes) = (facts.head, facts.bytes);
    let host = head.host(bytes);
    if host.is_empty() || facts.is_secure() {
        return Verdict::Continue;
    }
    let port = match facts.secure_port() {
        HTTPS_PORT => String::new(),
        port => format!(":{port}"),
    };
    let place = [b"https://", host, port.as_bytes(), path_of(facts)].concat();
    sent(308, &place, head.query(bytes))
}

/// A redirect to another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Redirect {
    scheme: Option<Scheme>,
    hostname: Option<HostChange>,
    port: Option<u16>,
    path: Option<PathChange>,
    query: QueryChange,
    status: u16,
}

impl Redirect {
    pub(in crate::policy) fn of(
        target: &entity::RedirectTarget,
        frontend: &entity::Frontend,
        expression: Option<&Regex>,
    ) -> Result<Self, String> {
        let hostname = target.hostname.as_deref().map(HostChange::of);
        let path = target.path.as_ref();
        let path = path.map(|path| PathChange::of(path, &frontend.path, expression));
        Ok(Self {
            scheme: target.scheme,
            hostname: hostname.transpose()?,
            port: target.port,
            path: path.transpose()?,
            query: QueryChange::of(&target.query, expression)?,
            status: target.status,
        })
    }

    pub(in crate::policy) fn has_captures(&self) -> bool {
        let path = self.path.as_ref();
        path.is_some_and(|path| path.template().has_captures()) || self.query.has_captures()
    }

    /// Where a request is sent.
    pub(in crate::policy) fn decide(&self, values: &Values<'_>) -> Verdict {
        let place = self.place(values);
        match place.and_then(|place| Ok((place, self.query.made(values)?))) {
            Ok((place, query)) => sent(self.status, &place, query.as_deref()),
            Err(unfit) => Verdict::Answer(unfit.into()),
        }
    }

    fn place(&self, values: &Values<'_>) -> Result<Vec<u8>, Unfit> {
        let facts = values.facts;
        let (head, bytes) = (facts.head, facts.bytes);
        let own = head.host(bytes);
        let changed = self.hostname.as_ref();
        let changed = changed.map_or(Ok(None), |host| host.made(values))?;
        let host = changed.as_deref().unwrap_or(own);
        let mut place = Vec::with_capacity(128);
        if !host.is_empty() {
            let scheme = self.scheme.map_or(facts.scheme(), Scheme::as_str);
            place.extend_from_slice(scheme.as_bytes());
            place.extend_from_slice(b"://");
            place.extend_from_slice(host);
            match (self.port, self.scheme) {
                (Some(port), _) if Some(port) != usual_port(scheme) => {
                    place.extend_from_slice(format!(":{port}").as_bytes());
                }
                // By another scheme it is another port, which is that scheme's.
                (Some(_), _) | (None, Some(_)) => {}
                (None, None) => {
                    let port = head.authority(bytes).get(own.len()..);
                    place.extend_from_slice(port.unwrap_or_default());
                }
            }
        }
        let from = place.len();
        match &self.path {
            Some(path) => path.write(values, facts.listener.slashes, &mut place)?,
            None => place.extend_from_slice(path_of(facts)),
        }
        if host.is_empty() {
            // Two slashes would begin a host.
            let is_slash = |byte: &&u8| **byte == b'/';
            let doubled = place[from..].iter().take_while(is_slash).count();
            place.drain(from..from + doubled.saturating_sub(1));
        }
        Ok(place)
    }
}

/// The path of a request as a place has it: `OPTIONS *` asks about the host alone (RFC 9110 §7.1).
fn path_of<'a>(facts: &Facts<'a>) -> &'a [u8] {
    match facts.head.path(facts.bytes) {
        b"*" => b"",
        path => path,
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(HTTPS_PORT),
        _ => None,
    }
}

fn sent(status: u16, place: &[u8], query: Option<&[u8]>) -> Verdict {
    let mut lines = LineBuf::default();
    // All parts of it are visible ASCII.
    lines.push_with(b"Location", |line| {
        line.extend_from_slice(place);
        if let Some(query) = query {
            line.push(b'?');
            line.extend_from_slice(query);
        }
    });
    Verdict::Answer(Answer {
        lines,
        ..Answer::new(status, Reason::Redirected)
    })
}

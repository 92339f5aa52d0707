//! Templates: texts in which a request's own values stand in braces, `{client_address}`.
//!
//! Rule: a closed set of names, known when a change is prepared; `{{` and `}}` are braces. A client's bytes
//! are escaped for where they go, and whatever comes, a value has no control characters, so that no line of
//! a head ends before its end. Expanded in header values, redirects and rewrites.

use std::net::IpAddr;
use std::sync::Arc;

use regex::bytes::{Captures, Regex};

use crate::policy::changes::room::{Overgrown, Room};
use crate::policy::facts::Facts;
use crate::protocol::cookie;

/// A text with values in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Value(Value),
}

/// What may stand in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    ClientAddress,
    ClientCertificateSubject,
    Cookie(Box<str>),
    Frontend,
    Header(Box<str>),
    Hostname,
    Listener,
    Path,
    Query,
    RequestId,
    Scheme,
    TlsVersion,
    Capture(usize),
}

/// For where a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// A header's value.
    Header,
    /// A path.
    Path,
    /// A query, or a part of one.
    Query,
    /// A hostname.
    Hostname,
}

/// What is expanded: a request, and what of its path the frontend's expression has captured.
pub struct Values<'a> {
    /// The request.
    pub facts: &'a Facts<'a>,
    captures: Option<Captures<'a>>,
    room: Room,
}

impl<'a> Values<'a> {
    /// Those of a request at a frontend whose path has this expression, if anything asks for captures.
    pub fn new(facts: &'a Facts<'a>, expression: Option<&Arc<Regex>>) -> Self {
        let path = facts.head.path(facts.bytes);
        Self {
            facts,
            captures: expression.and_then(|regex| regex.captures(path)),
            room: Room::of(facts),
        }
    }

    fn capture(&self, number: usize) -> &[u8] {
        let captures = self.captures.as_ref();
        captures
            .and_then(|found| found.get(number))
            .map_or(&[], |group| group.as_bytes())
    }
}

impl Template {
    /// Reads a text; `expression` is that of the frontend's path, whose groups may be named.
    ///
    /// # Errors
    /// A sentence about what stands in braces and is nothing.
    pub fn parse(text: &str, expression: Option<&Regex>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or(from.strip_prefix("}}")) {
                plain.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let Some((name, after)) = from
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
            else {
                return Err(format!("{text:?} has a brace that stands alone"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Value(Value::named(name, expression)?));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(parts.into()))
    }

    /// The text itself, if there are no values in it.
    pub fn constant(&self) -> Option<&str> {
        match &*self.0 {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether a group of the path's expression stands in it.
    pub fn has_captures(&self) -> bool {
        let is_capture = |part: &Part| matches!(part, Part::Value(Value::Capture(_)));
        self.0.iter().any(is_capture)
    }

    /// Whether nothing but the request's hostname stands in it.
    pub fn is_of_hostnames(&self) -> bool {
        self.0
            .iter()
            .all(|part| matches!(part, Part::Text(_) | Part::Value(Value::Hostname)))
    }

    /// Appends it with the values of a request, as long as there is room for these.
    ///
    /// # Errors
    /// There is not: what is written is of no use.
    pub fn write(
        &self,
        values: &Values<'_>,
        escape: Escape,
        out: &mut Vec<u8>,
    ) -> Result<(), Overgrown> {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(value) => {
                    let before = out.len();
                    value.write(values, escape, out);
                    values.room.take(out.len() - before)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn named(name: &str, expression: Option<&Regex>) -> Result<Self, String> {
        Ok(match name.split_once(':') {
            Some(("cookie", of)) if is_token(of) => Self::Cookie(of.into()),
            Some(("header", of)) if is_token(of) => Self::Header(of.to_ascii_lowercase().into()),
            Some(_) => return Err(format!("{{{name}}} is nothing that a request has")),
            None => match name {
                "client_address" => Self::ClientAddress,
                "client_certificate_subject" => Self::ClientCertificateSubject,
                "frontend" => Self::Frontend,
                "hostname" => Self::Hostname,
                "listener" => Self::Listener,
                "path" => Self::Path,
                "query" => Self::Query,
                "request_id" => Self::RequestId,
                "scheme" => Self::Scheme,
                "tls_version" => Self::TlsVersion,
                _ => Self::capture(name, expression)?,
            },
        })
    }

    fn capture(name: &str, expression: Option<&Regex>) -> Result<Self, String> {
        let number = expression.and_then(|regex| match name.parse::<usize>() {
            Ok(number) => Some(number).filter(|number| *number < regex.captures_len()),
            Err(_) => regex.capture_names().position(|group| group == Some(name)),
        });
        number
            .map(Self::Capture)
            .ok_or_else(|| format!("{{{name}}} is neither a value nor a group of the path's regex"))
    }

    fn write(&self, values: &Values<'_>, escape: Escape, out: &mut Vec<u8>) {
        let facts = values.facts;
        let (head, bytes) = (facts.head, facts.bytes);
        match self {
            // Those that are part of a normal target are escaped already.
            Self::Path => escape.write_target(head.path(bytes), out),
            Self::Query if escape == Escape::Query => {
                // Its parameters stay such.
                out.extend_from_slice(head.query(bytes).unwrap_or_default());
            }
            Self::Query => escape.write_target(head.query(bytes).unwrap_or_default(), out),
            Self::Capture(number) => escape.write_target(values.capture(*number), out),
            Self::Hostname => out.extend_from_slice(head.host(bytes)),
            Self::ClientAddress => match facts.asking().client() {
                Some(client) => write_address(client, out),
                None => out.extend_from_slice(b"unknown"),
            },
            Self::ClientCertificateSubject => {
                let subject = facts.client.map_or("", |client| client.subject());
                escape.write(subject.as_bytes(), out);
            }
            Self::Scheme => out.extend_from_slice(facts.scheme().as_bytes()),
            Self::RequestId => escape.write(facts.request_id().as_ref(), out),
            Self::TlsVersion => out.extend_from_slice(facts.tls_version.as_bytes()),
            Self::Listener => out.extend_from_slice(facts.listener_name.as_bytes()),
            Self::Frontend => out.extend_from_slice(facts.frontend_name.as_bytes()),
            Self::Header(name) => {
                for (number, value) in facts.values(name).enumerate() {
                    // Several lines of one name are one list (RFC 9110 §5.3).
                    escape.write(if number > 0 { b", " } else { b"" }, out);
                    escape.write(value, out);
                }
            }
            Self::Cookie(name) => {
                let pairs = head.values(bytes, "cookie").flat_map(cookie::pairs);
                let found = pairs
                    .filter(|(of, _)| *of == name.as_bytes())
                    .map(|(_, of)| of);
                escape.write(found.into_iter().next().unwrap_or_default(), out);
            }
        }
    }
}

impl Escape {
    /// Appends a client's bytes.
    fn write(self, value: &[u8], out: &mut Vec<u8>) {
        for &byte in value {
            let is_unreserved =
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            match self {
                Self::Path | Self::Query if !is_unreserved => push_escaped(byte, out),
                // The parser has let no other control through: this is the last one to ask.
                Self::Header if byte == b'\t' || (byte >= b' ' && byte != 0x7f) => out.push(byte),
                Self::Header => {}
                Self::Hostname if !is_unreserved => {}
                Self::Path | Self::Query | Self::Hostname => out.push(byte),
            }
        }
    }

    /// Appends a part of a target, in which all is escaped that must be.
    fn write_target(self, part: &[u8], out: &mut Vec<u8>) {
        for &byte in part {
            match (self, byte) {
                // It would begin a query, or a fragment.
                (Self::Path, b'?' | b'#') => push_escaped(byte, out),
                // It would begin another parameter, or mean a space.
                (Self::Query, b'&' | b';' | b'=' | b'+' | b'#') => push_escaped(byte, out),
                (_, b'!'..=b'~') => out.push(byte),
                _ => push_escaped(byte, out),
            }
        }
    }
}

/// Appends a byte as a target has it.
pub(in crate::policy) fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // A vector takes all that is written into it.
    let _ = write!(out, "{}", address.to_canonical());
}

fn is_token(text: &str) -> bool {
    crate::state::entity::check::is_token(text)
}

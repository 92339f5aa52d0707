//! Where requests go instead: redirects and rewrites; parts of a frontend.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::language::{defaulted, language};
use crate::state::entity::check::{HOSTNAME_BYTES_MAX, PATH_BYTES_MAX, within};

/// What becomes of requests instead of going to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Those in clear text are sent to the same place over TLS.
    Https,
    /// All are sent there.
    To(Box<RedirectTarget>),
}

impl Serialize for Redirect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Https => serializer.serialize_str("https"),
            Self::To(target) => target.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Redirect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;

        impl<'de> Visitor<'de> for WordOrMap {
            type Value = Redirect;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("https, or a map of keys")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Redirect, E> {
                match word {
                    "https" => Ok(Redirect::Https),
                    _ => Err(E::unknown_variant(word, &["https"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Redirect, A::Error> {
                let target = RedirectTarget::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Redirect::To(Box::new(target)))
            }
        }

        deserializer.deserialize_any(WordOrMap)
    }
}

defaulted! {
    /// A place to be sent to: what is not named stays as it was asked for.
    pub struct RedirectTarget {
        /// The hostname, in which `{hostname}` may stand.
        pub hostname: Option<Box<str>> = None,
        /// The path.
        pub path: Option<PathChange> = None,
        /// The port.
        pub port: Option<u16> = None,
        /// What becomes of the query.
        pub query: QueryUse = QueryUse::Keep,
        /// The scheme, with its usual port.
        pub scheme: Option<Scheme> = None,
        /// How it is told.
        pub status: u16 = 302,
    }
}

defaulted! {
    /// Where requests to backends go instead.
    pub struct Rewrite {
        /// The hostname, in which `{hostname}` may stand.
        pub hostname: Option<Box<str>> = None,
        /// The path.
        pub path: Option<PathChange> = None,
        /// What becomes of the query.
        pub query: QueryUse = QueryUse::Keep,
    }
}

/// Another path, in which values of the request may stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathChange {
    /// In place of the whole one.
    Full(Box<str>),
    /// In place of the prefix that the frontend matches.
    Prefix(Box<str>),
}

/// What a client writes before `://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What becomes of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryUse {
    /// It goes on.
    Keep,
    /// It is left out.
    Drop,
    /// This one in its place, in which values of the request may stand.
    Full(Box<str>),
}

language! {
    /// An answer of the configuration.
    pub struct Respond {
        /// Its body.
        pub body: Box<str> = "".into(),
        /// The connection is closed without one.
        pub close: bool = false,
        /// What the body is.
        pub content_type: Box<str> = "text/plain; charset=utf-8".into(),
        /// A file that is the body.
        pub file: Option<crate::state::entity::Material> = None,
        /// Its status.
        pub status: u16 = 200,
    }
}

impl RedirectTarget {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        if !matches!(self.status, 301 | 302 | 303 | 307 | 308) {
            return Err(format!("status {} is none of a redirect", self.status));
        }
        if self.port == Some(0) {
            return Err("port is 0".to_owned());
        }
        if self.hostname.is_none()
            && self.path.is_none()
            && self.port.is_none()
            && self.scheme.is_none()
        {
            return Err("it leads to where it came from".to_owned());
        }
        place(self.hostname.as_deref(), self.path.as_ref(), &self.query)
    }
}

impl Rewrite {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        place(self.hostname.as_deref(), self.path.as_ref(), &self.query)
    }
}

fn place(
    hostname: Option<&str>,
    path: Option<&PathChange>,
    query: &QueryUse,
) -> Result<(), String> {
    if let Some(hostname) = hostname {
        let plain = hostname.replace("{hostname}", "h");
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._[]:".contains(&byte)
        };
        if plain.is_empty() || plain.len() > HOSTNAME_BYTES_MAX || !plain.bytes().all(allowed) {
            return Err(format!(
                "hostname {hostname:?}: expected one like shop.example.com"
            ));
        }
    }
    let is_visible = |byte: u8| byte.is_ascii_graphic();
    if let QueryUse::Full(query) = query {
        if query.starts_with('?') || query.contains('#') || !query.bytes().all(is_visible) {
            return Err(format!("query {query:?}: expected one like a=b&c=d"));
        }
        within("query length", query.len(), 0..=PATH_BYTES_MAX)?;
    }
    let Some(PathChange::Full(path) | PathChange::Prefix(path)) = path else {
        return Ok(());
    };
    let begins = path.starts_with('/') || path.starts_with("{path}");
    if !begins || path.contains(['?', '#']) || !path.bytes().all(is_visible) {
        return Err(format!(
            "path {path:?}: expected a slash first and no query"
        ));
    }
    within("path length", path.len(), 1..=PATH_BYTES_MAX)
}

impl Respond {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        within("status", self.status, 200..=599)?;
        let has_body = !self.body.is_empty() || self.file.is_some();
        if has_body && (matches!(self.status, 204 | 304) || self.close) {
            return Err("there is no place for a body".to_owned());
        }
        if !self.body.is_empty() && self.file.is_some() {
            return Err("expected a body or a file".to_owned());
        }
        let printable = |byte: u8| (b' '..=b'~').contains(&byte);
        if self.content_type.is_empty() || !self.content_type.bytes().all(printable) {
            return Err(format!(
                "content type {:?} is not a header value",
                self.content_type
            ));
        }
        within("body length", self.body.len(), 0..=BODY_BYTES_MAX)?;
        self.file
            .as_ref()
            .map_or(Ok(()), crate::state::entity::check::material)
    }
}

/// Held by every worker, and sent in one piece.
const BODY_BYTES_MAX: usize = 64 * 1024;

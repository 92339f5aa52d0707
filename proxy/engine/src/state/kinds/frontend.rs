//! The frontend: a match of requests that leads to a cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::language::language;
use crate::state::entity::check::{PATH_BYTES_MAX, is_hostname, is_name, is_token, within};
use crate::state::entity::compile_regex;
use crate::state::entity::rare::Rare;

// Defaults, which most frontends have: kept once.
static ANY: LazyLock<Arc<str>> = LazyLock::new(|| "*".into());
static ROOT: LazyLock<Arc<str>> = LazyLock::new(|| "/".into());
static UPGRADES: LazyLock<Arc<[Box<str>]>> = LazyLock::new(|| ["websocket".into()].into());

language! {
    /// A match that leads to a cluster. What frontends have alike is shared.
    pub struct Frontend {
        /// What a client has to have shown.
        pub client_certificate: Option<ClientCertificate> = None,
        /// The cluster that serves what matches.
        pub cluster: Box<str>,
        /// Requests that are safe may come as early data.
        pub early_data: bool = false,
        /// Header name (lower case) to what one of its values must be.
        pub headers: Rare<BTreeMap<String, ValueMatch>> = Rare::default(),
        /// `shop.example.com`, `*.example.com` or `*`.
        pub hostname: Arc<str> = ANY.clone(),
        /// What clients are told of TLS in responses over it.
        pub hsts: Option<Hsts> = None,
        /// The listeners on which this match exists.
        pub listeners: Arc<[Box<str>]>,
        /// Methods that match; empty is any.
        pub methods: Rare<Vec<String>> = Rare::default(),
        /// TLS for this hostname is passed on unread.
        pub passthrough: bool = false,
        /// What the path must be.
        pub path: PathMatch = PathMatch::Prefix(ROOT.clone()),
        /// Query parameter name to what its value must be.
        pub query: Rare<BTreeMap<String, ValueMatch>> = Rare::default(),
        /// Where requests in clear text are sent instead.
        pub redirect: Option<Redirect> = None,
        /// Protocols, in lower case, that may be switched to.
        pub upgrades: Arc<[Box<str>]> = UPGRADES.clone(),
    }
}

impl Frontend {
    /// Whether a handshake for another protocol is passed on.
    pub fn passes_on(&self, protocol: &[u8]) -> bool {
        self.upgrades
            .iter()
            .any(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(protocol))
    }
}

/// What a frontend asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// A certificate that has been verified.
    Required,
}

language! {
    /// Strict-Transport-Security (RFC 6797).
    pub struct Hsts {
        /// Hosts below this one are meant, too.
        pub include_subdomains: bool = false,
        /// How long clients remember it.
        pub max_age_days: u32,
        /// Browsers may have it built in.
        pub preload: bool = false,
    }
}

impl Hsts {
    /// The whole line, with its CRLF.
    pub fn line(&self) -> String {
        let seconds = u64::from(self.max_age_days) * 24 * 3600;
        let subdomains = if self.include_subdomains {
            "; includeSubDomains"
        } else {
            ""
        };
        let preload = if self.preload { "; preload" } else { "" };
        format!("Strict-Transport-Security: max-age={seconds}{subdomains}{preload}\r\n")
    }
}

/// Where requests in clear text are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirect {
    /// The same over TLS.
    Https,
}

/// What the path of a request must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// Exactly this.
    Exact(Arc<str>),
    /// This, or anything below it, whole elements only.
    Prefix(Arc<str>),
    /// Wholly matched by this expression.
    Regex(Arc<str>),
}

/// What the value of a header or of a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueMatch {
    /// Exactly this.
    Exact(String),
    /// Wholly matched by this expression.
    Regex(String),
}

impl Frontend {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        if !is_name(&self.cluster) {
            return Err(format!(
                "cluster {:?} is not the name of a cluster",
                self.cluster
            ));
        }
        if let Some(listener) = self.listeners.iter().find(|listener| !is_name(listener)) {
            return Err(format!(
                "listeners: {listener:?} is not the name of a listener"
            ));
        }
        if self.listeners.is_empty() || !self.listeners.is_sorted_by(|a, b| a < b) {
            return Err("listeners: expected at least one, sorted, each once".to_owned());
        }
        if !is_hostname(&self.hostname) {
            return Err(format!(
                "hostname {:?}: expected shop.example.com, *.example.com or *, in lower case",
                self.hostname
            ));
        }
        if let Some(method) = self.methods.iter().find(|method| !is_token(method)) {
            return Err(format!("methods: {method:?} is not a method"));
        }
        if self.passthrough
            && !(self.path == PathMatch::Prefix(ROOT.clone())
                && self.methods.is_empty()
                && self.headers.is_empty()
                && self.query.is_empty()
                && self.hsts.is_none()
                && self.client_certificate.is_none()
                && !self.early_data
                && self.redirect.is_none())
        {
            return Err("passthrough: nothing but the hostname can be matched".to_owned());
        }
        if !self.upgrades.is_sorted_by(|a, b| a < b)
            || self
                .upgrades
                .iter()
                .any(|name| name.bytes().any(|byte| byte.is_ascii_uppercase()))
        {
            return Err("upgrades: expected names in lower case, sorted, each once".to_owned());
        }
        path(&self.path)?;
        for (name, wanted) in &self.headers {
            if !is_token(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(format!(
                    "headers: {name:?} is not a header name in lower case"
                ));
            }
            value_match(wanted)?;
        }
        if self.query.get().is_some_and(|query| query.contains_key("")) {
            return Err("query: a parameter needs a name".to_owned());
        }
        self.query
            .iter()
            .try_for_each(|(_, wanted)| value_match(wanted))
    }
}

fn path(path: &PathMatch) -> Result<(), String> {
    match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => {
            if !path.starts_with('/') || path.contains(['?', '#']) {
                return Err(format!(
                    "path {path:?}: expected a slash first and no query"
                ));
            }
            within("path length", path.len(), 1..=PATH_BYTES_MAX)
        }
        PathMatch::Regex(pattern) => compile_regex(pattern).map(drop),
    }
}

fn value_match(value: &ValueMatch) -> Result<(), String> {
    match value {
        ValueMatch::Exact(_) => Ok(()),
        ValueMatch::Regex(pattern) => compile_regex(pattern).map(drop),
    }
}

//! The entities that a worker holds, as typed values; what may be said here is what may be said
//! in a configuration.
//!
//! Each kind is a module of [`super::kinds`]. Here is what they share, and [`Entity`], which is one of
//! any kind. Limits of values that several kinds have are in [`check`].

pub mod address;
pub mod check;
pub mod cidr;

use std::sync::Arc;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

pub use super::kinds::backend::Backend;
pub use super::kinds::certificate::{Acme, Certificate, Staple};
pub use super::kinds::cluster::{
    Cluster, ClusterLimits, ClusterProtocol, ClusterTimeouts, LoadBalancing, ProxyProtocol,
    UpstreamTls,
};
pub use super::kinds::edits::HeaderEdits;
pub use super::kinds::frontend::{
    ClientCertificate, Few, Frontend, FrontendKeys, Hsts, PathMatch, ValueMatch,
};
use super::kinds::language::language;
pub use super::kinds::listener::{
    ClientAuth, Listener, ListenerLimits, ListenerProtocol, ListenerTimeouts, TlsPolicy, TlsProfile,
};
pub use super::kinds::places::{
    PathChange, QueryUse, Redirect, RedirectTarget, Respond, Rewrite, Scheme,
};
pub use super::kinds::settings::{Auto, Settings, Workers};

/// What an entity is; with its name, its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The one entity of process-wide settings, always named `settings`.
    Settings,
    /// A chain and its key, for some hostnames.
    Certificate,
    /// An address on which clients are accepted.
    Listener,
    /// A named set of interchangeable backends.
    Cluster,
    /// One address in a cluster, named `CLUSTER/BACKEND`.
    Backend,
    /// A match that leads to a cluster.
    Frontend,
}

impl Kind {
    /// Every kind, in the order in which a state is built up.
    pub const ALL: [Self; 6] = [
        Self::Settings,
        Self::Certificate,
        Self::Listener,
        Self::Cluster,
        Self::Backend,
        Self::Frontend,
    ];

    /// The word that stands for this kind on the wire and in the digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Certificate => "certificate",
            Self::Listener => "listener",
            Self::Cluster => "cluster",
            Self::Backend => "backend",
            Self::Frontend => "frontend",
        }
    }

    /// The kind that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One value of the state, of any kind. Those that are large, or that many have alike, are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    /// See [`Settings`].
    Settings(Arc<Settings>),
    /// See [`Certificate`].
    Certificate(Box<Certificate>),
    /// See [`Listener`].
    Listener(Arc<Listener>),
    /// See [`Cluster`].
    Cluster(Arc<Cluster>),
    /// See [`Backend`].
    Backend(Backend),
    /// See [`Frontend`].
    Frontend(Box<Frontend>),
}

impl Entity {
    /// Reads the JSON value of an entity of `kind`; its values are not checked yet.
    pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Settings => Self::Settings(Arc::new(serde_json::from_str(text)?)),
            Kind::Certificate => Self::Certificate(Box::new(serde_json::from_str(text)?)),
            Kind::Listener => Self::Listener(Arc::new(serde_json::from_str(text)?)),
            Kind::Cluster => Self::Cluster(Arc::new(serde_json::from_str(text)?)),
            Kind::Backend => Self::Backend(serde_json::from_str(text)?),
            Kind::Frontend => Self::Frontend(Box::new(serde_json::from_str(text)?)),
        })
    }

    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Settings(value) => value.check(),
            Self::Certificate(value) => value.check(),
            Self::Listener(value) => value.check(),
            Self::Cluster(value) => value.check(),
            Self::Backend(value) => value.check(),
            Self::Frontend(value) => value.check(),
        }
    }

    /// The kind of this value.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Settings(_) => Kind::Settings,
            Self::Certificate(_) => Kind::Certificate,
            Self::Listener(_) => Kind::Listener,
            Self::Cluster(_) => Kind::Cluster,
            Self::Backend(_) => Kind::Backend,
            Self::Frontend(_) => Kind::Frontend,
        }
    }

    /// The canonical bytes: compact JSON without defaults, keys sorted, UTF-8 unescaped.
    pub fn canonical(&self) -> Vec<u8> {
        let bytes = match self {
            Self::Settings(value) => serde_json::to_vec(&**value),
            Self::Certificate(value) => serde_json::to_vec(&**value),
            Self::Listener(value) => serde_json::to_vec(&**value),
            Self::Cluster(value) => serde_json::to_vec(&**value),
            Self::Backend(value) => serde_json::to_vec(value),
            Self::Frontend(value) => serde_json::to_vec(&**value),
        };
        bytes.expect("maps with string keys and plain values always serialise")
    }
}

language! {
    /// A file that an entity refers to. What counts is its content, which comes beside the operations.
    pub struct Material {
        /// Where the operator keeps it.
        pub path: String,
        /// SHA-256 of its bytes, in hexadecimal.
        pub sha256: String,
    }
}

language! {
    /// What is sent in place of a response that the engine itself has to make up.
    pub struct ErrorPage {
        /// The body, sent as it is.
        pub body: String,
        /// The value of its `Content-Type`.
        pub content_type: String = "text/html; charset=utf-8".to_owned(),
    }
}

/// Compiles an expression so that it matches a value wholly or not at all.
///
/// The engine of `regex` is linear in the length of the value, whatever the expression; what can
/// still be large is the compiled program, so that is limited.
pub fn compile_regex(pattern: &str) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(REGEX_PROGRAM_BYTES_MAX)
            .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
            .build()
            .map_err(|error| format!("regex {pattern:?}: {error}"))
    };
    // Alone first: `a)|(b` would become two balanced groups inside the anchors.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

/// Largest compiled expression. The crate's own default is ten times that, for one expression;
/// here there may be one per frontend.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Largest cache of the lazily built automaton. When it is full, the crate goes on with slower,
/// still linear means.
const REGEX_CACHE_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests;

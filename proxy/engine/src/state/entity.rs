//! The entities that a worker holds, as typed values; what may be said here is what may be said
//! in a configuration.
//!
//! Each kind is a module of [`super::kinds`], where [`Entity`] is one of any kind. Here is what they share.
//! Limits of values that several kinds have are in [`check`].

pub mod address;
pub mod check;
pub mod cidr;

use std::collections::HashMap;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

pub use super::kinds::backend::Backend;
pub use super::kinds::bandwidth::Bandwidth;
pub use super::kinds::basic::BasicAuth;
pub use super::kinds::bounds::{RequestLimits, RequestTimeouts};
pub use super::kinds::certificate::{Acme, Certificate, Staple};
pub use super::kinds::client_certificate::ClientCertificate;
pub use super::kinds::cluster::{
    Cluster, ClusterLimits, ClusterProtocol, ClusterTimeouts, LoadBalancing, ProxyProtocol,
    UpstreamTls,
};
pub use super::kinds::compression::{Compression, Encoding};
pub use super::kinds::concurrency::Concurrency;
pub use super::kinds::cors::Cors;
pub use super::kinds::edits::{Answers, HeaderEdits, Line};
pub use super::kinds::forward_auth::ForwardAuth;
pub use super::kinds::frontend::{Few, Frontend, FrontendKeys};
pub use super::kinds::jwt::{Jwt, TokenIn};
use super::kinds::language::language;
pub use super::kinds::listener::{
    ClientAuth, Listener, ListenerLimits, ListenerProtocol, ListenerTimeouts, TlsPolicy, TlsProfile,
};
pub use super::kinds::matching::{PathMatch, Pattern, ValueMatch};
pub use super::kinds::places::{
    PathChange, QueryUse, Redirect, RedirectTarget, Respond, Rewrite, Scheme,
};
pub use super::kinds::policy::{Hsts, Inherited, Policy};
pub use super::kinds::rate::{RateBy, RateLimit, RateLimits};
pub use super::kinds::registry::{Entity, Kind};
pub use super::kinds::set_cookie::{ANY_COOKIE, CookieChange, DROP, SameSite, SetCookie};
pub use super::kinds::settings::{Auto, Settings, Workers};
pub use super::kinds::split::{Shares, SplitBy};

language! {
    /// A file that an entity refers to. What counts is its content, which comes beside the operations.
    pub struct Material {
        /// Where the operator keeps it.
        pub path: String,
        /// SHA-256 of its bytes, in hexadecimal.
        pub sha256: String,
    }
}

/// Contents of files by their SHA-256.
pub type Materials = HashMap<String, Vec<u8>>;

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
pub fn compile_regex(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .case_insensitive(ignore_case)
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

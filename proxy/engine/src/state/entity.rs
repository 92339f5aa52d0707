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
use regex_syntax::ParserBuilder;

pub use crate::state::kinds::backend::Backend;
pub use crate::state::kinds::certificate::{Acme, Certificate, Staple};
pub use crate::state::kinds::cluster::{
    Cluster, ClusterLimits, ClusterProtocol, ClusterTimeouts, LoadBalancing, ProxyProtocol,
    UpstreamTls,
};
pub use crate::state::kinds::frontend::{Few, Frontend, FrontendKeys};
pub use crate::state::kinds::keys::bandwidth::Bandwidth;
pub use crate::state::kinds::keys::basic::BasicAuth;
pub use crate::state::kinds::keys::bounds::{RequestLimits, RequestTimeouts};
pub use crate::state::kinds::keys::client_certificate::ClientCertificate;
pub use crate::state::kinds::keys::compression::{Compression, Encoding};
pub use crate::state::kinds::keys::concurrency::Concurrency;
pub use crate::state::kinds::keys::cors::Cors;
pub use crate::state::kinds::keys::edits::{Answers, HeaderEdits, Line};
pub use crate::state::kinds::keys::forward_auth::ForwardAuth;
pub use crate::state::kinds::keys::jwt::{Jwt, TokenIn};
pub use crate::state::kinds::keys::matching::{PathMatch, Pattern, ValueMatch};
pub use crate::state::kinds::keys::rate::{Fields, RateBy, RateLimit, RateLimits, WhenFull};
pub use crate::state::kinds::keys::set_cookie::{
    ANY_COOKIE, CookieChange, DROP, SameSite, SetCookie,
};
pub use crate::state::kinds::keys::split::{Shares, SplitBy};
use crate::state::kinds::language::language;
pub use crate::state::kinds::listener::{
    ClientAuth, Listener, ListenerLimits, ListenerProtocol, ListenerTimeouts, TlsPolicy, TlsProfile,
};
pub use crate::state::kinds::places::{
    PathChange, QueryUse, Redirect, RedirectTarget, Respond, Rewrite, Scheme,
};
pub use crate::state::kinds::policy::{Hsts, Inherited, Policy};
pub use crate::state::kinds::registry::{Entity, Kind};
pub use crate::state::kinds::settings::{Auto, Settings, Workers};

language! {
    /// A file that an entity refers to. What counts is its content, which comes beside the operations.
    pub struct Material {
        /// Where the operator keeps it.
        pub path: String,
        /// SHA-256 of its bytes, in hexadecimal.
        pub sha256: String,
    }
}

/// Contents of files by their SHA-256; none of one that is nowhere any more: what names it then takes no requests.
pub type Materials = HashMap<String, Option<Vec<u8>>>;

/// The content of a file, as whoever reads it gets it: none of a lost one.
pub type Content<'a> = Option<&'a [u8]>;

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
    // Alone first: `a)|(b` would become two balanced groups inside the anchors.
    ParserBuilder::new()
        .utf8(false)
        .case_insensitive(ignore_case)
        .build()
        .parse(pattern)
        .map_err(|error| format!("regex {pattern:?}: {error}"))?;
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .case_insensitive(ignore_case)
        .size_limit(REGEX_PROGRAM_BYTES_MAX)
        .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
        .build()
        .map_err(|error| format!("regex {pattern:?}: {error}"))
}

/// Largest compiled expression. The crate's own default is ten times that, for one expression;
/// here there may be one per frontend.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Largest cache of the lazily built automaton. When it is full, the crate goes on with slower,
/// still linear means.
const REGEX_CACHE_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests;

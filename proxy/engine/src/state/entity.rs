//! The entities that a worker holds, as typed values; what may be said here is what may be said
//! in a configuration.
//!
//! Each kind is a module of [`super::kinds`], where [`Entity`] is one of any kind. Here is what they share.
//! Limits of values that several kinds have are in [`check`].

pub mod address;
pub mod check;
pub mod cidr;
pub mod expression;

use std::collections::HashMap;

pub use crate::state::entity::expression::{REGEX_PROGRAM_BYTES_MAX, compile_regex};
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
pub use crate::state::kinds::keys::fallback::Fallback;
pub use crate::state::kinds::keys::forward_auth::ForwardAuth;
pub use crate::state::kinds::keys::health::{
    Asking, CheckMethod, HealthCheck, Initial, RequestCheck, TcpCheck,
};
pub use crate::state::kinds::keys::jwt::{Jwt, TokenIn};
pub use crate::state::kinds::keys::matching::{PathMatch, Pattern, ValueMatch};
pub use crate::state::kinds::keys::rate::{
    CountedBy, Fields, RateBy, RateLimit, RateLimits, WhenFull,
};
pub use crate::state::kinds::keys::retry::{Failure, Retry, is_idempotent};
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

#[cfg(test)]
mod tests;

//! The keys of frontends, policies and listeners whose values are more than a word: one module for each.

pub mod bandwidth;
pub mod basic;
pub mod bounds;
pub mod client_certificate;
pub mod compression;
pub mod concurrency;
pub mod cors;
pub mod edits;
pub mod fallback;
pub mod forward_auth;
pub mod health;
pub mod jwt;
pub mod matching;
pub mod mirror;
pub mod rate;
pub mod retry;
pub mod set_cookie;
pub mod split;

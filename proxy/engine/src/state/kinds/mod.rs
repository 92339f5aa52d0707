//! One module for each kind of entity: its value with the defaults, what the engine insists on, what it
//! needs, what is made of it, and what a change of it does. [`registry`] has all of them.

pub mod backend;
pub mod bandwidth;
pub mod basic;
pub mod bounds;
pub mod certificate;
pub mod client_certificate;
pub mod cluster;
pub mod compression;
pub mod concurrency;
pub mod cors;
pub mod edits;
pub mod forward_auth;
pub mod frontend;
pub mod jwt;
pub(in crate::state) mod language;
pub mod listener;
pub mod matching;
pub mod places;
pub mod policy;
pub mod rate;
pub mod registry;
pub mod set_cookie;
pub mod settings;
pub mod split;

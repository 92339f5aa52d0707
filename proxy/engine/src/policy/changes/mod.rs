//! What is changed of requests and responses on their way: headers, cookies, paths, coding.
//!
//! Called by `policy::merged` and `policy::plan`, and by sessions as responses pass.

pub mod compression;
pub mod cookies;
pub mod cors;
pub mod edits;
pub(in crate::policy) mod place;
pub mod room;
pub mod template;

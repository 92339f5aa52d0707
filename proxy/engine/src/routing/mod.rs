//! Which frontend serves a request: the lookup from hostname, path and the rest to a target.
//!
//! Pure and immutable while requests look things up; a transaction changes it between two loop
//! turns. The rule of this layer is the precedence of Gateway API 1.6, one level per file:
//!
//! 1. [`hostname`]: exact, then the longest wildcard, then `*`;
//! 2. [`path`]: exact, then the longer literal beginning: a prefix of whole elements, or an expression;
//! 3. [`rule`]: a method, then more headers, more query parameters, more cookies, then networks of clients,
//!    then the name.
//!
//! A level decides only among frontends that match: when nothing under the most specific hostname
//! (or path) serves a request, the next one is asked. [`table`] joins the levels, [`matcher`] holds
//! the conditions that no index can answer. [`explain`] says why a request goes where it goes, [`split`] to which of a
//! frontend's clusters, and [`witness`] finds texts that tell expressions apart.

pub mod explain;
pub mod hostname;
pub mod matcher;
pub mod path;
pub mod readings;
pub mod regexes;
pub mod rule;
pub mod split;
pub mod table;
mod text;
pub mod witness;

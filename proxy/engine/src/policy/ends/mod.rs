//! Where a request ends that goes to no backend: a redirect, or an answer of the configuration.
//!
//! Called by `policy::plan`, and by clusters for when no backend can be asked.

pub(in crate::policy) mod redirect;
pub mod respond;

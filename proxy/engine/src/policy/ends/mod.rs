//! Where a request ends that goes to no backend: a redirect, or an answer of the configuration.
//!
//! Called by `policy::plan`.

pub(in crate::policy) mod redirect;
pub(in crate::policy) mod respond;

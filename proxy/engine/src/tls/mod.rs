//! What TLS connections are made with: certificates by hostname, policies by listener, the keys of
//! session tickets, and answers to ACME challenges.
//!
//! Rule: everything that can fail (parsing, keys that do not match) fails when a change is prepared;
//! a commit swaps finished parts in. The protocol itself is `protocol::tls`.

mod anchors;
pub mod certificates;
pub mod challenges;
pub mod client_identity;
pub mod fault;
pub mod policy;
mod subject;
pub mod tickets;

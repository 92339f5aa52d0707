//! What a worker tells about itself: counters and histograms in shared memory, and the access log.
//!
//! The rule: the engine thread never waits for a reader. It writes numbers with plain stores into
//! memory that only it writes ([`counters`]), and hands finished pieces of log to a thread that may
//! block ([`access_log`]); what nobody takes in time is dropped and counted.

pub mod access_log;
pub mod counters;
pub mod histogram;
mod mapping;
pub mod names;

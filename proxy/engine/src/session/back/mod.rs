//! The backends' side: tries become bytes, and bytes responses.
//!
//! What must live here: connections to backends and their pools (`connect`, `upstream` for HTTP/1.1, `trunk`
//! and `trunk_lane` for HTTP/2). What must not: whether a request is tried again, which is the exchange's.

mod connect;
mod trunk;
mod trunk_lane;
pub(super) mod upstream;

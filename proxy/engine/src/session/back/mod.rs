//! The backends' side: tries become bytes, and bytes responses.
//!
//! What must live here: connections to backends and their pools (`connect`, `pool`), what is spoken on them (`upstream`
//! and `h1` for HTTP/1.1, `trunk`, `trunk_lane` and `lane_reply` for HTTP/2). What must not: whether a request
//! is tried again, which is the exchange's.

mod connect;
mod h1;
mod lane_reply;
mod pool;
mod trunk;
mod trunk_lane;
pub(super) mod upstream;

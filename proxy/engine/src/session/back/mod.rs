//! The backends' side: tries become bytes, and bytes responses.
//!
//! What must live here: connections to backends and their pools (`connect`, `pool`), what is spoken on them
//! (`upstream`, `sending` and `h1` for HTTP/1.1; `shared`, `joining`, `h2`, `frames`, `stream` and `stream_reply` for
//! HTTP/2). The exchange comes in by `reach`, which gives it a carrier or a ticket, and by `carrier` with all else. What
//! must not: whether a request is tried again, which is the exchange's.

pub(super) mod carrier;
mod connect;
mod frames;
mod h1;
mod h2;
mod joining;
mod pool;
mod sending;
mod shared;
pub(super) mod stream;
mod stream_reply;
pub(super) mod upstream;

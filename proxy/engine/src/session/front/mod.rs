//! The clients' side: bytes become requests, and responses bytes.
//!
//! What must live here: everything that knows how a client speaks (`client` for HTTP/1.1, `multiplex` and
//! `lane` for HTTP/2), how it came in (`accept`, `preamble`, `handshake`), and how long it may wait or be
//! waited for (`idle`, `stall`, `backlog`). What must not: which backend a request goes to.

mod accept;
pub(super) mod backlog;
pub(super) mod client;
mod handshake;
mod idle;
mod lane;
pub(super) mod multiplex;
mod preamble;
mod stall;

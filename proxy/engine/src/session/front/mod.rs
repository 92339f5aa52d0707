//! The clients' side: bytes become requests, and responses bytes.
//!
//! What must live here: everything that knows how a client speaks (`client` and `h1`, `multiplex` and
//! `lane` for HTTP/2), how it came in (`accept`, `preamble`, `handshake`), and how long it may wait or be
//! waited for (`idle`, `stall`, `backlog`). What must not: which backend a request goes to.

mod accept;
pub(super) mod answer;
pub(super) mod backlog;
pub(super) mod client;
mod h1;
mod handshake;
mod idle;
mod lane;
pub(super) mod multiplex;
mod preamble;
mod stall;

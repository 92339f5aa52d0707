//! The clients' side: bytes become requests, and responses bytes.
//!
//! What must live here: everything that knows how a client speaks (`client` and `h1`; `multiplex`, `h2`,
//! `stream` and `stream_out` for HTTP/2), how it came in (`accept`, `preamble`, `handshake`) and leaves (`ending`),
//! and how long it may wait or be waited for (`idle`, `stall`, `backlog`). The exchange comes in by two doors:
//! `answer` with what is sent, and `asker` with all else. What must not: which backend a request goes to.

mod accept;
pub(super) mod answer;
pub(super) mod asker;
pub(super) mod backlog;
pub(super) mod client;
mod ending;
mod h1;
mod h2;
mod handshake;
mod idle;
pub(super) mod multiplex;
mod preamble;
mod stall;
pub(super) mod stream;
mod stream_out;

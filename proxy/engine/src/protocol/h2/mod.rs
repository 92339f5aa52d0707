//! HTTP/2 (RFC 9113) with HPACK (RFC 7541), sans I/O, in the role of a server and of a client.
//!
//! # Theory of operation
//!
//! A [`Connection`] is given the bytes that have come, and takes frames from their front until there
//! is something to tell ([`Event`]). What is to be sent is appended to a buffer of the caller's. It
//! knows neither clock nor socket, and holds no body.
//!
//! 1. A head ends up in the form that HTTP/1.1 heads have ([`Heads`]): whoever routes, forwards or
//!    logs does not know what it came by, and no rule exists twice.
//! 2. Flow control is end to end: a window is opened for what the session has passed on
//!    ([`Connection::consumed`]), so that a slow reader slows its sender, and nothing else, down.
//! 3. Everything that a peer can send in vain has a price, and what it may cost is in proportion to what
//!    is brought forward (`budget`).
//! 4. Whose fault it is, and what it costs, is the type: [`ConnectionFault`], [`StreamFault`],
//!    [`HeadFault`]; a request that HTTP/1.1 would refuse as well is an [`h1::Reject`], and answered.
//!
//! # What a connection may hold
//!
//! Beside the bytes that the session has not passed on (at most [`Settings::connection_window`]): two
//! HPACK tables of at most 8 KiB each, an unfinished header block of at most `head_bytes_max` and
//! 16 KiB, 16 KiB of answers, and about 80 bytes for each of [`Settings::streams_max`] streams: with
//! the defaults 350 KiB. An idle one has, after [`Connection::shrink`], its tables as far as they
//! were used, and 2.5 KiB at most.
//!
//! # How the session uses it
//!
//! ```text
//! connection.pass_time(now)
//! loop {
//!     step = connection.next(&input[at..], &mut heads)?     // Err: give up all streams, flush, close
//!     at += step.consumed
//!     match step.event {
//!         None => break,                                    // keep input[at..]
//!         Request { stream, .. } => route(&heads.request, heads.text()); set_tag(stream, exchange)
//!         Data { tag, data, .. } => pass on; connection.consumed(stream, passed)
//!         Writable { tag, .. } => connection.send_data(&mut out, stream, &waiting, ends)
//!         …
//!     }
//! }
//! connection.flush(&mut out); send(out)
//! ```
//!
//! [`h1::Reject`]: crate::protocol::h1::Reject

mod budget;
mod connection;
mod encode;
pub mod error;
mod flow;
pub mod frame;
mod head;
pub mod hpack;
mod list;
mod priority;
mod settings;
mod stream;

pub use connection::Connection;
pub use connection::Event;
pub use connection::Step;
pub use connection::is_preface;
pub use error::ConnectionFault;
pub use error::ErrorCode;
pub use error::HeadFault;
pub use error::StreamFault;
pub use frame::FRAME_BYTES_MAX;
pub use frame::FRAME_HEAD_BYTES;
pub use frame::PREFACE;
pub use head::Heads;
pub use list::HeaderList;
pub use list::ListWriter;
pub use priority::Priority;
pub use settings::Settings;
pub use stream::{NO_TAG, Tag};

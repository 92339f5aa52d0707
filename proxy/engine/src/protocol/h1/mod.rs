//! HTTP/1.1 (RFC 9110, RFC 9112): strict heads, body framing, and the heads that are sent on.
//!
//! # Theory of operation
//!
//! A head is parsed once, from a buffer that the caller owns, into a reusable scratch
//! ([`RequestHead`], [`ResponseHead`]) that holds [`Span`]s of that buffer. Everything that takes
//! part in a decision (host, path, framing, persistence) is normalised at parse time, and the
//! same normalised bytes are matched, logged and forwarded: there is no second reading.
//!
//! 1. A message with two readings is refused, never repaired: bare CR or LF, folded lines, two
//!    lengths, a length beside a coding, a host that differs from the target's authority.
//! 2. What concerns one hop (`Connection` and what it names, framing, `Expect`, `Upgrade`) is
//!    consumed here and written anew for the next hop; it is never copied.
//! 3. What the client says about itself (`X-Forwarded-*`, `Forwarded`, …) counts only when the
//!    peer is trusted.
//! 4. Whose fault it is is the type: [`Reject`] blames the client, [`UpstreamFault`] the backend.
//!
//! A body is framed by [`RequestBody`] or [`ResponseBody`]; [`ChunkedDecoder`] reads a chunked
//! one and [`write_chunk_header`] and [`write_last_chunk`] write one.

mod authority;
pub mod chunked;
mod connection;
pub mod error;
pub mod fields;
pub mod forward;
pub mod framing;
mod handshake;
pub mod reply;
pub mod request;
pub mod respond;
pub mod response;
pub(in crate::protocol) mod scan;
pub mod target;
pub mod via;

#[cfg(test)]
pub(in crate::protocol) mod properties;

pub use chunked::CHUNK_END;
pub use chunked::Chunk;
pub use chunked::ChunkLimits;
pub use chunked::ChunkedDecoder;
pub use chunked::write_chunk_header;
pub use chunked::write_last_chunk;
pub use error::ChunkError;
pub use error::FieldFault;
pub use error::Reject;
pub use error::UpstreamFault;
pub use fields::Field;
pub use fields::FieldId;
pub use forward::Forward;
pub use forward::write_question;
pub use forward::write_request;
pub use framing::Delivery;
pub use framing::RequestBody;
pub use framing::ResponseBody;
pub use handshake::websocket_accept;
pub use reply::DEFAULT_CONTENT_TYPE;
pub use reply::OwnHead;
pub use reply::default_error_body;
pub use reply::reason_phrase;
pub use reply::write_own;
pub use request::HeadLimits;
pub use request::RequestHead;
pub use respond::Persistence;
pub use respond::ResponseForward;
pub use respond::write_response;
pub use response::ResponseHead;
pub use target::Slashes;

/// The protocol version of a received message (RFC 9112 §2.3); no other one is served. The heads of
/// HTTP/2 are kept in the same form as those of HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no persistence unless asked for, no chunked coding, no interim responses.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2: its frames say where a message ends.
    Http2,
}

/// A part of a buffer that somebody else owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes from `start` to before `end`; heads are bounded far below 4 GiB.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The bytes themselves; nothing if `buf` is not the buffer that was parsed.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Offset of the first byte.
    #[inline]
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Offset after the last byte.
    #[inline]
    pub fn end(self) -> usize {
        self.end as usize
    }
}

/// Bytes that are a part of the received buffer where they were normal already, and of the
/// head's scratch where they had to be rewritten.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Text {
    Received(Span),
    Rewritten(Span),
}

impl Text {
    #[inline]
    pub(crate) fn of<'a>(self, buf: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Received(span) => span.of(buf),
            Self::Rewritten(span) => span.of(scratch),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::Received(Span::default())
    }
}

/// Whether `buf`, whose first `seen` bytes were parsed in vain, is worth to be parsed again.
///
/// A head ends with a line feed, so that a peer that sends a byte at a time does not cost a
/// whole parse for each (T27); at `head_bytes_max` the parser has to give its verdict. The first
/// bytes are always looked at: they tell a TLS handshake from a request.
pub fn is_worth_parsing(buf: &[u8], seen: usize, limits: &HeadLimits) -> bool {
    let added = buf.get(seen..).unwrap_or_default();
    seen == 0 || buf.len() >= limits.head_bytes_max || memchr::memchr(b'\n', added).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_another_buffer_is_empty() {
        let span = Span::new(2, 4);
        assert_eq!(span.of(b"abcdef"), b"cd");
        assert_eq!((span.start(), span.end()), (2, 4));
        assert_eq!(span.of(b"abc"), b"");
        assert_eq!(Span::new(4, 2).of(b"abcdef"), b"");
    }

    #[test]
    fn t27_a_byte_at_a_time_costs_a_parse_for_each_line() {
        let limits = HeadLimits {
            head_bytes_max: 8,
            header_count_max: 1,
        };
        for (buf, seen, is_worth) in [
            ("G", 0, true),
            ("GE", 1, false),
            ("a\nb", 2, false),
            ("ab\n", 2, true),
            ("abcdefgh", 7, true),
        ] {
            assert_eq!(
                is_worth_parsing(buf.as_bytes(), seen, &limits),
                is_worth,
                "{buf:?}"
            );
        }
    }
}

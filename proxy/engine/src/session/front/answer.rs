//! The door by which answers leave: to a connection of HTTP/1.1, or as frames of one of HTTP/2.
//!
//! Rule: only here and behind it is it known which. An answer is the text of a head, then body, then
//! trailers; to HTTP/1.1 they leave as they are, framed already. Called by the exchange.

use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::asker::Asker;
use crate::session::ids::Fate;

/// A part of an answer.
pub(in crate::session) struct Part<'a> {
    /// A head, if any, and body behind it.
    pub(in crate::session) bytes: &'a [u8],
    /// How much of that is the head.
    pub(in crate::session) head_bytes: usize,
    /// More of the body.
    pub(in crate::session) tail: &'a [u8],
    /// Nothing follows, not even trailers.
    pub(in crate::session) is_last: bool,
}

impl<'a> Part<'a> {
    /// A head, behind which more will come.
    pub(in crate::session) fn head(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            head_bytes: bytes.len(),
            tail: &[],
            is_last: false,
        }
    }

    /// Body, behind which more will come.
    pub(in crate::session) fn body(bytes: &'a [u8]) -> Self {
        Self {
            head_bytes: 0,
            ..Self::head(bytes)
        }
    }

    /// A whole answer, whose head is so long.
    pub(in crate::session) fn whole(bytes: &'a [u8], head_bytes: usize) -> Self {
        Self {
            head_bytes,
            is_last: true,
            ..Self::head(bytes)
        }
    }

    /// Whether there is nothing to send.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.tail.is_empty()
    }
}

impl<D: Driver> Engine<D> {
    /// Sends a part of an answer, or queues it. With its client an exchange goes, too.
    pub(in crate::session) fn answer(&mut self, asker: Asker, part: &Part<'_>) -> Fate {
        let id = match asker {
            Asker::Connection(id) => return self.send_client(id, part.bytes, part.tail),
            Asker::Stream(id) => id,
        };
        let (head, body) = part.bytes.split_at(part.head_bytes);
        let has_body = !body.is_empty() || !part.tail.is_empty();
        if !head.is_empty() {
            self.stream_head(id, head, part.is_last && !has_body);
        }
        if has_body {
            self.stream_send(id, body, part.tail, part.is_last);
        }
        Fate::Lives
    }

    /// Keeps the trailers of an answer for its end, where they are not part of the body.
    pub(in crate::session) fn answer_trailers(&mut self, asker: Asker, lines: &[u8]) {
        if let Asker::Stream(id) = asker {
            self.streams[id].trailers_out = lines.to_vec();
        }
    }

    /// Ends our side of a tunnel: the client may go on talking.
    pub(in crate::session) fn end_answer(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => self.clients[id].stream.shutdown_write(&mut self.tls),
            Asker::Stream(id) => self.end_stream_response(id),
        }
    }
}

impl Asker {
    /// How the access log calls what is spoken where a request had no readable head.
    pub(in crate::session) fn protocol(self) -> &'static str {
        match self {
            Self::Connection(_) => "HTTP/1.1",
            Self::Stream(_) => "HTTP/2.0",
        }
    }
}

//! The door by which answers leave: to a connection of HTTP/1.1, or as frames of one of HTTP/2.
//!
//! Rule: only here and behind it is it known which. An answer is a head, then body, then trailers. To HTTP/1.1 they
//! leave as one text, head and body framed already; to HTTP/2 a head is encoded from its parts, and was never a text.
//! Called by the exchange.

use crate::protocol::h1::{OwnHead, ResponseForward, ResponseHead, write_own, write_response};
use crate::protocol::lines::Lines;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::front::asker::Asker;
use crate::session::ids::Fate;

/// The head of an answer.
#[derive(Clone, Copy)]
pub(in crate::session) enum Head<'a> {
    /// That of a backend: as it has come, and as its client is to have it.
    Passed {
        /// What `head` is offsets into.
        text: &'a [u8],
        head: &'a ResponseHead,
        forward: &'a ResponseForward<'a>,
    },
    /// One of our own.
    Own(&'a OwnHead<'a>),
}

/// A part of an answer.
pub(in crate::session) struct Part<'a> {
    /// A head, if it begins with one.
    pub(in crate::session) head: Option<Head<'a>>,
    /// Body; before it the text of the head for a client that gets one, see [`Engine::write_head`].
    pub(in crate::session) bytes: &'a [u8],
    /// More of the body.
    pub(in crate::session) tail: &'a [u8],
    /// Nothing follows, not even trailers.
    pub(in crate::session) is_last: bool,
}

impl<'a> Part<'a> {
    /// A head, behind which more will come.
    pub(in crate::session) fn head(head: Head<'a>, bytes: &'a [u8]) -> Self {
        Self {
            head: Some(head),
            ..Self::body(bytes)
        }
    }

    /// Body, behind which more will come.
    pub(in crate::session) fn body(bytes: &'a [u8]) -> Self {
        Self {
            head: None,
            bytes,
            tail: &[],
            is_last: false,
        }
    }

    /// A whole answer.
    pub(in crate::session) fn whole(head: Head<'a>, bytes: &'a [u8]) -> Self {
        Self {
            is_last: true,
            ..Self::head(head, bytes)
        }
    }

    /// Whether there is nothing to send.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.head.is_none() && self.bytes.is_empty() && self.tail.is_empty()
    }
}

impl<D: Driver> Engine<D> {
    /// Appends the text of a head where that is what its client gets.
    pub(in crate::session) fn write_head(&self, asker: Asker, head: Head<'_>, out: &mut Vec<u8>) {
        match (asker, head) {
            (Asker::Stream(_) | Asker::Call(_), _) => {}
            (
                Asker::Connection(_),
                Head::Passed {
                    text,
                    head,
                    forward,
                },
            ) => write_response(out, text, head, forward),
            (Asker::Connection(_), Head::Own(head)) => write_own(out, head),
        }
    }

    /// Sends a part of an answer, or queues it. With its client an exchange goes, too.
    pub(in crate::session) fn answer(&mut self, asker: Asker, part: &Part<'_>) -> Fate {
        let id = match asker {
            Asker::Connection(id) => return self.send_client(id, part.bytes, part.tail),
            Asker::Stream(id) => id,
            Asker::Call(id) => {
                self.hear(id, part);
                return Fate::Lives;
            }
        };
        let has_body = !part.bytes.is_empty() || !part.tail.is_empty();
        if let Some(head) = part.head {
            self.stream_head(id, head, part.is_last && !has_body);
        }
        if has_body {
            self.stream_send(id, part.bytes, part.tail, part.is_last);
        }
        Fate::Lives
    }

    /// Keeps the trailers of an answer for its end, where they are not part of the body.
    pub(in crate::session) fn answer_trailers(&mut self, asker: Asker, trailers: Lines<'_>) {
        if let Asker::Stream(id) = asker {
            self.streams[id].trailers_out = trailers.into();
        }
    }

    /// Ends our side of a tunnel: the client may go on talking.
    pub(in crate::session) fn end_answer(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => self.clients[id].stream.shutdown_write(&mut self.tls),
            Asker::Stream(id) => self.end_stream_response(id),
            Asker::Call(_) => {}
        }
    }
}

impl Asker {
    /// How the access log calls what is spoken where a request had no readable head.
    pub(in crate::session) fn protocol(self) -> &'static str {
        match self {
            Self::Connection(_) => "HTTP/1.1",
            Self::Stream(_) | Self::Call(_) => "HTTP/2.0",
        }
    }
}

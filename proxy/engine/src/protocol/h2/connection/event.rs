//! What a connection tells its session, one at a time, as `receive` returns it.

use crate::protocol::h1::Reject;
use crate::protocol::h2::error::ErrorCode;
use crate::protocol::h2::error::StreamFault;
use crate::protocol::h2::stream::Tag;

/// Something that the session has to know. `tag` is what it has called the stream by
/// [`super::Connection::set_tag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Server: a request, in [`crate::protocol::h2::Heads::request`].
    Request {
        /// Its stream, to be given to everything that is sent for it.
        stream: u32,
        /// It has no body.
        ends: bool,
    },
    /// Server: a request that must not be forwarded, and whose head is not to be looked at. The stream
    /// is open: answer with [`Reject::status`], and reset it unless it `ends`.
    Refused {
        /// Its stream.
        stream: u32,
        /// Why.
        reject: Reject,
        /// Nothing more comes.
        ends: bool,
    },
    /// Client: a 1xx, in [`crate::protocol::h2::Heads::response`].
    Interim {
        /// Its stream.
        stream: u32,
        /// The session's name for it.
        tag: Tag,
    },
    /// Client: the final head, in [`crate::protocol::h2::Heads::response`]. A request that is still
    /// being sent may go on, or be given up by [`super::Connection::reset`].
    Response {
        /// Its stream.
        stream: u32,
        /// The session's name for it.
        tag: Tag,
        /// It has no body.
        ends: bool,
    },
    /// Body bytes. [`super::Connection::consumed`] opens the window for as many again.
    Data {
        /// Their stream.
        stream: u32,
        /// The session's name for it.
        tag: Tag,
        /// A part of the input; empty at most if it `ends`.
        data: &'a [u8],
        /// It was the last one.
        ends: bool,
    },
    /// The end of the body, and [`crate::protocol::h2::Heads::trailers`].
    Trailers {
        /// Their stream.
        stream: u32,
        /// The session's name for it.
        tag: Tag,
    },
    /// A stream is gone before its end. From a server that has answered whole,
    /// [`ErrorCode::NoError`] means that it does not want the rest of the request.
    /// [`crate::protocol::h2::NO_TAG`] for one that the session has never heard of.
    Reset {
        /// Which.
        stream: u32,
        /// The session's name for it.
        tag: Tag,
        /// The peer's reason, or what it is told. [`ErrorCode::RefusedStream`]: nothing was done.
        code: ErrorCode,
        /// What the peer did wrong, if it was we who reset it.
        fault: Option<StreamFault>,
    },
    /// A stream whose [`super::Connection::send_data`] took less than it was given may go on.
    Writable {
        /// Which.
        stream: u32,
        /// The session's name for it.
        tag: Tag,
    },
    /// The peer has told its settings: [`super::Connection::can_open`] may have another answer.
    Settings,
    /// The peer ends the connection: no stream of ours may be opened any more. Those that it has not
    /// looked at are reset one by one, with [`ErrorCode::RefusedStream`].
    GoAway {
        /// Why.
        code: ErrorCode,
    },
    /// The answer to [`super::Connection::ping`].
    Pong,
}

/// What became of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes used up at the front of the input.
    pub consumed: usize,
    /// `None`: nothing more to tell before more bytes come. What is left over is the front of a frame,
    /// less than [`crate::protocol::h2::FRAME_BYTES_MAX`] and nine bytes, to be kept and given again.
    pub event: Option<Event<'a>>,
}

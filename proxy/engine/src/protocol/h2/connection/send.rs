//! What the session sends: heads, bodies, trailers, resets.
//!
//! Rule: the session may be late. To send for a stream that is gone does nothing, since the event
//! that tells so is on its way or was just given.

use super::Connection;
use super::Event;
use crate::protocol::h1::OwnHead;
use crate::protocol::h1::ResponseForward;
use crate::protocol::h1::ResponseHead;
use crate::protocol::h2::encode;
use crate::protocol::h2::error::ErrorCode;
use crate::protocol::h2::flow::ReceiveWindow;
use crate::protocol::h2::flow::SendWindow;
use crate::protocol::h2::frame;
use crate::protocol::h2::frame::FRAME_BYTES_MAX;
use crate::protocol::h2::frame::FRAME_HEAD_BYTES;
use crate::protocol::h2::frame::FrameHead;
use crate::protocol::h2::frame::Kind;
use crate::protocol::h2::frame::STREAM_MAX;
use crate::protocol::h2::head::Asked;
use crate::protocol::h2::list::HeaderList;
use crate::protocol::h2::priority::Priority;
use crate::protocol::h2::stream::End;
use crate::protocol::h2::stream::Half;
use crate::protocol::h2::stream::Part;
use crate::protocol::h2::stream::Stream;
use crate::protocol::h2::stream::Tag;
use crate::protocol::lines::Lines;

impl Connection {
    /// Server: sends a response, interim ones as well, as [`crate::protocol::h1::write_response`]
    /// does; `ends` says that no body follows.
    pub fn send_response(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        buf: &[u8],
        head: &ResponseHead,
        forward: &ResponseForward<'_>,
        ends: bool,
    ) {
        let is_interim = head.status < 200 && !head.switching_protocols;
        let Some(start) = self.begin_head(out, stream, is_interim, ends) else {
            return;
        };
        encode::response(&mut self.encoder, out, buf, head, forward);
        self.end_head(out, start, stream, ends);
    }

    /// Server: sends the head of an answer of our own, as [`crate::protocol::h1::write_own`] does.
    pub fn send_own(&mut self, out: &mut Vec<u8>, stream: u32, head: &OwnHead<'_>, ends: bool) {
        if let Some(start) = self.begin_head(out, stream, false, ends) {
            encode::own(&mut self.encoder, out, head);
            self.end_head(out, start, stream, ends);
        }
    }

    /// How many streams the client may open now.
    pub fn can_open(&self) -> usize {
        if self.is_server || self.peer_leaves || self.is_leaving() || self.next_own > STREAM_MAX {
            return 0;
        }
        (self.peer.streams_max as usize).saturating_sub(self.streams.len())
    }

    /// The server takes requests of RFC 8441.
    pub fn takes_extended_connect(&self) -> bool {
        self.is_established() && self.peer.extended_connect
    }

    /// Client: opens a stream by a request; `None` if no stream can be opened.
    pub fn send_request(
        &mut self,
        out: &mut Vec<u8>,
        request: &HeaderList<'_>,
        scheme: &str,
        tag: Tag,
        ends: bool,
    ) -> Option<u32> {
        self.open_stream(out, request, scheme, tag, (ends, None))
    }

    /// Client: the same for a request that asks for another protocol (RFC 8441 §4). The server has to
    /// take such: see [`Connection::takes_extended_connect`].
    pub fn send_handshake(
        &mut self,
        out: &mut Vec<u8>,
        request: &HeaderList<'_>,
        scheme: &str,
        tag: Tag,
        protocol: &[u8],
    ) -> Option<u32> {
        self.open_stream(out, request, scheme, tag, (false, Some(protocol)))
    }

    fn open_stream(
        &mut self,
        out: &mut Vec<u8>,
        request: &HeaderList<'_>,
        scheme: &str,
        tag: Tag,
        (ends, protocol): (bool, Option<&[u8]>),
    ) -> Option<u32> {
        if self.can_open() == 0 {
            return None;
        }
        let number = self.next_own;
        self.next_own += 2;
        let stream = Stream {
            tag,
            receives: Half::Head,
            sends: Half::Head,
            send_window: SendWindow::new(self.peer.initial_window),
            receive_window: ReceiveWindow::new(self.settings.stream_window),
            held: 0,
            body_left: None,
            asked: Asked {
                is_head: request.method == b"HEAD",
                is_connect: protocol.is_some(),
            },
            priority: Priority::default(),
            turn: 0,
            data_frames: 0,
            is_blocked: false,
        };
        self.streams.insert(number, stream);
        self.newest = number;
        self.budget.opened();
        let start = self.begin_head(out, number, false, ends)?;
        encode::request(&mut self.encoder, out, request, scheme, protocol);
        self.end_head(out, start, number, ends);
        Some(number)
    }

    /// Sends as much of `data` as the windows allow, and returns how much that was. If it was not
    /// all, [`Event::Writable`] tells when to go on; `ends` is heeded with the last byte only.
    pub fn send_data(&mut self, out: &mut Vec<u8>, stream: u32, data: &[u8], ends: bool) -> usize {
        self.flush(out);
        let mut sent = 0;
        loop {
            let rest = data.get(sent..).unwrap_or_default();
            let Some((head, length)) = self.frame_data(stream, rest.len(), ends) else {
                return sent;
            };
            out.reserve(FRAME_HEAD_BYTES + length);
            out.extend_from_slice(&head);
            out.extend_from_slice(rest.get(..length).unwrap_or_default());
            sent += length;
            if sent == data.len() {
                return sent;
            }
        }
    }

    /// The same for those who send without copying: the head of one frame, and how many bytes of the
    /// `available` ones belong behind it. The caller has to [`Connection::flush`] before.
    /// `None`: nothing may be sent now.
    pub fn frame_data(
        &mut self,
        stream: u32,
        available: usize,
        ends: bool,
    ) -> Option<([u8; FRAME_HEAD_BYTES], usize)> {
        let connection_window = self.send_window.available();
        let found = self.streams.get(stream)?;
        if found.sends != Half::Body || (available == 0 && !ends) {
            return None;
        }
        let window = connection_window.min(found.send_window.available());
        let length = available.min(window).min(FRAME_BYTES_MAX);
        if length == 0 && available > 0 {
            found.is_blocked = true;
            return None;
        }
        found.is_blocked = length < available && length == window;
        found.data_frames = found.data_frames.saturating_add(1);
        found.send_window.take(length);
        self.send_window.take(length);
        let ends = ends && length == available;
        if ends {
            found.sends = Half::Done;
            self.forget_if_done(stream);
        }
        let is_whole = length == available && length > 0;
        self.budget.sent(length, is_whole);
        let head = FrameHead {
            length,
            kind: Kind::Data,
            flags: if ends { frame::END_STREAM } else { 0 },
            stream,
        };
        Some((head.bytes(), length))
    }

    /// Ends the body by a trailer section. Without a line, an empty frame ends it.
    pub fn send_trailers(&mut self, out: &mut Vec<u8>, stream: u32, lines: Lines<'_>) {
        if lines.is_empty() {
            self.send_data(out, stream, &[], true);
            return;
        }
        let can_end = |stream: &mut Stream| {
            let next = stream.sends.after(Part::Trailers, true);
            next.map(|next| stream.sends = next).is_ok()
        };
        if !self.streams.get(stream).is_some_and(can_end) {
            return;
        }
        self.flush(out);
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        self.encoder.begin(out);
        encode::trailers(&mut self.encoder, out, lines);
        self.end_head(out, start, stream, true);
    }

    /// Gives a stream up. What the peer has still sent for it is read over.
    ///
    /// A server that has answered before it has read all resets with [`ErrorCode::NoError`]
    /// (RFC 9113 §8.1).
    pub fn reset(&mut self, stream: u32, code: ErrorCode) {
        if self.remove(stream, End::ByUs).is_none() {
            return;
        }
        self.write_reset(stream, code);
    }

    /// Gives a stream up as [`Connection::reset`] does, and leaves it to [`Connection::tell_unread`] to tell so.
    pub fn end_unread(&mut self, stream: u32) {
        self.remove(stream, End::ByUs);
    }

    /// Tells that the rest of a request is not wanted that has been answered.
    pub fn tell_unread(&mut self, stream: u32) {
        self.write_reset(stream, ErrorCode::NoError);
    }

    /// The next stream that has waited for a window; see [`Connection::place`].
    pub(super) fn find_writable(&mut self) -> Option<Event<'static>> {
        if self.send_window.available() == 0 {
            return None;
        }
        let (stream, found) = self
            .streams
            .iter_mut()
            .filter(|(_, stream)| stream.is_blocked && stream.send_window.available() > 0)
            .min_by_key(|(number, stream)| stream.place(*number))?;
        found.is_blocked = false;
        let tag = found.tag;
        self.had_turn(stream);
        Some(Event::Writable { stream, tag })
    }

    /// Begins a HEADERS frame, if the stream may have one now.
    fn begin_head(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        is_interim: bool,
        ends: bool,
    ) -> Option<usize> {
        let part = if is_interim {
            Part::Interim
        } else {
            Part::Head
        };
        let found = self.streams.get(stream)?;
        let Ok(next) = found.sends.after(part, ends) else {
            debug_assert!(false, "a second head on stream {stream}");
            return None;
        };
        found.sends = next;
        self.flush(out);
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        self.encoder.begin(out);
        Some(start)
    }

    /// Ends it: writes the length, and moves what is too much into CONTINUATION frames.
    fn end_head(&mut self, out: &mut Vec<u8>, start: usize, stream: u32, ends: bool) {
        let length = out.len() - start - FRAME_HEAD_BYTES;
        let mut head = FrameHead {
            length: length.min(FRAME_BYTES_MAX),
            kind: Kind::Headers,
            flags: if ends { frame::END_STREAM } else { 0 },
            stream,
        };
        if length <= FRAME_BYTES_MAX {
            head.flags |= frame::END_HEADERS;
        }
        if let Some(place) = out.get_mut(start..start + FRAME_HEAD_BYTES) {
            place.copy_from_slice(&head.bytes());
        }
        if length > FRAME_BYTES_MAX {
            let rest = out.split_off(start + FRAME_HEAD_BYTES + FRAME_BYTES_MAX);
            let mut pieces = rest.chunks(FRAME_BYTES_MAX).peekable();
            while let Some(piece) = pieces.next() {
                let is_last = pieces.peek().is_none();
                let flags = if is_last { frame::END_HEADERS } else { 0 };
                frame::write(out, Kind::Continuation, flags, stream, piece);
            }
        }
        if ends {
            self.forget_if_done(stream);
        }
    }
}

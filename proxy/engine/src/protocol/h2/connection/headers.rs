//! Header blocks on their way in: collected, decoded, and given to the stream that they are for.
//!
//! Rule: every block is decoded, wanted or not, for the tables of both sides must stay the same; what it
//! may cost is bounded before its end has come.

use super::Connection;
use super::Event;
use super::Phase;
use super::Shutdown;
use crate::protocol::h1::RequestBody;
use crate::protocol::h1::ResponseBody;
use crate::protocol::h2::budget::EXCESS;
use crate::protocol::h2::budget::IDLE;
use crate::protocol::h2::error::ConnectionFault;
use crate::protocol::h2::error::HeadFault;
use crate::protocol::h2::error::StreamFault;
use crate::protocol::h2::flow::ReceiveWindow;
use crate::protocol::h2::flow::SendWindow;
use crate::protocol::h2::frame;
use crate::protocol::h2::frame::FrameHead;
use crate::protocol::h2::frame::Kind;
use crate::protocol::h2::frame::STREAM_MAX;
use crate::protocol::h2::head::Asked;
use crate::protocol::h2::head::Heads;
use crate::protocol::h2::head::Section;
use crate::protocol::h2::priority::Priority;
use crate::protocol::h2::stream::End;
use crate::protocol::h2::stream::Half;
use crate::protocol::h2::stream::NO_TAG;
use crate::protocol::h2::stream::Part;
use crate::protocol::h2::stream::Stream;

/// A header block that did not come in one frame.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// 0: none.
    stream: u32,
    ends: bool,
    depends_on_itself: bool,
    frames: u32,
    bytes: Vec<u8>,
}

impl Block {
    pub(super) fn is_open(&self) -> bool {
        self.stream != 0
    }

    pub(super) fn shrink(&mut self) {
        if !self.is_open() {
            self.bytes = Vec::new();
        }
    }
}

/// For whom a block is.
#[derive(Clone, Copy)]
struct Addressed {
    stream: u32,
    ends: bool,
    depends_on_itself: bool,
}

impl Connection {
    /// RFC 9113 §6.2.
    pub(super) fn take_headers(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        heads: &mut Heads,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        if head.stream == 0 {
            return Err(ConnectionFault::BadScope);
        }
        let mut fragment =
            frame::strip_padding(head, payload).ok_or(ConnectionFault::BadPadding)?;
        let mut addressed = Addressed {
            stream: head.stream,
            ends: head.has(frame::END_STREAM),
            depends_on_itself: false,
        };
        if head.has(frame::PRIORITY) {
            // Obsolete, but for its length (RFC 9113 §5.3.2).
            let (priority, rest) = fragment
                .split_first_chunk::<5>()
                .ok_or(ConnectionFault::FrameSize)?;
            fragment = rest;
            let depends_on = frame::number(&priority[..4]).map(|number| number & STREAM_MAX);
            addressed.depends_on_itself = depends_on == Some(head.stream);
        }
        if head.has(frame::END_HEADERS) {
            return self.take_block(addressed, fragment, heads);
        }
        self.block.stream = addressed.stream;
        self.block.ends = addressed.ends;
        self.block.depends_on_itself = addressed.depends_on_itself;
        self.block.frames = 1;
        self.block.bytes.clear();
        self.collect(fragment)?;
        Ok(None)
    }

    /// RFC 9113 §6.10.
    pub(super) fn take_continuation(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        heads: &mut Heads,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        if !self.block.is_open() || head.stream != self.block.stream {
            return Err(ConnectionFault::Continuation);
        }
        if payload.is_empty() {
            self.charge(IDLE)?;
        }
        self.block.frames += 1;
        self.collect(payload)?;
        if !head.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let addressed = Addressed {
            stream: self.block.stream,
            ends: self.block.ends,
            depends_on_itself: self.block.depends_on_itself,
        };
        self.block.stream = 0;
        let bytes = std::mem::take(&mut self.block.bytes);
        let event = self.take_block(addressed, &bytes, heads);
        self.block.bytes = bytes;
        event
    }

    /// T03: neither bytes nor frames without end. A backend's connection carries the requests of many, and
    /// a head that is too large shall fail its own only: far more is read, to be thrown away.
    fn collect(&mut self, fragment: &[u8]) -> Result<(), ConnectionFault> {
        let bytes = self.block.bytes.len() + fragment.len();
        let head_max = self.settings.head_limits.head_bytes_max;
        let bytes_max = match self.is_server {
            true => head_max.saturating_add(FREE_BYTES),
            false => head_max.saturating_add(FREE_BYTES).max(BACKEND_BLOCK_BYTES),
        };
        if bytes > bytes_max || self.block.frames > BLOCK_FRAMES_MAX {
            return Err(ConnectionFault::HeaderBlock);
        }
        self.block.bytes.extend_from_slice(fragment);
        Ok(())
    }

    fn take_block(
        &mut self,
        to: Addressed,
        block: &[u8],
        heads: &mut Heads,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        let limits = self.settings.head_limits;
        let state = self
            .streams
            .get(to.stream)
            .map(|found| (found.receives, found.asked));
        let is_new = state.is_none() && self.is_server && self.is_idle(to.stream);
        let section = match state {
            None if is_new => Section::Request,
            None => Section::Discarded,
            Some((Half::Head, _)) => Section::Response,
            Some((Half::Body, _)) => Section::Trailers,
            Some((Half::Done, _)) => Section::Discarded,
        };
        if is_new {
            if self.is_own(to.stream) {
                return Err(ConnectionFault::BadStream);
            }
            self.last_peer = to.stream;
        }
        let bytes_max = limits.head_bytes_max.saturating_mul(BOMB_FACTOR);
        let bytes_max = match self.is_server {
            true => bytes_max,
            false => bytes_max.max(BACKEND_BLOCK_BYTES * BOMB_FACTOR),
        };
        let verdict = heads.read(&mut self.decoder, block, section, &limits, bytes_max)?;
        if to.depends_on_itself {
            return self.fault_stream(to.stream, StreamFault::SelfDependency);
        }
        match (section, state) {
            (Section::Request, _) => self.take_request(to, verdict, heads),
            (Section::Response, Some((_, asked))) => self.take_response(to, verdict, asked, heads),
            (Section::Trailers, _) => self.take_trailers(to, verdict),
            (_, Some(_)) => self.fault_stream(to.stream, StreamFault::Closed),
            (_, None) => self.late_block(to.stream, block.len()),
        }
    }

    /// A block for a stream that is not here.
    fn late_block(
        &mut self,
        stream: u32,
        length: usize,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        if self.is_idle(stream) {
            return Err(ConnectionFault::BadStream);
        }
        match self.ended.find(stream) {
            Some(End::ByPeer) => Err(ConnectionFault::Closed),
            Some(End::ByUs) if self.ended.takes_late(stream, length + BLOCK_BYTES) => Ok(None),
            Some(End::ByUs) => self.charge(IDLE).map(|()| None),
            // RFC 9113 §5.1.1: a lower number that was passed over is closed for good.
            None if self.is_server => Err(ConnectionFault::BadStream),
            None => self.charge(IDLE).map(|()| None),
        }
    }

    fn take_request(
        &mut self,
        to: Addressed,
        verdict: Result<(), HeadFault>,
        heads: &mut Heads,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        let stream = to.stream;
        let is_refused = matches!(self.shutdown, Shutdown::Final { last } if stream > last);
        if is_refused || !self.may_open() {
            return self.refuse(stream, is_refused).map(|()| None);
        }
        let extended_connect = self.settings.extended_connect;
        let verdict = verdict.and_then(|()| heads.finish_request(to.ends, extended_connect));
        let head = &heads.request;
        let body_left = match head.body {
            RequestBody::Length(length) => Some(length),
            _ => None,
        };
        let fault = match verdict {
            Ok(()) if to.ends && body_left.is_some_and(|left| left > 0) => StreamFault::Length,
            // Nobody waits for an answer: no work is begun.
            Ok(()) if self.is_given_up() => {
                self.ended.push(stream, End::ByPeer, 0, 1);
                self.budget.opened();
                return self.charge_rapid().map(|()| None);
            }
            Ok(()) | Err(HeadFault::Request(_)) => {
                self.open(stream, to.ends, body_left, heads.priority());
                return Ok(Some(match verdict {
                    Err(HeadFault::Request(reject)) => Event::Refused {
                        stream,
                        reject,
                        ends: to.ends,
                    },
                    _ => Event::Request {
                        stream,
                        ends: to.ends,
                    },
                }));
            }
            Err(fault) => StreamFault::Head(fault),
        };
        self.fault_stream(stream, fault)?;
        Ok(Some(Event::Reset {
            stream,
            tag: NO_TAG,
            code: fault.code(),
            fault: Some(fault),
        }))
    }

    /// Whether the request that is being read is given up by the next frame.
    fn is_given_up(&self) -> bool {
        let is_reset = |next: FrameHead| next.kind == Kind::ResetStream && next.length == 4;
        self.follows.is_some_and(is_reset)
    }

    /// Whether the next frame is DATA that contradicts the head of its response, as long as nothing has been
    /// made of that.
    fn is_contradicted(&self, body_left: u64) -> bool {
        let is_wrong = |next: FrameHead| {
            let length = next.length as u64;
            let is_short = next.has(frame::END_STREAM) && length < body_left;
            next.kind == Kind::Data && !next.has(frame::PADDED) && (length > body_left || is_short)
        };
        self.follows.is_some_and(is_wrong)
    }

    /// Whether the peer may open one more. Who has not acknowledged how many it may have gets as many as anybody
    /// opens at once: not all clients repeat what is refused, and some do it once.
    fn may_open(&mut self) -> bool {
        let open = self.streams.len();
        let is_within = open < self.settings.streams_max as usize;
        is_within || open < self.streams_max() && self.budget.is_unaware()
    }

    /// Refuses a stream. Who could not know that it would be one too many is charged nothing, as long as
    /// that may be so, and what has come behind it neither. What is behind our settings' acknowledgement may
    /// have been on its way before they were read: some clients read and write by threads of their own.
    fn refuse(&mut self, stream: u32, is_leaving: bool) -> Result<(), ConnectionFault> {
        let is_unaware = !is_leaving && self.budget.is_unaware();
        if is_unaware {
            self.budget.opened();
        } else {
            self.charge_trouble(EXCESS)?;
        }
        self.ended
            .push(stream, End::ByUs, self.settings.stream_window, 0);
        self.write_reset(stream, StreamFault::Refused.code());
        Ok(())
    }

    fn open(&mut self, number: u32, ends: bool, body_left: Option<u64>, priority: Priority) {
        let stream = Stream {
            tag: NO_TAG,
            receives: if ends { Half::Done } else { Half::Body },
            sends: Half::Head,
            send_window: SendWindow::new(self.peer.initial_window),
            receive_window: ReceiveWindow::new(self.settings.stream_window),
            held: 0,
            body_left,
            asked: Asked::default(),
            priority,
            turn: 0,
            data_frames: 0,
            is_blocked: false,
        };
        self.streams.insert(number, stream);
        self.newest = number;
        self.budget.opened();
    }

    fn take_response(
        &mut self,
        to: Addressed,
        verdict: Result<(), HeadFault>,
        asked: Asked,
        heads: &mut Heads,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        let stream = to.stream;
        let verdict = verdict.and_then(|()| heads.finish_response(to.ends, asked));
        if let Err(fault) = verdict {
            return self.fault_stream(stream, StreamFault::Head(fault));
        }
        let head = &heads.response;
        let body_left = match head.body {
            ResponseBody::Length(length) => Some(length),
            ResponseBody::None if !head.switching_protocols => Some(0),
            _ => None,
        };
        let is_wrong = |left| match to.ends {
            true => left > 0,
            false => self.is_contradicted(left),
        };
        if body_left.is_some_and(is_wrong) {
            return self.fault_stream(stream, StreamFault::Length);
        }
        let part = if head.interim {
            Part::Interim
        } else {
            Part::Head
        };
        let Some(found) = self.streams.get(stream) else {
            return Ok(None);
        };
        let tag = found.tag;
        found.receives = found.receives.after(part, to.ends).unwrap_or(Half::Done);
        if head.interim {
            self.charge(IDLE)?;
            return Ok(Some(Event::Interim { stream, tag }));
        }
        found.body_left = body_left;
        self.forget_if_done(stream);
        Ok(Some(Event::Response {
            stream,
            tag,
            ends: to.ends,
        }))
    }

    fn take_trailers(
        &mut self,
        to: Addressed,
        verdict: Result<(), HeadFault>,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        let stream = to.stream;
        let Some(found) = self.streams.get(stream) else {
            return Ok(None);
        };
        let tag = found.tag;
        let fault = match verdict {
            Err(fault) => Some(StreamFault::Head(fault)),
            Ok(()) if found.body_left.is_some_and(|left| left > 0) => Some(StreamFault::Length),
            Ok(()) => found.receives.after(Part::Trailers, to.ends).err(),
        };
        if let Some(fault) = fault {
            return self.fault_stream(stream, fault);
        }
        self.end_receiving(stream);
        Ok(Some(Event::Trailers { stream, tag }))
    }

    pub(super) fn end_receiving(&mut self, stream: u32) {
        if let Some(found) = self.streams.get(stream) {
            found.receives = Half::Done;
        }
        self.forget_if_done(stream);
    }

    /// Whether the peer has said what it is, so that nothing has to be assumed.
    pub(super) fn is_established(&self) -> bool {
        self.phase == Phase::Open
    }
}

/// Huffman codes may be longer than what they stand for; a block that does not fit here holds a
/// head that does not fit either.
const FREE_BYTES: usize = 16 << 10;

/// As many bytes of a backend's block are read in any case.
const BACKEND_BLOCK_BYTES: usize = 256 << 10;

/// Who sends so many times the limit does not send a head: HPACK turns one byte into four thousand.
const BOMB_FACTOR: usize = 8;

/// What a late block counts as beside its length: it has to be decoded.
const BLOCK_BYTES: usize = 1 << 10;

/// Frames of one block. The largest head needs three; those who send a few bytes a frame do so to
/// be tested, or to test.
const BLOCK_FRAMES_MAX: u32 = 32;

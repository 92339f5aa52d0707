//! Bytes on their way in: frame by frame, to those who know what each is about.
//!
//! Rule: a frame is judged by its header before its payload has come; one event at a time is told.

use super::CONTROL_BYTES_MAX;
use super::Connection;
use super::Event;
use super::Phase;
use super::REFUSAL_BYTES;
use super::Step;
use super::body::Payload;
use crate::protocol::h2::budget::IDLE;
use crate::protocol::h2::error::ConnectionFault;
use crate::protocol::h2::error::ErrorCode;
use crate::protocol::h2::frame;
use crate::protocol::h2::frame::FRAME_BYTES_MAX;
use crate::protocol::h2::frame::FRAME_HEAD_BYTES;
use crate::protocol::h2::frame::FrameHead;
use crate::protocol::h2::frame::Kind;
use crate::protocol::h2::frame::PREFACE;
use crate::protocol::h2::head::Heads;
use crate::protocol::h2::stream::End;
use crate::protocol::h2::stream::NO_TAG;

impl Connection {
    /// Takes frames from the front of `input` up to the next event. To be called again and again with
    /// what is left, until there is no event.
    ///
    /// # Errors
    /// The connection is lost. Everything that [`Connection::streams`] names is to be given up; then
    /// [`Connection::flush`] has the GOAWAY that tells why, and the socket is to be closed.
    pub fn next<'a>(
        &mut self,
        input: &'a [u8],
        heads: &mut Heads,
    ) -> Result<Step<'a>, ConnectionFault> {
        let step = self.advance(input, heads);
        if let Err(fault) = step {
            self.fail(fault);
        }
        step
    }

    fn advance<'a>(
        &mut self,
        input: &'a [u8],
        heads: &mut Heads,
    ) -> Result<Step<'a>, ConnectionFault> {
        let mut at = 0;
        if let Phase::Failed(fault) = self.phase {
            return Err(fault);
        }
        loop {
            if let Some(event) = self.poll_own() {
                return Ok(Step {
                    consumed: at,
                    event: Some(event),
                });
            }
            let rest = input.get(at..).unwrap_or_default();
            let (consumed, event) = if self.payload.is_open() {
                self.read_payload(rest)
            } else {
                self.read_frame(rest, heads)?
            };
            at += consumed;
            if event.is_some() || consumed == 0 {
                return Ok(Step {
                    consumed: at,
                    event,
                });
            }
        }
    }

    /// Events that no bytes are needed for.
    fn poll_own(&mut self) -> Option<Event<'static>> {
        if let Some(last) = self.sweep {
            let unseen = self.streams.iter().find(|(number, _)| *number > last);
            if let Some((stream, _)) = unseen {
                let tag = self
                    .remove(stream, End::ByPeer)
                    .map_or(NO_TAG, |gone| gone.tag);
                return Some(Event::Reset {
                    stream,
                    tag,
                    code: ErrorCode::RefusedStream,
                    fault: None,
                });
            }
            self.sweep = None;
        }
        if !self.may_write {
            return None;
        }
        let event = self.find_writable();
        self.may_write = event.is_some();
        event
    }

    /// Reads a frame head, and all of the frame unless it may be read in pieces.
    fn read_frame(
        &mut self,
        input: &[u8],
        heads: &mut Heads,
    ) -> Result<(usize, Option<Event<'static>>), ConnectionFault> {
        if self.phase == Phase::ExpectPreface {
            return self.read_preface(input).map(|consumed| (consumed, None));
        }
        let Some(head) = input.first_chunk() else {
            return Ok((0, None));
        };
        let head = FrameHead::parse(head);
        if head.length > FRAME_BYTES_MAX {
            return Err(ConnectionFault::FrameSize);
        }
        let is_settings = head.kind == Kind::Settings && !head.has(frame::ACK);
        if self.phase == Phase::ExpectSettings && !is_settings {
            return Err(ConnectionFault::Preface);
        }
        if self.block.is_open() && head.kind != Kind::Continuation {
            return Err(ConnectionFault::Continuation);
        }
        let rest = input.get(FRAME_HEAD_BYTES..).unwrap_or_default();
        match head.kind {
            Kind::Data => self.begin_data(head, rest),
            Kind::Unknown => {
                self.charge(IDLE)?;
                self.payload = Payload::skip(head.length);
                Ok((FRAME_HEAD_BYTES, None))
            }
            kind => {
                let Some(payload) = rest.get(..head.length) else {
                    self.head_waits = kind == Kind::Headers;
                    return Ok((0, None));
                };
                self.head_waits = false;
                self.follows = (kind == Kind::Headers)
                    .then(|| follower(head, rest))
                    .flatten();
                let event = self.take_frame(head, payload, heads)?;
                let refused = self.budget.unaware_count() * REFUSAL_BYTES;
                if self.control.len() > CONTROL_BYTES_MAX + refused {
                    return Err(ConnectionFault::Deaf);
                }
                Ok((FRAME_HEAD_BYTES + head.length, event))
            }
        }
    }

    fn read_preface(&mut self, input: &[u8]) -> Result<usize, ConnectionFault> {
        match is_preface(input) {
            None => Ok(0),
            Some(false) => Err(ConnectionFault::Preface),
            Some(true) => {
                self.phase = Phase::ExpectSettings;
                Ok(PREFACE.len())
            }
        }
    }

    fn take_frame(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        heads: &mut Heads,
    ) -> Result<Option<Event<'static>>, ConnectionFault> {
        match head.kind {
            Kind::Headers => self.take_headers(head, payload, heads),
            Kind::Continuation => self.take_continuation(head, payload, heads),
            Kind::Priority => self.take_priority(head, payload),
            Kind::PriorityUpdate => self.take_priority_update(head, payload),
            Kind::ResetStream => self.take_reset(head, payload),
            Kind::Settings => self.take_settings(head, payload),
            Kind::Ping => self.take_ping(head, payload),
            Kind::GoAway => self.take_go_away(head, payload),
            Kind::WindowUpdate => self.take_window_update(head, payload),
            // RFC 9113 §8.4: a client has no pushes to promise, and we have switched them off.
            Kind::PushPromise => Err(ConnectionFault::Push),
            Kind::Data | Kind::Unknown => Ok(None),
        }
    }
}

/// What follows a frame, if that is for the same stream.
fn follower(head: FrameHead, rest: &[u8]) -> Option<FrameHead> {
    let next = rest.get(head.length..)?.first_chunk()?;
    Some(FrameHead::parse(next)).filter(|next| next.stream == head.stream)
}

/// Whether the first bytes of a connection are those of HTTP/2; `None` while that is open.
pub fn is_preface(input: &[u8]) -> Option<bool> {
    let length = input.len().min(PREFACE.len());
    if input.get(..length) != PREFACE.get(..length) {
        return Some(false);
    }
    (length == PREFACE.len()).then_some(true)
}

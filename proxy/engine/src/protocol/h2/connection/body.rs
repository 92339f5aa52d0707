//! Bodies on their way in, and the windows that they come through.
//!
//! Rule: a window is opened again only for what its reader has used up, so that nobody can make us hold
//! more than the windows allow.

use super::Connection;
use super::Event;
use crate::protocol::h2::budget::IDLE;
use crate::protocol::h2::error::ConnectionFault;
use crate::protocol::h2::error::StreamFault;
use crate::protocol::h2::frame;
use crate::protocol::h2::frame::FRAME_HEAD_BYTES;
use crate::protocol::h2::frame::FrameHead;
use crate::protocol::h2::frame::Kind;
use crate::protocol::h2::stream::End;
use crate::protocol::h2::stream::Part;

/// What is still to come of the frame that is being read in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Payload {
    /// 0: bytes that nobody wants.
    stream: u32,
    data: usize,
    /// Behind the data.
    padding: usize,
    ends: bool,
}

impl Payload {
    pub(super) fn skip(length: usize) -> Self {
        Self {
            padding: length,
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.data > 0 || self.padding > 0
    }
}

/// The parts of a DATA frame.
#[derive(Clone, Copy)]
struct Parts {
    head: usize,
    data: usize,
    padding: usize,
}

impl Connection {
    /// Reads the head of a DATA frame, and counts all of it.
    pub(super) fn begin_data(
        &mut self,
        head: FrameHead,
        rest: &[u8],
    ) -> Result<(usize, Option<Event<'static>>), ConnectionFault> {
        let Some(parts) = split(head, rest)? else {
            return Ok((0, None));
        };
        let stream = head.stream;
        if stream == 0 {
            return Err(ConnectionFault::BadScope);
        }
        if !self.receive_window.take(head.length as u32) {
            return Err(ConnectionFault::Window);
        }
        let ends = head.has(frame::END_STREAM);
        if parts.data == 0 && !ends {
            self.charge(IDLE)?;
        }
        let event = match self.accept_data(stream, head.length as u32, parts, ends) {
            Some(Ok(())) => {
                self.payload = Payload {
                    stream,
                    data: parts.data,
                    padding: parts.padding,
                    ends,
                };
                if ends && !self.payload.is_open() {
                    self.end_of_data(stream, &[])
                } else {
                    None
                }
            }
            Some(Err(fault)) => {
                self.discard_data(head.length, parts);
                self.fault_stream(stream, fault)?
            }
            None => {
                self.late_data(stream, head.length)?;
                self.discard_data(head.length, parts);
                None
            }
        };
        Ok((parts.head, event))
    }

    /// `None` if there is no such stream.
    fn accept_data(
        &mut self,
        stream: u32,
        length: u32,
        parts: Parts,
        ends: bool,
    ) -> Option<Result<(), StreamFault>> {
        let found = self.streams.get(stream)?;
        let data = parts.data as u64;
        // The end is noted when the last byte was handed on.
        if let Err(fault) = found.receives.after(Part::Data, ends) {
            return Some(Err(fault));
        }
        if !found.receive_window.take(length) {
            return Some(Err(StreamFault::Window));
        }
        if let Some(left) = found.body_left {
            match left.checked_sub(data) {
                Some(left) if left == 0 || !ends => found.body_left = Some(left),
                _ => return Some(Err(StreamFault::Length)),
            }
        }
        found.held += parts.data as u32;
        let padding = length - parts.data as u32;
        if padding > 0 {
            // Nobody has to pass it on.
            let update = found.receive_window.pass(padding);
            self.write_window_update(stream, update);
            self.pass_to_connection(padding);
        }
        if parts.data > 0 {
            self.budget.received();
        }
        Some(Ok(()))
    }

    /// DATA for a stream that is not here: late if we have reset it, else wrong. What is late is no fault
    /// as far as the stream's window had allowed it.
    fn late_data(&mut self, stream: u32, length: usize) -> Result<(), ConnectionFault> {
        if self.is_idle(stream) {
            return Err(ConnectionFault::BadStream);
        }
        if self.ended.find(stream) == Some(End::ByPeer) {
            return Err(ConnectionFault::Closed);
        }
        if length > 0 && self.ended.takes_late(stream, length) {
            return Ok(());
        }
        self.charge(IDLE)
    }

    fn discard_data(&mut self, length: usize, parts: Parts) {
        self.pass_to_connection(length as u32);
        self.payload = Payload::skip(parts.data + parts.padding);
    }

    /// Reads on in a frame whose head was read.
    pub(super) fn read_payload<'a>(&mut self, input: &'a [u8]) -> (usize, Option<Event<'a>>) {
        if self.payload.data == 0 {
            let length = self.payload.padding.min(input.len());
            self.payload.padding -= length;
            let is_end = !self.payload.is_open() && self.payload.ends;
            let event = is_end
                .then(|| self.end_of_data(self.payload.stream, &[]))
                .flatten();
            return (length, event);
        }
        let length = self.payload.data.min(input.len());
        let data = input.get(..length).unwrap_or_default();
        if length == 0 {
            return (0, None);
        }
        self.payload.data -= length;
        let stream = self.payload.stream;
        if self.payload.ends && !self.payload.is_open() {
            return (length, self.end_of_data(stream, data));
        }
        let event = self.streams.get(stream).map(|found| Event::Data {
            stream,
            tag: found.tag,
            data,
            ends: false,
        });
        (length, event)
    }

    fn end_of_data<'a>(&mut self, stream: u32, data: &'a [u8]) -> Option<Event<'a>> {
        self.payload.ends = false;
        let found = self.streams.get(stream)?;
        let tag = found.tag;
        self.end_receiving(stream);
        Some(Event::Data {
            stream,
            tag,
            data,
            ends: true,
        })
    }

    /// The session has passed on so many bytes of the body: the peer may send as many again.
    pub fn consumed(&mut self, stream: u32, bytes: usize) {
        let Some(found) = self.streams.get(stream) else {
            // What it held was counted when it went.
            return;
        };
        let bytes = found.held.min(u32::try_from(bytes).unwrap_or(u32::MAX));
        found.held -= bytes;
        let update = found.receive_window.pass(bytes);
        let is_wanted = found.receives != crate::protocol::h2::stream::Half::Done;
        self.write_window_update(stream, update.filter(|_| is_wanted));
        self.pass_to_connection(bytes);
    }

    /// Lets more of a body wait in us than [`crate::protocol::h2::Settings::stream_window`] says, which
    /// has to be worth a frame. To be called once a stream.
    pub fn widen(&mut self, stream: u32, by: u32) {
        if let Some(found) = self.streams.get(stream) {
            found.receive_window.widen(by);
            self.write_window_update(stream, Some(by));
        }
    }

    pub(super) fn pass_to_connection(&mut self, bytes: u32) {
        let update = self.receive_window.pass(bytes);
        self.write_window_update(0, update);
    }

    fn write_window_update(&mut self, stream: u32, update: Option<u32>) {
        if let Some(update) = update {
            let payload = update.to_be_bytes();
            frame::write(&mut self.control, Kind::WindowUpdate, 0, stream, &payload);
        }
    }

    /// An exchange of which both halves are over is forgotten.
    pub(super) fn forget_if_done(&mut self, stream: u32) {
        if self
            .streams
            .get(stream)
            .is_some_and(|found| found.is_done())
        {
            self.remove(stream, End::ByPeer);
            self.budget.exchanged();
        }
    }
}

/// `None` while the length of the padding is not there.
fn split(head: FrameHead, rest: &[u8]) -> Result<Option<Parts>, ConnectionFault> {
    if !head.has(frame::PADDED) {
        return Ok(Some(Parts {
            head: FRAME_HEAD_BYTES,
            data: head.length,
            padding: 0,
        }));
    }
    if head.length == 0 {
        return Err(ConnectionFault::FrameSize);
    }
    let Some(&padding) = rest.first() else {
        return Ok(None);
    };
    let padding = usize::from(padding);
    let data = (head.length - 1).checked_sub(padding);
    Ok(Some(Parts {
        head: FRAME_HEAD_BYTES + 1,
        data: data.ok_or(ConnectionFault::BadPadding)?,
        padding,
    }))
}

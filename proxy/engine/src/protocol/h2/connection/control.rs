//! Frames about streams and the connection, rather than of a message.
//!
//! Rule: each is answered at most once, and what a peer may send for nothing is charged to its budget.

use super::Connection;
use super::Event;
use super::Phase;
use super::shutdown::SHUTDOWN_PING;
use crate::protocol::h2::budget::ANSWERED;
use crate::protocol::h2::budget::GIVEN_UP;
use crate::protocol::h2::budget::IDLE;
use crate::protocol::h2::error::ConnectionFault;
use crate::protocol::h2::error::ErrorCode;
use crate::protocol::h2::error::StreamFault;
use crate::protocol::h2::frame;
use crate::protocol::h2::frame::FrameHead;
use crate::protocol::h2::frame::Kind;
use crate::protocol::h2::frame::STREAM_MAX;
use crate::protocol::h2::priority::Priority;
use crate::protocol::h2::stream::End;
use crate::protocol::h2::stream::Half;
use crate::protocol::h2::stream::Stream;

type Taken = Result<Option<Event<'static>>, ConnectionFault>;

impl Connection {
    /// RFC 9113 §6.4.
    pub(super) fn take_reset(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        let code = frame::number(payload).ok_or(ConnectionFault::FrameSize)?;
        self.check_known(head.stream)?;
        let Some(gone) = self.remove(head.stream, End::ByPeer) else {
            // Some answer each frame that comes for a stream which they have given up.
            if !self.ended.takes_late_reset(head.stream) {
                self.charge(IDLE)?;
            }
            return Ok(None);
        };
        self.charge_giving_up(head.stream, &gone)?;
        Ok(Some(Event::Reset {
            stream: head.stream,
            tag: gone.tag,
            code: ErrorCode::of(code),
            fault: None,
        }))
    }

    /// Who has had an answer, or the beginning of it, has brought something forward. Of the others those
    /// are the worst that could not have wanted one (T01).
    fn charge_giving_up(&mut self, number: u32, gone: &Stream) -> Result<(), ConnectionFault> {
        let answer = if self.is_server {
            gone.sends
        } else {
            gone.receives
        };
        match answer {
            Half::Body | Half::Done => Ok(()),
            Half::Head if number == self.newest => self.charge_rapid(),
            Half::Head => self.charge_trouble(GIVEN_UP),
        }
    }

    /// Charges for a request that is given up in the bytes that brought it.
    pub(super) fn charge_rapid(&mut self) -> Result<(), ConnectionFault> {
        if self.budget.gives_up_at_once() {
            return Ok(());
        }
        Err(ConnectionFault::Flood)
    }

    /// RFC 9113 §6.5.
    pub(super) fn take_settings(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream != 0 {
            return Err(ConnectionFault::BadScope);
        }
        if head.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(ConnectionFault::FrameSize);
            }
            if self.settings_acknowledged {
                self.charge(IDLE)?;
            }
            self.settings_acknowledged = true;
            return Ok(None);
        }
        if self.phase == Phase::Open {
            self.charge(ANSWERED)?;
        }
        let before = self.peer.initial_window;
        self.peer.apply(payload, self.is_server)?;
        self.phase = Phase::Open;
        let change = i64::from(self.peer.initial_window) - i64::from(before);
        for (_, stream) in self.streams.iter_mut() {
            if !stream.send_window.change(change) {
                return Err(ConnectionFault::Window);
            }
        }
        self.may_write |= change > 0;
        if let Some(bytes) = self.peer.table_bytes.take() {
            self.encoder.set_peer_size_max(bytes as usize);
        }
        frame::write(&mut self.control, Kind::Settings, frame::ACK, 0, &[]);
        Ok(Some(Event::Settings))
    }

    /// RFC 9113 §6.7.
    pub(super) fn take_ping(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        let payload: &[u8; 8] = payload.try_into().map_err(|_| ConnectionFault::FrameSize)?;
        if head.stream != 0 {
            return Err(ConnectionFault::BadScope);
        }
        self.charge(IDLE)?;
        if !head.has(frame::ACK) {
            frame::write(&mut self.control, Kind::Ping, frame::ACK, 0, payload);
            return Ok(None);
        }
        if payload == SHUTDOWN_PING {
            self.finish_shut_down();
            return Ok(None);
        }
        Ok((payload == SESSION_PING).then_some(Event::Pong))
    }

    /// Asks the peer for a sign of life: [`Event::Pong`].
    pub fn ping(&mut self) {
        frame::write(&mut self.control, Kind::Ping, 0, 0, SESSION_PING);
    }

    /// RFC 9113 §6.8.
    pub(super) fn take_go_away(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        let Some((&[l0, l1, l2, l3, c0, c1, c2, c3], _)) = payload.split_first_chunk::<8>() else {
            return Err(ConnectionFault::FrameSize);
        };
        if head.stream != 0 {
            return Err(ConnectionFault::BadScope);
        }
        self.charge(IDLE)?;
        let last = u32::from_be_bytes([l0, l1, l2, l3]) & STREAM_MAX;
        self.peer_leaves = true;
        if !self.is_server {
            self.sweep = Some(last);
        }
        Ok(Some(Event::GoAway {
            code: ErrorCode::of(u32::from_be_bytes([c0, c1, c2, c3])),
        }))
    }

    /// RFC 9113 §6.9. An update costs a little, which the DATA that it allows earns back.
    pub(super) fn take_window_update(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        let increment = frame::number(payload).ok_or(ConnectionFault::FrameSize)? & STREAM_MAX;
        let stream = head.stream;
        self.charge(IDLE)?;
        if stream == 0 {
            if increment == 0 || !self.send_window.change(i64::from(increment)) {
                return Err(if increment == 0 {
                    ConnectionFault::WindowUpdate
                } else {
                    ConnectionFault::Window
                });
            }
            self.may_write = true;
            return Ok(None);
        }
        self.check_known(stream)?;
        let Some(found) = self.streams.get(stream) else {
            return Ok(None);
        };
        if increment == 0 {
            return self.fault_stream(stream, StreamFault::WindowUpdate);
        }
        if !found.send_window.change(i64::from(increment)) {
            return self.fault_stream(stream, StreamFault::WindowOverflow);
        }
        self.may_write |= found.is_blocked;
        Ok(None)
    }

    /// RFC 9113 §6.3: obsolete, but for its form.
    pub(super) fn take_priority(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream == 0 {
            return Err(ConnectionFault::BadScope);
        }
        self.charge(IDLE)?;
        let Some((depends_on, _)) = payload.split_first_chunk::<4>() else {
            return self.fault_priority(head.stream, StreamFault::FrameSize);
        };
        if payload.len() != 5 {
            return self.fault_priority(head.stream, StreamFault::FrameSize);
        }
        if u32::from_be_bytes(*depends_on) & STREAM_MAX == head.stream {
            return self.fault_priority(head.stream, StreamFault::SelfDependency);
        }
        Ok(None)
    }

    /// A stream that is idle cannot be reset (RFC 9113 §6.4).
    fn fault_priority(&mut self, stream: u32, fault: StreamFault) -> Taken {
        if self.is_idle(stream) {
            return Err(match fault {
                StreamFault::FrameSize => ConnectionFault::FrameSize,
                _ => ConnectionFault::BadStream,
            });
        }
        self.fault_stream(stream, fault)
    }

    /// RFC 9218 §7.1. One for a stream that is yet to come is not kept: its head says the same.
    pub(super) fn take_priority_update(&mut self, head: FrameHead, payload: &[u8]) -> Taken {
        if head.stream != 0 {
            return Err(ConnectionFault::BadScope);
        }
        self.charge(IDLE)?;
        let (stream, value) = payload
            .split_first_chunk::<4>()
            .ok_or(ConnectionFault::FrameSize)?;
        if let Some(found) = self.streams.get(u32::from_be_bytes(*stream) & STREAM_MAX) {
            found.priority = Priority::parse(value);
        }
        Ok(None)
    }

    /// A frame that only a stream which was opened once may have.
    fn check_known(&self, stream: u32) -> Result<(), ConnectionFault> {
        if stream == 0 {
            return Err(ConnectionFault::BadScope);
        }
        if self.is_idle(stream) {
            return Err(ConnectionFault::BadStream);
        }
        Ok(())
    }
}

const SESSION_PING: &[u8; 8] = b"kakehi-p";

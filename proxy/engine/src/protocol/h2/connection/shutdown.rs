//! The end of a connection in good order (RFC 9113 §6.8).
//!
//! A server first says that it is about to leave, and names the last stream a round trip later:
//! requests that were on their way in the meantime are served, not lost. The round trip is measured
//! by a ping, so that nobody needs a timer for it.

use super::Connection;
use crate::protocol::h2::error::ErrorCode;
use crate::protocol::h2::frame;
use crate::protocol::h2::frame::Kind;
use crate::protocol::h2::frame::STREAM_MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    No,
    /// Said, without a last stream.
    Announced,
    /// Streams above `last` are refused.
    Final {
        last: u32,
    },
}

impl Connection {
    /// Begins to leave; streams that are open go on to their ends.
    pub fn shut_down(&mut self) {
        if self.shutdown != Shutdown::No {
            return;
        }
        if !self.is_server {
            // We open no more streams, and the peer may open none.
            return self.finish_shut_down();
        }
        self.shutdown = Shutdown::Announced;
        self.write_go_away(STREAM_MAX, ErrorCode::NoError, "");
        frame::write(&mut self.control, Kind::Ping, 0, 0, SHUTDOWN_PING);
    }

    /// Names the last stream: by itself a round trip after [`Connection::shut_down`]; to be called
    /// when the peer takes too long for that.
    pub fn finish_shut_down(&mut self) {
        if matches!(self.shutdown, Shutdown::Final { .. }) {
            return;
        }
        let last = self.last_peer;
        self.shutdown = Shutdown::Final { last };
        self.write_go_away(last, ErrorCode::NoError, "");
    }

    /// Leaves with a reason, such as a peer that keeps us waiting: no stream is taken any more.
    /// After [`Connection::flush`] the socket may be closed.
    pub fn go_away(&mut self, code: ErrorCode) {
        let last = self.last_peer;
        self.shutdown = Shutdown::Final { last };
        self.write_go_away(last, code, "");
    }

    /// Nothing more will come or go: the socket may be closed after [`Connection::flush`].
    pub fn is_drained(&self) -> bool {
        let is_over = matches!(self.shutdown, Shutdown::Final { .. }) || self.peer_leaves;
        is_over && self.streams.len() == 0
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.shutdown != Shutdown::No
    }

    pub(super) fn write_go_away(&mut self, last: u32, code: ErrorCode, reason: &str) {
        let mut payload = Vec::with_capacity(8 + reason.len());
        payload.extend_from_slice(&last.to_be_bytes());
        payload.extend_from_slice(&code.code().to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
        frame::write(&mut self.control, Kind::GoAway, 0, 0, &payload);
    }
}

pub(super) const SHUTDOWN_PING: &[u8; 8] = b"kakehi-s";

//! A stream of a client's HTTP/2 connection: one request on its way in.
//!
//! Rule: a stream asks once. What comes for it waits here while its backend has no room, as much as its window
//! allows, and the window opens only for what was passed on. It may outlive itself on the connection, when a
//! backend has yet to read what came before the end, but never its connection. `h2` opens it with a head,
//! `stream_out` has its answer.

use crate::protocol::h2::{ErrorCode, Tag};
use crate::protocol::lines::LineBuf;
use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::Driver;
use crate::runtime::timer::Deadline;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::multiplex::Multiplex;
use crate::session::front::stall::WriteWait;
use crate::session::ids::{ClientId, ExchangeId, StreamId};
use crate::session::queue::Bulk;

/// One stream.
pub(in crate::session) struct Stream {
    /// The connection that it is on.
    pub(in crate::session) connection: ClientId,
    /// Its number there.
    pub(super) number: u32,
    pub(in crate::session) exchange: Option<ExchangeId>,
    /// What has come and not been passed on.
    pub(in crate::session) input: ByteQueue,
    /// What the windows do not allow yet.
    pub(in crate::session) output: ByteQueue,
    pub(in crate::session) deadline: Deadline,
    /// Output waits for the peer, since when and how; see `stall`.
    pub(in crate::session) write: WriteWait,
    /// Queued to be driven in the next turn.
    pub(in crate::session) queued: bool,
    /// The connection has enough to send for now.
    pub(super) blocked: bool,
    /// All that is to be sent has been, so that closing needs no reset.
    pub(super) finished: bool,
    /// Everything has been received.
    pub(super) received: bool,
    /// The end of all that it said has been passed on.
    pub(in crate::session) ended: bool,
    /// Close once `output` is empty.
    pub(super) close_when_sent: bool,
    /// Trailers to send when everything before them has gone.
    pub(super) trailers_out: LineBuf,
    /// Trailers received, for when everything before them has been passed on.
    pub(super) trailers_in: LineBuf,
}

impl Stream {
    /// Whether its connection has taken everything that was sent, and would take more.
    #[inline]
    pub(in crate::session) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.blocked
    }
}

impl<D: Driver> Engine<D> {
    /// `None` for one too many: each holds what its backend has yet to read.
    pub(super) fn open_stream(
        &mut self,
        id: ClientId,
        number: u32,
        received: bool,
    ) -> Option<StreamId> {
        let client = &self.clients[id];
        if client.multiplex.as_deref().is_none_or(Multiplex::is_full) {
            return None;
        }
        let blocked = client.multiplex.as_ref().is_some_and(|it| it.has_blocked);
        let vacant = self.streams.vacant();
        let stream = vacant.id();
        vacant.insert(Stream {
            connection: id,
            number,
            exchange: None,
            input: ByteQueue::default(),
            output: ByteQueue::default(),
            deadline: Deadline::NONE,
            write: WriteWait::default(),
            queued: false,
            blocked,
            finished: false,
            received,
            ended: false,
            close_when_sent: false,
            trailers_out: LineBuf::default(),
            trailers_in: LineBuf::default(),
        });
        self.unlink_idle(id);
        let client = &mut self.clients[id];
        client.clear_deadline(&mut self.timers, id);
        if let Some(multiplex) = client.multiplex.as_mut() {
            multiplex.h2.set_tag(number, stream.token());
            multiplex.opened(stream);
        }
        Some(stream)
    }

    /// The stream of a connection that was given this name.
    pub(super) fn find_stream(&self, connection: ClientId, tag: Tag) -> Option<StreamId> {
        let id = StreamId::of(tag)?;
        let stream = self.streams.get(id)?;
        (stream.connection == connection).then_some(id)
    }

    /// Its connection, and its number there.
    pub(super) fn place_of(&self, id: StreamId) -> Option<(ClientId, u32)> {
        let stream = self.streams.get(id)?;
        Some((stream.connection, stream.number))
    }

    /// Queues a stream to be driven: something that it waited for has happened.
    pub(super) fn wake_stream(&mut self, id: StreamId) {
        let stream = &mut self.streams[id];
        // The end of a request may wait for room like any bytes of it.
        let has_work = !stream.input.is_empty() || stream.received;
        if has_work && !stream.queued {
            stream.queued = true;
            self.queue(id.token(), Bulk::default());
        }
    }

    /// Passes on what waits.
    pub(in crate::session) fn drive_stream(&mut self, id: StreamId) {
        let stream = &mut self.streams[id];
        let (connection, number) = (stream.connection, stream.number);
        if !stream.input.is_empty() {
            let mut input = std::mem::take(&mut stream.input);
            let consumed = self.stream_input(id, input.as_slice());
            input.consume(&mut self.pool, consumed);
            match self.streams.get_mut(id) {
                Some(stream) => stream.input = input,
                None => input.clear(&mut self.pool),
            }
            self.credit_stream(connection, number, consumed);
        }
        self.end_stream_request(id);
    }

    /// What of a request's body has come.
    pub(super) fn stream_data(
        &mut self,
        connection: ClientId,
        number: u32,
        tag: Tag,
        data: &[u8],
        ends: bool,
    ) {
        let Some(id) = self.find_stream(connection, tag) else {
            return;
        };
        let stream = &mut self.streams[id];
        stream.received |= ends;
        let mut consumed = 0;
        if stream.input.is_empty() && !data.is_empty() {
            consumed = self.stream_input(id, data);
        }
        // Nobody wants the rest of a request that has been answered.
        match self.streams.get_mut(id) {
            Some(stream) if stream.exchange.is_some() => {
                stream.input.push(&mut self.pool, &data[consumed..]);
            }
            _ => consumed = data.len(),
        }
        self.credit_stream(connection, number, consumed);
        self.end_stream_request(id);
    }

    /// Passes bytes on; returns how many were used up.
    fn stream_input(&mut self, id: StreamId, data: &[u8]) -> usize {
        let mut at = 0;
        while at < data.len() {
            let Some(exchange) = self.streams.get(id).and_then(|stream| stream.exchange) else {
                return data.len();
            };
            let rest = &data[at..];
            let consumed = match self.exchanges[exchange].reply.is_tunnel() {
                true => self.tunnel_from_client(exchange, rest),
                false => self.request_body_input(exchange, rest),
            };
            if consumed == 0 {
                break;
            }
            at += consumed;
        }
        at
    }

    /// Bytes have been passed on: the peer may send as many again.
    fn credit_stream(&mut self, connection: ClientId, number: u32, consumed: usize) {
        let Some(client) = self.clients.get_mut(connection) else {
            return;
        };
        if let Some(multiplex) = client.multiplex.as_mut() {
            multiplex.h2.consumed(number, consumed);
            self.queue_multiplexed(connection);
        }
    }

    /// Ends the request of a stream of which everything has come and been passed on.
    fn end_stream_request(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if !stream.received || !stream.input.is_empty() {
            return;
        }
        let Some(exchange) = stream.exchange else {
            return;
        };
        if self.exchanges[exchange].reply.is_tunnel() {
            if !stream.ended {
                self.tunnel_client_ended(exchange);
            }
        } else if self.exchange_wants_input(exchange) {
            let trailers = std::mem::take(&mut self.streams[id].trailers_in);
            self.request_body_ended(exchange, trailers.lines());
        }
    }

    /// Its deadline has passed.
    pub(in crate::session) fn stream_late(&mut self, id: StreamId) {
        let exchange = self.streams[id].exchange;
        if let Some(exchange) = exchange.filter(|&it| !self.exchanges[it].reply.is_tunnel()) {
            self.request_body_late(exchange);
        }
    }

    /// Frees a stream; one that is not over is reset. Its exchange should have ended before.
    pub(in crate::session) fn close_stream(&mut self, id: StreamId) {
        self.give_stream_up(id, ErrorCode::Internal);
    }

    /// The same with another reason than a fault of ours, if it is not over.
    pub(in crate::session) fn give_stream_up(&mut self, id: StreamId, why: ErrorCode) {
        if let Some(exchange) = self.streams.get(id).and_then(|stream| stream.exchange) {
            self.abandon_exchange(exchange, Outcome::ClientAborted);
        }
        let Some(mut stream) = self.streams.remove(id) else {
            return;
        };
        self.timers.remove(&mut stream.deadline);
        stream.input.clear(&mut self.pool);
        stream.output.clear(&mut self.pool);
        match (stream.finished, stream.received) {
            (true, true) => {}
            (true, false) => self.reset_stream_later(stream.connection, stream.number),
            (false, _) => self.reset_stream(stream.connection, stream.number, why),
        }
        self.stream_closed(stream.connection, id);
    }
}

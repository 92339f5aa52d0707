//! Who asks: a connection of HTTP/1.1, a stream of one of HTTP/2, or a call of our own.
//!
//! Rule: the exchange and the back know an asker by its id alone, and come by here, or by `answer` with what is
//! sent; only here and behind it is it known which of them it is. A stream is no connection: what is about the
//! peer, the listener, the certificate or the socket is asked of the connection that it is on.

use std::net::SocketAddr;

use crate::runtime::driver::Driver;
use crate::runtime::socket::local_address;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::client::{Client, Phase};
use crate::session::ids::{CallId, ClientId, ExchangeId, StreamId};

/// Whose request an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Asker {
    Connection(ClientId),
    Stream(StreamId),
    /// No client is there to read an answer; see `exchange::call`.
    Call(CallId),
}

impl Asker {
    /// Whether others share its connection, if it has one.
    pub(in crate::session) fn shares(self) -> bool {
        !matches!(self, Self::Connection(_))
    }
}

impl<D: Driver> Engine<D> {
    /// The connection by which somebody asks, if it is a client.
    #[inline]
    pub(in crate::session) fn clients_connection(&self, asker: Asker) -> Option<ClientId> {
        match asker {
            Asker::Connection(id) => Some(id),
            Asker::Stream(id) => Some(self.streams[id].connection),
            Asker::Call(_) => None,
        }
    }

    /// See [`Engine::clients_connection`].
    #[inline]
    pub(in crate::session) fn client_at(&self, asker: Asker) -> Option<&Client> {
        self.clients_connection(asker).map(|id| &self.clients[id])
    }

    /// The connection by which a client asks.
    #[inline]
    pub(in crate::session) fn connection_of(&self, asker: Asker) -> ClientId {
        let Some(id) = self.clients_connection(asker) else {
            unreachable!("a call is no client's");
        };
        id
    }

    /// See [`Engine::connection_of`].
    #[inline]
    pub(in crate::session) fn client_of(&self, asker: Asker) -> &Client {
        &self.clients[self.connection_of(asker)]
    }

    /// Whether its connection takes no more requests: it is told so with its answer.
    #[inline]
    pub(in crate::session) fn is_leaving(&self, asker: Asker) -> bool {
        let drains = |client: &Client| client.listener.draining.get();
        self.stopping || self.client_at(asker).is_some_and(drains)
    }

    /// Where a client is, and where it has connected to.
    pub(in crate::session) fn ends_of(&self, asker: Asker) -> (SocketAddr, SocketAddr) {
        if let Asker::Call(id) = asker {
            return self.calls[id].ends;
        }
        let client = self.client_of(asker);
        let socket = client.stream.raw();
        let local = socket.and_then(|socket| local_address(socket).ok());
        (client.peer, local.unwrap_or(client.listener.address))
    }

    /// What it asks, unless it has been answered.
    pub(in crate::session) fn exchange_of(&self, asker: Asker) -> Option<ExchangeId> {
        match asker {
            Asker::Connection(id) => self.clients[id].exchange,
            Asker::Stream(id) => self.streams[id].exchange,
            Asker::Call(id) => self.calls[id].exchange,
        }
    }

    /// An exchange has begun, or is over.
    pub(in crate::session) fn set_exchange(&mut self, asker: Asker, exchange: Option<ExchangeId>) {
        match asker {
            Asker::Connection(id) => self.clients[id].exchange = exchange,
            Asker::Stream(id) => self.streams[id].exchange = exchange,
            Asker::Call(id) => self.calls[id].exchange = exchange,
        }
    }

    /// Whether all that was said to it has gone, so that more may be.
    #[inline]
    pub(in crate::session) fn takes_more(&self, asker: Asker) -> bool {
        match asker {
            Asker::Connection(id) => self.clients[id].is_flushed(),
            Asker::Stream(id) => self.streams[id].is_flushed(),
            Asker::Call(_) => true,
        }
    }

    /// Whether none of what it said waits to be looked at.
    pub(in crate::session) fn has_no_input(&self, asker: Asker) -> bool {
        match asker {
            Asker::Connection(id) => self.clients[id].input.is_empty(),
            Asker::Stream(id) => self.streams[id].input.is_empty(),
            Asker::Call(id) => self.calls[id].input.is_empty(),
        }
    }

    /// What comes from a connection belongs to its request from here on. What comes for a stream does anyway.
    pub(in crate::session) fn begin_asking(&mut self, asker: Asker) {
        if let Asker::Connection(id) = asker {
            self.clients[id].phase = Phase::InExchange;
        }
    }

    /// Bytes pass both ways unread from here on.
    pub(in crate::session) fn begin_passing(&mut self, asker: Asker) {
        if let Asker::Connection(id) = asker {
            self.clients[id].phase = Phase::Tunnel;
        }
        self.clear_asker_deadline(asker);
    }

    /// Its request is over, and what it is answered is about to be said.
    pub(in crate::session) fn end_asking(&mut self, asker: Asker) {
        if let Asker::Connection(id) = asker {
            self.clients[id].phase = Phase::Idle;
        }
    }

    /// It has said all that it will, and may be listening.
    pub(in crate::session) fn note_ended(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => {
                self.clients[id].ended = true;
                self.clients[id].hangup = false;
            }
            Asker::Stream(id) => self.streams[id].ended = true,
            Asker::Call(_) => {}
        }
    }

    /// See [`Engine::note_ended`].
    pub(in crate::session) fn has_ended(&self, asker: Asker) -> bool {
        match asker {
            Asker::Connection(id) => self.clients[id].ended,
            Asker::Stream(id) => self.streams[id].ended,
            Asker::Call(_) => false,
        }
    }

    /// Something that it waited for has happened.
    pub(in crate::session) fn wake_asker(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => self.wake_client(id),
            Asker::Stream(id) => self.wake_stream(id),
            Asker::Call(id) => self.wake_call(id),
        }
    }

    /// Sets the time within which it must make its next move.
    pub(in crate::session) fn await_asker_for(&mut self, asker: Asker, limit_ms: u64) {
        let at_ms = self.clock.ms() + limit_ms;
        match asker {
            Asker::Connection(id) => self.clients[id].set_deadline(&mut self.timers, id, at_ms),
            Asker::Stream(id) => self.streams[id].set_deadline(&mut self.timers, id, at_ms),
            // It has one for all of it.
            Asker::Call(_) => {}
        }
    }

    /// It need not do anything for now, but take what is sent.
    pub(in crate::session) fn clear_asker_deadline(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => self.clients[id].clear_deadline(&mut self.timers, id),
            Asker::Stream(id) => self.streams[id].clear_deadline(&mut self.timers, id),
            Asker::Call(_) => {}
        }
    }

    /// Its answer is complete: on to its next request, if it has a connection for that, or to the end.
    pub(in crate::session) fn end_response(&mut self, asker: Asker, keep_alive: bool) {
        match asker {
            Asker::Connection(id) => self.end_client_response(id, keep_alive),
            Asker::Stream(id) => self.end_stream(id),
            Asker::Call(id) => self.end_call(id, Outcome::Complete),
        }
    }

    /// Ends it after what is queued has gone.
    pub(in crate::session) fn close_asker_when_sent(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => self.close_client_when_sent(id),
            Asker::Stream(id) => self.end_stream(id),
            Asker::Call(id) => self.end_call(id, Outcome::BackendAborted),
        }
    }

    /// Ends it at once. Its exchange, if any, should have been ended by somebody who knows why.
    pub(in crate::session) fn close_asker(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => self.close_client(id),
            Asker::Stream(id) => self.close_stream(id),
            Asker::Call(id) => self.end_call(id, Outcome::BackendAborted),
        }
    }

    /// Ends it without an answer: a connection in order, and a stream by a reset, since it has no other end.
    pub(in crate::session) fn leave_unanswered(&mut self, asker: Asker) {
        match asker {
            Asker::Connection(id) => self.close_client_when_sent(id),
            Asker::Stream(id) => self.close_stream(id),
            Asker::Call(id) => self.end_call(id, Outcome::BackendAborted),
        }
    }

    /// Ends it at once and in a way that nobody takes for an orderly end; a stream that is not over is reset
    /// in any case.
    pub(in crate::session) fn cut_asker(&mut self, asker: Asker) {
        if let Asker::Connection(id) = asker {
            self.clients[id].stream.reset_on_close();
        }
        self.close_asker(asker);
    }
}

//! The client side of a session: one accepted connection, its phases, its reads and writes.
//!
//! Rule: a connection is read only when what it may send has somewhere to go; that is the whole of
//! flow control. Whoever makes room calls [`Engine::wake_client`].

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::{Driver, Token};
use crate::runtime::timer::Deadline;
use crate::session::engine::Engine;
use crate::session::engine::READS_PER_TURN;
use crate::session::exchange::Outcome;
use crate::session::front::backlog::BACKLOG_BYTES_MAX;
use crate::session::front::multiplex::Multiplex;
use crate::session::front::stall::WriteWait;
use crate::session::queue::Bulk;
use crate::session::token::{Owner, token};
use crate::session::transport::{Received, Transport};
use crate::state::listener::{Listener, NOBODY};
use crate::telemetry::names::Counter;

/// What a client connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Phase {
    /// A load balancer is to say who the client is; see `preamble`.
    Preamble,
    /// Whose handshake it is depends on the name in its first message; see `passthrough`.
    Hello,
    /// TLS is being agreed on.
    Handshake,
    /// It carries many requests, each in a client of its own; see `multiplex`.
    Multiplexed,
    /// Waiting for a request, none of it there.
    Idle,
    /// Part of a request head is there.
    ExpectHead,
    /// A request is in flight; more of its body may be to come.
    InExchange,
    /// Bytes pass both ways unread.
    Tunnel,
    /// Our side is shut; what still comes is thrown away so that the peer reads our last words
    /// instead of a reset (RFC 9112 §9.6).
    Lingering,
}

/// How long a closing connection may take to notice.
const LINGER_MS: u64 = 2000;

/// One accepted connection.
pub(in crate::session) struct Client {
    pub(in crate::session) stream: Transport,
    pub(in crate::session) token: Token,
    pub(in crate::session) peer: SocketAddr,
    pub(in crate::session) listener: Rc<Listener>,
    pub(in crate::session) phase: Phase,
    /// More can be read, as far as the driver has told.
    pub(in crate::session) readable: bool,
    /// The peer shut its sending side: read to the end of the stream.
    pub(in crate::session) hangup: bool,
    /// The end of its stream has been read: it sends no more, but may be reading.
    pub(in crate::session) ended: bool,
    /// Bytes in `input` may make a step now.
    pub(in crate::session) input_waits: bool,
    /// Queued to be driven in the next turn.
    pub(in crate::session) queued: bool,
    pub(in crate::session) bulk: Bulk,
    /// The socket has room for what waits, and its turn has not come.
    pub(in crate::session) flush_waits: bool,
    /// Close once `output` is empty.
    pub(super) close_when_sent: bool,
    /// Refused at the door; not counted among the connections of the listener.
    pub(in crate::session) refused: bool,
    pub(in crate::session) input: ByteQueue,
    pub(in crate::session) output: ByteQueue,
    pub(in crate::session) exchange: Option<u32>,
    pub(in crate::session) deadline: Deadline,
    /// Output waits for the peer, since when and how; see `stall`.
    pub(in crate::session) write: WriteWait,
    /// When it was last left without a request.
    pub(super) idle_since_ms: u64,
    /// It has had a request answered.
    pub(in crate::session) served: bool,
    /// Bytes have come. Who leaves before was only looking whether somebody listens.
    pub(in crate::session) heard: bool,
    /// Neighbours in the listener's idle list, older and younger; see `idle`.
    pub(super) older: u32,
    pub(super) younger: u32,
    /// The certificate that the client has shown, as backends are told it.
    pub(in crate::session) identity: Option<Rc<str>>,
    /// What a connection that carries many requests knows of them.
    pub(in crate::session) multiplex: Option<Box<Multiplex>>,
}

impl Client {
    /// Whether the socket has taken everything that was sent.
    pub(in crate::session) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.stream.has_unsent()
    }
}

impl<D: Driver> Engine<D> {
    pub(in crate::session) fn insert_client(
        &mut self,
        stream: Transport,
        peer: SocketAddr,
        listener: Rc<Listener>,
        refused: bool,
    ) -> Option<usize> {
        let entry = self.clients.vacant_entry();
        let index = entry.key();
        self.serial = self.serial.wrapping_add(1);
        let token = token(Owner::Client, self.serial, index);
        if let Some(socket) = stream.raw() {
            if self.driver.watch_stream(socket, token).is_err() {
                return None;
            }
            self.metrics.add(Counter::ConnectionsNow, 1);
        }
        if !refused && stream.lane().is_none() {
            listener.connections.set(listener.connections.get() + 1);
        }
        entry.insert(Client {
            stream,
            token,
            peer,
            listener,
            phase: Phase::Idle,
            readable: false,
            hangup: false,
            ended: false,
            input_waits: false,
            queued: false,
            bulk: Bulk::default(),
            flush_waits: false,
            close_when_sent: false,
            refused,
            input: ByteQueue::default(),
            output: ByteQueue::default(),
            exchange: None,
            deadline: Deadline::NONE,
            write: WriteWait::default(),
            idle_since_ms: 0,
            served: false,
            heard: false,
            older: NOBODY,
            younger: NOBODY,
            identity: None,
            multiplex: None,
        });
        Some(index)
    }

    /// The index of a live client connection, `None` for a stale token.
    pub(in crate::session) fn find_client(&self, token: Token, index: usize) -> Option<usize> {
        self.clients
            .get(index)
            .filter(|client| client.token == token)
            .map(|_| index)
    }

    /// Readiness as the driver told it.
    pub(in crate::session) fn client_ready(
        &mut self,
        index: usize,
        readable: bool,
        writable: bool,
        hangup: bool,
    ) {
        let client = &mut self.clients[index];
        client.readable |= readable;
        client.hangup |= hangup;
        let token = client.token;
        if writable && !client.is_flushed() && !self.puts_client_flush_off(index) {
            self.flush_client(index);
        }
        match self.find_client(token, index) {
            Some(_) if self.clients[index].bulk.is_large() => self.wake_client(index),
            Some(_) => self.drive_client(index),
            None => {}
        }
    }

    /// Queues a client to be driven: something that it waited for has happened.
    pub(in crate::session) fn wake_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.input_waits = !client.input.is_empty();
        // The end of a lane's request may wait for room like any bytes of it.
        let end_waits = client.stream.lane().is_some_and(|lane| lane.received);
        let has_work = client.readable || client.input_waits || client.ended || end_waits;
        if has_work && !client.queued {
            client.queued = true;
            let (token, bulk) = (client.token, client.bulk);
            self.queue(token, bulk);
        }
    }

    /// Takes what the connection has to give, at most [`READS_PER_TURN`] reads of it.
    pub(in crate::session) fn drive_client(&mut self, index: usize) {
        let token = self.clients[index].token;
        let mut receive = std::mem::take(&mut self.receive);
        let mut has_read = false;
        for reads in 0.. {
            if self.find_client(token, index).is_none() {
                break;
            }
            let wants = self.client_wants_input(index);
            let client = &mut self.clients[index];
            if wants && std::mem::take(&mut client.input_waits) {
                let mut input = std::mem::take(&mut client.input);
                let consumed = self.client_input(token, index, input.as_slice());
                input.consume(&mut self.pool, consumed);
                self.keep_client_input(token, index, input);
                self.lane_consumed(token, index, consumed);
                continue;
            }
            if !client.readable || !wants {
                break;
            }
            if reads >= READS_PER_TURN || has_read && client.bulk.is_large() {
                self.wake_client(index);
                break;
            }
            if self.puts_client_off(index) {
                break;
            }
            has_read = true;
            self.read_client(token, index, &mut receive);
        }
        self.receive = receive;
        self.end_lane_request(token, index);
        self.close_if_ended(token, index);
    }

    /// One read, behind the bytes that wait already.
    fn read_client(&mut self, token: Token, index: usize, receive: &mut [u8]) {
        match self.clients[index].phase {
            Phase::Preamble => return self.read_preamble(index, receive),
            Phase::Hello => return self.read_hello(index, receive),
            _ => {}
        }
        let is_saving = self.is_saving_memory();
        let client = &mut self.clients[index];
        let waiting = client.input.len();
        receive[..waiting].copy_from_slice(client.input.as_slice());
        let end = match is_saving {
            true => receive.len().min(waiting + client.stream.room_min()),
            false => receive.len(),
        };
        let room = &mut receive[waiting..end];
        match client.stream.receive(&mut self.tls, &mut self.pool, room) {
            Ok(Received {
                bytes: 0,
                ended: true,
                ..
            }) => {
                client.readable = false;
                self.client_end_of_stream(index);
            }
            Ok(received) => {
                // A short read emptied the socket; the next bytes raise a new edge, but an end of
                // stream that was already reported does not.
                client.readable = received.more || received.ended || client.hangup;
                client.heard = true;
                client.bulk.brought(received.bytes);
                self.bulk_bytes += received.bytes;
                self.metrics
                    .add(Counter::BytesFromClientsTotal, received.bytes as u64);
                self.handshake_progress(index);
                self.note_unsent_records(token, index);
                if received.bytes == 0 {
                    return;
                }
                let data = &receive[..waiting + received.bytes];
                let consumed = self.client_input(token, index, data);
                if let Some(client) = self
                    .clients
                    .get_mut(index)
                    .filter(|client| client.token == token)
                {
                    client.input.replace(&mut self.pool, &data[consumed..]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.readable = false,
            Err(error) => {
                if self.clients[index].phase == Phase::Handshake {
                    return self.handshake_failed(index, Some(&error));
                }
                self.client_lost(index);
            }
        }
    }

    fn keep_client_input(&mut self, token: Token, index: usize, mut input: ByteQueue) {
        match self.clients.get_mut(index) {
            Some(client) if client.token == token => {
                // Whatever has come meanwhile comes behind it.
                input.push(&mut self.pool, client.input.as_slice());
                client.input.clear(&mut self.pool);
                client.input = input;
            }
            _ => input.clear(&mut self.pool),
        }
    }

    fn client_wants_input(&self, index: usize) -> bool {
        let client = &self.clients[index];
        // Whatever it sends may be worth an answer of TLS.
        if client.stream.unsent_bytes() > BACKLOG_BYTES_MAX {
            return false;
        }
        match client.phase {
            // A client that does not read its responses gets no more of them.
            Phase::Idle | Phase::ExpectHead => client.is_flushed() && !client.close_when_sent,
            Phase::Preamble | Phase::Hello | Phase::Handshake | Phase::Lingering => true,
            Phase::Multiplexed => !self.is_backed_up(index),
            Phase::InExchange | Phase::Tunnel => self.exchange_wants_input(client),
        }
    }

    /// Takes bytes as the phase has it; returns how many were used up.
    pub(super) fn client_input(&mut self, token: Token, index: usize, data: &[u8]) -> usize {
        let mut at = 0;
        while at < data.len() {
            let Some(client) = self
                .clients
                .get(index)
                .filter(|client| client.token == token)
            else {
                return data.len();
            };
            let rest = &data[at..];
            let consumed = match client.phase {
                // Parsing the next head while the last response waits would let a client that
                // never reads queue up responses.
                Phase::Idle | Phase::ExpectHead
                    if !client.is_flushed() || client.close_when_sent =>
                {
                    0
                }
                Phase::Idle | Phase::ExpectHead => self.request_input(index, rest),
                Phase::InExchange => self.request_body_input(index, rest),
                Phase::Tunnel => self.tunnel_from_client(index, rest),
                Phase::Preamble | Phase::Hello | Phase::Handshake => 0,
                Phase::Multiplexed => self.multiplex_input(token, index, rest),
                Phase::Lingering => rest.len(),
            };
            if consumed == 0 {
                break;
            }
            at += consumed;
        }
        at
    }

    fn client_end_of_stream(&mut self, index: usize) {
        match self.clients[index].phase {
            Phase::Tunnel => self.tunnel_client_ended(index),
            Phase::InExchange if self.exchange_is_half_way(index) => self.client_lost(index),
            // It may have shut its sending side only, as `nc -N` does: it is answered.
            Phase::InExchange => self.clients[index].ended = true,
            Phase::Idle | Phase::ExpectHead if !self.clients[index].is_flushed() => {
                self.clients[index].close_when_sent = true;
            }
            Phase::Preamble
            | Phase::Hello
            | Phase::Handshake
            | Phase::Multiplexed
            | Phase::Idle
            | Phase::ExpectHead
            | Phase::Lingering => {
                self.close_client(index);
            }
        }
    }

    /// Closes a connection that has sent its last request and got its last response.
    fn close_if_ended(&mut self, token: Token, index: usize) {
        let Some(client) = self
            .clients
            .get(index)
            .filter(|client| client.token == token)
        else {
            return;
        };
        let between = matches!(client.phase, Phase::Idle | Phase::ExpectHead);
        if client.ended && between && !client.input_waits && client.is_flushed() {
            self.close_client_when_sent(index);
        }
    }

    /// Sends, or queues what the socket does not take. The client may be gone afterwards.
    pub(in crate::session) fn send_client(&mut self, index: usize, first: &[u8], second: &[u8]) {
        let client = &mut self.clients[index];
        if client.stream.lane().is_some() {
            return self.lane_send(index, first, second, false);
        }
        let mut sent = 0;
        if client.is_flushed() {
            match client
                .stream
                .send(&mut self.tls, &mut self.pool, first, second)
            {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.client_lost(index),
            }
        }
        self.metrics.add(Counter::BytesToClientsTotal, sent as u64);
        if sent < first.len() + second.len() {
            let (first_left, second_left) = split_left(first, second, sent);
            client.output.push(&mut self.pool, first_left);
            client.output.push(&mut self.pool, second_left);
        }
        if !self.clients[index].is_flushed() {
            self.await_client_write(index, false);
        }
    }

    /// Sends what is queued; goes on with what waited for it.
    pub(in crate::session) fn flush_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let unsent = client.stream.unsent_bytes();
        match client
            .stream
            .send(&mut self.tls, &mut self.pool, client.output.as_slice(), &[])
        {
            Ok(sent) => {
                self.metrics.add(Counter::BytesToClientsTotal, sent as u64);
                self.bulk_bytes += sent;
                client.output.consume(&mut self.pool, sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let progressed = client.stream.unsent_bytes() < unsent;
                return self.await_client_write(index, progressed);
            }
            Err(_) => return self.client_lost(index),
        }
        if !self.clients[index].is_flushed() {
            return self.await_client_write(index, true);
        }
        self.clients[index].write = WriteWait::default();
        if self.clients[index].close_when_sent {
            return self.linger_client(index);
        }
        self.client_flushed(index);
    }

    /// Nothing is queued any more: the response goes on, or the next request may come.
    pub(super) fn client_flushed(&mut self, index: usize) {
        match self.clients[index].phase {
            Phase::InExchange | Phase::Tunnel => {
                self.clients[index].clear_deadline(&mut self.timers);
                self.await_request_body(index);
                self.client_made_room(index);
            }
            Phase::Idle => self.await_request(index),
            Phase::Multiplexed => self.multiplex_flushed(index),
            Phase::Preamble
            | Phase::Hello
            | Phase::Handshake
            | Phase::ExpectHead
            | Phase::Lingering => {}
        }
        self.wake_client(index);
    }

    /// Starts waiting for a request on a kept-alive connection.
    pub(in crate::session) fn await_request(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.phase = Phase::Idle;
        let limit = client.listener.settings().entity.timeouts.keep_alive;
        let token = client.token;
        self.timers
            .set(&mut client.deadline, token, self.clock.ms() + limit);
        self.link_idle(index);
    }

    /// A response is complete: on to the next request, or to the end.
    pub(in crate::session) fn end_response(&mut self, index: usize, keep_alive: bool) {
        if self.clients[index].stream.lane().is_some() {
            return self.lane_end(index);
        }
        if !keep_alive || self.clients[index].listener.draining.get() {
            return self.close_client_when_sent(index);
        }
        self.clients[index].served = true;
        self.await_next_request(index);
        self.wake_client(index);
    }

    /// Waits for a request as soon as everything is sent.
    pub(super) fn await_next_request(&mut self, index: usize) {
        if self.clients[index].is_flushed() {
            self.await_request(index);
        } else {
            self.clients[index].phase = Phase::Idle;
            self.await_client_write(index, false);
        }
    }

    /// Closes after what is queued has gone, and after the peer has had time to read it.
    pub(in crate::session) fn close_client_when_sent(&mut self, index: usize) {
        if self.clients[index].stream.lane().is_some() {
            return self.lane_end(index);
        }
        self.unlink_idle(index);
        self.clients[index].close_when_sent = true;
        if self.clients[index].is_flushed() {
            self.linger_client(index);
        }
    }

    fn linger_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.phase = Phase::Lingering;
        client.input.clear(&mut self.pool);
        client.stream.shutdown_write(&mut self.tls);
        let token = client.token;
        self.timers
            .set(&mut client.deadline, token, self.clock.ms() + LINGER_MS);
        self.wake_client(index);
    }

    /// The connection failed or the peer left: everything that hangs on it ends.
    pub(super) fn client_lost(&mut self, index: usize) {
        self.close_client(index);
    }

    /// Closes at once. The exchange, if any, should have been ended by somebody who knows why.
    pub(in crate::session) fn close_client(&mut self, index: usize) {
        if let Some(exchange) = self.clients[index].exchange {
            self.abandon_exchange(exchange, Outcome::ClientAborted);
        }
        if self.clients[index].stream.lane().is_some() {
            return self.close_lane(index);
        }
        self.close_lanes_of(index);
        self.unlink_idle(index);
        let mut client = self.clients.remove(index);
        self.timers.remove(&mut client.deadline);
        client.input.clear(&mut self.pool);
        client.output.clear(&mut self.pool);
        client.stream.release(&mut self.pool);
        self.metrics.sub(Counter::ConnectionsNow, 1);
        if client.refused {
            self.refused_now -= 1;
        } else {
            client
                .listener
                .connections
                .set(client.listener.connections.get() - 1);
        }
    }
}

/// What is left of two parts after `sent` bytes of them went.
pub(in crate::session) fn split_left<'a>(
    first: &'a [u8],
    second: &'a [u8],
    sent: usize,
) -> (&'a [u8], &'a [u8]) {
    if sent < first.len() {
        (&first[sent..], second)
    } else {
        (&[], &second[sent - first.len()..])
    }
}

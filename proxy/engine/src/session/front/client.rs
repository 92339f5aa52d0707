//! The client side of a session: one accepted connection, its phases, its reads and writes.
//!
//! Rule: a connection is read only when what it may send has somewhere to go; that is the whole of
//! flow control. Whoever makes room calls [`Engine::wake_client`].

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::policy::limits::bandwidth::Booked;
use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::Driver;
use crate::runtime::socket;
use crate::runtime::timer::Deadline;
use crate::session::engine::Engine;
use crate::session::engine::{READ_WITH_HEAD_BYTES, READS_PER_TURN, RECEIVE_BYTES};
use crate::session::front::asker::Asker;
use crate::session::front::backlog::BACKLOG_BYTES_MAX;
use crate::session::front::multiplex::Multiplex;
use crate::session::front::stall::WriteWait;
use crate::session::ids::{ClientId, ExchangeId, Fate};
use crate::session::queue::Bulk;
use crate::session::transport::{Received, Transport};
use crate::state::listener::Listener;
use crate::telemetry::names::Counter;
use crate::tls::client_identity::ClientIdentity;

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

/// There are as many as a worker has idle connections: what a request needs lies with its exchange, and what few
/// connections have behind a pointer.
const _: () = assert!(size_of::<Option<Client>>() <= 184);

/// One accepted connection.
pub(in crate::session) struct Client {
    pub(in crate::session) stream: Transport,
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
    pub(in crate::session) exchange: Option<ExchangeId>,
    pub(in crate::session) deadline: Deadline,
    /// Output waits for the peer, since when and how; see `stall`.
    pub(in crate::session) write: WriteWait,
    /// When it was last left without a request.
    pub(super) idle_since_ms: u64,
    /// It has had a request answered.
    pub(in crate::session) served: bool,
    /// Its request is whole, and the last by its own word.
    pub(in crate::session) says_last: bool,
    /// Bytes have come. Who leaves before was only looking whether somebody listens.
    pub(in crate::session) heard: bool,
    /// Neighbours in the listener's idle list, older and younger; see `idle`.
    pub(super) older: Option<ClientId>,
    pub(super) younger: Option<ClientId>,
    /// Until when its bandwidth is booked, where that is bounded.
    pub(in crate::session) booked: Option<Booked>,
    /// The certificate that the client has shown, as backends are told it.
    pub(in crate::session) identity: Option<Box<ClientIdentity>>,
    /// What a connection that carries many requests knows of them.
    pub(in crate::session) multiplex: Option<Box<Multiplex>>,
}

impl Client {
    /// Whether the socket has taken everything that was sent.
    pub(in crate::session) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.stream.has_unsent()
    }

    /// Bytes of what was sent to it that wait here, or that its system has not acknowledged.
    pub(in crate::session) fn untaken_bytes(&self) -> u64 {
        let socket = self.stream.raw();
        let unacknowledged = socket.map_or(0, |socket| socket::sending(socket).unacknowledged);
        (self.output.len() + self.stream.unsent_bytes()) as u64 + u64::from(unacknowledged)
    }

    /// Whether nothing more can come, which could make a reset of an orderly close. Over TLS it may still say
    /// goodbye.
    pub(super) fn has_said_all(&self) -> bool {
        self.says_last && self.input.is_empty() && !self.readable && self.stream.tls().is_none()
    }
}

impl<D: Driver> Engine<D> {
    pub(in crate::session) fn insert_client(
        &mut self,
        stream: Transport,
        peer: SocketAddr,
        listener: Rc<Listener>,
        refused: bool,
    ) -> Option<ClientId> {
        let vacant = self.clients.vacant();
        let id = vacant.id();
        if let Some(socket) = stream.raw() {
            if self.driver.watch_stream(socket, id.token()).is_err() {
                return None;
            }
            self.metrics.add(Counter::ConnectionsNow, 1);
        }
        if !refused {
            listener.connections.set(listener.connections.get() + 1);
        }
        vacant.insert(Client {
            stream,
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
            says_last: false,
            heard: false,
            older: None,
            younger: None,
            booked: None,
            identity: None,
            multiplex: None,
        });
        Some(id)
    }

    /// Readiness as the driver told it.
    pub(in crate::session) fn client_ready(
        &mut self,
        id: ClientId,
        readable: bool,
        writable: bool,
        hangup: bool,
    ) {
        let client = &mut self.clients[id];
        client.readable |= readable;
        client.hangup |= hangup;
        let flushes = writable && !client.is_flushed() && !self.puts_client_flush_off(id);
        if flushes && !self.flush_client(id).lives() {
            return;
        }
        match self.clients[id].bulk.is_large() {
            true => self.wake_client(id),
            false => self.drive_client(id),
        }
    }

    /// Queues a client to be driven: something that it waited for has happened.
    pub(in crate::session) fn wake_client(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        client.input_waits = !client.input.is_empty();
        let has_work = client.readable || client.input_waits || client.ended;
        if has_work && !client.queued {
            client.queued = true;
            let bulk = client.bulk;
            self.queue(id.token(), bulk);
        }
    }

    /// Takes what the connection has to give, at most [`READS_PER_TURN`] reads of it.
    pub(in crate::session) fn drive_client(&mut self, id: ClientId) {
        let mut receive = std::mem::take(&mut self.receive);
        let mut has_read = false;
        for reads in 0.. {
            if !self.clients.contains(id) {
                break;
            }
            let wants = self.client_wants_input(id);
            let client = &mut self.clients[id];
            if wants && std::mem::take(&mut client.input_waits) {
                let mut input = std::mem::take(&mut client.input);
                let consumed = self.client_input(id, input.as_slice());
                input.consume(&mut self.pool, consumed);
                self.keep_client_input(id, input);
                continue;
            }
            if !client.readable || !wants {
                break;
            }
            if reads >= READS_PER_TURN || has_read && client.bulk.is_large() {
                self.wake_client(id);
                break;
            }
            if self.puts_client_off(id) {
                break;
            }
            has_read = true;
            if !self.splice_request(id) {
                self.read_client(id, &mut receive);
            }
        }
        self.receive = receive;
        self.close_if_ended(id);
    }

    /// One read, behind the bytes that wait already.
    fn read_client(&mut self, id: ClientId, receive: &mut [u8]) {
        match self.clients[id].phase {
            Phase::Preamble => return self.read_preamble(id, receive),
            Phase::Hello => return self.read_hello(id, receive),
            _ => {}
        }
        let is_saving = self.is_saving_memory();
        let client = &mut self.clients[id];
        let waiting = client.input.len();
        receive[..waiting].copy_from_slice(client.input.as_slice());
        let end = match is_saving {
            true => receive.len().min(waiting + client.stream.room_min()),
            false if matches!(client.phase, Phase::Idle | Phase::ExpectHead) => {
                receive.len().min(waiting + READ_WITH_HEAD_BYTES)
            }
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
                self.client_end_of_stream(id);
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
                if !self.handshake_progress(id).lives() {
                    return;
                }
                self.note_unsent_records(id);
                if received.bytes == 0 {
                    return;
                }
                let data = &receive[..waiting + received.bytes];
                let consumed = self.client_input(id, data);
                if let Some(client) = self.clients.get_mut(id) {
                    client.input.replace(&mut self.pool, &data[consumed..]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.readable = false,
            Err(error) => {
                if self.clients[id].phase == Phase::Handshake {
                    return self.handshake_failed(id, Some(&error));
                }
                self.client_lost(id);
            }
        }
    }

    fn keep_client_input(&mut self, id: ClientId, mut input: ByteQueue) {
        match self.clients.get_mut(id) {
            Some(client) => {
                // Whatever has come meanwhile comes behind it.
                input.push(&mut self.pool, client.input.as_slice());
                client.input.clear(&mut self.pool);
                client.input = input;
            }
            _ => input.clear(&mut self.pool),
        }
    }

    fn client_wants_input(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        // Whatever it sends may be worth an answer of TLS.
        if client.stream.unsent_bytes() > BACKLOG_BYTES_MAX {
            return false;
        }
        match client.phase {
            // A client that does not read its responses gets no more of them.
            Phase::Idle | Phase::ExpectHead => client.is_flushed() && !client.close_when_sent,
            Phase::Preamble | Phase::Hello | Phase::Handshake | Phase::Lingering => true,
            Phase::Multiplexed => !self.is_backed_up(id),
            Phase::InExchange | Phase::Tunnel => client.exchange.is_some_and(|exchange| {
                self.exchange_wants_input(exchange) || self.may_have_left(client, exchange)
            }),
        }
    }

    /// Whether a client has ended its side while its request waits for room: only the last that it has sent tells
    /// whether that is an end in order. No more will come, and what has is read as far as others may have waiting.
    fn may_have_left(&self, client: &Client, exchange: ExchangeId) -> bool {
        client.hangup
            && client.phase == Phase::InExchange
            && client.readable
            && client.input.len() < RECEIVE_BYTES / 2
            && !self.exchanges[exchange].request_done()
    }

    /// Takes bytes as the phase has it; returns how many were used up.
    pub(super) fn client_input(&mut self, id: ClientId, data: &[u8]) -> usize {
        let mut at = 0;
        while at < data.len() {
            let Some(client) = self.clients.get(id) else {
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
                Phase::Idle | Phase::ExpectHead => self.request_input(id, rest),
                Phase::InExchange => client
                    .exchange
                    .map_or(0, |exchange| self.request_body_input(exchange, rest)),
                Phase::Tunnel => client.exchange.map_or(rest.len(), |exchange| {
                    self.tunnel_from_client(exchange, rest)
                }),
                Phase::Preamble | Phase::Hello | Phase::Handshake => 0,
                Phase::Multiplexed => self.multiplex_input(id, rest),
                Phase::Lingering => rest.len(),
            };
            if consumed == 0 {
                break;
            }
            at += consumed;
        }
        at
    }

    pub(in crate::session) fn client_end_of_stream(&mut self, id: ClientId) {
        let client = &self.clients[id];
        let exchange = client.exchange;
        let is_half_way = exchange.is_some_and(|it| {
            let waiting = client.input.as_slice();
            self.exchanges[it].is_half_way_with(waiting)
        });
        match self.clients[id].phase {
            Phase::Tunnel => {
                if let Some(exchange) = exchange {
                    self.tunnel_client_ended(exchange);
                }
            }
            Phase::InExchange if is_half_way => self.client_lost(id),
            // It may have shut its sending side only, as `nc -N` does: it is answered.
            Phase::InExchange => self.clients[id].ended = true,
            Phase::Idle | Phase::ExpectHead if !self.clients[id].is_flushed() => {
                self.clients[id].close_when_sent = true;
            }
            Phase::Preamble
            | Phase::Hello
            | Phase::Handshake
            | Phase::Multiplexed
            | Phase::Idle
            | Phase::ExpectHead
            | Phase::Lingering => {
                self.close_client(id);
            }
        }
    }

    /// Sends, or queues what the socket does not take.
    pub(super) fn send_client(&mut self, id: ClientId, first: &[u8], second: &[u8]) -> Fate {
        let client = &mut self.clients[id];
        let mut sent = 0;
        if client.is_flushed() {
            match client
                .stream
                .send(&mut self.tls, &mut self.pool, first, second)
            {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.client_lost(id);
                    return Fate::Gone;
                }
            }
        }
        self.metrics.add(Counter::BytesToClientsTotal, sent as u64);
        if sent < first.len() + second.len() {
            let (first_left, second_left) = split_left(first, second, sent);
            client.output.push(&mut self.pool, first_left);
            client.output.push(&mut self.pool, second_left);
        }
        if !self.clients[id].is_flushed() {
            self.await_write(Asker::Connection(id), false);
        }
        Fate::Lives
    }

    /// Sends what is queued; goes on with what waited for it.
    pub(in crate::session) fn flush_client(&mut self, id: ClientId) -> Fate {
        let client = &mut self.clients[id];
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
                self.await_write(Asker::Connection(id), progressed);
                return Fate::Lives;
            }
            Err(_) => {
                self.client_lost(id);
                return Fate::Gone;
            }
        }
        let client = &mut self.clients[id];
        if !client.is_flushed() {
            self.await_write(Asker::Connection(id), true);
            return Fate::Lives;
        }
        client.write = WriteWait::default();
        match client.close_when_sent {
            true => self.linger_client(id),
            false => self.client_flushed(id),
        }
        self.clients.fate_of(id)
    }

    /// Nothing is queued any more: the response goes on, or the next request may come.
    pub(super) fn client_flushed(&mut self, id: ClientId) {
        match self.clients[id].phase {
            Phase::InExchange | Phase::Tunnel => {
                self.clients[id].clear_deadline(&mut self.timers, id);
                if let Some(exchange) = self.clients[id].exchange {
                    self.asker_made_room(exchange);
                }
            }
            Phase::Idle => self.await_request(id),
            Phase::Multiplexed => self.multiplex_flushed(id),
            Phase::Preamble
            | Phase::Hello
            | Phase::Handshake
            | Phase::ExpectHead
            | Phase::Lingering => {}
        }
        self.wake_client(id);
    }

    /// Starts waiting for a request on a kept-alive connection.
    pub(in crate::session) fn await_request(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        client.phase = Phase::Idle;
        if client.listener.draining.get() {
            return self.leave_idle_client(id);
        }
        let limit = client.listener.settings().entity.timeouts.keep_alive;
        self.await_client_for(id, limit);
        self.link_idle(id);
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

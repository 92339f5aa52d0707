//! The upstream side of a session: one connection to a backend, its pool, its reads and writes.
//!
//! Rule: an HTTP/1.1 upstream connection serves one exchange at a time; between two of them it
//! waits in its backend's pool, the most recently used taken first. What becomes of its exchange when it
//! fails is said in `exchange::attempt`, and what the bytes mean in `exchange::response`.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::protocol::h1::write_last_chunk;
use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::Driver;
use crate::runtime::timer::Deadline;
use crate::session::back::trunk::Trunk;
use crate::session::engine::Engine;
use crate::session::engine::{READ_WITH_HEAD_BYTES, READS_PER_TURN};
use crate::session::exchange::{Outcome, Reply};
use crate::session::front::client::split_left;
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::session::l4::tunnel::HALF_CLOSED_MS;
use crate::session::queue::Bulk;
use crate::session::transport::{Received, Transport};
use crate::telemetry::names::Counter;
use crate::upstream::Backend;

/// What an upstream connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Link {
    /// The connect has not finished.
    Connecting,
    /// TLS is being agreed on.
    Securing,
    /// HTTP/2 has been begun, and the backend has not answered.
    Greeting,
    /// It carries lanes; see `trunk`.
    Trunk,
    /// A lane whose connection is not open yet.
    Waiting,
    /// It serves an exchange.
    Busy,
    /// It waits in the pool.
    Pooled,
}

/// One connection to a backend.
pub(in crate::session) struct Upstream {
    pub(in crate::session) stream: Transport,
    /// What was asked of the backend in the handshake: a connection made under one policy serves no
    /// request that is to be sent under another.
    pub(in crate::session) tls: Option<Arc<ClientConfig>>,
    pub(in crate::session) backend: Rc<Backend>,
    pub(in crate::session) link: Link,
    /// It has served a request before: the backend may have closed it meanwhile.
    pub(in crate::session) reused: bool,
    pub(in crate::session) readable: bool,
    pub(in crate::session) hangup: bool,
    pub(in crate::session) input_waits: bool,
    pub(in crate::session) queued: bool,
    pub(in crate::session) bulk: Bulk,
    /// The socket has room for what waits, and its turn has not come.
    pub(in crate::session) flush_waits: bool,
    /// The response allows another request on this connection.
    pub(in crate::session) keep_alive: bool,
    /// Shut our sending side once `output` is empty (a tunnel's client has ended).
    pub(in crate::session) shut_when_sent: bool,
    pub(in crate::session) input: ByteQueue,
    pub(in crate::session) output: ByteQueue,
    /// What is in `output` is a head that leaves with the first of its body, which is at hand.
    pub(super) awaits_body: bool,
    pub(in crate::session) exchange: Option<ExchangeId>,
    pub(in crate::session) deadline: Deadline,
    pub(super) connect_started_us: u64,
    /// When it was last left without a request.
    pub(super) pooled_ms: u64,
    /// What the backend had not taken when a response was late, in bytes; of a lane what its connection
    /// had brought there.
    pub(in crate::session) unacknowledged: u32,
    /// Of a lane: how much its connection will have sent when all of the request has left.
    pub(in crate::session) ends_at: Option<u64>,
    /// What a connection that carries many requests knows of them.
    pub(in crate::session) trunk: Option<Box<Trunk>>,
}

impl Upstream {
    /// Whether bytes can be sent without queueing.
    pub(in crate::session) fn has_room(&self) -> bool {
        self.link == Link::Busy && (self.is_flushed() || self.awaits_body)
    }

    /// Whether the socket has taken everything that was sent.
    pub(in crate::session) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.stream.has_unsent()
    }
}

impl<D: Driver> Engine<D> {
    /// Sets the time within which the backend must make its next move. There is none while it is the
    /// client that is waited for, in the middle of an upload.
    pub(in crate::session) fn await_response(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(exchange) = upstream.exchange else {
            return;
        };
        let exchange = &self.exchanges[exchange];
        let timeouts = &exchange.cluster.entity.timeouts;
        let limit = match exchange.reply {
            Reply::Tunnel { ended } if ended || exchange.request_done() => {
                timeouts.tunnel.min(HALF_CLOSED_MS)
            }
            Reply::Tunnel { .. } => timeouts.tunnel,
            Reply::Body(_) => timeouts.response_body,
            Reply::Awaited if exchange.request_done() || exchange.waits_for_continue() => {
                timeouts.response_head
            }
            // It does not read what it is sent.
            Reply::Awaited if !upstream.is_flushed() => timeouts.response_head,
            Reply::Awaited => return upstream.deadline.clear(),
        };
        let is_lane = upstream.stream.lane().is_some();
        self.await_upstream_for(id, limit);
        if is_lane {
            self.note_end_of_lane(id);
        }
    }

    /// Readiness as the driver told it.
    pub(in crate::session) fn upstream_ready(
        &mut self,
        id: UpstreamId,
        readable: bool,
        writable: bool,
        hangup: bool,
    ) {
        let upstream = &mut self.upstreams[id];
        upstream.readable |= readable;
        upstream.hangup |= hangup;
        if writable && upstream.link == Link::Connecting {
            self.try_connected(id);
        } else if writable && upstream.trunk.is_some() {
            self.flush_trunk(id);
        } else if writable && !upstream.is_flushed() && !self.puts_upstream_flush_off(id) {
            self.flush_upstream(id);
        }
        match self.upstreams.get(id).map(|it| it.bulk.is_large()) {
            Some(true) => self.wake_upstream(id),
            Some(false) => self.drive_upstream(id),
            None => {}
        }
    }

    /// Queues an upstream connection to be driven: its client has made room.
    pub(in crate::session) fn wake_upstream(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.input_waits = !upstream.input.is_empty();
        if (upstream.readable || upstream.input_waits) && !upstream.queued {
            upstream.queued = true;
            let bulk = upstream.bulk;
            self.queue(id.token(), bulk);
        }
    }

    /// Takes what the connection has to give, at most [`READS_PER_TURN`] reads of it.
    pub(in crate::session) fn drive_upstream(&mut self, id: UpstreamId) {
        let mut receive = std::mem::take(&mut self.receive);
        let mut has_read = false;
        for reads in 0.. {
            if !self.upstreams.contains(id) {
                break;
            }
            let wants = self.upstream_wants_input(id);
            let upstream = &mut self.upstreams[id];
            if std::mem::take(&mut upstream.input_waits) && wants {
                let mut input = std::mem::take(&mut upstream.input);
                let consumed = self.upstream_input(id, input.as_slice());
                input.consume(&mut self.pool, consumed);
                match self.upstreams.get_mut(id) {
                    Some(upstream) => upstream.input = input,
                    _ => input.clear(&mut self.pool),
                }
                self.trunk_lane_consumed(id, consumed);
                continue;
            }
            if !upstream.readable || !wants {
                break;
            }
            if reads >= READS_PER_TURN || has_read && upstream.bulk.is_large() {
                self.wake_upstream(id);
                break;
            }
            if self.puts_upstream_off(id) {
                break;
            }
            has_read = true;
            if !self.splice_response(id) {
                self.read_upstream(id, &mut receive);
            }
        }
        self.receive = receive;
    }

    fn read_upstream(&mut self, id: UpstreamId, receive: &mut [u8]) {
        let is_saving = self.is_saving_memory();
        let upstream = &mut self.upstreams[id];
        let waiting = upstream.input.len();
        receive[..waiting].copy_from_slice(upstream.input.as_slice());
        let mut is_head = false;
        let shares = upstream.exchange.is_some_and(|exchange| {
            let exchange = &self.exchanges[exchange];
            is_head = !exchange.reply.has_begun();
            exchange.asker.shares()
        });
        // One of many streams of a client must not make us hold as much as a connection may.
        let end = match shares || is_saving {
            true => receive.len().min(waiting + upstream.stream.room_min()),
            false if is_head => receive.len().min(waiting + READ_WITH_HEAD_BYTES),
            false => receive.len(),
        };
        let room = &mut receive[waiting..end];
        match upstream.stream.receive(&mut self.tls, &mut self.pool, room) {
            Ok(Received {
                bytes: 0,
                ended: true,
                ..
            }) => {
                upstream.readable = false;
                self.upstream_end_of_stream(id);
            }
            Ok(received) => {
                upstream.bulk.brought(received.bytes);
                self.bulk_bytes += received.bytes;
                // See `read_client` on short reads.
                upstream.readable = received.more || received.ended || upstream.hangup;
                if upstream.link == Link::Securing {
                    self.try_secured(id);
                }
                if received.bytes == 0 {
                    return;
                }
                let data = &receive[..waiting + received.bytes];
                let consumed = self.upstream_input(id, data);
                if let Some(upstream) = self.upstreams.get_mut(id) {
                    upstream.input.replace(&mut self.pool, &data[consumed..]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => upstream.readable = false,
            Err(_) => self.upstream_failed(id),
        }
    }

    pub(in crate::session) fn upstream_wants_input(&self, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        match (upstream.link, upstream.exchange) {
            (Link::Connecting | Link::Waiting, _) => false,
            (_, None) | (Link::Securing | Link::Greeting | Link::Trunk, _) => true,
            (Link::Pooled, _) => false,
            (Link::Busy, Some(exchange)) => self.takes_more(self.exchanges[exchange].asker),
        }
    }

    pub(super) fn upstream_input(&mut self, id: UpstreamId, data: &[u8]) -> usize {
        if self.upstreams[id].trunk.is_some() {
            return self.trunk_input(id, data);
        }
        let mut at = 0;
        while at < data.len() {
            let Some(upstream) = self.upstreams.get(id) else {
                return data.len();
            };
            let Some(number) = upstream.exchange else {
                // A backend that speaks without being asked is out of step.
                self.close_upstream(id);
                return data.len();
            };
            let exchange = &self.exchanges[number];
            if at > 0 && !self.takes_more(exchange.asker) {
                break;
            }
            let rest = &data[at..];
            let consumed = match exchange.reply {
                Reply::Tunnel { .. } => self.tunnel_from_upstream(id, number, rest),
                Reply::Awaited => self.response_head_input(id, number, rest),
                Reply::Body(_) => self.response_body_input(id, number, rest),
            };
            if consumed == 0 {
                break;
            }
            at += consumed;
        }
        at
    }

    pub(in crate::session) fn upstream_end_of_stream(&mut self, id: UpstreamId) {
        match self.upstreams[id].exchange {
            _ if self.upstreams[id].trunk.is_some() => self.trunk_lost(id),
            None => self.close_upstream(id),
            Some(_) if self.upstreams[id].link == Link::Securing => self.upstream_failed(id),
            Some(number) if self.exchanges[number].reply.is_tunnel() => {
                self.tunnel_upstream_ended(id, number);
            }
            Some(number) => self.response_end_of_stream(id, number),
        }
    }

    /// A read or a write failed.
    pub(in crate::session) fn upstream_failed(&mut self, id: UpstreamId) {
        if self.upstreams[id].trunk.is_some() {
            return self.trunk_lost(id);
        }
        let Some(number) = self.upstreams[id].exchange else {
            return self.close_upstream(id);
        };
        let outcome = match self.upstreams[id].link {
            Link::Connecting => Some(Outcome::ConnectFailed),
            Link::Securing => Some(Outcome::TlsFailed),
            Link::Greeting | Link::Trunk | Link::Waiting | Link::Busy | Link::Pooled => None,
        };
        if let Some(outcome) = outcome {
            self.connect_failed(number, outcome);
        } else if !self.exchanges[number].reply.has_begun() {
            self.upstream_ended_early(id, number);
        } else {
            self.metrics.add(Counter::AbortedByBackendTotal, 1);
            self.fail_exchange(number, 502, Outcome::BackendAborted);
        }
    }

    /// Sends, or queues what the socket does not take.
    pub(in crate::session) fn send_upstream(
        &mut self,
        id: UpstreamId,
        first: &[u8],
        second: &[u8],
    ) {
        if self.upstreams[id].stream.lane().is_some() {
            return self.trunk_lane_send(id, first, second);
        }
        let upstream = &mut self.upstreams[id];
        if std::mem::take(&mut upstream.awaits_body) {
            return self.send_with_head(id, first, second);
        }
        let mut sent = 0;
        if upstream.is_flushed() {
            match upstream
                .stream
                .send(&mut self.tls, &mut self.pool, first, second)
            {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.upstream_write_failed(id),
            }
        }
        if sent < first.len() + second.len() {
            let (first_left, second_left) = split_left(first, second, sent);
            upstream.output.push(&mut self.pool, first_left);
            upstream.output.push(&mut self.pool, second_left);
        }
        self.await_response(id);
    }

    /// Sends the beginning of a request body together with the head that waits for it.
    fn send_with_head(&mut self, id: UpstreamId, first: &[u8], second: &[u8]) {
        let upstream = &mut self.upstreams[id];
        let mut joined = self.pool.take();
        joined.extend_from_slice(upstream.output.as_slice());
        joined.extend_from_slice(first);
        upstream.output.clear(&mut self.pool);
        self.send_upstream(id, &joined, second);
        self.pool.give(joined);
    }

    /// Sends a part of a request body, or queues it; with `last`, the trailers, the request ends with it.
    pub(in crate::session) fn upload(
        &mut self,
        id: UpstreamId,
        first: &[u8],
        second: &[u8],
        last: Option<&[u8]>,
    ) {
        if let Some(trailers) = last
            && self.upstreams[id].stream.lane().is_some()
        {
            self.trunk_lane_end_after(id, trailers);
        }
        self.send_upstream(id, first, second);
    }

    /// Ends a request whose length was not known.
    pub(in crate::session) fn end_upload(&mut self, id: UpstreamId, trailers: &[u8]) {
        if self.upstreams[id].stream.lane().is_some() {
            return self.trunk_lane_end(id, trailers);
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        write_last_chunk(&mut out, trailers);
        self.send_upstream(id, &out, &[]);
        self.scratch = out;
    }

    /// Ends our side of a tunnel: the backend may go on talking.
    pub(in crate::session) fn end_sending(&mut self, id: UpstreamId) {
        if self.upstreams[id].stream.lane().is_some() {
            self.trunk_lane_end(id, &[]);
        } else {
            self.upstreams[id].stream.shutdown_write(&mut self.tls);
        }
    }

    /// The connection of an upstream, which is its own or that of which it is a stream.
    pub(in crate::session) fn carrier_of(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[self.trunk_of(id).unwrap_or(id)]
    }

    /// The backend does not read the rest of the request; it may have answered before it stopped
    /// (RFC 9112 §9.5), so the response is still looked for.
    pub(in crate::session) fn upstream_write_failed(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.output.clear(&mut self.pool);
        upstream.readable = true;
        upstream.hangup = true;
        upstream.keep_alive = false;
        let Some(number) = upstream.exchange else {
            return self.close_upstream(id);
        };
        let exchange = &mut self.exchanges[number];
        exchange.request_discarded = true;
        let asker = exchange.asker;
        self.wake_upstream(id);
        self.wake_asker(asker);
    }

    pub(in crate::session) fn flush_upstream(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let unsent = upstream.stream.unsent_bytes();
        match upstream.stream.send(
            &mut self.tls,
            &mut self.pool,
            upstream.output.as_slice(),
            &[],
        ) {
            Ok(sent) => {
                self.bulk_bytes += sent;
                upstream.output.consume(&mut self.pool, sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if upstream.stream.unsent_bytes() < unsent {
                    self.await_response(id);
                }
                return;
            }
            Err(_) => return self.upstream_write_failed(id),
        }
        if !self.upstreams[id].is_flushed() {
            return self.await_response(id);
        }
        if let Some(number) = self.upstreams[id].exchange {
            if self.upstreams[id].shut_when_sent {
                return self.tunnel_request_sent(number, id);
            }
            let asker = self.exchanges[number].asker;
            self.await_request_body(number);
            self.wake_asker(asker);
        }
    }

    /// Its asker has taken what was queued for it: the exchange goes on, in both directions.
    pub(in crate::session) fn asker_made_room(&mut self, number: ExchangeId) {
        self.await_request_body(number);
        if let Some(upstream) = self.exchanges[number].upstream() {
            self.await_response(upstream);
            self.wake_upstream(upstream);
        }
    }
}

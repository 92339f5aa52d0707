//! The upstream side of a session: one connection to a backend, its pool, its reads and writes.
//!
//! Rule: an HTTP/1.1 upstream connection serves one exchange at a time; between two of them it
//! waits in its backend's pool, the most recently used taken first. What becomes of its exchange when it
//! fails is said in `exchange::attempt`, and what the bytes mean in `exchange::response`.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::Driver;
use crate::runtime::timer::Deadline;
use crate::session::back::carrier::Carrier;
use crate::session::back::shared::Shared;
use crate::session::engine::Engine;
use crate::session::engine::{READ_WITH_HEAD_BYTES, READS_PER_TURN};
use crate::session::exchange::filters::compressing::PIECE_BYTES;
use crate::session::exchange::{Outcome, Reply};
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::session::queue::Bulk;
use crate::session::transport::{Received, Transport};
use crate::telemetry::names::Counter;
use crate::upstream::Backend;

/// What is read at once while the head of an answer is awaited whose bandwidth is bounded.
const PACED_HEAD_BYTES: usize = 4096;

/// What an upstream connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Link {
    /// The connect has not finished.
    Connecting,
    /// TLS is being agreed on.
    Securing,
    /// HTTP/2 has been begun, and the backend has not answered.
    Greeting,
    /// It is open to many requests, each on a stream of its own; see `shared`.
    Shared,
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
    /// What the backend had not taken when a response was late, in bytes.
    pub(in crate::session) unacknowledged: u32,
    /// What a connection that carries many requests knows of them.
    pub(in crate::session) shared: Option<Box<Shared>>,
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
        } else if writable && upstream.shared.is_some() {
            self.flush_shared(id);
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
        if self.is_out_of_time() {
            let upstream = self.upstreams.get(id);
            let number = upstream.and_then(|it| it.exchange);
            if number.is_some_and(|number| self.waits_for_turn(number)) {
                self.wake_upstream(id);
            }
        }
    }

    fn read_upstream(&mut self, id: UpstreamId, receive: &mut [u8]) {
        let is_saving = self.is_saving_memory();
        let upstream = &mut self.upstreams[id];
        let waiting = upstream.input.len();
        receive[..waiting].copy_from_slice(upstream.input.as_slice());
        let (mut is_head, mut is_compressed, mut piece) = (false, false, None);
        let shares = upstream.exchange.is_some_and(|exchange| {
            let exchange = &self.exchanges[exchange];
            is_head = !exchange.reply.has_begun();
            is_compressed = exchange.is_compressed();
            piece = exchange.piece_bytes();
            exchange.asker.shares()
        });
        // One of many streams of a client must not make us hold as much as a connection may.
        let end = match shares || is_saving {
            true => receive.len().min(waiting + upstream.stream.room_min()),
            false if is_compressed => receive.len().min(waiting + PIECE_BYTES),
            false if is_head => receive.len().min(waiting + READ_WITH_HEAD_BYTES),
            false => receive.len(),
        };
        // No more than may leave soon, or a head takes.
        let end = match piece {
            Some(_) if upstream.stream.tls().is_some() => {
                end.min(waiting + upstream.stream.room_min())
            }
            Some(piece) if is_head => end.min(waiting + piece.max(PACED_HEAD_BYTES)),
            Some(piece) => end.min(waiting + piece),
            None => end,
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
            (Link::Connecting, _) => false,
            (_, None) | (Link::Securing | Link::Greeting | Link::Shared, _) => true,
            (Link::Pooled, _) => false,
            (Link::Busy, Some(exchange)) => self.takes_more_of(&self.exchanges[exchange]),
        }
    }

    pub(super) fn upstream_input(&mut self, id: UpstreamId, data: &[u8]) -> usize {
        if self.upstreams[id].shared.is_some() {
            return self.shared_input(id, data);
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
            if at > 0 && !self.takes_more_of(exchange) {
                break;
            }
            let (carrier, rest) = (Carrier::Connection(id), &data[at..]);
            let consumed = match exchange.reply {
                Reply::Tunnel { .. } => self.tunnel_from_upstream(carrier, number, rest),
                Reply::Awaited => self.response_head_input(id, number, rest),
                Reply::Body(_) => self.response_body_input(carrier, number, rest),
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
            _ if self.upstreams[id].shared.is_some() => self.shared_lost(id),
            None => self.close_upstream(id),
            Some(_) if self.upstreams[id].link == Link::Securing => self.upstream_failed(id),
            Some(number) if self.exchanges[number].reply.is_tunnel() => {
                self.tunnel_upstream_ended(Carrier::Connection(id), number);
            }
            Some(number) => self.h1_response_ended(id, number),
        }
    }

    /// A read or a write failed.
    pub(in crate::session) fn upstream_failed(&mut self, id: UpstreamId) {
        if self.upstreams[id].shared.is_some() {
            return self.shared_lost(id);
        }
        let Some(number) = self.upstreams[id].exchange else {
            return self.close_upstream(id);
        };
        let outcome = match self.upstreams[id].link {
            Link::Connecting => Some(Outcome::ConnectFailed),
            Link::Securing => Some(Outcome::TlsFailed),
            Link::Greeting | Link::Shared | Link::Busy | Link::Pooled => None,
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
}

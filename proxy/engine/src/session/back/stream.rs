//! A stream of a connection to a backend: one request on its way out.
//!
//! Rule: a stream carries one attempt. Bytes of its request wait here while the windows or the backlog of its
//! connection do not allow them. `shared` gives it its connection, `h2` tells what comes for it, and what becomes
//! of that is in `stream_reply`. The mirror image of `front::stream`.

use crate::protocol::h2::{ErrorCode, HeaderList, Tag};
use crate::protocol::lines::{LineBuf, Lines};
use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::Driver;
use crate::runtime::timer::Deadline;
use crate::session::back::carrier::Carrier;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::backlog::BACKLOG_BYTES_MAX;
use crate::session::front::multiplex::OUT_BYTES_MAX;
use crate::session::ids::{BackStreamId, ExchangeId, UpstreamId};
use crate::telemetry::names::Counter;

/// A stream's number, and what it was opened as.
pub(super) type Named = (u32, Tag);

/// One stream.
pub(in crate::session) struct BackStream {
    /// The connection that it is on.
    pub(in crate::session) connection: UpstreamId,
    /// Its number there.
    pub(super) number: u32,
    /// What it carries.
    pub(in crate::session) exchange: ExchangeId,
    /// What has come and not been passed on.
    pub(in crate::session) input: ByteQueue,
    /// What the windows do not allow yet.
    pub(super) output: ByteQueue,
    pub(in crate::session) deadline: Deadline,
    /// Queued to be driven in the next turn.
    pub(in crate::session) queued: bool,
    /// The connection has enough to send for now.
    pub(in crate::session) blocked: bool,
    /// It met a connection that was idle, which its backend may have closed.
    pub(super) met_idle: bool,
    /// All that is to be sent has been, so that closing needs no reset.
    pub(super) finished: bool,
    /// Everything has been received.
    pub(super) received: bool,
    /// Bytes of its response that have been passed on.
    pub(super) passed: u64,
    /// With how many of them it is asked whether more of it may wait; 0: not any more.
    pub(super) widen_at: u64,
    /// The request ends with `output`.
    pub(in crate::session) ends_when_sent: bool,
    /// Trailers to send when everything before them has gone.
    trailers_out: LineBuf,
    /// Trailers received, for when everything before them has been passed on.
    pub(super) trailers_in: LineBuf,
    /// What the connection had brought to its backend when the response was late; 0 when the whole request had
    /// been.
    pub(in crate::session) carried: u32,
    /// How much the connection will have sent when all of the request has left.
    pub(in crate::session) ends_at: Option<u64>,
}

impl BackStream {
    /// Whether bytes can be sent without queueing.
    pub(super) fn has_room(&self) -> bool {
        self.is_flushed()
    }

    /// Whether its connection has taken everything that was sent, and would take more.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.blocked
    }

    /// Whether the last byte that is sent ends the request, and no trailers do.
    fn ends_with_data(&self) -> bool {
        self.ends_when_sent && self.trailers_out.is_empty()
    }
}

impl<D: Driver> Engine<D> {
    /// Gives an exchange a stream of a connection that is open, by sending its head.
    pub(super) fn open_back_stream(&mut self, connection: UpstreamId, number: ExchangeId) {
        let exchange = &self.exchanges[number];
        let Some(shared) = self.upstreams[connection].shared.as_mut() else {
            return;
        };
        if exchange.upgrade.is_some() && !shared.h2.takes_extended_connect() {
            self.metrics.add(Counter::Rejected501Total, 1);
            return self.fail_exchange(number, 501, Outcome::UpgradeRefused);
        }
        let is_whole = exchange.request_done() && !exchange.has_kept_body();
        let ends = is_whole && exchange.upgrade.is_none();
        let scheme = match exchange.cluster.tls {
            Some(_) => "https",
            None => "http",
        };
        let vacant = self.back_streams.vacant();
        let id = vacant.id();
        shared.out(&mut self.pool);
        let (h2, out) = (&mut shared.h2, &mut shared.out);
        let opened = HeaderList::of(&exchange.head).and_then(|head| match &exchange.upgrade {
            None => h2.send_request(out, &head, scheme, id.token(), ends),
            Some(switch) => {
                let protocol = &switch.protocol;
                h2.send_handshake(out, &head, scheme, id.token(), protocol)
            }
        });
        let Some(opened) = opened else {
            return self.ended_early(number, false);
        };
        let met_idle = shared.gives(id, &exchange.cluster);
        vacant.insert(BackStream {
            connection,
            number: opened,
            exchange: number,
            input: ByteQueue::default(),
            output: ByteQueue::default(),
            deadline: Deadline::NONE,
            queued: false,
            blocked: false,
            met_idle,
            finished: ends,
            received: false,
            passed: 0,
            widen_at: 0,
            ends_when_sent: false,
            trailers_out: LineBuf::default(),
            trailers_in: LineBuf::default(),
            carried: 0,
            ends_at: None,
        });
        self.upstreams[connection].deadline.clear();
        self.carry(number, Carrier::Stream(id));
        self.note_back_stream_backlog(id);
        self.queue_shared(connection);
        self.head_sent(Carrier::Stream(id), number);
    }

    /// The stream of a connection that was opened as this.
    pub(super) fn find_back_stream(
        &self,
        connection: UpstreamId,
        (number, tag): Named,
    ) -> Option<(BackStreamId, ExchangeId)> {
        let id = BackStreamId::of(tag)?;
        let stream = self.back_streams.get(id)?;
        let is_it = stream.connection == connection && stream.number == number;
        is_it.then_some((id, stream.exchange))
    }

    /// Sends body bytes, or queues what the windows do not allow.
    pub(super) fn back_stream_send(&mut self, id: BackStreamId, first: &[u8], second: &[u8]) {
        let stream = &mut self.back_streams[id];
        let (connection, number) = (stream.connection, stream.number);
        let ends = stream.ends_with_data();
        let mut left = (first, second);
        if stream.output.is_empty() {
            if let Some(shared) = self.upstreams[connection].shared.as_mut() {
                shared.out(&mut self.pool);
                let (h2, out) = (&mut shared.h2, &mut shared.out);
                let is_last = ends && second.is_empty();
                left.0 = &first[h2.send_data(out, number, first, is_last)..];
                if left.0.is_empty() && !second.is_empty() {
                    left.1 = &second[h2.send_data(out, number, second, ends)..];
                }
            }
        }
        stream.output.push(&mut self.pool, left.0);
        stream.output.push(&mut self.pool, left.1);
        if stream.output.is_empty() && stream.ends_when_sent {
            self.finish_back_stream(id);
        }
        self.note_back_stream_backlog(id);
        self.queue_shared(connection);
        self.await_response(Carrier::Stream(id));
    }

    /// The request ends with the bytes that are sent next.
    pub(super) fn back_stream_ends_after(&mut self, id: BackStreamId, trailers: Lines<'_>) {
        let stream = &mut self.back_streams[id];
        stream.ends_when_sent = true;
        stream.trailers_out = trailers.into();
    }

    /// The request is over.
    pub(super) fn end_back_stream(&mut self, id: BackStreamId, trailers: Lines<'_>) {
        self.back_stream_ends_after(id, trailers);
        self.back_stream_send(id, &[], &[]);
    }

    /// Everything has been sent: ends our side of the stream, if the last frame has not.
    fn finish_back_stream(&mut self, id: BackStreamId) {
        let stream = &mut self.back_streams[id];
        stream.ends_when_sent = false;
        let trailers = std::mem::take(&mut stream.trailers_out);
        if std::mem::replace(&mut stream.finished, true) || trailers.is_empty() {
            return;
        }
        if let Some(shared) = self.upstreams[stream.connection].shared.as_mut() {
            shared.out(&mut self.pool);
            shared
                .h2
                .send_trailers(&mut shared.out, stream.number, trailers.lines());
        }
    }

    /// A window was opened.
    pub(super) fn back_stream_is_writable(&mut self, connection: UpstreamId, named: Named) {
        let Some((id, number)) = self.find_back_stream(connection, named) else {
            // Nobody has anything for it, and it would be told again and again.
            if let Some(shared) = self.upstreams[connection].shared.as_mut() {
                shared.h2.reset(named.0, ErrorCode::Cancel);
            }
            return;
        };
        let stream = &mut self.back_streams[id];
        let ends = stream.ends_with_data();
        let mut sent = 0;
        if let Some(shared) = self.upstreams[connection].shared.as_mut() {
            shared.out(&mut self.pool);
            let (h2, out) = (&mut shared.h2, &mut shared.out);
            sent = h2.send_data(out, stream.number, stream.output.as_slice(), ends);
        }
        stream.output.consume(&mut self.pool, sent);
        self.note_back_stream_backlog(id);
        self.queue_shared(connection);
        let stream = &mut self.back_streams[id];
        if !stream.output.is_empty() {
            return self.await_response(Carrier::Stream(id));
        }
        if stream.ends_when_sent {
            if self.exchanges[number].reply.is_tunnel() {
                stream.ends_when_sent = false;
                return self.tunnel_request_sent(number, Carrier::Stream(id));
            }
            self.finish_back_stream(id);
        }
        if self.back_streams[id].is_flushed() {
            self.back_stream_has_room(id);
        }
    }

    /// Notes where on its connection a request ends, once all of it is there.
    pub(super) fn note_end_of_request(&mut self, id: BackStreamId) {
        let stream = &mut self.back_streams[id];
        let is_whole = stream.output.is_empty() && stream.ends_at.is_none();
        if !is_whole || !self.exchanges[stream.exchange].request_done() {
            return;
        }
        let upstream = &self.upstreams[stream.connection];
        if let Some(shared) = upstream.shared.as_ref() {
            let waiting = upstream.output.len() + shared.out.len();
            stream.ends_at = Some(shared.sent + waiting as u64);
        }
    }

    /// More of the request may be taken from its client.
    pub(super) fn back_stream_has_room(&mut self, id: BackStreamId) {
        let number = self.back_streams[id].exchange;
        let asker = self.exchanges[number].asker;
        self.await_response(Carrier::Stream(id));
        self.await_request_body(number);
        self.wake_asker(asker);
    }

    fn note_back_stream_backlog(&mut self, id: BackStreamId) {
        let stream = &mut self.back_streams[id];
        let upstream = &mut self.upstreams[stream.connection];
        let Some(shared) = upstream.shared.as_mut() else {
            return;
        };
        stream.blocked = upstream.output.len() + shared.out.len() > BACKLOG_BYTES_MAX;
        shared.has_blocked |= stream.blocked;
        self.flush_now |= shared.out.len() > OUT_BYTES_MAX;
    }

    /// Frees a stream; one that is not over is reset. Its exchange must be seen to by the caller.
    pub(in crate::session) fn close_back_stream(&mut self, id: BackStreamId) {
        let Some(mut stream) = self.back_streams.remove(id) else {
            return;
        };
        self.timers.remove(&mut stream.deadline);
        self.put_down(stream.exchange);
        stream.input.clear(&mut self.pool);
        stream.output.clear(&mut self.pool);
        let connection = stream.connection;
        let upstream = self.upstreams.get_mut(connection);
        let Some(shared) = upstream.and_then(|it| it.shared.as_mut()) else {
            return;
        };
        shared.streams.retain(|&other| other != id);
        if !(stream.finished && stream.received) {
            shared.h2.reset(stream.number, ErrorCode::Cancel);
        }
        self.queue_shared(connection);
        self.rest_shared(connection);
    }
}

//! Connections to backends that carry many requests: HTTP/2 upstream.
//!
//! Rule: here is what concerns such a connection as a whole: what it knows, its rest and its end. `joining` has its
//! beginning. `h2` takes what comes apart into its streams, each of which carries one request (`stream`,
//! `stream_reply`); `frames` sends what all of them have. The mirror image of `front::multiplex`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::h2::{Connection, ConnectionFault, Settings};
use crate::runtime::buffer::BufferPool;
use crate::runtime::driver::Driver;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::ids::{BackStreamId, TicketId, UpstreamId};
use crate::telemetry::names::{Counter, Field};
use crate::upstream::{Backend, ClusterSettings};

/// Requests on one connection at a time, if the backend takes as many. More of them would save
/// nothing more, and one lost connection should not fail everything.
const STREAMS_MAX: usize = 128;

/// Bytes of one response that may wait in us for its client. A client may have as many as
/// [`STREAMS_MAX`] responses coming, each of a connection of its own or all of one.
const STREAM_WINDOW_BYTES: u32 = 32 * 1024;

/// The same for a long response: as much as one of HTTP/1.1 may have waiting, which is a receive
/// buffer.
const LONG_WINDOW_BYTES: u32 = 256 * 1024;

/// Streams in a row that a backend may refuse, before another connection is made: what it lacks may be what it
/// holds for this one, and never given back (Node's `maxSessionMemory`).
const REFUSED_STREAMS_MAX: u8 = 3;

/// What a connection knows of the requests that share it.
pub(in crate::session) struct Shared {
    pub(super) h2: Connection,
    pub(super) streams: Vec<BackStreamId>,
    /// Who waits for it to open, and to have a stream allowed; first come, first served.
    pub(super) waiting: VecDeque<TicketId>,
    /// Frames for the end of the turn.
    pub(super) out: Vec<u8>,
    /// What it was made for last: the timeouts that hold for it.
    pub(super) cluster: Arc<ClusterSettings>,
    /// It is in the list of those to be flushed.
    pub(in crate::session) queued: bool,
    /// Streams whose response heads wait for the first bytes of the body, to leave in one write.
    pub(super) heads_kept: Vec<BackStreamId>,
    /// Some stream waits for the backlog to shrink.
    pub(super) has_blocked: bool,
    /// Bytes that the connection has taken so far.
    pub(in crate::session) sent: u64,
    /// It has carried a request: the backend may close it while it is idle.
    served: bool,
    /// It was idle, and what leaves with the next write is the first that it is given again.
    pub(super) wakes: bool,
    /// Nothing has been heard since it was idle: the backend may have closed it before it was asked.
    pub(super) is_silent: bool,
    /// It takes no more requests.
    pub(super) leaving: bool,
    /// Streams that the backend has refused since it last answered one.
    refused: u8,
    /// The backend has been asked for a sign of life.
    pub(super) pinged: bool,
    /// When it was last heard of.
    heard_ms: u64,
}

impl Shared {
    pub(super) fn new(cluster: Arc<ClusterSettings>, now_ms: u64) -> Self {
        let settings = Settings {
            head_limits: cluster.head_limits(),
            stream_window: STREAM_WINDOW_BYTES,
            // What the streams may have waiting is bounded one by one, so that none starves the others.
            connection_window: STREAMS_MAX as u32 * LONG_WINDOW_BYTES,
            ..Settings::default()
        };
        Self {
            h2: Connection::client(&settings),
            streams: Vec::new(),
            waiting: VecDeque::new(),
            out: Vec::new(),
            cluster,
            queued: false,
            heads_kept: Vec::new(),
            has_blocked: false,
            sent: 0,
            served: false,
            wakes: false,
            is_silent: false,
            leaving: false,
            refused: 0,
            pinged: false,
            heard_ms: now_ms,
        }
    }

    pub(super) fn out(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = pool.take();
        }
        &mut self.out
    }

    /// Notes that something has come.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.is_silent = false;
        self.h2.pass_time(now_ms / 1000);
    }

    /// Notes that a response has begun.
    pub(super) fn answers(&mut self) {
        self.refused = 0;
    }

    /// Notes a request that is about to be sent; says whether it meets a connection that was idle.
    pub(super) fn gives(&mut self, stream: BackStreamId, cluster: &Arc<ClusterSettings>) -> bool {
        self.streams.push(stream);
        self.note_cluster(cluster);
        if std::mem::replace(&mut self.served, true) && self.streams.len() == 1 {
            self.wakes = true;
            self.is_silent = true;
        }
        self.wakes
    }

    pub(super) fn note_cluster(&mut self, cluster: &Arc<ClusterSettings>) {
        if !Arc::ptr_eq(&self.cluster, cluster) {
            self.cluster = cluster.clone();
        }
    }

    /// Whether nobody uses it or waits for it.
    fn is_unused(&self) -> bool {
        self.streams.is_empty() && self.waiting.is_empty()
    }

    /// Lets more of a long response wait, but no more than the piece that leaves at once.
    pub(super) fn widen(&mut self, stream: u32, piece: u64) {
        let window = u32::try_from(piece).map_or(LONG_WINDOW_BYTES, |it| it.min(LONG_WINDOW_BYTES));
        if let Some(by) = window.checked_sub(STREAM_WINDOW_BYTES).filter(|&by| by > 0) {
            self.h2.widen(stream, by);
        }
    }

    /// Whether one more request may be given to it.
    pub(super) fn has_room(&self, link: Link) -> bool {
        let is_open = link == Link::Shared;
        !self.leaving
            && !self.pinged
            && self.streams.len() + self.waiting.len() < STREAMS_MAX
            && (!is_open || self.h2.can_open() > 0)
    }
}

impl<D: Driver> Engine<D> {
    /// It ended, or failed.
    pub(in crate::session) fn shared_lost(&mut self, id: UpstreamId) {
        let failure = match self.upstreams[id].link {
            Link::Securing => Outcome::TlsFailed,
            Link::Greeting => Outcome::NotHttp2,
            _ => Outcome::ConnectFailed,
        };
        self.lose_shared(id, failure);
    }

    /// The backend broke the protocol, or was never going to speak it.
    pub(super) fn shared_broken(&mut self, id: UpstreamId, fault: ConnectionFault) {
        self.metrics.add(Counter::Http2ErrorsTotal, 1);
        let shared = self.upstreams[id].shared.as_ref();
        for &stream in shared.map_or(&[][..], |shared| &shared.streams) {
            let exchange = self.back_streams[stream].exchange;
            self.exchanges[exchange].record.reason = Some(fault.as_str());
        }
        self.flush_shared_frames(id);
        self.shared_lost(id);
    }

    /// Takes the exchanges off and closes. Of those that wait nothing has been sent: for them it is a `failure` to
    /// connect.
    fn lose_shared(&mut self, id: UpstreamId, failure: Outcome) {
        let upstream = &mut self.upstreams[id];
        upstream.backend.forget_shared(id.token());
        let Some(shared) = upstream.shared.as_mut() else {
            return;
        };
        shared.leaving = true;
        // Each step takes one of them off, and nobody comes to what is left.
        for _ in 0..shared.streams.len() + shared.waiting.len() {
            let upstream = self.upstreams.get(id);
            let Some(shared) = upstream.and_then(|it| it.shared.as_ref()) else {
                return;
            };
            if let Some(&stream) = shared.streams.last() {
                self.back_stream_lost(stream);
            } else if let Some(&ticket) = shared.waiting.front() {
                match self.who_waits(ticket) {
                    Some(exchange) => self.connect_failed(exchange, failure),
                    None => self.stop_waiting_for(id, ticket),
                }
            }
        }
        let upstream = self.upstreams.get(id);
        if let Some(shared) = upstream.and_then(|it| it.shared.as_ref()) {
            assert!(shared.is_unused(), "somebody is still on what is lost");
            self.close_upstream(id);
        }
    }

    /// The backend takes no more requests on it.
    pub(super) fn shared_going_away(&mut self, id: UpstreamId) {
        match self.upstreams[id].link {
            // It has never taken one.
            Link::Greeting => self.lose_shared(id, Outcome::ConnectFailed),
            _ => self.leave_shared(id),
        }
    }

    /// Its deadline has passed.
    pub(in crate::session) fn shared_late(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let Some(shared) = upstream.shared.as_ref() else {
            return;
        };
        let slot = upstream.backend.slot();
        if shared.is_unused() && !shared.pinged {
            return self.close_upstream(id);
        }
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.slot_add(slot, Field::Timeouts, 1);
        self.lose_shared(id, Outcome::ConnectTimeout);
    }

    /// A request was not answered in time: is it the backend, or has the connection gone silently?
    pub(in crate::session) fn doubt_shared(&mut self, id: UpstreamId) {
        let now_ms = self.clock.ms();
        let Some(shared) = self.upstreams[id].shared.as_mut() else {
            return;
        };
        let limit = shared.cluster.entity.timeouts.connect;
        if shared.pinged || shared.heard_ms + limit > now_ms {
            return;
        }
        shared.pinged = true;
        shared.h2.ping();
        self.await_upstream_for(id, limit);
        self.queue_shared(id);
    }

    /// The backend has given its sign of life.
    pub(super) fn shared_lives(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if let Some(shared) = upstream.shared.as_mut() {
            shared.pinged = false;
            upstream.deadline.clear();
            self.rest_shared(id);
        }
    }

    /// No more requests on the connections of a backend; those that are there come to their ends.
    pub(super) fn leave_all_shared(&mut self, backend: &Backend) {
        let connections = std::mem::take(&mut *backend.shared.borrow_mut());
        for token in connections {
            if let Some(id) = UpstreamId::of(token).filter(|&it| self.upstreams.contains(it)) {
                self.leave_shared(id);
            }
        }
    }

    /// The backend has refused a stream, unanswered. One that refuses all takes others along with whoever was the reason.
    pub(super) fn shared_refuses(&mut self, id: UpstreamId) {
        if let Some(shared) = self.upstreams[id].shared.as_mut() {
            shared.refused = shared.refused.saturating_add(1);
            if shared.refused >= REFUSED_STREAMS_MAX && !shared.leaving {
                self.leave_shared(id);
            }
        }
    }

    fn leave_shared(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.backend.forget_shared(id.token());
        if let Some(shared) = upstream.shared.as_mut() {
            shared.leaving = true;
        }
        self.rest_shared(id);
    }

    /// Without a stream it waits for the next one, or is closed.
    pub(super) fn rest_shared(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(shared) = upstream.shared.as_mut() else {
            return;
        };
        if !shared.is_unused() || shared.pinged {
            return;
        }
        let kept_max = shared.cluster.entity.keep_alive_connections as usize;
        let kept = upstream.backend.shared.borrow().len();
        let is_wanted = upstream.link == Link::Shared
            && !shared.leaving
            && upstream.backend.accepts_requests()
            && kept <= kept_max;
        if !is_wanted {
            return self.close_upstream(id);
        }
        shared.h2.shrink();
        let limit = shared.cluster.entity.timeouts.keep_alive;
        self.await_upstream_for(id, limit);
    }
}

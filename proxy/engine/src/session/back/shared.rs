//! Connections to backends that carry many requests: HTTP/2 upstream.
//!
//! Rule: here is what concerns such a connection as a whole: who may join it, its beginning, its rest and its end.
//! It takes requests when the backend has told its settings: until then nothing has been sent that could not
//! go elsewhere, and what does not speak HTTP/2 is a backend that cannot be reached. `h2` takes what comes apart
//! into its streams, each of which carries one request (`stream`, `stream_reply`); `frames` sends what all of
//! them have. The mirror image of `front::multiplex`.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::h2::{Connection, Settings};
use crate::protocol::tls::Machine;
use crate::runtime::buffer::BufferPool;
use crate::runtime::driver::Driver;
use crate::session::back::upstream::{Link, Upstream};
use crate::session::engine::Engine;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::ids::{BackStreamId, ExchangeId, UpstreamId};
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

/// What a connection knows of the requests that share it.
pub(in crate::session) struct Shared {
    pub(super) h2: Connection,
    /// Its streams, those included that are to be opened with it.
    pub(super) streams: Vec<BackStreamId>,
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
    /// The backend has been asked for a sign of life.
    pub(super) pinged: bool,
    /// When it was last heard of.
    heard_ms: u64,
}

impl Shared {
    fn new(cluster: Arc<ClusterSettings>, now_ms: u64) -> Self {
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

    /// Notes a request that is about to be sent; says whether it meets a connection that was idle.
    pub(super) fn gives(&mut self) -> bool {
        if std::mem::replace(&mut self.served, true) && self.streams.len() == 1 {
            self.wakes = true;
            self.is_silent = true;
        }
        self.wakes
    }

    /// Lets more of a long response wait.
    pub(super) fn widen(&mut self, stream: u32) {
        let by = LONG_WINDOW_BYTES - STREAM_WINDOW_BYTES;
        self.h2.widen(stream, by);
    }

    /// Whether one more request may be given to it.
    fn has_room(&self, link: Link) -> bool {
        let is_open = link == Link::Shared;
        !self.leaving
            && !self.pinged
            && self.streams.len() < STREAMS_MAX
            && (!is_open || self.h2.can_open() > 0)
    }
}

/// Whether an exchange may go on a connection. That the backend has closed it may not be known yet: a
/// request that could not be sent again is worth a look at the socket.
fn takes(upstream: &Upstream, exchange: &Exchange) -> bool {
    let Some(shared) = upstream.shared.as_ref() else {
        return false;
    };
    let same_policy = match (&exchange.cluster.tls, &upstream.tls) {
        (Some(wanted), Some(had)) => Arc::ptr_eq(wanted, had),
        (None, None) => true,
        _ => false,
    };
    let is_idle = upstream.link == Link::Shared && shared.streams.is_empty();
    same_policy
        && shared.has_room(upstream.link)
        && (!is_idle || exchange.may_repeat_once() || upstream.stream.is_quiet())
}

impl<D: Driver> Engine<D> {
    /// Gives an exchange a stream of a connection to its backend, of a new one if none has room.
    ///
    /// # Errors
    /// When no connection can be begun.
    pub(super) fn join_shared(
        &mut self,
        exchange: ExchangeId,
        backend: &Rc<Backend>,
    ) -> io::Result<()> {
        let entry = &self.exchanges[exchange];
        let found = backend.shared.borrow().iter().find_map(|&token| {
            let id = UpstreamId::of(token)?;
            let upstream = self.upstreams.get(id)?;
            takes(upstream, entry).then_some(id)
        });
        if let Some(connection) = found {
            if self.upstreams[connection].link == Link::Shared {
                backend.probe_ended();
            }
            self.metrics.add(Counter::UpstreamReusesTotal, 1);
            self.metrics.slot_add(backend.slot(), Field::Reuses, 1);
            self.open_back_stream(connection, exchange);
            return Ok(());
        }
        let cluster = entry.cluster.clone();
        let connection = self.open_upstream(&cluster, backend)?;
        let upstream = &mut self.upstreams[connection];
        upstream.shared = Some(Box::new(Shared::new(cluster, self.clock.ms())));
        backend.shared.borrow_mut().push(connection.token());
        self.open_back_stream(connection, exchange);
        self.greet(connection);
        Ok(())
    }

    /// Sends the first bytes on a socket that may still be connecting.
    pub(super) fn greet(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(shared) = upstream.shared.as_mut() else {
            return;
        };
        let begun = match upstream.tls.is_some() {
            true => upstream.stream.begin(&mut self.tls, &mut self.pool, &[]),
            false => {
                shared.out(&mut self.pool);
                shared.h2.flush(&mut shared.out);
                let sent = upstream
                    .stream
                    .send(&mut self.tls, &mut self.pool, &shared.out, &[]);
                sent.map(|sent| {
                    shared.sent += sent as u64;
                    upstream.output.push(&mut self.pool, &shared.out[sent..]);
                    shared.out.clear();
                })
            }
        };
        match begun {
            Ok(()) if upstream.tls.is_some() => upstream.link = Link::Securing,
            Ok(()) => upstream.link = Link::Greeting,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.shared_lost(id),
        }
    }

    /// Bytes of a handshake have come.
    pub(super) fn greet_secured(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if !upstream.stream.has_just_opened() {
            return;
        }
        upstream.link = Link::Greeting;
        if upstream.stream.tls().and_then(Machine::alpn) != Some(b"h2") {
            return self.shared_lost(id);
        }
        self.queue_shared(id);
    }

    /// The backend has told its settings: those who waited for that go. One that takes no request yet
    /// may say otherwise as long as a connect may last.
    pub(super) fn shared_may_open(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let takes = upstream.shared.as_ref().map(|shared| shared.h2.can_open());
        if upstream.link != Link::Greeting || takes.is_none_or(|count| count == 0) {
            return;
        }
        upstream.link = Link::Shared;
        upstream.deadline.clear();
        self.count_connected(id);
        let waiting = self.upstreams[id].shared.as_ref();
        let waiting = waiting.map_or_else(Vec::new, |shared| shared.streams.clone());
        for stream in waiting {
            let upstream = self.upstreams.get(id);
            let Some(shared) = upstream.and_then(|it| it.shared.as_ref()) else {
                return;
            };
            if !self.back_streams.contains(stream) {
                continue;
            }
            if shared.h2.can_open() > 0 {
                self.begin_back_stream(stream);
            } else {
                self.try_elsewhere(self.back_streams[stream].exchange);
            }
        }
    }

    // Its end.

    /// It ended, or failed.
    pub(in crate::session) fn shared_lost(&mut self, id: UpstreamId) {
        let failure = match self.upstreams[id].link {
            Link::Connecting => Some(Outcome::ConnectFailed),
            Link::Securing => Some(Outcome::TlsFailed),
            Link::Greeting => Some(Outcome::NotHttp2),
            _ => None,
        };
        self.lose_shared(id, failure);
    }

    /// The backend broke the protocol, or was never going to speak it.
    pub(super) fn shared_broken(&mut self, id: UpstreamId) {
        self.metrics.add(Counter::Http2ErrorsTotal, 1);
        self.flush_shared_frames(id);
        self.shared_lost(id);
    }

    /// Takes the exchanges off and closes. With `failure` nothing of them has been sent.
    fn lose_shared(&mut self, id: UpstreamId, failure: Option<Outcome>) {
        let upstream = &mut self.upstreams[id];
        upstream.backend.forget_shared(id.token());
        while self.upstreams.contains(id) {
            let Some(shared) = self.upstreams[id].shared.as_mut() else {
                return;
            };
            shared.leaving = true;
            let Some(&stream) = shared.streams.last() else {
                return self.close_upstream(id);
            };
            match failure {
                Some(failure) => self.back_stream_not_connected(stream, failure),
                None => self.back_stream_lost(stream),
            }
        }
    }

    /// The backend takes no more requests on it.
    pub(super) fn shared_going_away(&mut self, id: UpstreamId) {
        match self.upstreams[id].link {
            // It has never taken one.
            Link::Greeting => self.lose_shared(id, Some(Outcome::ConnectFailed)),
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
        if shared.streams.is_empty() && !shared.pinged {
            return self.close_upstream(id);
        }
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.slot_add(slot, Field::Timeouts, 1);
        let failure = match upstream.link {
            Link::Shared => None,
            _ => Some(Outcome::ConnectTimeout),
        };
        self.lose_shared(id, failure);
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
        if !shared.streams.is_empty() || shared.pinged {
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

//! Connections to backends that carry many requests: HTTP/2 upstream.
//!
//! Rule: such a connection is a *trunk*, and each stream of it an upstream connection of its own, a
//! *lane*, whose transport is the trunk; the mirror image of `multiplex`. So an exchange does not know
//! what its backend speaks, and timeouts, back-pressure and retries are the same code. A trunk takes
//! requests when the backend has told its settings: until then nothing has been sent that could not
//! go elsewhere, and what does not speak HTTP/2 is a backend that cannot be reached. Here is what
//! concerns the connection as a whole; `trunk_lane` has the way of a single request. Frames of all
//! lanes are collected and leave in one write at the end of the turn.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::protocol::h2::{Connection, Event, Heads, Settings};
use crate::protocol::tls::Machine;
use crate::runtime::buffer::BufferPool;
use crate::runtime::driver::Driver;
use crate::session::back::upstream::{Link, Upstream};
use crate::session::engine::Engine;
use crate::session::exchange::{Exchange, Outcome};
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::telemetry::names::{Counter, Field};
use crate::upstream::{Backend, ClusterSettings};

/// Requests on one connection at a time, if the backend takes as many. More of them would save
/// nothing more, and one lost connection should not fail everything.
const LANES_MAX: usize = 128;

/// Bytes of one response that may wait in us for its client. A client may have as many as
/// [`LANES_MAX`] responses coming, each of a connection of its own or all of one.
const STREAM_WINDOW_BYTES: u32 = 32 * 1024;

/// The same for a long response: as much as one of HTTP/1.1 may have waiting, which is a receive
/// buffer.
const LONG_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of answers to PING, SETTINGS and the like that may wait for a backend which takes nothing: who
/// asks for more without reading any is broken.
const UNREAD_ANSWERS_MAX: usize = 64 * 1024;

/// What a connection knows of its lanes.
pub(in crate::session) struct Trunk {
    pub(in crate::session) h2: Connection,
    /// Its lanes, by their indexes among the upstream connections.
    pub(in crate::session) lanes: Vec<UpstreamId>,
    /// Frames for the end of the turn.
    pub(in crate::session) out: Vec<u8>,
    /// What it was made for last: the timeouts that hold for it.
    pub(in crate::session) cluster: Arc<ClusterSettings>,
    /// It is in the list of those to be flushed.
    pub(in crate::session) queued: bool,
    /// Lanes whose response heads wait for the first bytes of the body, to leave in one write.
    pub(in crate::session) held: Vec<UpstreamId>,
    /// Some lane waits for the backlog to shrink.
    pub(in crate::session) has_blocked: bool,
    /// Bytes that the connection has taken so far.
    pub(in crate::session) sent: u64,
    /// It has carried a request: the backend may close it while it is idle.
    served: bool,
    /// It was idle, and what leaves with the next write is the first that it is given again.
    wakes: bool,
    /// Nothing has been heard since it was idle: the backend may have closed it before it was asked.
    pub(super) is_silent: bool,
    /// It takes no more requests.
    leaving: bool,
    /// The backend has been asked for a sign of life.
    pinged: bool,
    /// When it was last heard of.
    heard_ms: u64,
}

impl Trunk {
    fn new(cluster: Arc<ClusterSettings>, now_ms: u64) -> Self {
        let settings = Settings {
            head_limits: cluster.head_limits(),
            stream_window: STREAM_WINDOW_BYTES,
            // What the lanes may hold is bounded one by one, so that none starves the others.
            connection_window: LANES_MAX as u32 * LONG_WINDOW_BYTES,
            ..Settings::default()
        };
        Self {
            h2: Connection::client(&settings),
            lanes: Vec::new(),
            out: Vec::new(),
            cluster,
            queued: false,
            held: Vec::new(),
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

    pub(in crate::session) fn out(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = pool.take();
        }
        &mut self.out
    }

    /// Notes a request that is about to be sent; says whether it meets a connection that was idle.
    pub(in crate::session) fn gives(&mut self) -> bool {
        if std::mem::replace(&mut self.served, true) && self.lanes.len() == 1 {
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
        let is_open = link == Link::Trunk;
        !self.leaving
            && !self.pinged
            && self.lanes.len() < LANES_MAX
            && (!is_open || self.h2.can_open() > 0)
    }
}

impl<D: Driver> Engine<D> {
    /// Gives an exchange a lane of a connection to its backend, a new one if none has room.
    ///
    /// # Errors
    /// When no connection can be begun.
    pub(super) fn join_trunk(
        &mut self,
        exchange: ExchangeId,
        backend: &Rc<Backend>,
    ) -> io::Result<()> {
        let entry = &self.exchanges[exchange];
        let found = backend.trunks.borrow().iter().find_map(|&token| {
            let id = UpstreamId::of(token)?;
            let upstream = self.upstreams.get(id)?;
            takes(upstream, entry).then_some(id)
        });
        if let Some(trunk) = found {
            if self.upstreams[trunk].link == Link::Trunk {
                backend.probe_ended();
            }
            self.metrics.add(Counter::UpstreamReusesTotal, 1);
            self.metrics.slot_add(backend.slot(), Field::Reuses, 1);
            return self.open_lane_to_backend(trunk, exchange);
        }
        let cluster = entry.cluster.clone();
        let trunk = self.open_upstream(&cluster, backend)?;
        let upstream = &mut self.upstreams[trunk];
        upstream.trunk = Some(Box::new(Trunk::new(cluster, self.clock.ms())));
        backend.trunks.borrow_mut().push(trunk.token());
        self.open_lane_to_backend(trunk, exchange)?;
        self.greet(trunk);
        Ok(())
    }

    /// Sends the first bytes on a socket that may still be connecting.
    pub(super) fn greet(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(trunk) = upstream.trunk.as_mut() else {
            return;
        };
        let begun = match upstream.tls.is_some() {
            true => upstream.stream.begin(&mut self.tls, &mut self.pool, &[]),
            false => {
                trunk.out(&mut self.pool);
                trunk.h2.flush(&mut trunk.out);
                let sent = upstream
                    .stream
                    .send(&mut self.tls, &mut self.pool, &trunk.out, &[]);
                sent.map(|sent| {
                    trunk.sent += sent as u64;
                    upstream.output.push(&mut self.pool, &trunk.out[sent..]);
                    trunk.out.clear();
                })
            }
        };
        match begun {
            Ok(()) if upstream.tls.is_some() => upstream.link = Link::Securing,
            Ok(()) => upstream.link = Link::Greeting,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.trunk_lost(id),
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
            return self.trunk_lost(id);
        }
        self.queue_trunk(id);
    }

    /// Takes frames from the front of the input.
    pub(super) fn trunk_input(&mut self, id: UpstreamId, data: &[u8]) -> usize {
        let now_ms = self.clock.ms();
        let mut at = 0;
        if let Some(trunk) = self.upstreams[id].trunk.as_mut() {
            trunk.heard_ms = now_ms;
            trunk.is_silent = false;
            trunk.h2.pass_time(now_ms / 1000);
        }
        while self.upstreams.contains(id) {
            let Some(trunk) = self.upstreams[id].trunk.as_mut() else {
                return data.len();
            };
            let mut heads = std::mem::take(&mut self.heads);
            let Ok(step) = trunk.h2.next(&data[at..], &mut heads) else {
                self.heads = heads;
                self.trunk_broken(id);
                return data.len();
            };
            at += step.consumed;
            if let Some(event) = step.event {
                self.trunk_event(id, event, &mut heads);
            }
            self.heads = heads;
            if step.event.is_none() {
                break;
            }
        }
        if self.upstreams.contains(id) {
            self.send_held_heads(id);
        }
        if self.upstreams.contains(id) {
            self.queue_trunk(id);
        }
        at
    }

    fn trunk_event(&mut self, id: UpstreamId, event: Event<'_>, heads: &mut Heads) {
        match event {
            Event::Response { stream, tag, ends } => {
                self.lane_response(id, (stream, tag), ends, heads);
            }
            Event::Interim { stream, tag } => self.lane_interim(id, (stream, tag), heads),
            Event::Data {
                stream,
                tag,
                data,
                ends,
            } => self.lane_response_data(id, (stream, tag), data, ends),
            Event::Trailers { stream, tag } => {
                self.lane_response_trailers(id, (stream, tag), heads.trailers());
            }
            Event::Reset {
                stream,
                tag,
                code,
                fault,
            } => self.lane_was_reset(id, (stream, tag), code, fault.is_some()),
            Event::Writable { stream, tag } => self.lane_is_writable(id, (stream, tag)),
            Event::Settings => self.trunk_may_open(id),
            // It has never taken a request.
            Event::GoAway { .. } if self.upstreams[id].link == Link::Greeting => {
                self.lose_trunk(id, Some(Outcome::ConnectFailed));
            }
            Event::GoAway { .. } => self.leave_trunk(id),
            Event::Pong => {
                if let Some(trunk) = self.upstreams[id].trunk.as_mut() {
                    trunk.pinged = false;
                    self.upstreams[id].deadline.clear();
                    self.rest_trunk(id);
                }
            }
            // What only a server is told.
            Event::Request { .. } | Event::Refused { .. } => {}
        }
    }

    /// The backend has told its settings: those who waited for that go. One that takes no request yet
    /// may say otherwise as long as a connect may last.
    fn trunk_may_open(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let takes = upstream.trunk.as_ref().map(|trunk| trunk.h2.can_open());
        if upstream.link != Link::Greeting || takes.is_none_or(|count| count == 0) {
            return;
        }
        upstream.link = Link::Trunk;
        upstream.deadline.clear();
        self.count_connected(id);
        let waiting = self.upstreams[id].trunk.as_ref();
        let waiting = waiting.map_or_else(Vec::new, |trunk| trunk.lanes.clone());
        for lane in waiting {
            let Some(trunk) = self
                .upstreams
                .get(id)
                .and_then(|upstream| upstream.trunk.as_ref())
            else {
                return;
            };
            if !trunk.lanes.contains(&lane) {
                continue;
            }
            if trunk.h2.can_open() > 0 {
                self.begin_lane(lane);
            } else {
                self.move_lane(lane);
            }
        }
    }

    // The end of a connection.

    /// It ended, or failed.
    pub(in crate::session) fn trunk_lost(&mut self, id: UpstreamId) {
        let failure = match self.upstreams[id].link {
            Link::Connecting => Some(Outcome::ConnectFailed),
            Link::Securing => Some(Outcome::TlsFailed),
            Link::Greeting => Some(Outcome::NotHttp2),
            _ => None,
        };
        self.lose_trunk(id, failure);
    }

    /// The backend broke the protocol, or was never going to speak it.
    fn trunk_broken(&mut self, id: UpstreamId) {
        self.metrics.add(Counter::Http2ErrorsTotal, 1);
        self.flush_trunk_frames(id);
        self.trunk_lost(id);
    }

    /// Takes the exchanges off and closes. With `failure` nothing of them has been sent.
    fn lose_trunk(&mut self, id: UpstreamId, failure: Option<Outcome>) {
        let upstream = &mut self.upstreams[id];
        let token = id.token();
        upstream.backend.forget_trunk(token);
        while self.upstreams.contains(id) {
            let Some(trunk) = self.upstreams[id].trunk.as_mut() else {
                return;
            };
            trunk.leaving = true;
            let Some(&lane) = trunk.lanes.last() else {
                return self.close_upstream(id);
            };
            match failure {
                Some(failure) => self.lane_not_connected(lane, failure),
                None => self.lane_lost(lane),
            }
        }
    }

    /// Its deadline has passed.
    pub(in crate::session) fn trunk_late(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let Some(trunk) = upstream.trunk.as_ref() else {
            return;
        };
        let slot = upstream.backend.slot();
        if trunk.lanes.is_empty() && !trunk.pinged {
            return self.close_upstream(id);
        }
        self.metrics.add(Counter::TimeoutsTotal, 1);
        self.metrics.slot_add(slot, Field::Timeouts, 1);
        let failure = match upstream.link {
            Link::Trunk => None,
            _ => Some(Outcome::ConnectTimeout),
        };
        self.lose_trunk(id, failure);
    }

    /// A request was not answered in time: is it the backend, or has the connection gone silently?
    pub(in crate::session) fn doubt_trunk_of(&mut self, lane: UpstreamId) {
        let Some(id) = self.trunk_of(lane) else {
            return;
        };
        let now_ms = self.clock.ms();
        let upstream = &mut self.upstreams[id];
        let Some(trunk) = upstream.trunk.as_mut() else {
            return;
        };
        let limit = trunk.cluster.entity.timeouts.connect;
        if trunk.pinged || trunk.heard_ms + limit > now_ms {
            return;
        }
        trunk.pinged = true;
        trunk.h2.ping();
        self.await_upstream_for(id, limit);
        self.queue_trunk(id);
    }

    /// No more requests on the connections of a backend; those that are there come to their ends.
    pub(super) fn leave_trunks(&mut self, backend: &Backend) {
        let trunks = std::mem::take(&mut *backend.trunks.borrow_mut());
        for token in trunks {
            if let Some(id) = UpstreamId::of(token).filter(|&it| self.upstreams.contains(it)) {
                self.leave_trunk(id);
            }
        }
    }

    fn leave_trunk(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.backend.forget_trunk(id.token());
        if let Some(trunk) = upstream.trunk.as_mut() {
            trunk.leaving = true;
        }
        self.rest_trunk(id);
    }

    /// Without a lane it waits for the next one, or is closed.
    pub(super) fn rest_trunk(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(trunk) = upstream.trunk.as_mut() else {
            return;
        };
        if !trunk.lanes.is_empty() || trunk.pinged {
            return;
        }
        let kept_max = trunk.cluster.entity.keep_alive_connections as usize;
        let kept = upstream.backend.trunks.borrow().len();
        let is_wanted = upstream.link == Link::Trunk
            && !trunk.leaving
            && upstream.backend.accepts_requests()
            && kept <= kept_max;
        if !is_wanted {
            return self.close_upstream(id);
        }
        trunk.h2.shrink();
        let limit = trunk.cluster.entity.timeouts.keep_alive;
        self.await_upstream_for(id, limit);
    }

    // Sending.

    pub(super) fn queue_trunk(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let token = id.token();
        if let Some(trunk) = upstream.trunk.as_mut() {
            if !std::mem::replace(&mut trunk.queued, true) {
                self.unflushed.push(token);
            }
        }
    }

    /// Sends the frames of this turn. What fails here shows when the connection is read, as there may
    /// be answers in it yet.
    pub(in crate::session) fn flush_trunk_frames(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let Some(trunk) = upstream.trunk.as_mut() else {
            return;
        };
        trunk.queued = false;
        trunk.wakes = false;
        if matches!(upstream.link, Link::Connecting | Link::Securing) {
            return;
        }
        trunk.out(&mut self.pool);
        if upstream.output.is_empty() && !upstream.stream.has_unsent() {
            trunk.h2.flush(&mut trunk.out);
        } else if trunk.h2.waiting_bytes() > UNREAD_ANSWERS_MAX {
            self.metrics.add(Counter::Http2ErrorsTotal, 1);
            return self.trunk_lost(id);
        }
        let out = std::mem::take(&mut trunk.out);
        let mut sent = 0;
        if upstream.is_flushed() && !out.is_empty() {
            match upstream
                .stream
                .send(&mut self.tls, &mut self.pool, &out, &[])
            {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    sent = out.len();
                    self.trunk_is_deaf(id);
                }
            }
        }
        let upstream = &mut self.upstreams[id];
        upstream.output.push(&mut self.pool, &out[sent..]);
        self.pool.give(out);
        if let Some(trunk) = upstream.trunk.as_mut() {
            trunk.sent += sent as u64;
        }
        if self.upstreams[id].is_flushed() {
            self.unblock_lanes(id);
        }
    }

    /// The socket has room.
    pub(super) fn flush_trunk(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if upstream.is_flushed() {
            return;
        }
        let waiting = upstream.output.as_slice();
        match upstream
            .stream
            .send(&mut self.tls, &mut self.pool, waiting, &[])
        {
            Ok(sent) => {
                upstream.output.consume(&mut self.pool, sent);
                if let Some(trunk) = upstream.trunk.as_mut() {
                    trunk.sent += sent as u64;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.trunk_is_deaf(id),
        }
        if self.upstreams[id].is_flushed() {
            self.queue_trunk(id);
            self.unblock_lanes(id);
        }
    }

    fn trunk_is_deaf(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.output.clear(&mut self.pool);
        upstream.readable = true;
        upstream.hangup = true;
        upstream.backend.forget_trunk(id.token());
        if let Some(trunk) = upstream.trunk.as_mut() {
            trunk.leaving = true;
        }
        self.wake_upstream(id);
    }

    fn unblock_lanes(&mut self, id: UpstreamId) {
        let Some(trunk) = self.upstreams[id].trunk.as_mut() else {
            return;
        };
        if !std::mem::take(&mut trunk.has_blocked) {
            return;
        }
        for lane in trunk.lanes.clone() {
            let Some(at) = self.upstreams[lane].stream.lane_mut() else {
                continue;
            };
            if std::mem::take(&mut at.blocked) && self.upstreams[lane].output.is_empty() {
                self.lane_has_room(lane);
            }
        }
    }

    /// The connection that a lane is on.
    pub(in crate::session) fn trunk_of(&self, lane: UpstreamId) -> Option<UpstreamId> {
        let lane = self.upstreams.get(lane)?.stream.lane()?;
        Some(lane.connection)
    }
}

/// Whether an exchange may go on a connection. That the backend has closed it may not be known yet: a
/// request that could not be sent again is worth a look at the socket.
fn takes(upstream: &Upstream, exchange: &Exchange) -> bool {
    let Some(trunk) = upstream.trunk.as_ref() else {
        return false;
    };
    let same_policy = match (&exchange.cluster.tls, &upstream.tls) {
        (Some(wanted), Some(had)) => Arc::ptr_eq(wanted, had),
        (None, None) => true,
        _ => false,
    };
    let is_idle = upstream.link == Link::Trunk && trunk.lanes.is_empty();
    same_policy
        && trunk.has_room(upstream.link)
        && (!is_idle || exchange.may_repeat_once() || upstream.stream.is_quiet())
}

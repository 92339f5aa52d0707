//! Connections that carry many requests: HTTP/2 from clients.
//!
//! Rule: each stream is a client of its own, a *lane*, whose transport is the connection. So everything
//! that holds for a client (an exchange, back-pressure, timeouts, refusals) holds for a stream, by the
//! same code, and streams of one connection may be served by different generations. A lane may outlive
//! its stream, when a backend has yet to read what came before the end, but never its connection. Here
//! is only what takes a connection apart into lanes; `lane` puts their answers together again. Frames
//! of all lanes are collected and leave in one write at the end of the turn.

use std::rc::Rc;

use crate::protocol::h1::{Reject, Slashes};
use crate::protocol::h2::{Connection, ErrorCode, Event, Heads, Settings, Tag};
use crate::runtime::buffer::BufferPool;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::record::{Glimpse, is_call};
use crate::session::front::client::Phase;
use crate::session::ids::{ClientId, Fate, Owner};
use crate::session::transport::{Lane, Transport};
use crate::state::listener::{Listener, ListenerSettings};
use crate::telemetry::names::Counter;

/// Frames that are as much as this are worth a write of their own.
pub(in crate::session) const OUT_BYTES_MAX: usize = 64 * 1024;

/// Who has no stream and is told that we leave has to answer within this time.
const LEAVE_MS_MAX: u64 = 1000;

/// The rest of a header block has to come within this time (T08).
const HEAD_REST_MS_MAX: u64 = 5000;

/// What a connection knows of its streams.
pub(in crate::session) struct Multiplex {
    pub(in crate::session) h2: Connection,
    /// Its lanes, by their indexes among the clients.
    pub(in crate::session) lanes: Vec<ClientId>,
    /// As many lanes as it may have streams.
    lanes_max: usize,
    /// Frames for the end of the turn.
    pub(in crate::session) out: Vec<u8>,
    /// It is in the list of those to be flushed.
    pub(in crate::session) queued: bool,
    /// Lanes wait for the backlog to shrink; see `backlog`.
    pub(in crate::session) has_blocked: bool,
    /// The connection's deadline is that of a header block.
    awaits_head: bool,
    /// The client has been told that we are about to leave.
    leaves: bool,
    /// How paths are read.
    slashes: Slashes,
}

impl Multiplex {
    fn new(listener: &ListenerSettings) -> Self {
        let settings = Settings {
            head_limits: listener.head_limits,
            ..Settings::default()
        };
        Self {
            h2: Connection::server(&settings),
            lanes: Vec::new(),
            lanes_max: settings.streams_max as usize,
            out: Vec::new(),
            queued: false,
            has_blocked: false,
            awaits_head: false,
            leaves: false,
            slashes: listener.slashes,
        }
    }

    /// How many streams it has that are served.
    pub(in crate::session) fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// Whether something is open: a stream without a lane waits to be reset.
    fn is_busy(&self) -> bool {
        self.h2.stream_count() > 0 || !self.lanes.is_empty()
    }

    pub(in crate::session) fn out(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = pool.take();
        }
        &mut self.out
    }
}

impl<D: Driver> Engine<D> {
    /// The client has chosen HTTP/2.
    pub(super) fn begin_multiplex(&mut self, id: ClientId) {
        let listener = self.clients[id].listener.settings();
        let client = &mut self.clients[id];
        client.phase = Phase::Multiplexed;
        client.multiplex = Some(Box::new(Multiplex::new(&listener)));
        self.metrics.add(Counter::Http2ConnectionsTotal, 1);
        self.await_streams(id);
        self.queue_multiplexed(id);
    }

    /// Takes frames from the front of the input.
    pub(super) fn multiplex_input(&mut self, id: ClientId, data: &[u8]) -> usize {
        let now_s = self.clock.ms() / 1000;
        let mut at = 0;
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.h2.pass_time(now_s);
        }
        while self.clients.contains(id) {
            if self.is_backed_up(id) {
                // Each frame may be one more request that we answer ourselves.
                self.clients[id].input_waits = at < data.len();
                break;
            }
            let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
                return data.len();
            };
            let mut heads = std::mem::take(&mut self.heads);
            heads.request.slashes = multiplex.slashes;
            let step = multiplex.h2.next(&data[at..], &mut heads);
            let event = match step {
                Ok(step) => {
                    at += step.consumed;
                    step.event
                }
                Err(_) => {
                    self.heads = heads;
                    self.multiplex_failed(id);
                    return data.len();
                }
            };
            if let Some(event) = event {
                self.multiplex_event(id, event, &mut heads);
            }
            self.heads = heads;
            if event.is_none() {
                break;
            }
        }
        if self.clients.contains(id) {
            self.watch_head(id);
            self.queue_multiplexed(id);
        }
        at
    }

    fn multiplex_event(&mut self, id: ClientId, event: Event<'_>, heads: &mut Heads) {
        match event {
            Event::Request { stream, ends } => self.lane_request(id, stream, ends, heads),
            Event::Refused {
                stream,
                reject,
                ends,
            } => self.lane_refused(id, stream, reject, ends, heads),
            Event::Data {
                stream,
                tag,
                data,
                ends,
            } => self.lane_data(id, stream, tag, data, ends),
            Event::Trailers { stream, tag } => {
                if let Some(lane) = self.find_lane(id, tag) {
                    let trailers = heads.trailers().to_vec();
                    self.with_lane(lane, |lane| lane.trailers_in = trailers);
                    self.lane_data(id, stream, tag, &[], true);
                }
            }
            Event::Reset { tag, .. } => {
                if let Some(lane) = self.find_lane(id, tag) {
                    self.client_lost(lane);
                }
            }
            Event::Writable { stream, tag } => {
                let sent = self.find_lane(id, tag).map(|lane| self.flush_lane(lane));
                if sent.is_none_or(|sent| sent == 0) {
                    // Nobody has anything for it, and it would be told again and again.
                    self.reset_stream(id, stream, ErrorCode::Internal);
                }
            }
            Event::Interim { .. }
            | Event::Response { .. }
            | Event::Settings
            | Event::GoAway { .. }
            | Event::Pong => {}
        }
    }

    /// `None` for one lane too many: each holds what its backend has yet to read.
    fn open_lane(&mut self, id: ClientId, stream: u32, received: bool) -> Option<ClientId> {
        let client = &self.clients[id];
        let is_full = |multiplex: &Multiplex| multiplex.lanes.len() >= multiplex.lanes_max;
        if client.multiplex.as_deref().is_none_or(is_full) {
            return None;
        }
        let blocked = client.multiplex.as_ref().is_some_and(|it| it.has_blocked);
        let (peer, listener) = (client.peer, client.listener.clone());
        let lane = Lane {
            connection: id,
            id: stream,
            blocked,
            finished: false,
            received,
            trailers_out: Vec::new(),
            trailers_in: Vec::new(),
        };
        let lane = self.insert_client(Transport::Lane(Box::new(lane)), peer, listener, false)?;
        self.lanes_now += 1;
        self.clients[lane].identity = self.clients[id].identity.clone();
        self.unlink_idle(id);
        let client = &mut self.clients[id];
        client.clear_deadline(&mut self.timers, id);
        if let Some(multiplex) = client.multiplex.as_mut() {
            multiplex.h2.set_tag(stream, lane.token());
            multiplex.lanes.push(lane);
            multiplex.awaits_head = false;
        }
        Some(lane)
    }

    fn lane_request(&mut self, id: ClientId, stream: u32, ends: bool, heads: &mut Heads) {
        let Some(lane) = self.open_lane(id, stream, ends) else {
            return self.reset_stream(id, stream, ErrorCode::RefusedStream);
        };
        let listener = self.clients[lane].listener.settings();
        if !listener.trusts(self.clients[lane].peer.ip()) {
            heads.request.drop_forwarding_fields();
        }
        if !listener.entity.underscores_in_headers {
            let (request, text) = heads.request_and_text();
            request.drop_underscores(text);
        }
        let head = std::mem::take(&mut heads.request);
        self.request_arrived(lane, &listener, &head, heads.text());
        heads.request = head;
    }

    fn lane_refused(
        &mut self,
        id: ClientId,
        stream: u32,
        reject: Reject,
        ends: bool,
        heads: &Heads,
    ) {
        match self.open_lane(id, stream, ends) {
            Some(lane) => {
                let (method, host, target) = heads.attempted();
                let glimpse = Glimpse {
                    method,
                    host,
                    target,
                    is_grpc: is_call(&heads.request, heads.text()),
                };
                self.reject_request(lane, reject, &glimpse);
            }
            None => self.reset_stream(id, stream, ErrorCode::RefusedStream),
        }
    }

    fn lane_data(&mut self, id: ClientId, stream: u32, tag: Tag, data: &[u8], ends: bool) {
        let Some(lane) = self.find_lane(id, tag) else {
            return;
        };
        self.with_lane(lane, |lane| lane.received |= ends);
        let takes = matches!(self.clients[lane].phase, Phase::InExchange | Phase::Tunnel);
        // Nobody wants the rest of a request that has been answered.
        let mut consumed = data.len();
        if takes {
            consumed = 0;
            if self.clients[lane].input.is_empty() && !data.is_empty() {
                consumed = self.client_input(lane, data);
            }
            if self.live_lane(lane).is_some() {
                let input = &mut self.clients[lane].input;
                input.push(&mut self.pool, &data[consumed..]);
            }
        }
        if let Some(multiplex) = self
            .clients
            .get_mut(id)
            .and_then(|it| it.multiplex.as_mut())
        {
            multiplex.h2.consumed(stream, consumed);
        }
        self.end_lane_request(lane);
    }

    /// Bytes that waited in a lane have been passed on: the peer may send as many again.
    pub(super) fn lane_consumed(&mut self, id: ClientId, consumed: usize) {
        let Some(lane) = self.live_lane(id).and_then(|client| client.stream.lane()) else {
            return;
        };
        let (connection, stream) = (lane.connection, lane.id);
        if let Some(multiplex) = self.clients[connection].multiplex.as_mut() {
            multiplex.h2.consumed(stream, consumed);
        }
        self.queue_multiplexed(connection);
        self.end_lane_request(id);
    }

    /// Ends the request of a lane of which everything has come and been passed on.
    pub(super) fn end_lane_request(&mut self, id: ClientId) {
        let Some(client) = self.live_lane(id) else {
            return;
        };
        let received = client.stream.lane().is_some_and(|lane| lane.received);
        if !received || !client.input.is_empty() {
            return;
        }
        let (phase, ended) = (client.phase, client.ended);
        match phase {
            Phase::Tunnel if !ended => self.tunnel_client_ended(id),
            Phase::InExchange if self.exchange_wants_input(&self.clients[id]) => {
                let mut trailers = Vec::new();
                self.with_lane(id, |lane| {
                    trailers = std::mem::take(&mut lane.trailers_in);
                });
                self.request_body_ended(id, &trailers);
            }
            _ => {}
        }
    }

    // The connection as a whole.

    /// Sends the frames of this turn, of every connection that has some.
    pub(in crate::session) fn flush_multiplexed(&mut self) {
        self.flush_now = false;
        let unflushed = std::mem::take(&mut self.unflushed);
        for &token in &unflushed {
            self.at_work = token;
            match Owner::of(token) {
                Owner::Upstream(id) if self.upstreams.contains(id) => self.flush_trunk_frames(id),
                Owner::Client(id) => {
                    let Some(client) = self.clients.get_mut(id) else {
                        continue;
                    };
                    if let Some(multiplex) = client.multiplex.as_mut() {
                        multiplex.queued = false;
                    }
                    // Nothing is done for it afterwards.
                    let _ = self.flush_frames(id);
                }
                _ => {}
            }
        }
        let mut unflushed = unflushed;
        unflushed.clear();
        // Sending may have made room for more frames, which leave in the next turn.
        if self.unflushed.is_empty() {
            self.unflushed = unflushed;
        }
    }

    /// Sends the frames of a connection; closes it behind the last of one that leaves.
    fn flush_frames(&mut self, id: ClientId) -> Fate {
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return Fate::Lives;
        };
        multiplex.out(&mut self.pool);
        multiplex.h2.flush(&mut multiplex.out);
        let drained = multiplex.h2.is_drained() && multiplex.lanes.is_empty();
        let out = std::mem::take(&mut multiplex.out);
        let lives = out.is_empty() || self.send_client(id, &out, &[]).lives();
        self.pool.give(out);
        if lives && self.clients[id].is_flushed() {
            self.frames_flushed(id);
        }
        if drained && self.clients.contains(id) {
            self.clients[id].multiplex = None;
            self.close_client_when_sent(id);
        }
        self.clients.fate_of(id)
    }

    pub(super) fn queue_multiplexed(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let token = id.token();
        if let Some(multiplex) = client.multiplex.as_mut() {
            if !std::mem::replace(&mut multiplex.queued, true) {
                self.unflushed.push(token);
            }
        }
    }

    /// Ends a connection whose peer broke the protocol.
    fn multiplex_failed(&mut self, id: ClientId) {
        self.metrics.add(Counter::Http2ErrorsTotal, 1);
        self.lose_lanes(id);
        if self.flush_frames(id).lives() {
            self.clients[id].multiplex = None;
            self.close_client_when_sent(id);
        }
    }

    fn lose_lanes(&mut self, id: ClientId) {
        while let Some(&lane) = self.clients[id]
            .multiplex
            .as_ref()
            .and_then(|multiplex| multiplex.lanes.last())
        {
            self.client_lost(lane);
        }
    }

    /// The connection is being closed: so are its streams.
    pub(super) fn close_lanes_of(&mut self, id: ClientId) {
        self.lose_lanes(id);
        if let Some(multiplex) = self.clients[id].multiplex.take() {
            self.pool.give(multiplex.out);
        }
    }

    pub(super) fn reset_stream(&mut self, id: ClientId, stream: u32, code: ErrorCode) {
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.h2.reset(stream, code);
        }
        self.queue_multiplexed(id);
    }

    /// Begins to leave: streams that are open are served to their ends.
    pub(in crate::session) fn leave_multiplexed(&mut self, listener: &Rc<Listener>) {
        let concerned: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.multiplex.is_some())
            .filter(|(_, client)| Rc::ptr_eq(&client.listener, listener))
            .map(|(id, _)| id)
            .collect();
        for id in concerned {
            if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
                multiplex.leaves = true;
                multiplex.h2.shut_down();
            }
            self.queue_multiplexed(id);
        }
    }

    /// Nothing has come within the time: neither a stream, nor the rest of a header block.
    pub(in crate::session) fn multiplex_late(&mut self, id: ClientId) {
        let Some(multiplex) = self.clients[id].multiplex.as_mut() else {
            return self.close_client(id);
        };
        if multiplex.awaits_head {
            self.metrics.add(Counter::TimeoutsTotal, 1);
            multiplex.h2.go_away(ErrorCode::EnhanceYourCalm);
            return self.multiplex_failed(id);
        }
        if !multiplex.leaves {
            return self.leave_idle_multiplexed(id);
        }
        multiplex.h2.go_away(ErrorCode::NoError);
        if self.flush_frames(id).lives() {
            self.close_client(id);
        }
    }

    /// Begins to leave a connection without a stream: one that is on its way is served (RFC 9113 §6.8),
    /// and who does not answer within the time for that is left.
    pub(in crate::session) fn leave_idle_multiplexed(&mut self, id: ClientId) {
        self.unlink_idle(id);
        let client = &mut self.clients[id];
        if let Some(multiplex) = client.multiplex.as_mut() {
            multiplex.leaves = true;
            multiplex.h2.shut_down();
        }
        client.set_deadline(&mut self.timers, id, self.clock.ms() + LEAVE_MS_MAX);
        self.queue_multiplexed(id);
    }

    /// Forgets a lane that is over.
    pub(super) fn lane_closed(&mut self, id: ClientId, lane: ClientId) {
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.lanes.retain(|&other| other != lane);
        }
        self.queue_multiplexed(id);
        self.rest_if_idle(id);
    }

    /// Without a stream it is an idle connection like any other.
    pub(super) fn rest_if_idle(&mut self, id: ClientId) {
        let client = &self.clients[id];
        let is_idle = client
            .multiplex
            .as_ref()
            .is_some_and(|multiplex| !multiplex.is_busy());
        if is_idle {
            self.await_streams(id);
        }
    }

    fn await_streams(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let closing = self.stopping || client.listener.draining.get();
        let limit = client.listener.settings().entity.timeouts.keep_alive;
        client.served = true;
        if let Some(multiplex) = client.multiplex.as_mut() {
            multiplex.h2.shrink();
            if closing || multiplex.leaves {
                return self.leave_idle_multiplexed(id);
            }
        }
        client.set_deadline(&mut self.timers, id, self.clock.ms() + limit);
        self.unlink_idle(id);
        self.link_idle(id);
    }

    /// Another deadline has been in the place of a header block's.
    pub(super) fn watch_head_anew(&mut self, id: ClientId) {
        if let Some(multiplex) = self.clients[id].multiplex.as_mut() {
            multiplex.awaits_head = false;
        }
        self.watch_head(id);
    }

    /// Sets the time for the rest of a header block.
    fn watch_head(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let Some(multiplex) = client.multiplex.as_mut() else {
            return;
        };
        let pending = multiplex.h2.head_pending();
        if pending == multiplex.awaits_head {
            return;
        }
        multiplex.awaits_head = pending;
        let is_busy = multiplex.is_busy();
        if pending {
            let limit = client.listener.settings().entity.timeouts.request_head;
            let at_ms = self.clock.ms() + limit.min(HEAD_REST_MS_MAX);
            client.set_deadline(&mut self.timers, id, at_ms);
            self.unlink_idle(id);
        } else if is_busy {
            client.clear_deadline(&mut self.timers, id);
        } else {
            self.await_streams(id);
        }
    }
}

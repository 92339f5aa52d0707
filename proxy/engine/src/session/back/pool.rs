//! The pool: connections of HTTP/1.1 to a backend between two requests, and the end of all that lead there.
//!
//! Rule: the most recently used is taken first, and only under the policy that it was made under; whether the
//! backend has closed it meanwhile is asked of the socket where a request could not be sent again. Called by
//! `connect`, and by the exchange when it is over.

use std::rc::Rc;
use std::sync::Arc;

use crate::runtime::driver::Driver;
use crate::session::back::upstream::Link;
use crate::session::engine::Engine;
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::telemetry::names::{Counter, Field};
use crate::upstream::Backend;

/// A connection is idle for longer than this before its backend ends it.
const UNLOOKED_MS_MAX: u64 = 50;

impl<D: Driver> Engine<D> {
    pub(super) fn reuse_connection(&mut self, exchange: ExchangeId, backend: &Rc<Backend>) -> bool {
        let entry = &self.exchanges[exchange];
        // What is passed on unread has to begin at the beginning of a connection.
        let is_private = entry.cluster.entity.proxy_protocol.is_some();
        // What a pooled connection has lost once goes out on one that cannot be stale.
        let is_fresh = entry.passes_unread() || entry.tries.lost_by_pool || is_private;
        if is_fresh {
            return false;
        }
        let Some(id) = self.take_pooled(exchange, backend) else {
            return false;
        };
        let upstream = &mut self.upstreams[id];
        upstream.link = Link::Busy;
        upstream.reused = true;
        backend.probe_ended();
        self.carry_by_connection(exchange, id);
        self.metrics.add(Counter::UpstreamReusesTotal, 1);
        self.metrics.slot_add(backend.slot(), Field::Reuses, 1);
        self.send_head(id, exchange);
        true
    }

    /// The most recently used idle connection. The news that the backend has closed it, or has said
    /// something that nobody asked for, may wait behind this very event: a request that could not be sent
    /// again is worth a look at the socket, and so is a connection that was idle for long enough for its
    /// backend to think of that.
    fn take_pooled(&mut self, exchange: ExchangeId, backend: &Rc<Backend>) -> Option<UpstreamId> {
        loop {
            let pooled = backend.idle.borrow_mut().pop()?;
            let Some(id) = UpstreamId::of(pooled) else {
                continue;
            };
            let Some(upstream) = self.upstreams.get(id) else {
                continue;
            };
            let entry = &self.exchanges[exchange];
            let same_policy = match (&entry.cluster.tls, &upstream.tls) {
                (Some(wanted), Some(had)) => Arc::ptr_eq(wanted, had),
                (None, None) => true,
                _ => false,
            };
            let is_fresh = self.clock.ms() - upstream.pooled_ms < UNLOOKED_MS_MAX;
            if same_policy && (is_fresh && entry.may_repeat() || upstream.stream.is_quiet()) {
                return Some(id);
            }
            self.close_upstream(id);
        }
    }

    /// Gives a connection whose response is complete back to its backend's pool, or closes it.
    pub(super) fn release_upstream(&mut self, id: UpstreamId) {
        let Some(number) = self.upstreams[id].exchange.take() else {
            return;
        };
        self.put_down(number);
        let upstream = &mut self.upstreams[id];
        let exchange = &self.exchanges[number];
        let backend = upstream.backend.clone();
        let reusable = upstream.keep_alive
            // What it has begun with was about this client.
            && exchange.cluster.entity.proxy_protocol.is_none()
            && exchange.request_done()
            && !exchange.request_discarded
            && upstream.is_flushed()
            && !upstream.hangup
            && backend.accepts_requests()
            && backend.idle.borrow().len()
                < exchange.cluster.entity.keep_alive_connections as usize;
        if !reusable {
            return self.close_upstream(id);
        }
        upstream.link = Link::Pooled;
        upstream.pooled_ms = self.clock.ms();
        let token = id.token();
        backend.idle.borrow_mut().push(token);
        let limit = exchange.cluster.entity.timeouts.keep_alive;
        self.await_upstream_for(id, limit);
    }

    /// Closes the idle connections of a backend.
    pub(in crate::session) fn close_pooled(&mut self, backend: &Backend) {
        let pooled = std::mem::take(&mut *backend.idle.borrow_mut());
        for token in pooled {
            if let Some(id) = UpstreamId::of(token) {
                self.close_upstream(id);
            }
        }
        self.leave_all_shared(backend);
    }

    /// Closes at once and forgets; an exchange that uses it must be seen to by the caller, and so must
    /// the streams that it has.
    pub(in crate::session) fn close_upstream(&mut self, id: UpstreamId) {
        let Some(mut upstream) = self.upstreams.remove(id) else {
            return;
        };
        self.timers.remove(&mut upstream.deadline);
        match upstream.link {
            Link::Pooled => upstream.backend.forget_idle(id.token()),
            Link::Connecting | Link::Securing | Link::Greeting => upstream.backend.probe_ended(),
            Link::Shared | Link::Busy => {}
        }
        if let Some(exchange) = upstream.exchange {
            self.put_down(exchange);
        }
        upstream.input.clear(&mut self.pool);
        upstream.output.clear(&mut self.pool);
        upstream.stream.release(&mut self.pool);
        if let Some(shared) = upstream.shared {
            upstream.backend.forget_shared(id.token());
            self.pool.give(shared.out);
        }
        let backend = upstream.backend;
        backend.disconnected();
        self.metrics.sub(Counter::UpstreamConnectionsNow, 1);
    }
}
